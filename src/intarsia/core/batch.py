"""A batch: named features, labels, weights and ids as tensors.

Shape legend of the whole project: B batch, L history length, F features, D dimension, K interests or top-k, N items,
U users, T tasks, S total number of steps or values in a jagged tensor.

    rows          values               offsets
    0  [3, 5]     [3, 5, 9, 1, 2]      [0, 2, 2, 5]
    1  []
    2  [9, 1, 2]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dense:
    """One value, or a fixed number of values, for each row.

    Attributes:
        values: (B,) int64 row numbers of a table for an id feature, -1 where the value is missing; or (B, D) float32
            numbers.
    """

    values: Tensor

    def __len__(self) -> int:
        return self.values.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Dense:
        """The same on another device."""
        return Dense(self.values.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Jagged:
    """Any number of values for each row.

    Attributes:
        values: (S,) int64 ids (never -1: missing values are left out), or (S, D) float32 numbers.
        offsets: (B + 1,) int64; row b owns the steps `offsets[b]:offsets[b + 1]`.
        weights: (S,) float32 or None.
        inner_offsets: Only for sequences whose steps hold several ids: (steps + 1,) int64; step s owns
            `values[inner_offsets[s]:inner_offsets[s + 1]]`, and `offsets` counts steps.
    """

    values: Tensor
    offsets: Tensor
    weights: Tensor | None = None
    inner_offsets: Tensor | None = None

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def lengths(self) -> Tensor:
        """(B,) number of steps of each row."""
        return self.offsets.diff()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Jagged:
        """The same on another device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        return replace(
            self,
            values=self.values.to(device, non_blocking=non_blocking),
            offsets=self.offsets.to(device, non_blocking=non_blocking),
            weights=move(self.weights),
            inner_offsets=move(self.inner_offsets),
        )


Feature = Dense | Jagged


@dataclass(frozen=True)
class Batch:
    """B rows of data.

    Attributes:
        features: Encoded features by name.
        labels: (B,) or (B, D) float32 labels by field name; empty when predicting.
        weights: (B,) float32 sample weights or None.
        ids: (B,) int64 codes of raw columns that metrics group by (`gauc`, `session_auc`): equal text, equal code.
        size: B.
    """

    features: Mapping[str, Feature]
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None
    ids: Mapping[str, Tensor] = field(default_factory=dict)
    size: int = 0

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on another device; `self` when it is there already."""
        if torch.device(device).type == "cpu" and all(_tensor(f).device.type == "cpu" for f in self.features.values()):
            return self
        return Batch(
            features={k: v.to(device, non_blocking) for k, v in self.features.items()},
            labels={k: v.to(device, non_blocking=non_blocking) for k, v in self.labels.items()},
            weights=None if self.weights is None else self.weights.to(device, non_blocking=non_blocking),
            ids={k: v.to(device, non_blocking=non_blocking) for k, v in self.ids.items()},
            size=self.size,
        )


def _tensor(feature: Feature) -> Tensor:
    return feature.values
