"""An entry of the catalogue, and finding one."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.catalogue.fetch import ByHand, Source, fetch


@dataclass(frozen=True)
class RawLog:
    """What a reader finds: the interactions and perhaps side tables, columns named in the entry's own way.

    Attributes:
        interactions: One row an interaction; the training part where the log came divided.
        users: One row a user.
        items: One row an item.
        valid: Interactions of the validation part.
        test: Interactions of the test part.
        test_inputs: What users of the other parts bring along, of which nothing is learned.
        negatives: Items that a test item is ranked against: `user`, `item` (the test item or null), `negatives` (list).
        knowledge: Triples as text: `head`, `relation`, `tail`.
        links: Which entity an item is, as text: `item`, `entity`.
    """

    interactions: pl.DataFrame
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    valid: pl.DataFrame | None = None
    test: pl.DataFrame | None = None
    test_inputs: pl.DataFrame | None = None
    negatives: pl.DataFrame | None = None
    knowledge: pl.DataFrame | None = None
    links: pl.DataFrame | None = None


@dataclass(frozen=True)
class DatasetEntry:
    """One public data set.

    Attributes:
        name: Name in pipeline files.
        title: One line of what it is.
        licence: What its publisher asks for.
        sources: Where it can be had, in the order in which they are tried.
        read: Reads a folder that holds its files in any of the known layouts.
        defaults: Column roles and features for the short form, as a pipeline file would have them.
    """

    name: str
    title: str
    licence: str
    sources: tuple[Source | ByHand, ...]
    read: Callable[[Path], RawLog]
    defaults: Mapping[str, object]

    def load(self, folder: str | Path | None = None) -> RawLog:
        """Reads the data set, from `folder` or from the cache, which is filled first where it is empty."""
        return self.read(Path(folder) if folder is not None else fetch(self.name, self.sources))


_AMAZON = ("beauty", "books", "cds", "clothing", "electronics", "instruments", "movies", "office", "sports", "toys")
_AMAZON_2023 = ("beauty", "books", "cds", "instruments", "movies", "office", "sports", "toys", "video-games")
_MODULES = {
    "ml-100k": "ml_100k",
    **dict.fromkeys(("ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"), "movielens"),
    **{f"amazon-{category}": "amazon" for category in (*_AMAZON, "video-games")},
    **{f"amazon-2023-{category}": "amazon" for category in _AMAZON_2023},
    **dict.fromkeys(("gowalla", "gowalla-lightgcn", "yelp2018-lightgcn"), "gowalla"),
    "yelp": "yelp",
    "lastfm": "lastfm",
    "steam": "steam",
    "yoochoose": "yoochoose",
    "diginetica": "diginetica",
    "taobao": "taobao_behaviour",
}
"""Modules that hold the entries, which are imported when they are asked for."""


def dataset_names() -> list[str]:
    """Names of all entries."""
    return sorted(_MODULES)


def resolve_dataset(name: str) -> tuple[DatasetEntry, Path | None]:
    """The entry that a pipeline file's `dataset` names, and the folder where it names a local copy.

    Args:
        name: Name of an entry; or a folder whose name (or whose parent's) is that of an entry; or `name:folder`.

    Raises:
        DataError: No such entry.
    """
    label, _, given = name.partition(":")
    folder = Path(given) if given else None
    if label not in _MODULES and Path(name).is_dir():
        folder, label = (
            Path(name),
            next((part for part in reversed(Path(name).resolve().parts) if part in _MODULES), name),
        )
    if label not in _MODULES:
        close = difflib.get_close_matches(label, _MODULES, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(dataset_names())}."
        raise DataError(
            f"dataset must name an entry of the catalogue. Received: {name!r}. {hint} A local copy is named as "
            "`ml-100k:folder`."
        )
    entries: Mapping[str, DatasetEntry] = importlib.import_module(f"intarsia.data.catalogue.{_MODULES[label]}").ENTRIES
    return entries[label], folder
