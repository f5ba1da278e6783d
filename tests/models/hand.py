"""A schema of two ids two wide, models over it, and weights set by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch, Dense
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.models.base import Model
from intarsia.models.catalogue import build
from intarsia.recommender.pipeline import pipeline_from

USER, ITEM = 3, 5
"""The ids of `one_row`."""


class SmallSchema(Schema):
    """Ids `user` and `item`, each in a table of ten rows of two."""

    def batch(self, count: int, seed: int = 0) -> Batch:
        """Random rows."""
        draw = torch.Generator().manual_seed(seed)
        features = {name: Dense(torch.randint(-1, 10, (count,), generator=draw)) for name in self.features}
        labels = {"label": torch.randint(0, 2, (count,), generator=draw).float()}
        return Batch(features, labels, size=count)


SCHEMA = SmallSchema({n: FeatureSpec(n, "id", num_ids=10, embedding_dim=2) for n in ("user", "item")}, {"label": 1})


def config_of(model: Mapping[str, Any]) -> ModelConfig:
    """A model's part of a pipeline, checked as one that was read from a file."""
    features = [{"input_names": [n], "num_buckets": 10, "embedding_dim": 2} for n in SCHEMA.features]
    fields = [{"input_name": n, "input_type": "INT64"} for n in (*SCHEMA.features, *SCHEMA.labels)]
    data = {"input_fields": fields, "label_fields": ["label"]}
    pipeline = {"data_config": data, "feature_config": {"features": features}, "model_config": dict(model)}
    return pipeline_from(pipeline).config.model


def model_of(model: Mapping[str, Any], seed: int = 0) -> Any:
    """Built, in evaluation mode."""
    torch.manual_seed(seed)
    return build(config_of(model), SCHEMA).eval()


def one_row() -> Batch:
    return Batch(
        {"user": Dense(torch.tensor([USER])), "item": Dense(torch.tensor([ITEM]))}, {"label": torch.ones(1)}, size=1
    )


def fill(model: Model, table: str, rows: Mapping[int, Sequence[float]]) -> None:
    """Sets rows of a table, and all others to zero."""
    (collection,) = model.tables
    weight = collection.weight(table)
    weight.zero_()
    for row, values in rows.items():
        weight[row] = torch.tensor(values)


def set_dense(model: Any, block: str, weight: Sequence[Sequence[float]], bias: Sequence[float]) -> None:
    """Sets the only dense layer of a block."""
    (linear,) = [m for m in model.backbone.graphs["backbone"].block(block).modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copies all weights in order; both models have the same ones under other names."""
    values = [*source.state_dict().values()]
    names = [*target.state_dict()]
    assert [v.shape for v in values] == [v.shape for v in target.state_dict().values()]
    target.load_state_dict(dict(zip(names, values, strict=True)))
