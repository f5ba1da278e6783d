"""Encoded rows in memory or in memory maps, from which batches are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense, Feature
from intarsia.data.columns import Array, Column, DenseColumn, JaggedColumn, Rows, concat, rows_of, to_tensor
from intarsia.data.schema import Schema


@dataclass(frozen=True, eq=False)
class PackedColumns:
    """Many single-valued columns of one type in one matrix, so that a batch is one gather of rows.

    Attributes:
        names: The F features.
        matrix: (N, F) int32 or int64 ids, -1 where missing; or float32 numbers.
    """

    names: tuple[str, ...]
    matrix: Array

    def columns(self) -> dict[str, DenseColumn]:
        """Each feature's own column, as a view: (N,) ids or (N, 1) numbers."""
        if self.matrix.dtype.kind == "f":
            return {name: DenseColumn(self.matrix[:, k : k + 1]) for k, name in enumerate(self.names)}
        return {name: DenseColumn(self.matrix[:, k]) for k, name in enumerate(self.names)}

    def take(self, rows: Rows) -> dict[str, Dense]:
        """A batch: all features are views into one (F, B) tensor, in which each of them is contiguous."""
        gathered = to_tensor(rows_of(self.matrix, rows).T)
        if self.matrix.dtype.kind == "f":
            return {name: Dense(gathered[k].unsqueeze(1)) for k, name in enumerate(self.names)}
        return {name: Dense(gathered[k]) for k, name in enumerate(self.names)}


def pack(columns: Mapping[str, Column]) -> tuple[list[PackedColumns], dict[str, Column]]:
    """Puts single-valued columns of equal type into matrices.

    Returns:
        The matrices, and the columns that are left (sequences, and vectors of several numbers).
    """
    groups: dict[str, list[str]] = {}
    rest: dict[str, Column] = {}
    for name, column in columns.items():
        if isinstance(column, DenseColumn) and (column.values.ndim == 1 or column.values.shape[1] == 1):
            dtype = _stored_type(column.values)
            groups.setdefault(dtype.str, []).append(name)
        else:
            rest[name] = column
    packed = []
    for dtype_name, names in groups.items():
        matrix = np.empty((len(columns[names[0]]), len(names)), dtype=np.dtype(dtype_name))
        for k, name in enumerate(names):
            column = columns[name]
            assert isinstance(column, DenseColumn)
            matrix[:, k] = column.values.reshape(len(column))
        packed.append(PackedColumns(tuple(names), matrix))
    return packed, rest


def _stored_type(values: Array) -> np.dtype[Any]:
    if values.dtype.kind == "f":
        return np.dtype(np.float32)
    return np.dtype(np.int64 if values.dtype.itemsize > 4 or values.dtype == np.uint32 else np.int32)


