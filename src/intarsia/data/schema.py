"""What a model needs to know of the data: sizes and kinds of features, names of labels. Nothing of the data itself.

A model is built from its configuration plus this schema, so it loads, exports and serves without any data at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["id", "dense", "raw"]


@dataclass(frozen=True)
class FeatureSpec:
    """One encoded feature, as it arrives in a batch.

    | kind    | multi | sequence | in the batch                                                                     |
    |---------|-------|----------|----------------------------------------------------------------------------------|
    | `id`    | no    | no       | `Dense`, (B,) int64, -1 where missing                                            |
    | `id`    | yes   | no       | `Jagged`, ids (S,), weights (S,) if `weighted`                                   |
    | `id`    | -     | yes      | `Jagged`, ids (S,); with `step_multi` also inner_offsets                         |
    | `dense` | no    | no       | `Dense`, (B, width) float32                                                      |
    | `dense` | yes   | no       | `Jagged`, (S, width) float32: several vectors a row, pooled by `combiner`        |
    | `dense` | -     | yes      | `Jagged`, (S, width) float32                                                     |
    | `raw`   | no    | no       | `Dense`, (B, width) float32, never embedded                                      |

    Attributes:
        num_ids: kind `id`: rows of the table.
        width: Numbers in one value.
        max_length: Sequences: longest that arrives (0: no bound).
        combiner: How several values become one vector.
        embedding_dim: Width of the embedding; 0: kind `dense` enters as plain numbers.
        table: Name that features share when they share a table; empty: a table of its own in every group.
        initializer: The `Initializer` message as plain data, or None.
        sequence_combiner: The `SequenceCombiner` message as plain data, or None.
    """

    name: str
    kind: Kind
    num_ids: int = 0
    width: int = 1
    multi: bool = False
    weighted: bool = False
    sequence: bool = False
    step_multi: bool = False
    max_length: int = 0
    combiner: Literal["sum", "mean", "sqrtn", "min", "max"] = "sum"
    embedding_dim: int = 0
    table: str = ""
    initializer: Mapping[str, Any] | None = None
    sequence_combiner: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Schema:
    """Features, labels, and columns that metrics group by.

    Attributes:
        features: By name, in the order of the pipeline file.
        labels: Name to number of values in a row, in the order of `label_fields`.
        ids: Raw columns that arrive in `Batch.ids`.
        num_users: U, where the data are an interaction log that a retriever learns from; else 0.
        num_items: N, likewise.
        item_sizes: Encoded values of the whole catalogue, for each feature of items that has any number of them.
    """

    features: Mapping[str, FeatureSpec]
    labels: Mapping[str, int] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    num_users: int = 0
    num_items: int = 0
    item_sizes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        out: dict[str, Any] = {
            "features": [dataclasses.asdict(spec) for spec in self.features.values()],
            "labels": dict(self.labels),
            "ids": list(self.ids),
        }
        if self.num_items:
            out |= {"num_users": self.num_users, "num_items": self.num_items, "item_sizes": dict(self.item_sizes)}
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        specs = [FeatureSpec(**spec) for spec in data["features"]]
        return cls(
            {spec.name: spec for spec in specs},
            dict(data["labels"]),
            tuple(data["ids"]),
            data.get("num_users", 0),
            data.get("num_items", 0),
            dict(data.get("item_sizes", {})),
        )
