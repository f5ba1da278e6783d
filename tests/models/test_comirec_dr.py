"""Tests for the ComiRecDR model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted_interests import shares_of_four_and_one
from retrieval_contract import RetrieverContract, query
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.batch_names import HISTORY
from intarsia.models.comirec_dr import ComiRecDR


class TestComiRecDR(RetrieverContract):
    model = {"model_class": "ComiRecDR", "comirec_dr": {"hidden_size": 16, "num_interests": 2, "max_history": 4}}
    epochs = 25
    batch_size = 256
    learning_rate = 0.05

    def test_interests_are_algorithm_1_step_by_step(self) -> None:
        """Dynamic routing by loops over the steps and the interests of one history at a time."""
        model = self.made(comirec_dr={"hidden_size": 8, "num_interests": 3, "max_history": 6})
        assert isinstance(model, ComiRecDR)
        batch = self.view(model).take(slice(0, 6))
        history = batch.features[HISTORY]
        assert isinstance(history, Jagged)
        with torch.no_grad():
            found = model.encode_queries(batch)
            for row, (a, b) in enumerate(zip(history.offsets, history.offsets[1:])):
                steps = model.encode_items(history.values[a:b])
                votes = [
                    [steps[i] @ model.votes.weight[i, :, 8 * k : 8 * (k + 1)] for i in range(len(steps))]
                    for k in range(3)
                ]
                assert torch.allclose(found[row], torch.stack(routed(votes, rounds=3)), atol=1e-5)

    def test_one_round_divides_each_step_evenly(self) -> None:
        model = self.made(comirec_dr={"hidden_size": 8, "num_interests": 2, "routing_iterations": 1})
        assert isinstance(model, ComiRecDR)
        with torch.no_grad():
            found = model.encode_queries(query(torch.tensor([4])))[0]
            vote = model.encode_items(torch.tensor([4]))[0] @ model.votes.weight[0, :, :8]
        assert torch.allclose(found[0], pressed(vote / 2), atol=1e-6)

    def test_an_interest_is_shorter_than_one(self) -> None:
        model = self.made()
        assert isinstance(model, ComiRecDR)
        with torch.no_grad():
            model.votes.weight.mul_(1000.0)
            lengths = model.encode_queries(self.view(model).take(slice(0, 20))).norm(dim=2)
        assert bool((lengths < 1.0 + 1e-6).all())
        assert lengths.max().item() > 0.99

    def test_each_position_has_matrices_of_its_own(self) -> None:
        model = self.made()
        assert isinstance(model, ComiRecDR)
        assert model.votes.weight.shape == (4, 16, 2 * 16)
        with torch.no_grad():
            one, two = (model.encode_queries(query(torch.tensor(steps))) for steps in ([3, 9], [9, 3]))
        assert not torch.allclose(one, two, atol=1e-3)

    def test_an_empty_history_has_no_interests(self) -> None:
        model = self.made()
        assert isinstance(model, ComiRecDR)
        with torch.no_grad():
            assert not model.encode_queries(query(torch.tensor([], dtype=torch.int64))).any()

    def test_gradients_pass_through_the_last_round_alone(self) -> None:
        """As if the shares that the rounds before it settled on were given."""
        model = self.made(comirec_dr={"hidden_size": 4, "num_interests": 2})
        assert isinstance(model, ComiRecDR)
        batch = query(torch.tensor([1, 2, 3]))
        model.encode_queries(batch).sum().backward()
        assert model.votes.weight.grad is not None
        weight = model.votes.weight.detach().clone().requires_grad_()
        steps = model.encode_items(torch.tensor([1, 2, 3])).detach()
        votes = [[steps[i] @ weight[i, :, 4 * k : 4 * (k + 1)] for i in range(3)] for k in range(2)]
        torch.stack(routed(votes, rounds=3)).sum().backward()
        assert weight.grad is not None
        assert torch.allclose(model.votes.weight.grad, weight.grad, atol=1e-5)


def pressed(vector: Tensor) -> Tensor:
    """Equation 4."""
    length: Tensor = vector.norm()
    return vector * length / (1 + length * length)


def routed(votes: list[list[Tensor]], rounds: int) -> list[Tensor]:
    """Algorithm 1 for one history: (K) lists of (L) votes to K interests."""
    logits = torch.zeros(len(votes), len(votes[0]))
    for left in range(rounds - 1, -1, -1):
        interests = []
        for k, own in enumerate(votes):
            total = torch.zeros_like(own[0])
            for i, vote in enumerate(own):
                share = logits[k, i].exp() / logits[:, i].exp().sum()
                total = total + share * (vote.detach() if left else vote)
            interests.append(pressed(total))
        if left:
            for k, own in enumerate(votes):
                for i, vote in enumerate(own):
                    logits[k, i] += (interests[k] @ vote).detach()
    return interests


@pytest.mark.long
def test_four_interests_are_found_where_one_vector_does_not_find_them(tmp_path: Path) -> None:
    """Matrices for each position need users and width; in 16 numbers and more one vector finds most interests, too."""
    options = {"hidden_size": 14, "max_history": 20}
    shares = shares_of_four_and_one(
        "ComiRecDR", "comirec_dr", options, tmp_path, epochs=15, learning_rate=0.03, num_users=9000
    )
    assert min(shares[4]) >= 0.95, shares
    assert max(shares[1]) < 0.6, shares
