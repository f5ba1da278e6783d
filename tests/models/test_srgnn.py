"""Tests for the SR-GNN model and the graphs of sessions that it reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from arrays import Array, array
from retrieval_contract import RetrieverContract

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER
from intarsia.data.schema import Schema
from intarsia.models.sides import Sides
from intarsia.models.srgnn import SRGNN
from intarsia.nn.session_graph import GatedGraph, SessionGraph
from intarsia.nn.side_features import SideFeature
from intarsia.objectives.retrieval import build_objective

SESSION = [1, 2, 3, 2, 4]
# Nodes 1, 2, 3, 4; edges 1>2, 2>3, 3>2, 2>4. Two edges leave 2 and two reach it.
FROM_BEFORE: list[list[float]] = [[0, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
FROM_BEHIND: list[list[float]] = [[0, 1, 0, 0], [0, 0, 0.5, 0.5], [0, 1, 0, 0], [0, 0, 0, 0]]


class TestSRGNN(RetrieverContract):
    model = {"model_class": "SRGNN", "srgnn": {"hidden_size": 16}}
    epochs = 8
    batch_size = 128
    learning_rate = 0.02


class TestTwoStepsWithoutTheLastItem(RetrieverContract):
    model = {
        "model_class": "SRGNN",
        "srgnn": {"hidden_size": 8, "num_steps": 2, "hybrid": False, "max_history": 6},
        "objective": "sampled_softmax",
    }
    learns = False


def srgnn(sides: Sides | None = None, objective: str = "softmax", num_items: int = 6, **options: Any) -> SRGNN:
    torch.manual_seed(0)
    given = {"hidden_size": 4, **options}
    made = build_objective(objective, num_items=num_items)
    schema = Schema({}, num_users=2, num_items=num_items)
    return SRGNN(schema=schema, objective=made, sides=sides or Sides(), **given).eval()


def batch_of(*histories: Sequence[int]) -> Batch:
    lengths = torch.tensor([0, *map(len, histories)])
    values = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    users = Dense(torch.full((len(histories),), -1))
    return Batch({USER: users, HISTORY: Jagged(values, lengths.cumsum(0))}, size=len(histories))


def graph_of(*sessions: Sequence[int], num_items: int = 6) -> SessionGraph:
    history = batch_of(*sessions).features[HISTORY]
    assert isinstance(history, Jagged)
    return SessionGraph.of(history.values, history.offsets, num_items)


def sigmoid(value: Array) -> Array:
    out: Array = 1 / (1 + np.exp(-value))
    return out


# Graphs


def test_edges_are_weighed_by_the_degrees_of_their_ends() -> None:
    graph = graph_of(SESSION)
    assert graph.node_of_step.tolist() == [0, 1, 2, 1, 3]
    nodes = torch.eye(4)
    assert graph.from_before(nodes).tolist() == FROM_BEFORE
    assert graph.from_behind(nodes).tolist() == FROM_BEHIND


def test_an_edge_counts_as_often_as_it_is_walked() -> None:
    """From 0 to 1 twice and to 2 once; to 1 and to 2 only from 0."""
    graph, third = graph_of([0, 1, 0, 1, 0, 2]), 1 / 3
    expected = torch.tensor([[0, 2 * third, third], [1, 0, 0], [0, 0, 0]])
    assert torch.allclose(graph.from_behind(torch.eye(3)), expected)
    assert graph.from_before(torch.eye(3)).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]


def test_an_item_that_is_taken_twice_in_a_row_is_its_own_neighbour() -> None:
    graph = graph_of([3, 3, 5])
    assert graph.from_behind(torch.eye(2)).tolist() == [[0.5, 0.5], [0, 0]]
    assert graph.from_before(torch.eye(2)).tolist() == [[1, 0], [1, 0]]


def test_sessions_of_a_batch_share_no_node_and_no_edge() -> None:
    graph = graph_of([1, 2], [], [2, 1], [4])
    assert graph.node_of_step.tolist() == [0, 1, 3, 2, 4]
    assert graph.num_nodes == 5
    assert list(zip(graph.sources.tolist(), graph.targets.tolist())) == [(0, 1), (3, 2)]


def test_the_greatest_item_of_a_session_is_not_the_least_of_the_next() -> None:
    assert graph_of([5], [0], num_items=6).num_nodes == 2


def test_nodes_take_the_mean_of_their_steps() -> None:
    steps = torch.tensor([[1.0], [2.0], [3.0], [6.0], [5.0]])
    assert graph_of(SESSION).mean_of_steps(steps).tolist() == [[1.0], [4.0], [3.0], [5.0]]


def updated(nodes: Array, gated: GatedGraph) -> Array:
    """Equations 1 to 5, one node at a time, with the matrices of the session above."""
    weight_in, weight_out = array(gated.incoming.weight), array(gated.outgoing.weight)
    input_weight, state_weight = array(gated.cell.weight_ih), array(gated.cell.weight_hh)
    input_bias, state_bias = array(gated.cell.bias_ih), array(gated.cell.bias_hh)
    width = nodes.shape[1]
    out = []
    for i in range(len(nodes)):
        parts = [np.zeros(width), np.zeros(width)]
        for j in range(len(nodes)):
            parts[0] += FROM_BEFORE[i][j] * (weight_in @ nodes[j] + array(gated.incoming.bias))
            parts[1] += FROM_BEHIND[i][j] * (weight_out @ nodes[j] + array(gated.outgoing.bias))
        message = np.concatenate(parts) + array(gated.bias)
        reset, keep, new = (input_weight @ message + input_bias).reshape(3, width)
        reset_state, keep_state, new_state = (state_weight @ nodes[i] + state_bias).reshape(3, width)
        kept = sigmoid(keep + keep_state)
        candidate = np.tanh(new + sigmoid(reset + reset_state) * new_state)
        out.append(kept * nodes[i] + (1 - kept) * candidate)
    return np.array(out)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_gated_graph_by_hand(steps: int) -> None:
    torch.manual_seed(0)
    gated = GatedGraph(3, steps)
    torch.nn.init.normal_(gated.bias)
    nodes = torch.randn(4, 3)
    expected = array(nodes)
    for _ in range(steps):
        expected = updated(expected, gated)
    assert np.allclose(array(gated(nodes, graph_of(SESSION))), expected, atol=1e-5)


# Reading a session


@pytest.mark.parametrize("hybrid", [True, False])
def test_a_session_by_hand(hybrid: bool) -> None:
    """Equations 1 to 8, beside other sessions of a batch; a repeated item is asked once for each of its steps."""
    model = srgnn(hybrid=hybrid)
    table = array(model.encode_items())
    nodes = updated(table[[1, 2, 3, 4]], model.graph)
    steps = [nodes[[1, 2, 3, 4].index(item)] for item in SESSION]
    of_last = array(model.of_last.weight) @ steps[-1] + array(model.of_last.bias)
    session = np.zeros(4)
    for step in steps:
        gate = sigmoid(of_last + array(model.of_step.weight) @ step + array(model.of_step.bias))
        session += array(model.attention.weight)[0] @ gate * step
    if model.project is not None:
        both = np.concatenate([steps[-1], session])
        session = array(model.project.weight) @ both + array(model.project.bias)
    with torch.no_grad():
        found = model.encode_queries(batch_of([2, 5], SESSION, [], [4]))
        assert np.allclose(array(found[1]), session, atol=1e-5)
        scores = model.score_block(found.double(), model.catalogue(), 0, 6)
    assert np.allclose(array(scores[1]), table @ session, atol=1e-5)


def test_the_attention_is_no_softmax() -> None:
    """Equation 6: weights are q' sigmoid(...), so a session of one item twice weighs it twice."""
    model = srgnn(hybrid=False, num_steps=1)
    with torch.no_grad():
        for layer in (model.of_last, model.of_step):
            layer.weight.zero_()
            layer.bias.zero_()
        model.attention.weight.fill_(0.25)  # 4 * 0.25 * sigmoid(0) is one half.
        # An update gate of one keeps the nodes as they are.
        model.graph.cell.bias_hh[4:8] = 100.0
        items = model.encode_items()
        found = model.encode_queries(batch_of([1], [1, 1], [1, 3, 1]))
    assert torch.allclose(found[0], items[1] / 2, atol=1e-6)
    assert torch.allclose(found[1], items[1], atol=1e-6)
    assert torch.allclose(found[2], items[1] + items[3] / 2, atol=1e-6)


