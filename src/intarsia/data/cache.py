"""Encoded columns, kept between runs.

An entry's name is the hash of everything that it was made from, so an entry never goes stale: changed files or a
changed configuration lead to another name. Entries are folders of `.npy` files that are mapped into memory, written
aside and renamed when whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from intarsia.data.dataset import SampleDataset

logger = logging.getLogger("intarsia.data")

FORMAT_VERSION = 1
"""Grows when entries of older versions must not be read any more."""

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]

_MANIFEST = "manifest.json"
_STALE_SECONDS = 86400


def default_cache_dir() -> Path:
    """`$INTARSIA_CACHE`, or `intarsia` in the platform's folder for caches."""
    if named := os.environ.get("INTARSIA_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "intarsia"


def cache_key(paths: Sequence[str | Path], *parts: Any, version: int = FORMAT_VERSION) -> str:
    """The name of an entry: a hash of the files and of what says how they are encoded.

    A file counts by its absolute path, size and time of change in nanoseconds, not by its bytes.

    Args:
        paths: The files, in order.
        parts: Whatever else the entry depends on, as models of pydantic or as plain data: the data configuration,
            the features, the vocabularies.
        version: Format of the entry.

    Raises:
        TypeError: A part is neither.
    """
    files = []
    for path in paths:
        stat = Path(path).stat()
        files.append([os.path.abspath(path), stat.st_size, stat.st_mtime_ns])
    content = {"version": version, "files": files, "parts": [_plain(part) for part in parts]}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class EncodedCache:
    """A folder of encoded data sets.

    Args:
        directory: The folder; made when first written. Default: `encoded` in `default_cache_dir()`.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = Path(directory).expanduser() if directory is not None else default_cache_dir() / "encoded"

    def load(self, key: str) -> SampleDataset | None:
        """The data set of that name with all arrays mapped into memory, or None.

        A damaged entry is removed, to be made anew.
        """
        from intarsia.data.dataset import SampleDataset

        found = self.load_arrays(key)
        if found is None:
            return None
        try:
            return SampleDataset.from_arrays(*found)
        except (ValueError, KeyError, TypeError) as error:
            self._damaged(self.directory / key, error)
            return None

    def load_arrays(self, key: str) -> tuple[Any, Arrays] | None:
        """Plain data and arrays, mapped into memory, that were stored under that name, or None.

        A damaged entry (a file is missing or has another size) is removed, to be made anew.
        """
        folder = self.directory / key
        if not folder.is_dir():
            logger.info("Encoded data are not in the cache: %s", folder)
            return None
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            _check_sizes(folder, manifest)
            arrays = {name: _map(folder / f"{name}.npy") for name in manifest["arrays"]}
            meta = manifest["meta"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._damaged(folder, error)
            return None
        try:
            os.utime(folder)  # `prune` removes the least recently used first.
        except OSError:
            logger.debug("The cache's folder cannot be written: %s", folder)
        logger.info("Encoded data come from the cache: %s", folder)
        return meta, arrays

    def store(self, key: str, dataset: SampleDataset) -> bool:
        """Writes a data set; see `store_arrays`."""
        return self.store_arrays(key, *dataset.to_arrays())

    def store_arrays(self, key: str, meta: Any, arrays: Arrays) -> bool:
        """Writes plain data and arrays. A full or read-only disk is told in the log, not raised: they can be made anew.

        Several processes may store the same entry at once: the first one's stays.

        Returns:
            Whether an entry of that name is there now.
        """
        aside: Path | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=self.directory))
            for name, array in arrays.items():
                np.save(aside / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
            sizes = {name: (aside / f"{name}.npy").stat().st_size for name in arrays}
            manifest = {"version": FORMAT_VERSION, "arrays": sizes, "meta": meta}
            (aside / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            aside.chmod(0o755)
            return self._move_in(aside, self.directory / key)
        except OSError as error:
            logger.warning("Encoded data cannot be cached in %s: %s", self.directory, error)
            return False
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)

    def prune(self, max_bytes: int) -> int:
        """Removes the least recently used entries until the rest fits, and leavings of writers that died.

        Args:
            max_bytes: Bytes that may stay.

        Returns:
            Bytes that were freed.
        """
        if not self.directory.is_dir():
            return 0
        freed = 0
        entries: list[tuple[float, int, Path]] = []
        for folder in self.directory.iterdir():
            if not folder.is_dir():
                continue
            try:
                size = sum(file.stat().st_size for file in folder.iterdir())
                used = folder.stat().st_mtime
            except OSError:
                continue  # Another process has removed it meanwhile.
            if not folder.name.startswith("."):
                entries.append((used, size, folder))
            elif time.time() - used > _STALE_SECONDS:
                self._remove(folder)
                freed += size
        kept = 0
        for _, size, folder in sorted(entries, reverse=True):
            if kept + size <= max_bytes:
                kept += size
                continue
            self._remove(folder)
            logger.info("Removed from the cache: %s (%d bytes)", folder, size)
            freed += size
        return freed

    def _damaged(self, folder: Path, error: Exception) -> None:
        logger.warning("Encoded data in the cache are damaged and will be made anew: %s (%s)", folder, error)
        self._remove(folder)

    def _move_in(self, aside: Path, target: Path) -> bool:
        try:
            os.rename(aside, target)
        except OSError:
            if not target.is_dir():
                raise
            logger.info("Another process has cached the same data: %s", target)
            return True
        logger.info("Encoded data were cached: %s", target)
        return True

    def _remove(self, folder: Path) -> None:
        # Renamed first, so that no reader meets half an entry.
        doomed: Path | None = None
        try:
            doomed = Path(tempfile.mkdtemp(prefix=".removed.", dir=self.directory))
            os.rename(folder, doomed / "entry")
        except OSError as error:
            logger.debug("Not removed, or removed by another process: %s (%s)", folder, error)
        if doomed is not None:
            shutil.rmtree(doomed, ignore_errors=True)


def _plain(part: Any) -> Any:
    if hasattr(part, "model_dump"):
        return part.model_dump(mode="json")
    if isinstance(part, Mapping):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    if part is None or isinstance(part, str | int | float | bool):
        return part
    raise TypeError(f"A part of a cache key must be plain data. Received: {type(part).__name__}.")


def _check_sizes(folder: Path, manifest: Mapping[str, Any]) -> None:
    if manifest["version"] != FORMAT_VERSION:
        raise ValueError(f"format {manifest['version']}, not {FORMAT_VERSION}")
    for name, size in manifest["arrays"].items():
        found = (folder / f"{name}.npy").stat().st_size
        if found != size:
            raise ValueError(f"{name}.npy has {found} bytes, not {size}")


def _map(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    array = np.load(path, mmap_mode=None if path.stat().st_size <= 128 else "r", allow_pickle=False)
    return np.asarray(array) if not isinstance(array, np.memmap) else array
