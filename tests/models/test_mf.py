"""Tests for the MF model, and for every objective on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from classic import batch_of, scores_of
from retrieval_contract import RetrieverContract
from torch.nn import functional

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import RATING, SEEN, TARGET, USER
from intarsia.data.schema import Schema
from intarsia.models.mf import MF
from intarsia.nn.fold_in import fold_in
from intarsia.objectives.retrieval import OBJECTIVES, SAMPLERS, build_objective

USERS = [[1.0, 2.0], [-1.0, 0.5]]
ITEMS = [[3.0, 1.0], [0.0, 2.0], [-2.0, 4.0]]
OF_USERS, OF_ITEMS, MEAN = [0.5, -0.25], [0.125, 0.0, -1.0], 3.0


class TestMF(RetrieverContract):
    model = {"model_class": "MF", "mf": {"hidden_size": 8}}
    learning_rate = 0.04
    batch_size = 128
    epochs = 14


class TestWithBiases(RetrieverContract):
    model = {"model_class": "MF", "mf": {"hidden_size": 8, "biases": True, "l2": 0.01}, "objective": "mse"}
    learns = False


class TestByTheSoftmax(RetrieverContract):
    model = {"model_class": "MF", "mf": {"hidden_size": 8}, "objective": "softmax"}
    learns = False


def mf(objective: str = "bpr", **options: Any) -> MF:
    """Two users, three items, two factors."""
    schema = Schema({}, num_users=2, num_items=3)
    model = MF(schema=schema, objective=build_objective(objective, num_items=3), hidden_size=2, **options)
    biases = bool(options.get("biases"))
    with torch.no_grad():
        for table, rows, own in ((model.users, USERS, OF_USERS), (model.items, ITEMS, OF_ITEMS)):
            table.weight.copy_(torch.tensor([[*row, b] if biases else row for row, b in zip(rows, own)]))
        if biases:
            model.mean.fill_(MEAN)
    return model.eval()


def pairs(ratings: list[float] | None = None) -> Batch:
    """User 0 with item 0, user 1 with item 2."""
    labels = {} if ratings is None else {RATING: torch.tensor(ratings)}
    return Batch({USER: Dense(torch.tensor([0, 1])), TARGET: Dense(torch.tensor([0, 2]))}, labels, size=2)


def test_a_score_is_an_inner_product() -> None:
    assert scores_of(mf(), batch_of([], [1], users=[0, 1])).tolist() == [[5.0, 4.0, 6.0], [-2.5, 1.0, 4.0]]


def test_with_biases_those_of_user_item_and_the_whole_are_added() -> None:
    found = scores_of(mf(biases=True), batch_of([], [1], users=[0, 1]))
    expected = np.array([[5.0, 4.0, 6.0], [-2.5, 1.0, 4.0]]) + np.array([[0.5], [-0.25]]) + OF_ITEMS + 3.0
    assert np.allclose(found, expected)


def test_biases_start_at_zero_and_vectors_as_told() -> None:
    torch.manual_seed(0)
    schema = Schema({}, num_users=500, num_items=400)
    objective = build_objective("mse", num_items=400)
    model = MF(schema=schema, objective=objective, hidden_size=32, biases=True, init_std=0.3)
    for table in (model.users, model.items):
        assert not table.weight[:, -1].any()
        assert table.weight[:, :-1].std().item() == pytest.approx(0.3, rel=0.03)
    assert model.mean.item() == 0.0


@pytest.mark.parametrize("biases", [False, True])
def test_squared_errors_are_those_of_the_ratings(biases: bool) -> None:
    model = mf("mse", biases=biases)
    found = model.losses(model(pairs([4.0, 1.0])), pairs([4.0, 1.0]))
    # Products 5 and 4; with biases 5 + .5 + .125 + 3 and 4 - .25 - 1 + 3.
    expected = (4.625**2 + 4.75**2) / 2 if biases else (1.0**2 + 3.0**2) / 2
    assert list(found) == ["mse"]
    assert found["mse"].item() == pytest.approx(expected)


def test_the_penalty_is_on_the_rows_of_the_pairs() -> None:
    model = mf("mse", l2=0.1)
    found = model.losses(model(pairs([4.0, 1.0])), pairs([4.0, 1.0]))
    # Users (1, 2) and (-1, .5), items (3, 1) and (-2, 4): 5 + 1.25 + 10 + 20.
    assert found["l2"].item() == pytest.approx(0.1 * 36.25 / 2 / 2)
    assert found["mse"].item() == pytest.approx(5.0)


def test_the_penalty_is_on_biases_as_well_but_not_on_the_mean() -> None:
    model = mf("mse", l2=0.1, biases=True)
    found = model.losses(model(pairs([4.0, 1.0])), pairs([4.0, 1.0]))["l2"]
    of_biases = 0.5**2 + 0.25**2 + 0.125**2 + 1.0**2
    assert found.item() == pytest.approx(0.1 * (36.25 + of_biases) / 2 / 2)
    found.backward()
    assert model.mean.grad is None or model.mean.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_the_penalty_reaches_drawn_negatives() -> None:
    model = mf("bpr", l2=0.1)
    torch.manual_seed(0)
    found = model.losses(model(pairs()), pairs())
    squares = torch.tensor(ITEMS).square().sum(dim=1)
    # One negative each: user 0 may draw item 1 or 2, user 1 item 0 or 1.
    possible = {0.1 * (36.25 + squares[a].item() + squares[b].item()) / 2 / 2 for a in (1, 2) for b in (0, 1)}
    assert any(found["l2"].item() == pytest.approx(value) for value in possible)


def test_bpr_by_hand() -> None:
    """With two items the negative is the other one."""
    schema = Schema({}, num_users=1, num_items=2)
    model = MF(schema=schema, objective=build_objective("bpr", num_items=2), hidden_size=2)
    model.users.weight.copy_(torch.tensor([[1.0, 2.0]]))
    model.items.weight.copy_(torch.tensor([[0.5, 0.25], [1.0, -0.5]]))
    batch = Batch({USER: Dense(torch.tensor([0])), TARGET: Dense(torch.tensor([1]))}, size=1)
    # Scores 1 and 0: -log sigmoid(0 - 1).
    assert model.losses(model(batch), batch)["bpr"].item() == pytest.approx(np.log1p(np.e))


@pytest.mark.parametrize("biases", [False, True])
def test_a_stranger_is_folded_in_over_the_item_vectors(biases: bool) -> None:
    model = mf(biases=biases)
    vector = fold_in(torch.tensor(ITEMS), torch.tensor([1, 2]), torch.tensor([0, 2]))[0]
    expected = torch.tensor(ITEMS) @ vector
    if biases:
        expected = expected + torch.tensor(OF_ITEMS) + MEAN
    found = scores_of(model, batch_of([1, 2], [2], [], users=[-1, 0, -1]))
    assert np.allclose(found[0], expected, atol=1e-6)
    # Beside a known user, whom the history does not change, and somebody of whom nothing is known.
    assert np.allclose(found[1], scores_of(model, batch_of([], users=[0]))[0])
    assert np.allclose(found[2], np.array(OF_ITEMS) + MEAN if biases else 0.0)


def test_the_objective_decides_whether_scores_are_cosines() -> None:
    found = scores_of(mf("ccl"), batch_of([], users=[0]))[0]
    expected = functional.cosine_similarity(torch.tensor(USERS[:1]), torch.tensor(ITEMS))
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_trains(name: str, biases: bool) -> None:
    """Steps on eight pairs raise what was taken above what was not."""
    torch.manual_seed(0)
    model = MF(
        schema=Schema({}, num_users=4, num_items=10),
        objective=build_objective(name, num_items=10),
        hidden_size=6,
        biases=biases,
        init_std=0.5,
    )
    model.objective.set_counts(torch.tensor([2] * 4 + [0] * 6))
    users, items = torch.arange(4).repeat(2), torch.tensor([0, 1, 2, 3, 1, 2, 3, 0])
    batch = Batch({USER: Dense(users), TARGET: Dense(items)}, size=8)
    before = above(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(12):
        optimizer.zero_grad()
        losses = model.losses(model(batch), batch)
        assert list(losses) == [name]
        losses[name].backward()
        assert losses[name].isfinite()
        optimizer.step()
    assert above(model) > before + 0.02


@pytest.mark.parametrize("negatives", list(SAMPLERS))
def test_every_sampler_trains(negatives: str) -> None:
    torch.manual_seed(0)
    objective = build_objective({"bpr": {"num_negatives": 2}}, negatives=negatives, num_items=10)
    model = MF(schema=Schema({}, num_users=4, num_items=10), objective=objective, hidden_size=6, init_std=0.5)
    model.objective.set_counts(torch.tensor([2] * 4 + [1] * 6))
    users, items = torch.arange(4).repeat(2), torch.tensor([0, 1, 2, 3, 1, 2, 3, 0])
    seen = Jagged(torch.tensor([0, 1, 1, 2, 2, 3, 0, 3] * 2), torch.arange(0, 17, 2))
    batch = Batch({USER: Dense(users), TARGET: Dense(items), SEEN: seen}, size=8)
    before = above(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(12):
        optimizer.zero_grad()
        model.losses(model(batch), batch)["bpr"].backward()
        optimizer.step()
    assert above(model) > before + 0.02


def above(model: MF) -> float:
    """By how much scores of what each user took are above those of the rest, in the mean."""
    scores = scores_of(model, batch_of(*[[]] * 4, users=range(4)))
    taken = np.zeros((4, 10), dtype=bool)
    for user in range(4):
        taken[user, [user, (user + 1) % 4]] = True
    return float(scores[taken].mean() - scores[~taken].mean())
