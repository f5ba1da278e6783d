"""Tests for the Caser model."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from retrieval_contract import RetrieverContract, query
from torch import Tensor, nn
from torch.nn import functional

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER
from intarsia.data.schema import Schema
from intarsia.models.caser import Caser
from intarsia.models.sides import Sides
from intarsia.nn.side_features import ItemEncoder
from intarsia.objectives.retrieval import build_objective
from intarsia.recommender.fallback import unanswerable

ITEMS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0], [9.0, 9.0]])
USERS = torch.tensor([[7.0, 7.0], [0.5, -1.0]])
SMALL = {"hidden_size": 16, "window": 4, "horizontal_filters": 4, "dropout": 0.2}


class TestCaser(RetrieverContract):
    model = {"model_class": "Caser", "caser": SMALL}
    epochs = 15
    learning_rate = 0.01


class TestWithoutUsers(RetrieverContract):
    model: ClassVar[dict[str, Any]] = {"model_class": "Caser", "caser": {**SMALL, "user_vectors": False}}
    epochs = 15
    learning_rate = 0.01


class TestByThePapersObjective(RetrieverContract):
    model: ClassVar[dict[str, Any]] = {**TestCaser.model, "objective": {"bce": {"num_negatives": 3}}}
    learns = False


def caser(objective: str = "softmax", **options: Any) -> Caser:
    """Over four items and two users."""
    torch.manual_seed(0)
    minimised = build_objective(objective, negatives="uniform", num_items=4)
    return Caser(schema=Schema({}, num_users=2, num_items=4), objective=minimised, sides=Sides(), **options).eval()


def by_hand() -> Caser:
    """Two numbers an item, images of three steps, one filter of each kind."""
    model = caser(hidden_size=2, window=3, horizontal_filters=1, vertical_filters=1)
    assert model.users is not None
    assert model.bias is not None
    assert isinstance(model.output_items, ItemEncoder)
    heights = [([[1.0, 1.0]], [0.5]), ([[1.0, 0.0, 0.0, 1.0]], [0.0]), ([[1.0, 1.0, 0.0, 0.0, 0.0, -1.0]], [0.25])]
    for filters, (weight, bias) in zip(model.horizontal, heights):
        set_linear(filters, weight, bias)
    set_linear(model.vertical, [[1.0, 2.0, 3.0]])
    set_linear(model.project, [[1.0, 0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 4.0, 1.0, 0.0]], [-1.0, -3.0])
    with torch.no_grad():
        model.items.table.weight.copy_(ITEMS)
        model.users.weight.copy_(USERS)
        model.output_items.table.weight.copy_(torch.arange(16.0).view(4, 4))
        model.bias.bias.copy_(torch.tensor([0.0, 0.25, 0.5, 0.75]))
    return model


def set_linear(module: nn.Module, weight: list[list[float]], bias: list[float] | None = None) -> None:
    assert isinstance(module, nn.Linear)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight))
        if bias is not None:
            module.bias.copy_(torch.tensor(bias))


def two_histories() -> Batch:
    """A known user who took 0, 1, 2 and a stranger who took 0."""
    history = Jagged(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 3, 4]))
    return Batch({USER: Dense(torch.tensor([1, -1])), HISTORY: history}, size=2)


def test_the_convolutions_by_hand() -> None:
    """The image of 0, 1, 2 is (1, 0), (0, 2), (-1, 1).

    Height 1: max(1, 2, 0) + 0.5 = 2.5. Height 2: max(1 + 2, 0 + 1) = 3. Height 3: 1 - 1 + 0.25 = 0.25. Vertical:
    (1, 0) + 2 (0, 2) + 3 (-1, 1) = (-2, 7). Layer: 2.5 + 7 - 1 = 8.5 and 3 + 4 * 0.25 - 2 - 3 = -1, which relu ends.

    The image of 0 alone is (0, 0), (0, 0), (1, 0): 1.5, 0, 0.25 and (3, 0); 1.5 + 0 - 1 and 0 + 1 + 3 - 3.
    """
    model = by_hand()
    with torch.no_grad():
        queries = model.encode_queries(two_histories())
        scores = queries @ model.encode_items().t()
    assert queries.tolist() == [[8.5, 0.0, 0.5, -1.0, 1.0], [0.5, 1.0, 0.0, 0.0, 1.0]]
    # <(8.5, 0, 0.5, -1), (4, 5, 6, 7)> + 0.25
    assert scores[0, 1].item() == 34 + 3 - 7 + 0.25


def test_every_step_is_asked_with_the_image_that_ends_there() -> None:
    model = by_hand()
    with torch.no_grad():
        queries = model(two_histories())["queries"]
    # The image of 0, 1 is (0, 0), (1, 0), (0, 2): 2.5, max(0, 3), -2 + 0.25 cut to 0 and (2, 6); 7.5 and 2.
    expected = [[0.5, 1.0, 0.5, -1.0, 1.0], [7.5, 2.0, 0.5, -1.0, 1.0], [8.5, 0.0, 0.5, -1.0, 1.0]]
    assert queries.tolist() == [*expected, [0.5, 1.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("window", [1, 2, 5])
def test_filters_that_share_their_answers_are_convolutions_of_each_image(window: int) -> None:
    model = caser(hidden_size=4, window=window, horizontal_filters=3, vertical_filters=2)
    steps, offsets = torch.randn(9, 4), torch.tensor([0, 1, 1, 8, 9])
    with torch.no_grad():
        found = model.encode_steps(steps, offsets)
        expected = [
            image_by_itself(model, steps[a : b + 1]) for a, b in ((0, 0), *((1, k) for k in range(1, 8)), (8, 8))
        ]
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)


def image_by_itself(model: Caser, steps: Tensor) -> Tensor:
    """(D,) z of the image at the end of the steps (l, D)."""
    image = functional.pad(steps, (0, 0, model.window, 0))[-model.window :]
    answers = []
    for height, filters in enumerate(model.horizontal, start=1):
        assert isinstance(filters, nn.Linear)
        kernels = filters.weight.view(-1, height, image.shape[1]).transpose(1, 2)
        answers.append(functional.conv1d(image.t(), kernels, filters.bias).relu().amax(dim=1))
    answers += [weights @ image for weights in model.vertical.weight]
    out: Tensor = model.project(torch.cat(answers)).relu()
    return out


def test_a_stranger_differs_by_the_users_vector_alone() -> None:
    model = by_hand()
    history = torch.tensor([0, 1, 2])
    known, stranger = (model.encode_queries(query(history, user))[0].tolist() for user in (0, -1))
    assert known == [8.5, 0.0, 7.0, 7.0, 1.0]
    assert stranger == [8.5, 0.0, 0.0, 0.0, 1.0]


def test_without_user_vectors_nobody_is_known_by_number() -> None:
    model = caser(hidden_size=2, user_vectors=False)
    history = torch.tensor([0, 1, 2])
    assert torch.equal(model.encode_queries(query(history, 1)), model.encode_queries(query(history, -1)))
    assert model.encode_items().shape == (4, 3)
    assert model.reads == {"history"}


def test_a_user_with_a_vector_is_answered_without_a_history() -> None:
    nothing = query(torch.tensor([], dtype=torch.int64), user=1)
    model = by_hand()
    assert model.encode_queries(nothing).tolist() == [[0.0, 0.0, 0.5, -1.0, 1.0]]
    assert unanswerable(model, nothing).tolist() == [False]
    assert unanswerable(caser(user_vectors=False), nothing).tolist() == [True]


def test_a_history_is_never_cut_below_one_image() -> None:
    assert caser(window=4, max_history=2).max_history == 4


def test_cosines_have_no_biases() -> None:
    model = caser("ccl", hidden_size=2)
    assert model.bias is None
    assert model.encode_items().shape == (4, 4)
