"""Encoded columns: whole data sets as NumPy arrays, gathered into batches of tensors.

Arrays may be memory maps, and may be stored in narrow types: a batch always holds int64 ids and float32 numbers,
in memory of its own, so that nothing done to a batch reaches the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.core.batch import Dense, Jagged

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.integer[Any]] | slice


@dataclass(frozen=True, eq=False)
class DenseColumn:
    """One value, or a fixed number of values, for each row.

    Attributes:
        values: (N,) integers, -1 where missing; or (N, W) floats.
    """

    values: Array

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return int(self.values.nbytes)

    def take(self, rows: Rows) -> Dense:
        """The given rows, in the given order.

        Args:
            rows: (B,) row numbers, or a slice.
        """
        return Dense(to_tensor(rows_of(self.values, rows)))

    def gather(self, rows: Rows) -> DenseColumn:
        """The given rows as a column of their own."""
        return DenseColumn(rows_of(self.values, rows))

    def slice(self, start: int, stop: int) -> DenseColumn:
        """Rows `start:stop` without a copy."""
        return DenseColumn(self.values[start:stop])


@dataclass(frozen=True, eq=False)
class JaggedColumn:
    """Any number of values for each row: row n owns the steps `starts[n]:ends[n]`.

    In an ordinary column `ends[n] == starts[n + 1]`. In a history column rows are windows into one shared array,
    so that the prefixes of a user's history are never written out.

    Attributes:
        values: (S,) integers, or (S, W) floats.
        starts: (N,) first step of each row.
        ends: (N,) one past the last step of each row.
        weights: (S,) floats or None.
        inner_offsets: (steps + 1,) where steps hold several values: step s owns
            `values[inner_offsets[s]:inner_offsets[s + 1]]`, and `starts` and `ends` count steps.
    """

    values: Array
    starts: Array
    ends: Array
    weights: Array | None = None
    inner_offsets: Array | None = None

    @classmethod
    def from_offsets(
        cls, values: Array, offsets: Array, weights: Array | None = None, inner_offsets: Array | None = None
    ) -> JaggedColumn:
        """An ordinary column, in which row n owns `offsets[n]:offsets[n + 1]`."""
        return cls(values, offsets[:-1], offsets[1:], weights, inner_offsets)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        arrays = (self.values, self.starts, self.ends, self.weights, self.inner_offsets)
        return sum(int(array.nbytes) for array in arrays if array is not None)

    @property
    def lengths(self) -> Array:
        """(N,) number of steps of each row."""
        return np.asarray(self.ends - self.starts)

    @property
    def is_contiguous(self) -> bool:
        """Whether each row begins where the row before it ends."""
        return bool(np.array_equal(self.starts[1:], self.ends[:-1]))

    def take(self, rows: Rows) -> Jagged:
        """The given rows, in the given order.

        Args:
            rows: (B,) row numbers, or a slice.
        """
        starts, ends = rows_of(self.starts, rows), rows_of(self.ends, rows)
        offsets = offsets_of(ends - starts)
        steps = _pick(starts, ends, offsets)
        inner: Array | None = None
        if self.inner_offsets is not None:
            first, last = rows_of(self.inner_offsets[:-1], steps), rows_of(self.inner_offsets[1:], steps)
            inner = offsets_of(last - first)
            steps = _pick(first, last, inner)
        return Jagged(
            values=to_tensor(rows_of(self.values, steps)),
            offsets=torch.from_numpy(offsets),
            weights=None if self.weights is None else to_tensor(rows_of(self.weights, steps)),
            inner_offsets=None if inner is None else torch.from_numpy(inner),
        )

    def gather(self, rows: Rows) -> JaggedColumn:
        """The given rows as a column of their own, which holds their values and nothing else."""
        starts, ends = rows_of(self.starts, rows), rows_of(self.ends, rows)
        return JaggedColumn(self.values, starts, ends, self.weights, self.inner_offsets).compact()

    def slice(self, start: int, stop: int) -> JaggedColumn:
        """Rows `start:stop` without a copy; the values stay shared."""
        return JaggedColumn(
            self.values, self.starts[start:stop], self.ends[start:stop], self.weights, self.inner_offsets
        )

    def compact(self) -> JaggedColumn:
        """The same rows in arrays that hold nothing else, each row after the one before it."""
        offsets = offsets_of(self.ends - self.starts)
        steps = _pick(self.starts, self.ends, offsets)
        inner: Array | None = None
        if self.inner_offsets is not None:
            first, last = rows_of(self.inner_offsets[:-1], steps), rows_of(self.inner_offsets[1:], steps)
            inner = offsets_of(last - first)
            steps = _pick(first, last, inner)
        weights = None if self.weights is None else rows_of(self.weights, steps)
        return JaggedColumn.from_offsets(rows_of(self.values, steps), offsets, weights, inner)


Column = DenseColumn | JaggedColumn


def offsets_of(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """(N + 1,) running sums of (N,) lengths, starting with 0."""
    lengths = np.asarray(lengths)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: Array, offsets: Array) -> npt.NDArray[np.int64]:
    """All positions of the ranges that begin at `starts` and are as long as `offsets` says, one after another."""
    shift = np.repeat(starts.astype(np.int64) - offsets[:-1], np.diff(offsets))
    return np.asarray(shift + np.arange(offsets[-1], dtype=np.int64))


def rows_of(array: Array, rows: Rows) -> Array:
    """Rows of an array: a view for a slice; `take` for row numbers, which is faster than indexing."""
    return array[rows] if isinstance(rows, slice) else array.take(rows, axis=0)


def _pick(starts: Array, ends: Array, offsets: Array) -> Rows:
    """The steps of the rows: as a slice where they lie side by side."""
    if len(starts) == 0:
        return slice(0, 0)
    if np.array_equal(starts[1:], ends[:-1]):
        return slice(int(starts[0]), int(ends[-1]))
    return ranges(starts, offsets)


def to_tensor(values: Array) -> Tensor:
    """A tensor of its own memory: int64 for integers, float32 for floats."""
    kind = np.float32 if values.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.array(values, dtype=kind, order="C"))


def concat(columns: Sequence[Column]) -> Column:
    """The rows of all columns, one column after another.

    Raises:
        ValueError: There is no column, or the columns differ in kind.
    """
    if not columns:
        raise ValueError("concat needs at least one column. Received none.")
    if len(columns) == 1:
        return columns[0]
    dense = [c for c in columns if isinstance(c, DenseColumn)]
    if len(dense) == len(columns):
        return DenseColumn(np.concatenate([c.values for c in dense]))
    jagged = [c.compact() for c in columns if isinstance(c, JaggedColumn)]
    if len(jagged) != len(columns):
        raise ValueError(f"All columns must be of one kind. Received: {[type(c).__name__ for c in columns]}.")
    weights = [c.weights for c in jagged if c.weights is not None]
    inner = [c.inner_offsets for c in jagged if c.inner_offsets is not None]
    if len(weights) not in (0, len(jagged)) or len(inner) not in (0, len(jagged)):
        raise ValueError(
            "Either all columns or none must have weights, and likewise inner_offsets. "
            f"Received {len(weights)} with weights and {len(inner)} with inner_offsets of {len(jagged)}."
        )
    return JaggedColumn.from_offsets(
        np.concatenate([c.values for c in jagged]),
        offsets_of(np.concatenate([c.lengths for c in jagged])),
        np.concatenate(weights) if weights else None,
        offsets_of(np.concatenate([np.diff(offsets) for offsets in inner])) if inner else None,
    )
