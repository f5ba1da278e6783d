"""Features beside an id: what is known of an item, of a user, or of the moment of an interaction.

Every feature becomes a vector of the model's width, and these are added up; a missing value adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from intarsia.core.batch import Dense, Feature, Jagged
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec
from intarsia.nn.id_table import IdTable


@dataclass(frozen=True)
class SideFeature:
    """One feature.

    Attributes:
        name: Its name in a batch.
        num_ids: Rows of its table; 0: it is made of numbers.
        width: Numbers in one value, where it is made of numbers.
        multi: Whether a row has any number of ids.
        dim: Width of its embedding.
        pooling: How several ids become one vector.
        size: Values of the whole catalogue, for features of items that have any number of ids.
    """

    name: str
    num_ids: int = 0
    width: int = 1
    multi: bool = False
    dim: int = 16
    pooling: Literal["sum", "mean", "sqrtn", "min", "max"] = "mean"
    size: int = 0


class SideFeatures(nn.Module):
    """Sum of projected features.

    Args:
        features: The features; at least one.
        dim: D, width of the sum.
    """

    def __init__(self, features: Sequence[SideFeature], dim: int) -> None:
        super().__init__()
        self.features = tuple(features)
        ids = [feature for feature in self.features if feature.num_ids]
        self.dim = dim
        self.tables = None
        if ids:
            self.tables = EmbeddingCollection(
                tables=[TableSpec(f.name, f.num_ids, f.dim) for f in ids],
                lookups=[Lookup(f.name, f.name, f.name, f.pooling if f.multi else "sum") for f in ids],
            )
        widths = {f.name: f.dim if f.num_ids else f.width for f in self.features}
        # One matrix for all: projecting the concatenation is the sum of the projections.
        self.project = nn.Linear(sum(widths.values()), dim, bias=False)

    def forward(self, features: Mapping[str, Feature]) -> Tensor:
        """(B, D) of the features, by their names."""
        looked_up = self.tables(features) if self.tables is not None else {}
        parts = []
        for feature in self.features:
            value = looked_up.get(feature.name)
            if value is None:
                value = features[feature.name].values.nan_to_num()
            parts.append(value.reshape(len(value), feature.dim if feature.num_ids else feature.width))
        out: Tensor = self.project(torch.cat(parts, dim=1))
        return out


class CatalogueFeatures(nn.Module):
    """What is known of each of N items, with the encoded values inside, so that an item is told by its number alone.

    Args:
        features: The features, `size` included.
        num_items: N.
        dim: D.
    """

    def __init__(self, features: Sequence[SideFeature], num_items: int, dim: int) -> None:
        super().__init__()
        self.encode = SideFeatures(features, dim)
        self.num_items = num_items
        for f in features:
            count = f.size if f.multi else num_items
            empty = torch.zeros(count, dtype=torch.int64) if f.num_ids else torch.zeros(count, f.width)
            self.register_buffer(f"values_{f.name}", empty)
            if f.multi:
                self.register_buffer(f"offsets_{f.name}", torch.zeros(num_items + 1, dtype=torch.int64))

    def fill(self, features: Mapping[str, Feature]) -> None:
        """Takes the values of all N items in."""
        for f in self.encode.features:
            value, values = features[f.name], self.get_buffer(f"values_{f.name}")
            values.copy_(value.values.reshape(values.shape))
            if isinstance(value, Jagged):
                self.get_buffer(f"offsets_{f.name}").copy_(value.offsets)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """(n, D) of the given items (n,), all of them where None."""
        out: Tensor = self.encode({f.name: self._rows(f, items) for f in self.encode.features})
        return out

    def _rows(self, feature: SideFeature, items: Tensor | None) -> Feature:
        values = self.get_buffer(f"values_{feature.name}")
        if not feature.multi:
            return Dense(values if items is None else values[items])
        offsets = self.get_buffer(f"offsets_{feature.name}")
        if items is None:
            return Jagged(values, offsets)
        lengths = offsets.diff()[items]
        ends = lengths.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        index = torch.repeat_interleave(offsets[items] - (ends - lengths), lengths, output_size=total)
        index = index + torch.arange(total, device=values.device)
        return Jagged(values[index], torch.cat([ends.new_zeros(1), ends]))


class ItemEncoder(nn.Module):
    """Vectors of items: a row of a table for each, and what is known of it.

    Args:
        num_items: N.
        dim: D.
        std: Standard deviation of the table at the start.
        sparse: See `IdTable`.
        features: Features of the items; none: the table alone.
    """

    def __init__(
        self, num_items: int, dim: int, *, std: float, sparse: bool = False, features: Sequence[SideFeature] = ()
    ) -> None:
        super().__init__()
        self.table = IdTable(num_items, dim, std=std, sparse=sparse)
        self.features = CatalogueFeatures(features, num_items, dim) if features else None

    def forward(self, items: Tensor | None = None) -> Tensor:
        """(..., D) of the given items (-1 reads zeros), (N, D) of all where None."""
        vectors: Tensor = self.table.weight if items is None else self.table(items)
        if self.features is None:
            return vectors
        if items is None:
            everything: Tensor = vectors + self.features()
            return everything
        known: Tensor = self.features(items.reshape(-1).clamp(min=0)).view_as(vectors)
        return vectors + known.masked_fill((items < 0).unsqueeze(-1), 0.0)
