"""Tests for the SASRec model, and for what is known of items and moments beside their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from arrays import Array, array, batch_of, linear, normed
from retrieval_contract import RetrieverContract
from torch import nn

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, TARGET
from intarsia.core.errors import BuildError
from intarsia.data.schema import Schema
from intarsia.models.gru4rec import GRU4Rec
from intarsia.models.sasrec import SASRec
from intarsia.models.sequential import SequentialRetriever
from intarsia.models.sides import Sides
from intarsia.nn.side_features import SideFeature
from intarsia.nn.transformer import TransformerLayer
from intarsia.objectives.retrieval import build_objective


class TestSASRec(RetrieverContract):
    model = {"model_class": "SASRec", "sasrec": {"hidden_size": 16, "num_hidden_layers": 1, "dropout": 0.1}}
    epochs = 15
    learning_rate = 0.01


class TestByThePapersObjective(RetrieverContract):
    model = {"model_class": "SASRec", "sasrec": {"hidden_size": 16, "num_heads": 2}, "objective": "bce"}
    learns = False


def sasrec(sides: Sides | None = None, **options: Any) -> SASRec:
    """Over six items, with weights large enough for attention to differ from a mean."""
    torch.manual_seed(0)
    objective = build_objective("softmax", negatives="uniform", num_items=6)
    schema = Schema({}, num_users=2, num_items=6)
    model = SASRec(schema=schema, objective=objective, sides=sides or Sides(), hidden_size=4, **options)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=0.5)
    return model.eval()


def attended(query: Array, key: Array, value: Array) -> Array:
    """One head of causal attention, step by step."""
    out = []
    for t in range(len(query)):
        weights = np.exp([query[t] @ key[s] / np.sqrt(len(query[t])) for s in range(t + 1)])
        out.append(sum(weight * step for weight, step in zip(weights / weights.sum(), value)))
    return np.array(out)


@pytest.mark.parametrize("heads", [1, 2])
def test_one_block_by_hand(heads: int) -> None:
    model = sasrec(num_hidden_layers=1, num_heads=heads, max_history=5)
    (block,) = model.blocks
    assert isinstance(block, TransformerLayer)
    # The last step has position 0, whatever the length of its history.
    hidden = array(model.items.table.weight)[[4, 0, 2]] * np.sqrt(4) + array(model.positions.weight)[[2, 1, 0]]
    inputs = normed(hidden, block.attention_norm)
    key, value = np.split(linear(inputs, block.key_value), 2, axis=1)
    parts = (np.split(a, heads, axis=1) for a in (linear(inputs, block.query), key, value))
    joined = np.concatenate([attended(*head) for head in zip(*parts)], axis=1)
    hidden = hidden + linear(joined, block.attention_output)
    inner = np.maximum(linear(normed(hidden, block.output_norm), block.intermediate), 0.0)
    expected = normed(hidden + linear(inner, block.output), model.norm)
    with torch.no_grad():
        assert np.allclose(array(model(batch_of([4, 0, 2]))["queries"]), expected, atol=1e-5)
        found = model.encode_queries(batch_of([4, 0, 2]))
        assert np.allclose(array(found)[0], expected[-1], atol=1e-5)
        scores = found @ model.encode_items().t()
    assert np.allclose(array(scores)[0], array(model.items.table.weight) @ expected[-1], atol=1e-5)


def test_the_order_of_the_steps_matters() -> None:
    model = sasrec()
    with torch.no_grad():
        one, two = model.encode_queries(batch_of([1, 3, 5], [3, 1, 5]))
    assert not torch.allclose(one, two, atol=1e-3)


def test_an_empty_history_is_a_vector_of_zeros() -> None:
    model = sasrec()
    with torch.no_grad():
        found = model.encode_queries(batch_of([], [1, 2], []))
    assert not found[[0, 2]].any()
    assert torch.allclose(found[1], model.encode_queries(batch_of([1, 2]))[0], atol=1e-5)


def test_items_and_positions_start_with_a_deviation_of_two_hundredths() -> None:
    torch.manual_seed(0)
    objective = build_objective("softmax", negatives="uniform", num_items=500)
    model = SASRec(schema=Schema({}, num_users=2, num_items=500), objective=objective, sides=Sides())
    assert model.items.table.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.positions.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(BuildError, match="hidden_size = 4, heads = 3"):
        sasrec(num_heads=3)


# Side features

GENRE = SideFeature("genre", num_ids=3, dim=2)
TAGS = SideFeature("tags", num_ids=4, multi=True, dim=2, size=7)
HOUR = SideFeature("hour", num_ids=24, dim=3)
PRICE = SideFeature("price", width=1)


def with_sides(model: type[SASRec] | type[GRU4Rec]) -> SequentialRetriever:
    """Over six items of which a genre and tags are known, and steps of which the hour and the price are."""
    torch.manual_seed(0)
    objective = build_objective("softmax", negatives="uniform", num_items=6)
    sides = Sides(item=(GENRE, TAGS), context=(HOUR, PRICE))
    made = model(schema=Schema({}, num_users=2, num_items=6), objective=objective, sides=sides, hidden_size=8)
    assert made.items.features is not None
    tags = Jagged(torch.tensor([0, 1, 1, 2, 3, 0, 2]), torch.tensor([0, 2, 3, 3, 5, 6, 7]))
    made.items.features.fill({"genre": Dense(torch.tensor([0, 1, 2, 0, 1, -1])), "tags": tags})
    return made


def moments(batch: Batch, hours: list[int], prices: list[float]) -> Batch:
    """The batch with the context of its steps, and with targets."""
    history = batch.features[HISTORY]
    assert isinstance(history, Jagged)
    offsets = history.offsets
    features = {
        **batch.features,
        TARGET: Jagged((history.values + 1) % 6, offsets),
        f"{HISTORY}/hour": Dense(torch.tensor(hours)),
        f"{HISTORY}/price": Dense(torch.tensor(prices).unsqueeze(1)),
    }
    return Batch(features, size=batch.size)


@pytest.mark.parametrize("kind", [SASRec, GRU4Rec])
class TestSideFeatures:
    def test_a_gradient_reaches_features_of_items_and_of_steps(self, kind: type[SASRec] | type[GRU4Rec]) -> None:
        model = with_sides(kind)
        batch = moments(batch_of([1, 3], [4, 0, 2]), [1, 5, 23, 0, 7], [0.5, 1.0, -1.0, 2.0, 0.25])
        torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
        parts = {n: p for n, p in model.named_parameters() if n.startswith(("items.features", "context"))}
        assert len(parts) >= 4
        for name, parameter in parts.items():
            assert parameter.grad is not None, name
            gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
            assert gradient.abs().sum() > 0, name

    def test_the_moment_of_a_step_changes_the_query(self, kind: type[SASRec] | type[GRU4Rec]) -> None:
        model = with_sides(kind).eval()
        with torch.no_grad():
            one, two, three = (
                model.encode_queries(moments(batch_of([1, 3]), [4, hour], [0.5, price]))
                for hour, price in ((5, 1.0), (6, 1.0), (5, 2.0))
            )
        assert not torch.allclose(one, two, atol=1e-4)
        assert not torch.allclose(one, three, atol=1e-4)

    def test_what_is_known_of_an_item_stands_in_its_vector(self, kind: type[SASRec] | type[GRU4Rec]) -> None:
        """As a step and as an item to predict."""
        model = with_sides(kind).eval()
        assert model.items.features is not None
        batch = moments(batch_of([1, 3]), [4, 5], [0.5, 1.0])
        with torch.no_grad():
            items, query = model.encode_items(), model.encode_queries(batch)
            model.items.features.get_buffer("values_genre")[3] = 2
            others, changed = model.encode_items(), model.encode_queries(batch)
        assert not torch.allclose(items[3], others[3], atol=1e-4)
        assert torch.equal(items[[0, 1, 2, 4, 5]], others[[0, 1, 2, 4, 5]])
        assert not torch.allclose(query, changed, atol=1e-4)
