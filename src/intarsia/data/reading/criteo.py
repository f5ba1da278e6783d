"""Criteo's click logs as flat binary files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading.fields import check_present, declared_fields
from intarsia.data.reading.parquet import typed_frame
from intarsia.data.reading.paths import resolve_paths
from intarsia.data.reading.report import BadRows, Part, ReadResult, finish
from intarsia.data.reading.table import settle, skips_bad_rows

NUM_DENSE, NUM_CATEGORY = 13, 26


class CriteoFiles(Protocol):
    """Paths of the three kinds of file; lists and globs pair up in order."""

    category_path: list[str]
    dense_path: list[str]
    label_path: list[str]


def read_criteo(
    files: CriteoFiles,
    data_config: DataConfig,
    *,
    columns: Collection[str] | None = None,
    base_dir: str | Path | None = None,
) -> ReadResult:
    """Rows of Criteo's binary files: per row 26 uint32 categories, 13 float32 numbers and one int32 label.

    The columns are named `label`, `f1` to `f13` and `c1` to `c26`. Files are mapped, and only the needed columns are
    copied out of them.

    Args:
        files: `binary_train_input` or `binary_eval_input`.
        columns: Names that are needed. Default: the declared ones, or all 40.

    Raises:
        DataError: A file is missing, the three kinds do not pair up, or their sizes do not fit one row count.
    """
    dense = [f"f{k}" for k in range(1, NUM_DENSE + 1)]
    category = [f"c{k}" for k in range(1, NUM_CATEGORY + 1)]
    declared = [entry.input_name for entry in declared_fields(data_config)]
    needed = list(dict.fromkeys(columns)) if columns is not None else declared or ["label", *dense, *category]
    paths = [resolve_paths(spec, base_dir) for spec in (files.label_path, files.dense_path, files.category_path)]
    if len({len(found) for found in paths}) != 1:
        counts = dict(zip(("label_path", "dense_path", "category_path"), map(len, paths), strict=True))
        raise DataError(f"label_path, dense_path and category_path must name equally many files. Received: {counts}.")
    check_present(needed, ["label", *dense, *category], str(paths[0][0]))
    bad = BadRows(skips_bad_rows(data_config))
    frames: list[pl.DataFrame] = []
    parts: list[Part] = []
    for label_file, dense_file, category_file in zip(*paths, strict=True):
        labels = _rows(label_file, np.dtype("<i4"), 1)
        numbers = _rows(dense_file, np.dtype("<f4"), NUM_DENSE)
        ids = _rows(category_file, np.dtype("<u4"), NUM_CATEGORY)
        if not len(labels) == len(numbers) == len(ids):
            raise DataError(
                f"{label_file}, {dense_file} and {category_file} must hold equally many rows. "
                f"Received: {len(labels)}, {len(numbers)} and {len(ids)}."
            )
        found = {"label": (labels, 0)}
        found |= {name: (numbers, k) for k, name in enumerate(dense)}
        found |= {name: (ids, k) for k, name in enumerate(category)}
        frame = pl.DataFrame({name: found[name][0][:, found[name][1]].copy() for name in needed})
        typed, part = typed_frame(frame, data_config, str(label_file), 1, bad)
        frames.append(typed)
        parts.append(part)
    return finish(settle(pl.concat(frames), data_config), parts, bad)


def _rows(path: Path, dtype: np.dtype[np.generic], width: int) -> np.ndarray[tuple[int, int], np.dtype[np.generic]]:
    size = path.stat().st_size
    each = dtype.itemsize * width
    if not size or size % each:
        raise DataError(f"{path}: the size must be a multiple of {each} bytes, one row. It is {size} bytes.")
    return np.memmap(path, dtype=dtype, mode="r", shape=(size // each, width))
