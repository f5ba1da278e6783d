"""Reading sample files and data frames into typed Polars frames, with errors that name file, line and column."""

from intarsia.data.reading.criteo import read_criteo
from intarsia.data.reading.frames import from_frame
from intarsia.data.reading.parquet import RowGroup, RowGroupReader, iter_row_groups, row_group_index
from intarsia.data.reading.paths import resolve_paths
from intarsia.data.reading.report import BadRow, Part, ReadResult
from intarsia.data.reading.table import read_table

__all__ = [
    "BadRow",
    "Part",
    "ReadResult",
    "RowGroup",
    "RowGroupReader",
    "from_frame",
    "iter_row_groups",
    "read_criteo",
    "read_table",
    "resolve_paths",
    "row_group_index",
]
