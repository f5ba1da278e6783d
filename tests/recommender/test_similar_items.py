"""Items are alike by what their vectors say, not by how much everybody likes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from retrieval_contract import RetrieverContract

from intarsia.models.retriever import Retriever
from intarsia.recommender.retrieval import RetrievalRecommender


class WithBiases(RetrieverContract):
    model: dict[str, Any] = {}


@pytest.mark.parametrize(
    "model",
    [
        {"model_class": "MF", "mf": {"hidden_size": 6, "biases": True}, "objective": "softmax"},
        {"model_class": "BERT4Rec", "bert4rec": {"hidden_size": 8}},
        {"model_class": "Caser", "caser": {"hidden_size": 8, "window": 3}},
    ],
    ids=lambda model: model["model_class"],
)
def test_biases_do_not_make_items_alike(model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WithBiases, "model", model)
    made = WithBiases.made()
    assert isinstance(made, Retriever)
    config, data = WithBiases.config(), WithBiases.data()
    before = RetrievalRecommender.from_data(config, data, made).similar_items(["i1", "i40"], k=8)
    with torch.no_grad():
        if model["model_class"] == "MF":
            made.items.weight[:, -1] = torch.linspace(-50, 50, made.num_items)
        else:
            made.bias.bias.copy_(torch.linspace(-50, 50, made.num_items))
        scores = made.encode_items()[:, -2 if model["model_class"] == "MF" else -1]
    assert scores.max() == 50
    after = RetrievalRecommender.from_data(config, data, made).similar_items(["i1", "i40"], k=8)
    assert after.equals(before)
