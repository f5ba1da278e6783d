"""Tests for the BERT4Rec model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from arrays import Array, array, batch_of, linear, normed
from retrieval_contract import RetrieverContract, query
from torch import Tensor, nn
from torch.nn import functional

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import HISTORY
from intarsia.data.schema import Schema
from intarsia.models.bert4rec import BERT4Rec
from intarsia.models.sides import Sides
from intarsia.nn.side_features import SideFeature
from intarsia.nn.transformer import TransformerLayer
from intarsia.objectives.retrieval import build_objective


class TestBERT4Rec(RetrieverContract):
    model = {
        "model_class": "BERT4Rec",
        "bert4rec": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "mask_probability": 0.5,
            "last_only_probability": 0.3,
            "dropout": 0.0,
            "attention_dropout": 0.0,
        },
    }
    epochs = 40
    batch_size = 32


def bert4rec(sides: Sides | None = None, objective: str = "softmax", **options: Any) -> BERT4Rec:
    """Over six items, with weights large enough for attention to differ from a mean; no dropout."""
    torch.manual_seed(0)
    minimised = build_objective(objective, negatives="uniform", num_items=6)
    schema = Schema({}, num_users=2, num_items=6)
    given = {"hidden_size": 4, "max_history": 6, "dropout": 0.0, "attention_dropout": 0.0, **options}
    model = BERT4Rec(schema=schema, objective=minimised, sides=sides or Sides(), **given)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=0.5)
    return model.eval()


def hide(model: BERT4Rec, monkeypatch: pytest.MonkeyPatch, *hidden: bool) -> None:
    """These steps instead of drawn ones."""
    monkeypatch.setattr(model, "draw_hidden", lambda offsets, count: torch.tensor(hidden))


# Which steps are hidden


def drawn(probability: float, last_only: float, lengths: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(S,) bool hidden steps of a model in training, and (S,) the rows of the steps."""
    model = bert4rec(mask_probability=probability, last_only_probability=last_only).train()
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    torch.manual_seed(seed)
    hidden = model.draw_hidden(offsets, int(offsets[-1]))
    return hidden, torch.repeat_interleave(torch.arange(len(lengths)), lengths)


@pytest.mark.parametrize("probability", [0.2, 0.6])
def test_steps_are_hidden_with_their_probability(probability: float) -> None:
    hidden, _ = drawn(probability, 0.0, torch.full((400,), 50))
    # 20000 draws: a standard deviation of the share is at most 0.0035.
    assert hidden.float().mean().item() == pytest.approx(probability, abs=0.015)


def test_at_least_one_step_of_every_history_is_hidden() -> None:
    lengths = torch.randint(1, 5, (300,), generator=torch.Generator().manual_seed(0))
    hidden, rows = drawn(0.01, 0.0, lengths)
    counts = torch.zeros(300).index_add(0, rows, hidden.float())
    assert counts.min() == 1
    assert counts.mean() < 1.1


def test_where_none_would_be_hidden_each_step_is_as_likely() -> None:
    hidden, _ = drawn(1e-6, 0.0, torch.full((4000,), 4))
    shares = hidden.view(4000, 4).float().mean(dim=0)
    assert torch.allclose(shares, torch.full((4,), 0.25), atol=0.03)


def test_all_steps_may_be_hidden() -> None:
    hidden, _ = drawn(1.0, 0.0, torch.tensor([3, 1, 5]))
    assert hidden.all()


def test_of_a_share_of_the_histories_the_last_step_alone_is_hidden() -> None:
    """Of ten steps at 0.9 hardly any history hides the last one alone by chance."""
    hidden, _ = drawn(0.9, 0.3, torch.full((2000,), 10))
    alone = (hidden.view(2000, 10) == torch.eye(10, dtype=torch.bool)[9]).all(dim=1)
    assert alone.float().mean().item() == pytest.approx(0.3, abs=0.04)
    everywhere, _ = drawn(0.9, 1.0, torch.tensor([2, 4]))
    assert everywhere.tolist() == [False, True, False, False, False, True]


def test_evaluation_hides_the_last_steps() -> None:
    model = bert4rec()
    assert model(batch_of([1, 2, 3], [4]))["hidden"].tolist() == [2, 3]


def test_masks_are_drawn_anew() -> None:
    one, _ = drawn(0.5, 0.0, torch.full((10,), 10), seed=0)
    two, _ = drawn(0.5, 0.0, torch.full((10,), 10), seed=1)
    assert not torch.equal(one, two)


# What is computed


def gelu(values: Array) -> Array:
    return array(functional.gelu(torch.from_numpy(values), approximate="tanh"))


