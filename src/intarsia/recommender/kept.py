"""Encoded parts in the cache, with the vocabularies that were learned for them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intarsia.config.schema import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.cache import EncodedCache, cache_key
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder

LOG = logging.getLogger("intarsia")
_NOT_READING = {
    "batch_size",
    "eval_batch_size",
    "shuffle",
    "shuffle_buffer_size",
    "num_epochs",
    "prefetch_size",
    "split",
}


class Kept:
    """Finds and keeps encoded parts under a hash of their files and of how they are read and encoded.

    Args:
        data: How files are read.
        label: The label that is kept with the features.
        base_dir: Folder that vocabulary files start from.
        enabled: Whether anything is found or kept at all.
    """

    def __init__(self, data: DataConfig, label: str, base_dir: Path | None, *, enabled: bool) -> None:
        self.data, self.label, self.base_dir = data, label, base_dir
        self.cache = EncodedCache(data.cache_dir) if enabled else None

    def key(self, paths: Sequence[Path], encoder: FeatureEncoder, ids: Sequence[str], parent: str = "") -> str:
        """Name of the encoded rows of these files; `parent` stands for whatever else the encoder has learned from."""
        reading = self.data.model_dump(mode="json", exclude=_NOT_READING)
        vocabularies = [_stat(f.vocab_file, self.base_dir) for f in encoder.features if f.vocab_file]
        features = [f.model_dump(mode="json") for f in encoder.features]
        return cache_key(paths, reading, features, self.label, list(ids), vocabularies, parent)

    def rows(self, key: str) -> SampleDataset | None:
        """Encoded rows, mapped into memory."""
        return None if self.cache is None else self.cache.load(key)

    def fitted(self, key: str) -> FeatureEncoder | None:
        """The encoder that encoded training rows."""
        folder = None if self.cache is None else self.cache.directory / f"{key}.features"
        if folder is None or not folder.is_dir():
            return None
        try:
            return FeatureEncoder.load(folder)
        except DataError as error:
            LOG.warning("vocabularies in the cache are damaged and will be made anew: %s", error)
            return None

    def keep(self, key: str, dataset: SampleDataset, encoder: FeatureEncoder | None = None) -> None:
        """Stores rows, and with training rows the encoder that has learned from them."""
        if self.cache is None:
            return
        if encoder is not None:
            try:
                encoder.save(self.cache.directory / f"{key}.features")
            except OSError as error:
                LOG.warning("vocabularies cannot be cached in %s: %s", self.cache.directory, error)
                return
        self.cache.store(key, dataset)


def _stat(path: str, base_dir: Path | None) -> list[Any]:
    file = (base_dir or Path()) / path
    stat = file.stat() if file.exists() else None
    return [str(file), stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0]
