"""Tests for the GRU4Rec model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from arrays import Array, array, batch_of
from retrieval_contract import RetrieverContract
from torch import nn

from intarsia.data.schema import Schema
from intarsia.models.gru4rec import GRU4Rec
from intarsia.models.sides import Sides
from intarsia.objectives.retrieval import build_objective


class TestGRU4Rec(RetrieverContract):
    model = {"model_class": "GRU4Rec", "gru4rec": {"hidden_size": 16, "gru_size": 24, "dropout": 0.1}}
    epochs = 15
    learning_rate = 0.02


class TestByThePapersObjective(RetrieverContract):
    model = {
        "model_class": "GRU4Rec",
        "gru4rec": {"hidden_size": 16, "num_layers": 2, "hidden_dropout": 0.1, "separate_output": True},
        "objective": "top1",
    }
    learns = False


def gru4rec(**options: Any) -> GRU4Rec:
    """Over six items, with weights large enough for every gate to open and close."""
    torch.manual_seed(0)
    objective = build_objective("softmax", negatives="uniform", num_items=6)
    model = GRU4Rec(schema=Schema({}, num_users=2, num_items=6), objective=objective, sides=Sides(), **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.8)
    return model.eval()


def sigmoid(values: Array) -> Array:
    out: Array = 1.0 / (1.0 + np.exp(-values))
    return out


def states_by_hand(gru: nn.GRU, steps: Array) -> Array:
    """h after each step, gate by gate."""
    kernels = dict(gru.named_parameters())
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    inputs, hidden, b, c = (np.split(array(kernels[name]), 3) for name in names)
    h = np.zeros(gru.hidden_size)
    out = []
    for x in steps:
        r, z = (sigmoid(inputs[g] @ x + b[g] + hidden[g] @ h + c[g]) for g in (0, 1))
        new = np.tanh(inputs[2] @ x + b[2] + r * (hidden[2] @ h + c[2]))
        h = (1 - z) * new + z * h
        out.append(h)
    return np.array(out)


def test_the_steps_by_hand() -> None:
    model = gru4rec(hidden_size=3)
    items = array(model.items.table.weight)
    expected = states_by_hand(model.gru.gru, items[[4, 0, 2]])
    with torch.no_grad():
        assert np.allclose(array(model(batch_of([4, 0, 2]))["queries"]), expected, atol=1e-5)
        query = model.encode_queries(batch_of([4, 0, 2]))
        assert np.allclose(array(query @ model.encode_items().t())[0], items @ expected[-1], atol=1e-5)


def test_one_step_with_numbers() -> None:
    """All kernels 0: r = z = 1 / 2, n = tanh(b_n + c_n / 2), h = n / 2, then n / 2 + h / 2."""
    model = gru4rec(hidden_size=1)
    kernels = dict(model.gru.gru.named_parameters())
    with torch.no_grad():
        for kernel in kernels.values():
            kernel.zero_()
        kernels["bias_ih_l0"][2] = 0.3
        kernels["bias_hh_l0"][2] = 0.4
        found = model(batch_of([1, 5]))["queries"].squeeze(1)
    half = 0.5 * np.tanh(0.5)
    assert found.tolist() == pytest.approx([half, half + half / 2], abs=1e-6)


def test_a_wider_state_is_projected_to_the_width_of_the_items() -> None:
    model = gru4rec(hidden_size=3, gru_size=5)
    assert isinstance(model.project, nn.Linear)
    states = states_by_hand(model.gru.gru, array(model.items.table.weight)[[1, 1]])
    with torch.no_grad():
        found = model.encode_queries(batch_of([1, 1]))
    assert np.allclose(array(found)[0], array(model.project.weight) @ states[-1], atol=1e-5)


def test_items_to_predict_share_their_vectors_unless_told_otherwise() -> None:
    tied, free = gru4rec(), gru4rec(separate_output=True)
    numbers = torch.tensor([1, 4])
    assert torch.equal(tied.encode_items(numbers), tied.items(numbers))
    assert not torch.allclose(free.encode_items(numbers), free.items(numbers))
    assert sum(p.numel() for p in free.parameters()) == sum(p.numel() for p in tied.parameters()) + 6 * 64


def test_an_empty_history_is_a_vector_of_zeros() -> None:
    model = gru4rec()
    with torch.no_grad():
        found = model.encode_queries(batch_of([], [1, 2], []))
        assert torch.allclose(found[1], model.encode_queries(batch_of([1, 2]))[0], atol=1e-5)
        assert not model.encode_queries(batch_of([])).any()
    assert not found[[0, 2]].any()


def test_kernels_start_by_glorot_gate_by_gate() -> None:
    """A gate from 64 to 64 is uniform up to sqrt(6 / 128); all three together would be up to sqrt(6 / 256)."""
    objective = build_objective("softmax", negatives="uniform", num_items=6)
    model = GRU4Rec(schema=Schema({}, num_users=2, num_items=6), objective=objective, sides=Sides())
    kernels = dict(model.gru.gru.named_parameters())
    for gate in (*kernels["weight_ih_l0"].chunk(3), *kernels["weight_hh_l0"].chunk(3)):
        assert gate.abs().max().item() == pytest.approx(np.sqrt(6 / 128), rel=0.01)
    assert not kernels["bias_ih_l0"].any()
    assert not kernels["bias_hh_l0"].any()