def outputs_by_hand(model: BERT4Rec, steps: Array) -> Array:
    """(L, D) one block with one head over (L, D) steps; the last step has position 0."""
    (block,) = model.blocks
    assert isinstance(block, TransformerLayer)
    hidden = normed(steps + array(model.positions.weight)[: len(steps)][::-1], model.norm)
    key, value = np.split(linear(hidden, block.key_value), 2, axis=1)
    weights = np.exp(linear(hidden, block.query) @ key.T / np.sqrt(steps.shape[1]))
    attended = weights / weights.sum(axis=1, keepdims=True) @ value
    hidden = normed(hidden + linear(attended, block.attention_output), block.attention_norm)
    hidden = normed(hidden + linear(gelu(linear(hidden, block.intermediate)), block.output), block.output_norm)
    return normed(gelu(linear(hidden, model.project)), model.project_norm)


def test_the_gap_behind_the_history_by_hand() -> None:
    model = bert4rec(num_hidden_layers=1, num_heads=1)
    assert model.bias is not None
    items = array(model.items.table.weight)
    expected = outputs_by_hand(model, np.vstack([items[[4, 0]], array(model.mask)]))[-1]
    with torch.no_grad():
        found = model.encode_queries(batch_of([4, 0]))
        scores = found @ model.encode_items().t()
    assert np.allclose(array(found)[0, :4], expected, atol=1e-5)
    assert np.allclose(array(scores)[0], items @ expected + array(model.bias.bias), atol=1e-5)


def test_training_asks_at_the_hidden_steps_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert4rec(num_hidden_layers=1, num_heads=1)
    hide(model, monkeypatch, True, False, True, False, True)
    items, mask = array(model.items.table.weight), array(model.mask)
    first = outputs_by_hand(model, np.array([mask, items[0], mask, items[5]]))
    second = outputs_by_hand(model, mask[None])
    batch = batch_of([4, 0, 2, 5], [3])
    with torch.no_grad():
        found = model(batch)
        loss = model.losses(found, batch)
        scores = found["queries"] @ model.encode_items().t()
    assert np.allclose(array(found["queries"])[:, :4], np.vstack([first[[0, 2]], second]), atol=1e-5)
    expected = functional.cross_entropy(scores, torch.tensor([4, 2, 3]))
    assert sum(loss.values()) == pytest.approx(expected.item(), abs=1e-5)


def test_a_hidden_step_is_read_from_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert4rec()
    hide(model, monkeypatch, False, True, False)
    with torch.no_grad():
        before, earlier, later, itself = (
            model(batch_of(h))["queries"][0] for h in ([1, 2, 3], [0, 2, 3], [1, 2, 5], [1, 4, 3])
        )
    assert not torch.allclose(before, earlier, atol=1e-4)
    assert not torch.allclose(before, later, atol=1e-4)
    assert torch.equal(before, itself)  # what is hidden is not seen


def test_what_is_known_of_a_hidden_moment_is_hidden_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert4rec(Sides(context=(SideFeature("hour", num_ids=24, dim=2),)))
    hide(model, monkeypatch, False, True, False)

    def queries(*hours: int) -> Tensor:
        batch = batch_of([1, 2, 3])
        features = {**batch.features, f"{HISTORY}/hour": Dense(torch.tensor(hours))}
        with torch.no_grad():
            out: Tensor = model(Batch(features, size=1))["queries"]
        return out

    assert torch.equal(queries(5, 6, 7), queries(5, 9, 7))
    assert not torch.allclose(queries(5, 6, 7), queries(5, 6, 9), atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_query_reads_one_step_less_than_the_longest_history(layers: int) -> None:
    """The gap takes the place of one of the L steps."""
    model = bert4rec(max_history=4, num_hidden_layers=layers)
    with torch.no_grad():
        found = [
            model.encode_queries(query(torch.tensor(h)))[0]
            for h in ([0, 1, 2, 3], [5, 1, 2, 3], [1, 2, 3], [0, 5, 2, 3])
        ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[3], atol=1e-4)


def test_a_query_is_the_training_output_at_a_hidden_last_step() -> None:
    """What stands at the last step is hidden in evaluation: any item there gives the query of the steps before it."""
    model = bert4rec()
    with torch.no_grad():
        asked = model.encode_queries(batch_of([1, 2, 3], [4]))
        trained = model(batch_of([1, 2, 3, 0], [4, 5]))["queries"]
    assert torch.allclose(asked, trained, atol=1e-5)


def test_an_empty_history_is_a_gap_alone() -> None:
    model = bert4rec()
    with torch.no_grad():
        alone, beside = model.encode_queries(batch_of([])), model.encode_queries(batch_of([1, 2], [], [3]))
    assert torch.allclose(alone[0], beside[1], atol=1e-5)
    assert alone.abs().sum() > 1


def test_cosines_have_no_biases() -> None:
    model = bert4rec(objective="ccl")
    assert model.bias is None
    assert model.encode_items().shape == (6, 4)
    assert model.encode_queries(batch_of([1, 2])).shape == (1, 4)
