"""Tests for the GMF model."""

from __future__ import annotations

import pytest
import torch
from retrieval_contract import RetrieverContract, query

from intarsia.core.batch import Batch, Dense
from intarsia.data.schema import Schema
from intarsia.models.gmf import GMF
from intarsia.nn.fold_in import fold_in
from intarsia.objectives.retrieval import build_objective


class TestGMF(RetrieverContract):
    model = {"model_class": "GMF", "gmf": {"hidden_size": 16}}
    learning_rate = 0.03
    epochs = 20

    def test_starts_as_in_the_paper(self) -> None:
        model = self.made(gmf={"hidden_size": 64})
        assert isinstance(model, GMF)
        assert model.objective.name == "bce"
        assert model.objective.needs_seen
        assert model.users.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert model.items.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert 0.1 < model.output.weight.abs().max().item() <= (3 / 64) ** 0.5
        assert model.output.bias.item() == 0.0


def gmf(**options: float) -> GMF:
    """Two users, three items, two factors."""
    schema = Schema({}, num_users=2, num_items=3)
    model = GMF(schema=schema, objective=build_objective("bce", num_items=3), hidden_size=2, **options)  # type: ignore[arg-type]
    model.users.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.5]]))
    model.items.weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 2.0], [-2.0, 4.0]]))
    with torch.no_grad():
        model.output.weight.copy_(torch.tensor([[2.0, -0.5]]))
        model.output.bias.fill_(0.25)
    return model.eval()


def pairs() -> Batch:
    return Batch({"user": Dense(torch.tensor([0, 1])), "target": Dense(torch.tensor([0, 2]))}, size=2)


def test_a_score_is_the_weighted_sum_of_the_products_of_the_factors() -> None:
    model = gmf()
    with torch.no_grad():
        scores = model.score_block(model.queries(pairs()), model.catalogue(), 0, 3)
    # User 0 and item 0: 2 * (1 * 3) - 0.5 * (2 * 1) + 0.25.
    assert scores.tolist() == [[5.25, -1.75, -7.75], [-6.0, -0.25, 3.25]]


def test_the_loss_is_the_cross_entropy_of_pairs_and_negatives() -> None:
    model = gmf().train()
    model.objective = build_objective({"bce": {"num_negatives": 2}}, num_items=3)
    torch.manual_seed(0)
    loss = model.losses(model(pairs()), pairs())["bce"].item()
    # With three items and two draws among the other two, either item may come twice.
    torch.manual_seed(0)
    scores = torch.tensor([[5.25, -1.75, -7.75], [-6.0, -0.25, 3.25]])
    drawn = model.objective.sampler.others(torch.tensor([0, 2]), 2)  # type: ignore[union-attr, operator]
    rows = [
        torch.nn.functional.softplus(-scores[u, i]) + torch.nn.functional.softplus(scores[u, drawn[u]]).sum()
        for u, i in ((0, 0), (1, 2))
    ]
    assert loss == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)


def test_the_penalty_is_on_the_rows_of_the_pairs() -> None:
    model = gmf(l2=0.1)
    found = model.losses(model(pairs()), pairs())
    # Users (1, 2) and (-1, .5), items (3, 1) and (-2, 4): 5 + 1.25 + 10 + 20.
    assert found["l2"].item() == pytest.approx(0.1 * 36.25 / 2 / 2)
    assert "l2" not in gmf().losses(model(pairs()), pairs())


def test_a_stranger_is_folded_in_over_the_item_vectors() -> None:
    model = gmf()
    vector = fold_in(model.items.weight, torch.tensor([1, 2]), torch.tensor([0, 2]))[0]
    with torch.no_grad():
        found = model.encode_queries(query(torch.tensor([1, 2])))
        scores = model.score_block(model.queries(query(torch.tensor([1, 2]))), model.catalogue(), 0, 3)
    assert torch.allclose(found[0], torch.cat([vector, torch.tensor([0.25])]))
    assert torch.allclose(scores[0], model.items.weight @ vector + 0.25, atol=1e-6)