class SampleDataset:
    """Rows of encoded features with labels, weights and ids.

    Args:
        schema: Features and labels.
        columns: Encoded features by name. Single-valued ones are packed into matrices on the way in.
        labels: (N,) or (N, D) labels by field name; empty when predicting.
        weights: (N,) sample weights or None.
        ids: (N,) codes of raw columns that metrics group by.
        num_rows: N.
        packed: Matrices that are packed already; `columns` then holds the other features.

    Raises:
        ValueError: A column, label, weight or id array does not have N rows.
    """

    def __init__(
        self,
        schema: Schema,
        columns: Mapping[str, Column],
        labels: Mapping[str, Array] | None = None,
        weights: Array | None = None,
        ids: Mapping[str, Array] | None = None,
        num_rows: int = 0,
        *,
        packed: Sequence[PackedColumns] = (),
    ) -> None:
        self.schema = schema
        self.labels = dict(labels or {})
        self.weights = weights
        self.ids = dict(ids or {})
        self.num_rows = num_rows
        made, self._rest = pack(columns)
        self.packed: tuple[PackedColumns, ...] = (*packed, *made)
        self._check_lengths()

    def __len__(self) -> int:
        return self.num_rows

    @property
    def columns(self) -> dict[str, Column]:
        """All encoded features by name, in the order of the schema; packed ones are views."""
        found: dict[str, Column] = dict(self._rest)
        for block in self.packed:
            found.update(block.columns())
        first = [name for name in self.schema.features if name in found]
        return {name: found[name] for name in dict.fromkeys([*first, *found])}

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        arrays = [block.matrix for block in self.packed] + [*self.labels.values(), *self.ids.values()]
        own = sum(int(a.nbytes) for a in arrays) + sum(c.nbytes for c in self._rest.values())
        return own + (0 if self.weights is None else int(self.weights.nbytes))

    def take(self, rows: Rows) -> Batch:
        """The given rows, in the given order.

        Args:
            rows: (B,) row numbers, or a slice with step 1.
        """
        features: dict[str, Feature] = {}
        for block in self.packed:
            features.update(block.take(rows))
        for name, column in self._rest.items():
            features[name] = column.take(rows)
        size = len(range(*rows.indices(self.num_rows))) if isinstance(rows, slice) else len(rows)
        return Batch(
            features=features,
            labels={name: _floats(rows_of(values, rows)) for name, values in self.labels.items()},
            weights=None if self.weights is None else _floats(rows_of(self.weights, rows)),
            ids={name: to_tensor(rows_of(values, rows)) for name, values in self.ids.items()},
            size=size,
        )

    def gather(self, rows: Rows) -> SampleDataset:
        """The given rows as a data set of their own, which holds nothing else."""
        size = len(range(*rows.indices(self.num_rows))) if isinstance(rows, slice) else len(rows)
        return SampleDataset(
            self.schema,
            {name: column.gather(rows) for name, column in self._rest.items()},
            {name: rows_of(values, rows) for name, values in self.labels.items()},
            None if self.weights is None else rows_of(self.weights, rows),
            {name: rows_of(values, rows) for name, values in self.ids.items()},
            size,
            packed=[PackedColumns(block.names, rows_of(block.matrix, rows)) for block in self.packed],
        )

    @classmethod
    def concat(cls, datasets: Sequence[SampleDataset]) -> SampleDataset:
        """The rows of all data sets, one after another.

        Args:
            datasets: At least one; all with the same features, labels and ids.

        Raises:
            ValueError: There is none, or they do not hold the same.
        """
        if not datasets:
            raise ValueError("concat needs at least one data set. Received none.")
        first = datasets[0]
        if len(datasets) == 1:
            return first
        kinds = [(d.columns.keys(), d.labels.keys(), d.ids.keys(), d.weights is None) for d in datasets]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError("Data sets must have the same features, labels, weights and ids. Received different ones.")
        blocks = [block.names for block in first.packed]
        same = all([block.names for block in d.packed] == blocks for d in datasets)
        packed = [
            PackedColumns(names, np.concatenate([d.packed[k].matrix for d in datasets]))
            for k, names in enumerate(blocks)
            if same
        ]
        parts = [d._rest if same else d.columns for d in datasets]
        weights = [d.weights for d in datasets if d.weights is not None]
        return cls(
            first.schema,
            {name: concat([part[name] for part in parts]) for name in parts[0]},
            {name: np.concatenate([d.labels[name] for d in datasets]) for name in first.labels},
            np.concatenate(weights) if weights else None,
            {name: np.concatenate([d.ids[name] for d in datasets]) for name in first.ids},
            sum(d.num_rows for d in datasets),
            packed=packed,
        )

    def slice(self, start: int, stop: int) -> SampleDataset:
        """Rows `start:stop` without a copy."""
        start, stop, _ = slice(start, stop).indices(self.num_rows)
        stop = max(start, stop)
        return SampleDataset(
            self.schema,
            {name: column.slice(start, stop) for name, column in self._rest.items()},
            {name: values[start:stop] for name, values in self.labels.items()},
            None if self.weights is None else self.weights[start:stop],
            {name: values[start:stop] for name, values in self.ids.items()},
            stop - start,
            packed=[PackedColumns(block.names, block.matrix[start:stop]) for block in self.packed],
        )

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Everything as plain data plus named arrays, for storage; arrays that columns share appear once.

        Returns:
            A description that JSON can hold, and the arrays it names.
        """
        arrays: dict[str, Array] = {}
        known: dict[int, str] = {}

        def put(array: Array | None) -> str | None:
            if array is None:
                return None
            if id(array) not in known:
                known[id(array)] = f"a{len(arrays)}"
                arrays[known[id(array)]] = array
            return known[id(array)]

        columns: dict[str, dict[str, str | None]] = {}
        for name, column in self._rest.items():
            if isinstance(column, DenseColumn):
                columns[name] = {"values": put(column.values)}
                continue
            fields = {"values": put(column.values)}
            if len(column) and column.is_contiguous:
                fields["offsets"] = put(np.concatenate([column.starts[:1], column.ends]))
            else:
                fields |= {"starts": put(column.starts), "ends": put(column.ends)}
            fields |= {"weights": put(column.weights), "inner_offsets": put(column.inner_offsets)}
            columns[name] = fields
        meta = {
            "schema": self.schema.to_json(),
            "num_rows": self.num_rows,
            "packed": [{"names": list(b.names), "matrix": put(b.matrix)} for b in self.packed],
            "columns": columns,
            "labels": {name: put(values) for name, values in self.labels.items()},
            "weights": put(self.weights),
            "ids": {name: put(values) for name, values in self.ids.items()},
        }
        return meta, arrays

    @classmethod
    def from_arrays(cls, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> SampleDataset:
        """The inverse of `to_arrays`; the arrays may be memory maps."""

        columns: dict[str, Column] = {}
        for name, fields in meta["columns"].items():
            found = {field: arrays[key] for field, key in fields.items() if key is not None}
            if "offsets" in found:
                columns[name] = JaggedColumn.from_offsets(**found)
            else:
                columns[name] = JaggedColumn(**found) if "starts" in found else DenseColumn(**found)
        return cls(
            Schema.from_json(meta["schema"]),
            columns,
            {name: arrays[key] for name, key in meta["labels"].items()},
            None if meta["weights"] is None else arrays[meta["weights"]],
            {name: arrays[key] for name, key in meta["ids"].items()},
            int(meta["num_rows"]),
            packed=[PackedColumns(tuple(b["names"]), arrays[b["matrix"]]) for b in meta["packed"]],
        )

    def _check_lengths(self) -> None:
        sized: Iterable[tuple[str, int]] = [
            *((f"feature `{name}`", len(column)) for name, column in self._rest.items()),
            *((f"features {block.names}", len(block.matrix)) for block in self.packed),
            *((f"label `{name}`", len(values)) for name, values in self.labels.items()),
            *((f"id `{name}`", len(values)) for name, values in self.ids.items()),
            *([("weights", len(self.weights))] if self.weights is not None else []),
        ]
        wrong = [f"{what} has {length}" for what, length in sized if length != self.num_rows]
        if wrong:
            raise ValueError(f"Every column must have num_rows = {self.num_rows} rows. Received: {'; '.join(wrong)}.")


def _floats(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
