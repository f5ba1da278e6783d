"""Tests for the MIND model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_interests import shares_of_four_and_one
from retrieval_contract import RetrieverContract, query
from torch import Tensor

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY
from intarsia.data.schema import Schema
from intarsia.models.mind import MIND, label_aware
from intarsia.models.sides import Sides
from intarsia.objectives.retrieval import build_objective


class TestMIND(RetrieverContract):
    model = {"model_class": "MIND", "mind": {"hidden_size": 16, "num_interests": 2, "hidden_units": [32]}}
    epochs = 15
    batch_size = 256
    learning_rate = 0.02

    @pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
    def test_a_gradient_reaches_every_parameter_by_label_aware_attention(self, power: float) -> None:
        model = self.made(mind={"hidden_size": 8, "power": power})
        assert isinstance(model, MIND)
        batch = self.training_batch(model, slice(0, 64))
        torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.is_sparse or parameter.grad.isfinite().all(), name

    def test_interests_are_algorithm_1_step_by_step(self) -> None:
        """Routing by loops over the steps and the interests of one history at a time, without further layers."""
        model = self.made(mind={"hidden_size": 8, "num_interests": 4, "hidden_units": [], "max_history": 12})
        assert isinstance(model, MIND)
        batch = self.view(model).take(slice(0, 6))
        history = batch.features[HISTORY]
        assert isinstance(history, Jagged)
        matrix = model.votes.bilinear.weight
        with torch.no_grad():
            found = model.encode_queries(batch)
            for row, (a, b) in enumerate(zip(history.offsets, history.offsets[1:])):
                votes = [matrix @ step for step in model.encode_items(history.values[a:b])]
                count = max(1, min(4, int(math.log2(len(votes)))))
                start = model.get_buffer("routing_start")[:count, : len(votes)].clone()
                expected = [model.refine(one) for one in routed(votes, start, rounds=3)]
                expected += expected[:1] * (4 - count)
                assert torch.allclose(found[row], torch.stack(expected), atol=1e-5)

    def test_the_start_of_the_routing_is_part_of_the_model(self) -> None:
        """Drawn once: what a user is recommended does not change from call to call, nor by saving."""
        one, two = self.made(), self.made(seed=1)
        assert "routing_start" in one.state_dict()
        batch = self.view(one).take(slice(0, 5))
        assert torch.equal(self.scores(one, batch), self.scores(one, batch))
        two.load_state_dict(one.state_dict())
        assert torch.equal(self.scores(one, batch), self.scores(two, batch))


def routed(votes: list[Tensor], logits: Tensor, rounds: int) -> list[Tensor]:
    """Algorithm 1 for one history: votes of the steps, logits (K', L), to K' interests."""
    interests: list[Tensor] = []
    for _ in range(rounds):
        interests = []
        for k in range(len(logits)):
            total = sum(
                (logits[k, i].exp() / logits[:, i].exp().sum() * vote for i, vote in enumerate(votes)),
                torch.zeros_like(votes[0]),
            )
            length = total.norm()
            interests.append(length**2 / (1 + length**2) * total / length)
        logits = logits + torch.stack([torch.stack([one @ vote for vote in votes]) for one in interests])
    return interests


def mind(**options: Any) -> MIND:
    schema = Schema({}, num_users=1, num_items=3)
    given = {"hidden_size": 2, "hidden_units": [], **options}
    return MIND(schema=schema, objective=build_objective("softmax", num_items=3), sides=Sides(), **given).eval()


def test_a_history_has_as_many_interests_as_its_length_has_doublings() -> None:
    """Equation 9."""
    lengths = torch.tensor([0, 1, 2, 3, 4, 7, 8, 15, 16, 1000])
    assert mind(num_interests=4).interests_of(lengths).tolist() == [1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert mind(num_interests=2).interests_of(lengths).tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]


def test_interests_beyond_their_number_repeat_the_first() -> None:
    model = mind(num_interests=4)
    with torch.no_grad():
        found = model.encode_queries(query(torch.tensor([0, 1, 2, 0, 1])))[0]
    assert not torch.allclose(found[0], found[1])
    assert torch.equal(found[2], found[0])
    assert torch.equal(found[3], found[0])


def test_label_aware_attention_weighs_interests_by_a_power_of_their_products() -> None:
    interests = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    target, two = torch.tensor([[2.0, 1.0]]), torch.tensor([2])
    # Products 2 and 1; the third interest does not count.
    for power, difference in ((1.0, 1.0), (2.0, 3.0), (0.0, 0.0)):
        share = 1 / (1 + math.exp(-difference))
        found = label_aware(interests, target, two, power)[0].tolist()
        assert found == pytest.approx([share, 1 - share], rel=1e-5)
    # A power keeps the sign: -2 becomes -4, and not the best.
    found = label_aware(interests, torch.tensor([[-2.0, 1.0]]), two, 2.0)[0].tolist()
    assert found == pytest.approx([1 / (1 + math.exp(5)), 1 / (1 + math.exp(-5))], rel=1e-5)


def test_a_high_power_and_none_choose_the_nearest_interest() -> None:
    interests = torch.tensor([[[3.0, 0.0], [0.0, 3.0]]])
    batch = Batch(
        {HISTORY: query(torch.arange(3).repeat(2)).features[HISTORY], "target": Dense(torch.tensor([2]))}, size=1
    )
    losses = []
    for power in (None, 20.0, 0.0):
        model = mind(num_interests=2, power=power)
        with torch.no_grad():
            model.items.table.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, -1.0], [2.0, 1.5]]))
            losses.append(model.losses({"queries": interests}, batch)["softmax"].item())
    # The first interest: products 3, 0 and 6. Half of each: 3, -1.5 and 5.25.
    assert losses[0] == pytest.approx(math.log(1 + math.exp(-3) + math.exp(-6)), rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(math.log(1 + math.exp(-2.25) + math.exp(-6.75)), rel=1e-5)


@pytest.mark.long
def test_four_interests_are_found_where_one_vector_does_not_find_them(tmp_path: Path) -> None:
    options = {"hidden_size": 12, "max_history": 24, "hidden_units": []}
    shares = shares_of_four_and_one("MIND", "mind", options, tmp_path, epochs=12, learning_rate=0.03, num_users=2500)
    assert min(shares[4]) >= 0.95, shares
    assert max(shares[1]) < 0.6, shares
