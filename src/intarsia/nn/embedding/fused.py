"""Tables of one width, lying one after the other in one weight, and the lookups that read them together.

weight (num_rows + 1, D)
  rows of table `user`      0 ..
  rows of table `item`      starts["item"] ..
  zeros                     num_rows: what a missing id reads; never changes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from intarsia.core.batch import Dense, Feature, Jagged
from intarsia.core.errors import DataError
from intarsia.nn.component import nearest
from intarsia.nn.embedding.columns import side_by_side, unbind_columns
from intarsia.nn.embedding.pooling import pool_scale, segment_extreme, segment_pool, usable_weights
from intarsia.nn.embedding.rows import gather_rows
from intarsia.nn.embedding.spec import Lookup, Pooling, TableSpec


@dataclass(frozen=True)
class FusedTable:
    """Where each table of one width and group lies in their common weight."""

    name: str
    group: str
    dim: int
    tables: tuple[TableSpec, ...]
    starts: Mapping[str, int]
    num_rows: int

    @classmethod
    def of(cls, group: str, dim: int, tables: Sequence[TableSpec]) -> FusedTable:
        """Lays the tables out in the given order."""
        starts, row = {}, 0
        for table in tables:
            starts[table.name] = row
            row += table.num_rows
        return cls(f"{group}_{dim}", group, dim, tuple(tables), starts, row)

    def rows(self, tensor: Tensor, table: TableSpec) -> Tensor:
        """The part of a tensor with one entry for each fused row that belongs to one table."""
        return tensor[slice(*self.span(table))]

    def span(self, table: TableSpec) -> tuple[int, int]:
        """First fused row of a table, and the one after its last."""
        start = self.starts[table.name]
        return start, start + table.num_rows


@dataclass(frozen=True)
class Bags:
    """Weighted sums of rows: bag b sums `weights[i] * row[ids[i]]` for i in `offsets[b]:offsets[b + 1]`."""

    ids: Tensor
    offsets: Tensor
    weights: Tensor | None


class Engine(Protocol):
    """Reads rows, and rows summed over bags, out of a fused weight."""

    def __call__(
        self, weight: Tensor, gathers: Sequence[Tensor], bags: Bags | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """(..., D) for ids of each shape in `gathers`, and (bags, D)."""


def torch_engine(weight: Tensor, gathers: Sequence[Tensor], bags: Bags | None) -> tuple[list[Tensor], Tensor | None]:
    """Plain torch; the gradient of the weight is sparse (one entry for each id, repeated ids unsummed)."""
    rows = [gather_rows(weight, ids) for ids in gathers]
    if bags is None:
        return rows, None
    pooled = F.embedding_bag(
        bags.ids,
        weight,
        bags.offsets,
        mode="sum",
        sparse=weight.requires_grad,
        per_sample_weights=bags.weights,
        include_last_offset=True,
    )
    return rows, pooled


@dataclass(frozen=True)
class _Steps:
    """One jagged reading: what is pooled first, and the keys that want the result."""

    lookup: Lookup
    feature: Jagged
    table: TableSpec
    keys: list[str]

    @property
    def pooling(self) -> Pooling:
        return self.lookup.pooling if self.feature.inner_offsets is None else self.lookup.step_pooling

    @property
    def offsets(self) -> Tensor:
        return self.feature.offsets if self.feature.inner_offsets is None else self.feature.inner_offsets

    @property
    def in_bag(self) -> bool:
        return self.pooling in ("sum", "mean", "sqrtn")


class FusedLookups:
    """All lookups of one fused table: one gather of single ids, one of steps, one pooled lookup."""

    def __init__(self, table: FusedTable, lookups: Sequence[Lookup]) -> None:
        self.table = table
        self.lookups = tuple(lookups)
        self._specs = {spec.name: spec for spec in table.tables}
        self._bounds: dict[tuple[torch.device, tuple[str, ...]], tuple[Tensor, Tensor]] = {}

    def __call__(self, features: Mapping[str, Feature], weight: Tensor, engine: Engine) -> dict[str, Tensor | Jagged]:
        """The vectors by lookup key.

        Raises:
            DataError: A feature is missing from the batch, is not made of ids, or has an id outside its table.
        """
        singles, steps = self._sort(features)
        gathers = [self._single_ids(columns) for columns in singles]
        gathered = [item for item in steps if not item.in_bag]
        bagged = [item for item in steps if item.in_bag]
        if gathered:
            gathers.append(torch.cat([self._step_ids(item) for item in gathered]))
        rows, pooled = engine(weight, gathers, self._bags(bagged))

        out: dict[str, Tensor | Jagged] = {}
        for columns, vectors in zip(singles, rows, strict=False):  # The last of `rows` are the steps.
            for keys, vector in zip(columns.keys, unbind_columns(vectors), strict=True):
                out.update(dict.fromkeys(keys, vector))
        if gathered:
            for item, vectors in zip(
                gathered, rows[-1].split_with_sizes([i.feature.values.shape[0] for i in gathered]), strict=True
            ):
                out.update(dict.fromkeys(item.keys, _finish(item, vectors)))
        if pooled is not None:
            for item, vectors in zip(
                bagged, pooled.split_with_sizes([i.offsets.shape[0] - 1 for i in bagged]), strict=True
            ):
                out.update(dict.fromkeys(item.keys, _finish(item, vectors)))
        return out

    def _sort(self, features: Mapping[str, Feature]) -> tuple[list[_Columns], list[_Steps]]:
        """Single-valued features by batch size (users and sampled items may differ), and the jagged ones."""
        columns: list[_Columns] = []
        places: dict[tuple[str, str], list[str]] = {}
        steps: dict[tuple[str, str, str, str], _Steps] = {}
        for lookup in self.lookups:
            feature = features.get(lookup.feature)
            if feature is None:
                raise DataError(
                    f"the lookup `{lookup.key}` reads the feature `{lookup.feature}`, which the batch does not have. "
                    f"{nearest(lookup.feature, features) if features else 'It has no features.'}"
                )
            if feature.values.dim() != 1 or feature.values.is_floating_point():
                raise DataError(
                    f"the lookup `{lookup.key}` needs whole ids, one dimension of them, in the feature "
                    f"`{lookup.feature}`. Received {feature.values.dtype} of shape {tuple(feature.values.shape)}. "
                    "Give the feature a vocabulary, buckets or boundaries"
                )
            if isinstance(feature, Dense):
                keys = places.get((lookup.feature, lookup.table))
                if keys is None:
                    keys = places[lookup.feature, lookup.table] = []
                    _columns_of(columns, feature.values.shape[0]).add(lookup, feature.values, keys)
                keys.append(lookup.key)
                continue
            if feature.inner_offsets is not None and lookup.step_pooling == "none":
                raise DataError(
                    f"the steps of the feature `{lookup.feature}` hold several ids, so the lookup `{lookup.key}` "
                    "needs a `step_pooling` other than none"
                )
            reading = (lookup.feature, lookup.table, lookup.pooling, lookup.step_pooling)
            if reading not in steps:
                steps[reading] = _Steps(lookup, feature, self._specs[lookup.table], [])
            steps[reading].keys.append(lookup.key)
        return columns, list(steps.values())

    def _single_ids(self, columns: _Columns) -> Tensor:
        """(B, F) rows of the fused weight."""
        ids = _matrix(columns.ids)
        starts, sizes = self._column_bounds(ids.device, tuple(lookup.table for lookup in columns.lookups))
        outside = ids >= sizes

        def error() -> DataError:
            place = outside.any(0).nonzero()[0, 0]
            lookup = columns.lookups[int(place)]
            return self._outside(lookup, int(ids[:, place].max()))

        _require(outside, error)
        return torch.where(ids < 0, self.table.num_rows, ids + starts)

    def _column_bounds(self, device: torch.device, tables: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        known = self._bounds.get((device, tables))
        if known is not None and not torch.compiler.is_compiling():
            return known
        starts = torch.tensor([self.table.starts[name] for name in tables], device=device)
        sizes = torch.tensor([self._specs[name].num_rows for name in tables], device=device)
        if not torch.compiler.is_compiling():  # Tensors of a trace must not outlive it.
            self._bounds[device, tables] = (starts, sizes)
        return starts, sizes

    def _step_ids(self, item: _Steps) -> Tensor:
        """(S,) rows of the fused weight."""
        ids = item.feature.values
        outside = (ids < 0) | (ids >= item.table.num_rows)
        _require(outside, lambda: self._outside(item.lookup, int(ids[outside][0])))
        return ids + self.table.starts[item.table.name]

    def _outside(self, lookup: Lookup, worst: int) -> DataError:
        rows = self._specs[lookup.table].num_rows
        return DataError(
            f"ids of the feature `{lookup.feature}` are rows of its table `{lookup.table}`: 0 to {rows - 1}"
            f"{'; -1 stands for missing in features with one value only' if worst < 0 else ''}. Received {worst}. "
            "Encode the data with the vocabulary that the model was built with"
        )

    def _bags(self, items: Sequence[_Steps]) -> Bags | None:
        if not items:
            return None
        ids = [self._step_ids(item) for item in items]
        weights = [usable_weights(item.feature.weights, item.pooling) for item in items]
        if len(items) == 1:
            return Bags(ids[0], items[0].offsets, weights[0])
        offsets, total = [], 0
        for place, (item, part) in enumerate(zip(items, ids, strict=True), start=1):
            offsets.append((item.offsets if place == len(items) else item.offsets[:-1]) + total)
            total += part.shape[0]
        if all(weight is None for weight in weights):
            return Bags(torch.cat(ids), torch.cat(offsets), None)
        filled = [torch.ones_like(part, dtype=torch.float32) if w is None else w for w, part in zip(weights, ids)]
        return Bags(torch.cat(ids), torch.cat(offsets), torch.cat(filled))


class _Columns:
    """Single-valued readings of one batch size."""

    def __init__(self) -> None:
        self.lookups: list[Lookup] = []
        self.ids: list[Tensor] = []
        self.keys: list[list[str]] = []

    def add(self, lookup: Lookup, ids: Tensor, keys: list[str]) -> None:
        self.lookups.append(lookup)
        self.ids.append(ids)
        self.keys.append(keys)


def _columns_of(columns: list[_Columns], size: int) -> _Columns:
    """Those of that batch size; compared, not hashed, because in an exported graph a size is a symbol."""
    for found in columns:
        if found.ids[0].shape[0] == size:
            return found
    columns.append(_Columns())
    return columns[-1]


def _finish(item: _Steps, vectors: Tensor) -> Tensor | Jagged:
    """From gathered steps, or summed bags, to what the lookup asks for."""
    feature, pooling = item.feature, item.pooling
    if pooling in ("min", "max"):
        vectors = segment_extreme(vectors, item.offsets, pooling)
    elif pooling != "none":
        scale = pool_scale(item.offsets, usable_weights(feature.weights, pooling), pooling)
        vectors = vectors if scale is None else vectors * scale
    if feature.inner_offsets is None:
        return Jagged(vectors, feature.offsets, feature.weights) if item.lookup.pooling == "none" else vectors
    if item.lookup.pooling == "none":
        return Jagged(vectors, feature.offsets)
    return segment_pool(vectors, feature.offsets, item.lookup.pooling)


def _matrix(columns: Sequence[Tensor]) -> Tensor:
    """(B, F) of F columns; a view where they already are neighbours."""
    if not torch.compiler.is_compiling():
        joined = side_by_side([column.unsqueeze(1) for column in columns])
        if joined is not None:
            return joined
    # Whole columns are copied one after the other, which is much faster than one number at a time.
    return torch.stack(tuple(columns)).t()


def _require(wrong: Tensor, error: Callable[[], Exception]) -> None:
    """Raises when any entry is true. On an accelerator the check runs there, so that nothing waits for it."""
    if torch.compiler.is_compiling() or wrong.is_meta:
        return
    if wrong.device.type != "cpu":
        torch._assert_async(~wrong.any())
    elif bool(wrong.any()):
        raise error()