def test_the_order_of_a_session_matters() -> None:
    model = srgnn()
    with torch.no_grad():
        found = model.encode_queries(batch_of([1, 2, 3, 2, 4], [2, 1, 3, 2, 4], [1, 3, 2, 2, 4], [1, 2, 3, 4, 2]))
    for i in range(4):
        for j in range(i):
            assert not torch.allclose(found[i], found[j], atol=1e-4), (i, j)


def test_the_last_item_is_that_of_the_last_step() -> None:
    """Also where it came before: s = [v_last; ...] with a projection that keeps v_last alone."""
    model = srgnn()
    assert model.project is not None
    with torch.no_grad():
        model.project.weight.copy_(torch.cat([torch.eye(4), torch.zeros(4, 4)], dim=1))
        model.project.bias.zero_()
        # An update gate of one keeps the nodes as they are.
        model.graph.cell.bias_hh[4:8] = 100.0
        found, items = model.encode_queries(batch_of([1, 2, 4, 2], [5, 2, 5], [4, 3])), model.encode_items()
    assert torch.allclose(found, items[[2, 5, 3]], atol=1e-6)


def test_an_empty_history_is_a_vector_of_zeros() -> None:
    model = srgnn()
    with torch.no_grad():
        found = model.encode_queries(batch_of([], [1, 2], []))
        nothing = model.encode_queries(batch_of([], []))
    assert not found[[0, 2]].any()
    assert not nothing.any()
    assert torch.allclose(found[1], model.encode_queries(batch_of([1, 2]))[0], atol=1e-6)


def test_the_moment_of_a_step_changes_the_query() -> None:
    model = srgnn(Sides(context=(SideFeature("price", width=1),)))

    def priced(*prices: float) -> Batch:
        batch = batch_of([1, 2, 1])
        return Batch({**batch.features, f"{HISTORY}/price": Dense(torch.tensor(prices).unsqueeze(1))}, size=1)

    with torch.no_grad():
        one, two, three = (
            model.encode_queries(priced(*p)) for p in ((1.0, 2.0, 3.0), (1.0, 2.0, 4.0), (2.0, 2.0, 2.0))
        )
    assert not torch.allclose(one, two, atol=1e-4)
    # The two steps of item 1 are one node, whose moment is their mean.
    assert torch.allclose(one, three, atol=1e-6)


@pytest.mark.parametrize("objective", ["softmax", "sampled_softmax"])
def test_all_weights_start_uniform_within_one_over_the_root_of_the_width(objective: str) -> None:
    model = srgnn(objective=objective, num_items=300, hidden_size=25)
    weights = {"items": model.items.table.weight, **{n: p for n, p in model.named_parameters() if p.numel() > 600}}
    assert len(weights) >= 7
    for name, weight in weights.items():
        assert weight.abs().max() <= 0.2, name
        assert weight.abs().max() > 0.19, name
        assert weight.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.1), name
