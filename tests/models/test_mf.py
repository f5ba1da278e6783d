from __future__ import annotations

import pytest
import torch
from retrieval_contract import RetrieverContract, query

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import RATING, TARGET, USER
from intarsia.data.schema import Schema
from intarsia.models.mf import MF
from intarsia.nn.fold_in import fold_in
from intarsia.objectives.retrieval import build_objective
from intarsia.objectives.retrieval.catalogue import OBJECTIVES


class TestMF(RetrieverContract):
    model = {"model_class": "MF", "mf": {"hidden_size": 16}}


class TestWithBiasesAndSoftmax(RetrieverContract):
    model = {"model_class": "MF", "mf": {"hidden_size": 16, "biases": True}, "objective": "softmax"}
    epochs = 15


def made(objective: object = "bpr", num_items: int = 30, **options: object) -> MF:
    torch.manual_seed(0)
    built = build_objective(objective, num_items=num_items)
    return MF(schema=Schema({}, num_users=8, num_items=num_items), objective=built, **options)


def pairs(users: list[int], items: list[int]) -> Batch:
    labels = {RATING: torch.tensor([4.0] * len(users))}
    return Batch({USER: Dense(torch.tensor(users)), TARGET: Dense(torch.tensor(items))}, labels, size=len(users))


def test_a_score_is_a_product_and_three_biases() -> None:
    model = made("mse", hidden_size=3, biases=True).eval()
    with torch.no_grad():
        model.users.weight.normal_()
        model.items.weight.normal_()
        model.mean.fill_(3.5)
    p, q = model.users.weight, model.items.weight
    expected = p[2, :3] @ q[:, :3].t() + p[2, 3] + q[:, 3] + 3.5
    batch = query(torch.tensor([1]), user=2)
    with torch.no_grad():
        found = model.score_block(model.queries(batch), model.catalogue(), 0, 30)
    assert torch.allclose(found[0], expected, atol=1e-5)


def test_the_penalty_is_half_the_squares_of_the_vectors_of_each_pair() -> None:
    model = made("mse", hidden_size=4, l2=0.3).train()
    batch = pairs([1, 1, 5], [2, 9, 9])
    losses = model.losses(model(batch), batch)
    p, q = model.users.weight, model.items.weight
    squares = p[[1, 1, 5]].square().sum() + q[[2, 9, 9]].square().sum()
    assert losses["l2"].item() == pytest.approx(0.3 * squares.item() / 2 / 3, rel=1e-5)


def test_a_stranger_gets_what_explains_the_history() -> None:
    model = made(hidden_size=4).eval()
    history = torch.tensor([3, 8, 8])
    with torch.no_grad():
        found = model.encode_queries(query(history))
        assert torch.allclose(found, fold_in(model.items.weight, history, torch.tensor([0, 3])))
        assert torch.equal(model.encode_queries(query(history, user=6))[0], model.users.weight[6])


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_trains_it(objective: str) -> None:
    """A step along the gradient lowers the loss of the same batch and the same draws."""
    model = made(objective, hidden_size=8).train()
    model.objective.set_counts(torch.arange(1, 31))
    torch.manual_seed(1)
    batch = pairs([0, 1, 2, 3], [4, 5, 6, 7])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    values = []
    for _ in range(2):
        torch.manual_seed(2)
        loss = sum(model.losses(model(batch), batch).values())
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[1] < values[0]
