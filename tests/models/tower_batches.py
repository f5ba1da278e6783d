"""Small two-tower models, batches with features of users, items and moments, and dense layers by hand."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from arrays import Array, array
from torch import Tensor, nn

from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.batch_names import HISTORY, RATING, TARGET, USER
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.sides import Sides
from intarsia.nn.embedding import EmbeddingCollection
from intarsia.nn.mlp import MLP, DenseLayer
from intarsia.nn.side_features import CatalogueFeatures, SideFeature
from intarsia.objectives.retrieval import build_objective

Made = TypeVar("Made", bound=NextItemRetriever)

ITEMS, USERS = 6, 4
SIDES = Sides(
    user=(SideFeature("job", num_ids=3, dim=2), SideFeature("age", width=1)),
    item=(SideFeature("genre", num_ids=3, dim=2), SideFeature("tags", num_ids=4, multi=True, dim=2, size=7)),
    context=(SideFeature("hour", num_ids=24, dim=3), SideFeature("price", width=1)),
)


def tower_model(kind: type[Made], *, sides: Sides = Sides(), objective: Any = "softmax", **options: Any) -> Made:  # noqa: B008 - read, never changed
    """Over six items and four users, with weights that differ everywhere; in evaluation mode."""
    torch.manual_seed(0)
    made = build_objective(objective, negatives="uniform", num_items=ITEMS)
    made.set_counts(torch.arange(1, ITEMS + 1))
    schema = Schema({}, num_users=USERS, num_items=ITEMS)
    model = kind(schema=schema, objective=made, sides=sides, **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    tags = Jagged(torch.tensor([0, 1, 1, 2, 3, 0, 2]), torch.tensor([0, 2, 3, 3, 5, 6, 7]))
    for module in model.modules():
        if isinstance(module, EmbeddingCollection):
            for table in module.parameters():
                nn.init.zeros_(table[-1])  # what missing numbers read
        if isinstance(module, CatalogueFeatures):
            module.fill({"genre": Dense(torch.tensor([0, 1, 2, 0, 1, -1])), "tags": tags})
    return model.eval()


def batch_of(
    *histories: list[int],
    users: list[int] | None = None,
    targets: list[int] | None = None,
    ratings: list[float] | None = None,
) -> Batch:
    """Rows without features; users are strangers where none are named."""
    offsets = torch.tensor([0, *map(len, histories)]).cumsum(0)
    values = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    features: dict[str, Feature] = {
        USER: Dense(torch.tensor(users or [-1] * len(histories))),
        HISTORY: Jagged(values, offsets),
    }
    if targets is not None:
        features[TARGET] = Dense(torch.tensor(targets))
    return Batch(features, {} if ratings is None else {RATING: torch.tensor(ratings)}, size=len(histories))


def described(batch: Batch, **changed: Tensor) -> Batch:
    """The batch with features of users, steps and moments; `user_job=…` gives one of them other values."""
    history = batch.features[HISTORY]
    assert isinstance(history, Jagged)
    rows, steps = torch.arange(batch.size), torch.arange(len(history.values))
    values = {
        "user_job": rows % 3,
        "user_age": rows.unsqueeze(1) * 0.5 - 1.0,
        "history_hour": steps * 5 % 24,
        "history_price": steps.unsqueeze(1) * 0.25 - 0.5,
        "target_hour": rows * 7 % 24,
        "target_price": rows.unsqueeze(1) * 0.75 + 0.5,
        **changed,
    }
    return Batch(
        {**batch.features, **{k.replace("_", "/"): Dense(v) for k, v in values.items()}}, batch.labels, size=batch.size
    )


def layers_by_hand(values: Array, layers: MLP) -> Array:
    """Dense layers with ReLU between them."""
    for index, layer in enumerate(layers.layers):
        assert isinstance(layer, DenseLayer)
        values = np.maximum(values, 0.0) if index else values
        values = values @ array(layer.linear.weight).T + array(layer.linear.bias)
    return values
