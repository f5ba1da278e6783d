"""Where the rows of a table come from: hashes, vocabularies, or the values themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from intarsia.config.schema.features import FeatureConfig
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.columns import Array
from intarsia.data.features.cells import I64, Bool, Cells, integers_of, text_of
from intarsia.data.features.context import Context
from intarsia.data.hashing import U64, hash_text
from intarsia.data.vocabulary import Vocabulary


class IdSource(ABC):
    """Values to rows of a table."""

    @property
    @abstractmethod
    def num_ids(self) -> int:
        """Rows of the table."""

    @abstractmethod
    def encode(self, cells: Cells, context: Context) -> Array:
        """(S,) rows, -1 where the value is missing."""


class HashSource(IdSource):
    """`hash_bucket_size`: the hash of the value's text modulo the size."""

    def __init__(self, size: int, precision: int = -1) -> None:
        self._size = size
        self._precision = precision

    @property
    def num_ids(self) -> int:
        """Rows of the table."""
        return self._size

    def encode(self, cells: Cells, context: Context) -> Array:
        """(S,) rows, -1 where the value is missing."""
        text, missing = text_of(cells, self._precision, context)
        return self.buckets(hash_text(text), missing)

    def buckets(self, hashes: U64, missing: Bool) -> Array:
        """(S,) rows of hashes."""
        return as_ids((hashes % np.uint64(self._size)).astype(np.int64), missing, self._size)


class VocabularySource(IdSource):
    """`vocab_list`, `vocab_file` or `vocab: auto`: the value's place in a list; unseen values have row 0."""

    def __init__(self, vocabulary: Vocabulary | None, precision: int = -1) -> None:
        self.vocabulary = vocabulary
        self.precision = precision

    def known(self) -> Vocabulary:
        """The vocabulary.

        Raises:
            DataError: It is to be learned, and has not been.
        """
        if self.vocabulary is None:
            raise DataError(
                "Features with `vocab: auto` must be fitted before they are used. Received: an encoder that has not "
                "seen the training part. Call fit first, or load a fitted encoder."
            )
        return self.vocabulary

    @property
    def num_ids(self) -> int:
        """Rows of the table."""
        return self.known().num_rows

    def encode(self, cells: Cells, context: Context) -> Array:
        """(S,) rows, -1 where the value is missing."""
        vocabulary = self.known()
        text, missing = text_of(cells, self.precision, context)
        return as_ids(vocabulary.rows(text), missing, vocabulary.num_rows)

    def texts(self, cells: Cells, context: Context) -> pl.Series:
        """The values to learn from: text, null where missing."""
        text, missing = text_of(cells, self.precision, context)
        return text.set(pl.Series(missing), None)


class BucketSource(IdSource):
    """`num_buckets`: the value is the row. Departs from EasyRec, where values out of range silently become row 0."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def num_ids(self) -> int:
        """Rows of the table."""
        return self._size

    def encode(self, cells: Cells, context: Context) -> Array:
        """(S,) rows, -1 where the value is missing."""
        ids, missing = integers_of(cells, context)
        outside = (ids < -1) | (ids >= self._size)
        if outside.any():
            positions = np.flatnonzero(outside)
            value = int(ids[positions[0]])
            cure = "Correct the data or use hash_bucket_size"
            if value >= self._size:
                cure = f"Raise num_buckets to more than {value}, or use hash_bucket_size"
            context.reject(
                cells.rows(positions),
                value,
                f"an id must lie in 0 <= id < num_buckets = {self._size} (-1: missing)",
                "it then counts as row 0",
                cure,
            )
            ids = np.where(outside, 0, ids)
        return as_ids(ids, missing, self._size)


def as_ids(rows: I64, missing: Bool, num_ids: int) -> Array:
    """Rows in the narrowest type that the data set stores, -1 where missing."""
    out = rows.astype(np.int32 if num_ids < 2**31 else np.int64)
    out[missing] = -1
    return out


class SourceMaker:
    """Makes the source of ids that a feature's options name.

    Args:
        base_dir: Folder that `vocab_file` starts from.
        known: Vocabularies by feature, where they were learned or read before.
    """

    def __init__(self, base_dir: Path, known: Mapping[str, Vocabulary] | None = None) -> None:
        self._base_dir = base_dir
        self._known = dict(known or {})

    def make(self, config: FeatureConfig) -> IdSource:
        """By priority: `hash_bucket_size`, `vocab_list`, `vocab_file`, `vocab: auto`, `num_buckets`.

        Raises:
            DataError: A vocabulary file cannot be read.
            ConfigError: No option is set.
        """
        name = f"feature `{config.name}`"
        if config.hash_bucket_size:
            return HashSource(config.hash_bucket_size, config.precision)
        if config.name in self._known:
            return VocabularySource(self._known[config.name], config.precision)
        if config.vocab_list:
            return VocabularySource(Vocabulary(config.vocab_list, name=f"vocab_list of {name}"), config.precision)
        if config.vocab_file:
            path = self._base_dir / config.vocab_file
            return VocabularySource(Vocabulary.read(path, f"{path} of {name}"), config.precision)
        if config.vocab == "auto":
            return VocabularySource(None, config.precision)
        if config.num_buckets:
            return BucketSource(config.num_buckets)
        raise ConfigError(f"{name}: {NO_SOURCE}")


NO_SOURCE = (
    "ids need a source; set one of hash_bucket_size, vocab_list, vocab_file, `vocab: auto` and num_buckets. "
    "Received none."
)
