"""Tests for the ComiRecSA model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from planted_interests import shares_of_four_and_one
from retrieval_contract import RetrieverContract, query

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY
from intarsia.data.schema import Schema
from intarsia.models.comirec_sa import ComiRecSA
from intarsia.models.sides import Sides
from intarsia.objectives.retrieval import build_objective


class TestComiRecSA(RetrieverContract):
    model = {"model_class": "ComiRecSA", "comirec_sa": {"hidden_size": 16, "num_interests": 2, "max_history": 10}}
    epochs = 15
    batch_size = 256
    learning_rate = 0.02

    def test_interests_are_the_equations_user_by_user(self) -> None:
        """Equations 8 to 10, one history at a time, with the matrices as the paper writes them."""
        model = self.made(comirec_sa={"hidden_size": 8, "num_interests": 3, "max_history": 6})
        assert isinstance(model, ComiRecSA)
        batch = self.view(model).take(slice(0, 6))
        history = batch.features[HISTORY]
        assert isinstance(history, Jagged)
        assert model.w1.weight.shape == (32, 8)
        with torch.no_grad():
            found = model.encode_queries(batch)
            for row, (a, b) in enumerate(zip(history.offsets, history.offsets[1:])):
                steps = model.encode_items(history.values[a:b])  # H', one step a row
                with_places = steps + model.positions.weight[: b - a]
                attention = (model.w2.weight @ torch.tanh(model.w1.weight @ with_places.t())).softmax(dim=1)
                assert torch.allclose(found[row], attention @ steps, atol=1e-6)


def comirec(num_interests: int = 2) -> ComiRecSA:
    """Three items, two numbers wide, one number inside the attention."""
    model = ComiRecSA(
        schema=Schema({}, num_users=1, num_items=3),
        objective=build_objective("softmax", num_items=3),
        sides=Sides(),
        hidden_size=2,
        num_interests=num_interests,
        attention_size=1,
    )
    with torch.no_grad():
        model.items.table.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, -1.0]]))
        model.positions.weight.zero_()
    return model.eval()


def test_attention_is_a_softmax_over_the_steps_with_weights_of_each_interest() -> None:
    model = comirec()
    with torch.no_grad():
        model.w1.weight.copy_(torch.tensor([[0.5, 0.25]]))
        model.w2.weight.copy_(torch.tensor([[1.0], [-2.0]]))
        found = model.encode_queries(query(torch.tensor([0, 2])))[0]
    # tanh(.5) of item 0 = (1, 0), tanh(1.5 - .25) of item 2 = (3, -1).
    a, b = math.tanh(0.5), math.tanh(1.25)
    for interest, weight in zip(found, (1.0, -2.0)):
        share = 1 / (1 + math.exp(weight * (b - a)))
        assert interest.tolist() == pytest.approx([share + 3 * (1 - share), -(1 - share)], rel=1e-5)


def test_the_place_of_a_step_counts_in_the_attention_and_not_in_the_interest() -> None:
    model = comirec(1)
    with torch.no_grad():
        model.w1.weight.copy_(torch.tensor([[1.0, 0.0]]))
        model.w2.weight.copy_(torch.tensor([[1000.0]]))
        model.positions.weight[1, 0] = 5.0
        found = model.encode_queries(query(torch.tensor([0, 1])))[0, 0]
    # The second step has all attention, and is worth (0, 2) without its position.
    assert found.tolist() == pytest.approx([0.0, 2.0])


def test_the_score_is_that_of_the_best_interest_and_so_is_the_loss() -> None:
    model = comirec()
    interests = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    with torch.no_grad():
        scores = model.score_block(interests.double(), model.catalogue(), 0, 3)
        assert scores.tolist() == [[1.0, 2.0, 3.0]]
        # Item 1 goes with the second interest, whose products are 0, 2 and -1.
        loss = model.losses({"queries": interests}, Batch({"target": Dense(torch.tensor([1]))}, size=1))
    assert loss["softmax"].item() == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-3)), rel=1e-5)


@pytest.mark.long
def test_four_interests_are_found_where_one_vector_does_not_find_them(tmp_path: Path) -> None:
    options = {"hidden_size": 8, "max_history": 20}
    shares = shares_of_four_and_one(
        "ComiRecSA", "comirec_sa", options, tmp_path, epochs=20, learning_rate=0.05, num_users=6000, clusters=7
    )
    assert min(shares[4]) >= 0.95, shares
    assert max(shares[1]) < 0.6, shares
