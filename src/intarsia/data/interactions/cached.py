"""Large logs as arrays, kept between runs.

What is kept is a log after it was read, checked, filtered and sorted, under a hash of its files and of all that says
how; see `intarsia.data.cache`. Small logs are read faster than a person notices, and logs with side tables hold tables,
not arrays: neither is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from intarsia.config.schema import DataConfig, FilterConfig, LogConfig
from intarsia.data.cache import EncodedCache, cache_key
from intarsia.data.interactions.formats import PathLike, log_files
from intarsia.data.interactions.interactions import IdMap, Interactions
from intarsia.data.interactions.tables import log_shape

LEAST_BYTES = 1 << 24
"""Size of the files from which on a log is kept."""
FORMAT = 1
_KINDS = ("table", "lines")


def cached_interactions(
    build: Callable[[], Interactions],
    paths: PathLike,
    log: LogConfig,
    filter: FilterConfig | None,
    data: DataConfig,
    *,
    valid: PathLike | None = None,
    test: PathLike | None = None,
    base_dir: Path | None = None,
) -> Interactions:
    """The log of these files: out of the cache, or built and then kept.

    Args:
        build: Reads and builds it.
        paths: Files of the log, or of its training part.
        log: Column roles.
        filter: Bounds.
        data: How the files are written, and where the cache is.
        valid: Files of the validation part.
        test: Files of the test part.
        base_dir: Folder that relative paths start from.

    Raises:
        DataError: As `build`, and where files are missing.
    """
    if not data.use_cache or log.user_table or log.item_table or log.context_fields or log.negatives_path:
        return build()
    files, kind = log_files(paths, log, valid=valid, test=test, base_dir=base_dir)
    if kind not in _KINDS or sum(path.stat().st_size for path in files) < LEAST_BYTES:
        return build()
    roles = log.model_dump(mode="json")
    key = cache_key(files, "interactions", FORMAT, kind, roles, filter, asdict(log_shape(log, data)))
    cache = EncodedCache(data.cache_dir)
    found = cache.load_arrays(key)
    if found is not None:
        return _from_arrays(found[1])
    made = build()
    arrays = _to_arrays(made)
    if arrays is not None:
        cache.store_arrays(key, {}, arrays)
    return made


def _to_arrays(log: Interactions) -> dict[str, npt.NDArray[Any]] | None:
    """All of a log as arrays; None where it holds more than that."""
    if log.context or log.users is not None or log.catalogue is not None or log.fixed_negatives is not None:
        return None
    out: dict[str, npt.NDArray[Any]] = {"offsets": log.offsets, "items": log.items}
    out |= {n: a for n, a in (("ratings", log.ratings), ("times", log.times), ("parts", log.parts)) if a is not None}
    for name, ids in (("user_ids", log.user_ids), ("item_ids", log.item_ids)):
        text = ids.ids.to_arrow().cast(pa.large_string())
        _, offsets, letters = text.buffers()
        assert text.offset == 0
        out[f"{name}_offsets"] = np.frombuffer(offsets, dtype=np.int64, count=len(text) + 1)
        out[name] = np.frombuffer(letters, dtype=np.uint8) if letters is not None else np.zeros(0, dtype=np.uint8)
    return out


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Interactions:
    def ids(name: str, what: str) -> IdMap:
        offsets = arrays[f"{name}_offsets"]
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(arrays[name])]
        text = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
        return IdMap(pl.Series(what, text), what)

    return Interactions(
        ids("user_ids", "user"),
        ids("item_ids", "item"),
        arrays["offsets"],
        arrays["items"],
        arrays.get("ratings"),
        arrays.get("times"),
        parts=arrays.get("parts"),
    )
