"""Tests for the YouTubeDNN model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from arrays import array
from retrieval_contract import RetrieverContract
from tower_batches import SIDES, batch_of, described, layers_by_hand, tower_model

from intarsia.models.youtube_dnn import YouTubeDNN


class TestYouTubeDNN(RetrieverContract):
    model = {"model_class": "YouTubeDNN", "youtube_dnn": {"hidden_size": 16, "hidden_units": [32]}}
    epochs = 15
    batch_size = 128
    learning_rate = 0.01


class TestWithSharedItemsByTheFullSoftmax(RetrieverContract):
    model = {
        "model_class": "YouTubeDNN",
        "youtube_dnn": {"hidden_size": 8, "separate_output": False},
        "objective": "softmax",
    }
    learns = False


def youtube(**options: Any) -> YouTubeDNN:
    return tower_model(YouTubeDNN, **{"hidden_size": 3, "hidden_units": [5, 4], **options})


def test_the_scores_by_hand() -> None:
    """Three layers, each with a ReLU, the last one too; items to predict have vectors of their own."""
    model = youtube()
    watched = array(model.items.table.weight)[[4, 0, 0, 2]].mean(axis=0)
    expected = np.maximum(layers_by_hand(watched, model.layers), 0.0)
    assert (expected > 0).any()
    with torch.no_grad():
        query = model.encode_queries(batch_of([4, 0, 0, 2]))
        scores = query @ model.encode_items().t()
    assert np.allclose(array(query)[0], expected, atol=1e-5)
    assert np.allclose(array(scores)[0], array(model.output_items.table.weight) @ expected, atol=1e-5)
    assert not np.allclose(array(model.output_items.table.weight), array(model.items.table.weight))


def test_a_users_vector_has_no_negative_numbers() -> None:
    model = youtube(hidden_size=16)
    with torch.no_grad():
        found = model.encode_queries(batch_of([0], [1], [2, 3], [4, 5]))
    assert found.min() == 0.0
    assert found.max() > 0.0


def test_the_softmax_over_all_items_with_numbers() -> None:
    """u = (1, 2) and v = (0, 0), (1, 0), (0, 1), (1, 1), (-1, 0), (0, -1): products 0, 1, 2, 3, -1, -2."""
    model = youtube(hidden_size=2)
    vectors = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [-1, 0], [0, -1]])
    with torch.no_grad():
        model.output_items.table.weight.copy_(vectors)
        loss = model.losses({"queries": torch.tensor([[1.0, 2.0]])}, batch_of([0], targets=[2]))["softmax"].item()
    assert loss == pytest.approx(math.log(sum(math.exp(x) for x in (0, 1, 2, 3, -1, -2))) - 2, rel=1e-5)


def test_the_order_of_the_history_is_not_read() -> None:
    model = youtube()
    with torch.no_grad():
        one, two, other = model.encode_queries(batch_of([1, 3, 5], [5, 1, 3], [5, 1, 2]))
    assert torch.allclose(one, two, atol=1e-6)
    assert not torch.allclose(one, other, atol=1e-4)


def test_items_share_their_vectors_when_told_to() -> None:
    tied, free = youtube(separate_output=False), youtube()
    numbers = torch.tensor([1, 4])
    assert torch.equal(tied.encode_items(numbers), tied.items(numbers))
    assert sum(p.numel() for p in free.parameters()) == sum(p.numel() for p in tied.parameters()) + 6 * 3


def test_what_enters_the_layers_beside_ids_by_hand() -> None:
    """[mean of the steps with their moments; user's features; the moment], each of width D."""
    model = youtube(sides=SIDES)
    batch = described(batch_of([4, 0], [3]))
    with torch.no_grad():
        steps, (person, moment) = array(model.step_vectors(batch)), map(array, model.side_vectors(batch))
        inputs = np.concatenate([np.stack([steps[:2].mean(axis=0), steps[2]]), person, moment], axis=1)
        expected = np.maximum(layers_by_hand(inputs, model.layers), 0.0)
        assert np.allclose(array(model.encode_queries(batch)), expected, atol=1e-4)


def test_an_empty_history_is_a_mean_of_zeros() -> None:
    model = youtube()
    with torch.no_grad():
        found = model.encode_queries(batch_of([], [1, 2], []))
        assert torch.allclose(found[1], model.encode_queries(batch_of([1, 2]))[0], atol=1e-6)
    expected = np.maximum(layers_by_hand(np.zeros(3), model.layers), 0.0)
    assert np.allclose(array(found[[0, 2]]), expected, atol=1e-6)
