"""Tests for the DSSM model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from arrays import array
from retrieval_contract import RetrieverContract
from tower_batches import SIDES, batch_of, described, layers_by_hand, tower_model

from intarsia.models.dssm import DSSM
from intarsia.nn.mlp import DenseLayer

SMALL = {"hidden_size": 16, "output_size": 16, "user_units": [32], "item_units": [32], "user_dropout": 0.6}


class TestDSSM(RetrieverContract):
    model = {"model_class": "DSSM", "dssm": SMALL}
    epochs = 15
    batch_size = 256
    learning_rate = 0.02


class TestWithoutUsersByInnerProducts(RetrieverContract):
    model = {
        "model_class": "DSSM",
        "dssm": {"hidden_size": 8, "user_vectors": False, "cosine": False, "item_units": []},
        "objective": "bce",
    }
    learns = False


def dssm(**options: Any) -> DSSM:
    return tower_model(DSSM, **{"hidden_size": 4, "output_size": 3, "user_units": [12], "item_units": [6], **options})


def test_both_towers_by_hand() -> None:
    """The mean of three steps, and the vector of user 2; the cosine over a temperature of a quarter."""
    model = dssm(temperature=0.25)
    assert model.users is not None
    items = array(model.items.table.weight)
    inputs = np.concatenate([items[[4, 0, 2]].mean(axis=0), array(model.users.weight)[2]])
    x, y = layers_by_hand(inputs, model.of_user), layers_by_hand(items, model.of_item)
    expected = y @ x / np.linalg.norm(x) / np.linalg.norm(y, axis=1) / 0.25
    with torch.no_grad():
        batch = batch_of([4, 0, 2], users=[2])
        scores = model.score_block(model.queries(batch), model.catalogue(), 0, 6)
    assert np.allclose(array(scores)[0], expected, atol=1e-5)


def test_inner_products_by_hand() -> None:
    model = dssm(cosine=False, user_vectors=False)
    items = array(model.items.table.weight)
    x, y = layers_by_hand(items[[1, 1, 5]].mean(axis=0), model.of_user), layers_by_hand(items, model.of_item)
    with torch.no_grad():
        scores = model.encode_queries(batch_of([1, 1, 5])) @ model.encode_items().t()
    assert np.allclose(array(scores)[0], y @ x, atol=1e-5)


def test_the_loss_is_a_softmax_of_cosines_over_the_batch_with_numbers() -> None:
    """Two users at right angles, items at 45 and 0 degrees to the first; shares of items 0 and 3 are 1/21 and 4/21.

    cos = [[sqrt(1/2), 1], [sqrt(1/2), 0]], over tau = 0.5; an item is in a batch of two with 1 - (1 - p)^2.
    """
    model = dssm(objective="in_batch", temperature=0.5, item_units=[], hidden_size=2, output_size=2)
    with torch.no_grad():
        model.items.table.collection.weight("table").copy_(torch.eye(2).repeat(3, 1))
        (layer,) = model.of_item.layers
        assert isinstance(layer, DenseLayer)
        layer.linear.weight.copy_(torch.tensor([[1.0, 3.0], [1.0, 0.0]]))
        layer.linear.bias.zero_()
        queries = torch.eye(2) / model.temperature
        loss = model.losses({"queries": queries}, batch_of([1], [1], targets=[0, 3]))["in_batch"].item()
        # Item 0 is (1, 1) / sqrt(2); item 3 is (1, 0).
    kept = [1 - (1 - share) ** 2 for share in (1 / 21, 4 / 21)]
    a, b = (math.exp(2 * cosine) / share for cosine, share in zip((math.sqrt(0.5), 1.0), kept))
    c, d = (math.exp(2 * cosine) / share for cosine, share in zip((math.sqrt(0.5), 0.0), kept))
    assert loss == pytest.approx((math.log((a + b) / a) + math.log((c + d) / d)) / 2, rel=1e-5)


def test_cosines_do_not_know_how_long_vectors_are() -> None:
    model = dssm()
    with torch.no_grad():
        before = model.encode_items()
        for parameter in model.of_item.layers[-1].parameters():
            parameter.mul_(7.0)
        after = model.encode_items()
    assert torch.allclose(before, after, atol=1e-5)
    assert torch.allclose(after.norm(dim=1), torch.ones(6))


def test_a_stranger_is_somebody_whose_vector_is_hidden() -> None:
    """In training some users are strangers; in evaluation nobody is but those who are."""
    model = dssm(user_dropout=0.5)
    batch = batch_of(*[[1, 2]] * 200, users=[3] * 200)
    with torch.no_grad():
        known, stranger = model.encode_queries(batch_of([1, 2], [1, 2], users=[3, -1]))
        assert not torch.allclose(known, stranger, atol=1e-3)
        assert torch.allclose(model.encode_queries(batch), known.expand(200, -1), atol=1e-6)
        found = model.train().encode_queries(batch)
    hidden = (found - stranger).abs().amax(dim=1) < 1e-5
    shown = (found - known).abs().amax(dim=1) < 1e-5
    assert bool((hidden ^ shown).all())
    assert 70 <= int(hidden.sum()) <= 130


def test_users_without_vectors_of_their_own_are_read_from_their_histories() -> None:
    model = dssm(user_vectors=False)
    assert model.reads == {"history"}
    assert dssm().reads == {"user", "history"}
    with torch.no_grad():
        one, two = model.encode_queries(batch_of([1, 2], [1, 2], users=[0, 3]))
    assert torch.equal(one, two)


def test_what_enters_the_towers_beside_ids_by_hand() -> None:
    """[mean of the steps with their moments; user's features; the moment; user vector], each of width D."""
    model = dssm(sides=SIDES)
    assert model.users is not None
    batch = described(batch_of([4, 0], [3], users=[1, -1]))
    with torch.no_grad():
        steps, (person, moment) = array(model.step_vectors(batch)), map(array, model.side_vectors(batch))
        user = np.stack([array(model.users.weight)[1], np.zeros(4)])
        inputs = np.concatenate([np.stack([steps[:2].mean(axis=0), steps[2]]), person, moment, user], axis=1)
        expected = layers_by_hand(inputs, model.of_user)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True) * model.temperature
        assert np.allclose(array(model.encode_queries(batch)), expected, atol=1e-4)


def test_an_empty_history_is_answered() -> None:
    """By the user's vector, and by the biases of the tower where there is none."""
    model = dssm()
    with torch.no_grad():
        user, nobody = model.encode_queries(batch_of([], [], users=[1, -1]))
        alone = model.encode_queries(batch_of([], users=[1]))[0]
    expected = layers_by_hand(np.zeros(8), model.of_user)
    assert np.allclose(array(nobody), expected / np.linalg.norm(expected) / 0.1, atol=1e-4)
    assert not torch.allclose(user, nobody, atol=1e-3)
    assert torch.allclose(user, alone, atol=1e-5)
