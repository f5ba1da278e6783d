"""Public data sets by name: where they come from, how they are checked and read."""

from intarsia.data.catalogue.entry import DatasetEntry, RawLog, resolve_dataset
from intarsia.data.catalogue.fetch import default_folder

__all__ = ["DatasetEntry", "RawLog", "default_folder", "resolve_dataset"]
