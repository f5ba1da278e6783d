"""Tests for the Seq2SeqRec model: every step of its description, walked through by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from arrays import Array, array
from retrieval_contract import PER_CLUSTER, RetrieverContract, query
from torch import nn

from intarsia.core.batch import Batch, Jagged
from intarsia.core.batch_names import HISTORY, TARGET
from intarsia.core.errors import BuildError
from intarsia.data.schema import Schema
from intarsia.models.seq2seq_rec import Seq2SeqRec
from intarsia.models.sides import Sides
from intarsia.nn.self_attention import SelfAttention
from intarsia.objectives.retrieval import build_objective
from intarsia.recommender.recommender import Recommender

ROWS, LENGTH, WIDTH, HEADS, ITEMS = 198, 70, 64, 2, 300


class TestSeq2SeqRec(RetrieverContract):
    model = {"model_class": "Seq2SeqRec", "seq2seq_rec": {"hidden_size": 8, "num_hidden_layers": 1, "max_history": 12}}
    epochs = 40
    learning_rate = 0.02

    def check_strangers(self, recommender: Recommender) -> None:
        """Two clusters in turn, no item twice: at this size places matter too much for histories of another make."""
        history = [[f"i{c * PER_CLUSTER + k}" for k in range(4) for c in pair] for pair in ((0, 1), (2, 5))]
        found = recommender.recommend(history=history, k=8)
        for request, pair in enumerate(((0, 1), (2, 5))):
            items = found.filter(pl.col("request") == request)["item"].to_list()
            assert np.mean([int(item[1:]) // PER_CLUSTER in pair for item in items]) >= 0.6, (pair, items)


class TestAsDescribed(RetrieverContract):
    model = {"model_class": "Seq2SeqRec", "seq2seq_rec": {"max_history": 12}}
    learns = False


def seq2seq(num_items: int = ITEMS, spread: float = 0.3, fill: bool = True, **options: Any) -> Seq2SeqRec:
    """With the objective of the description, items taken 1, 2, 3, ... times, and weights that differ everywhere."""
    torch.manual_seed(0)
    spec = {"in_batch": {"same_step": True, "fill_padding": fill, "remove_accidental_hits": False}}
    objective = build_objective(spec, num_items=num_items)
    objective.set_counts(torch.arange(1, num_items + 1))
    schema = Schema({}, num_users=2, num_items=num_items)
    model = Seq2SeqRec(schema=schema, objective=objective, sides=Sides(), **options)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=spread)
    return model.eval()


def sequences(rows: int = ROWS, longest: int = LENGTH + 1) -> list[list[int]]:
    """Clicks of users in order; the first user has as many as fit, others between two and that."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, longest + 1, size=rows)
    lengths[0] = longest
    return [rng.integers(ITEMS, size=n).tolist() for n in lengths]


def batch_of(clicks: list[list[int]]) -> Batch:
    """Each sequence but its last item, and the same moved on by one."""
    offsets = torch.tensor([0, *(len(c) - 1 for c in clicks)]).cumsum(0)
    inputs, labels = (torch.tensor([i for c in clicks for i in c[part]]) for part in (slice(0, -1), slice(1, None)))
    return Batch({HISTORY: Jagged(inputs, offsets), TARGET: Jagged(labels, offsets)}, size=len(clicks))


def left_padded(clicks: list[list[int]], part: slice) -> npt.NDArray[np.int64]:
    """(B, L), -1 where there is nothing."""
    out = np.full((len(clicks), LENGTH), -1)
    for row, sequence in enumerate(clicks):
        out[row, LENGTH - len(sequence[part]) :] = sequence[part]
    return out


def dense(values: Array, layer: nn.Linear) -> Array:
    out: Array = values @ array(layer.weight).T + array(layer.bias)
    return out


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    out: Array = powers / powers.sum(axis=-1, keepdims=True)
    return out


def encoder_by_hand(inputs: Array, padding_mask: Array, encoder: SelfAttention) -> Array:
    """Steps 1 to 10 of the self-attention, on padded arrays, with the shapes that the description gives."""
    rows = len(inputs)
    heads = (rows, LENGTH, HEADS, WIDTH // HEADS)
    query, key, value = (
        dense(inputs, layer).reshape(heads).transpose(0, 2, 1, 3)
        for layer in (encoder.query, encoder.key, encoder.value)
    )
    assert query.shape == (rows, HEADS, LENGTH, WIDTH // HEADS)
    scores = query @ key.transpose(0, 1, 3, 2)
    assert scores.shape == (rows, HEADS, LENGTH, LENGTH)
    scores = scores / math.sqrt(WIDTH // HEADS)
    subsequent_mask = np.tril(np.ones((1, 1, LENGTH, LENGTH)))
    mask = padding_mask[:, None, None, :] * subsequent_mask
    assert mask.shape == (rows, 1, LENGTH, LENGTH)
    probabilities = softmax(scores + (1.0 - mask) * -10000.0)
    context = (probabilities @ value).transpose(0, 2, 1, 3).reshape(rows, LENGTH, WIDTH)
    residual = dense(context, encoder.dense) + inputs
    centred = residual - residual.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + encoder.norm.eps)
    out: Array = normed * array(encoder.norm.weight) + array(encoder.norm.bias)
    return out


def outputs_by_hand(model: Seq2SeqRec, inputs: npt.NDArray[np.int64]) -> Array:
    """Steps 1 to 5: (B, L) items, padded on the left, to (B, L, D)."""
    real = inputs >= 0
    item_embeddings = array(model.items.table.weight)[inputs]
    places = np.maximum(np.arange(LENGTH) - (~real).sum(axis=1, keepdims=True), 0)
    position_embeddings = array(model.positions.weight)[places]
    assert item_embeddings.shape == position_embeddings.shape == (len(inputs), LENGTH, WIDTH)
    hidden: Array = item_embeddings + position_embeddings
    for encoder in model.encoders:
        assert isinstance(encoder, SelfAttention)
        hidden = encoder_by_hand(hidden, real.astype(float), encoder)
    return hidden


def loss_by_hand(outputs: Array, vectors: Array, weights: Array, real: Array) -> float:
    """Steps 7 and 8, position by position: outputs and label vectors (B, L, D), weights and mask (B, L)."""
    total = 0.0
    for place in range(outputs.shape[1]):
        logits = outputs[:, place] @ vectors[:, place].T - weights[:, place]  # (B, B)
        total += float((real[:, place] * (np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))).sum())
    return total / float(real.sum())


def test_every_step_of_the_description_with_its_shapes() -> None:
    model = seq2seq()
    clicks = sequences()
    inputs, labels = left_padded(clicks, slice(0, -1)), left_padded(clicks, slice(1, None))
    real = labels >= 0
    assert inputs.shape == labels.shape == (ROWS, LENGTH)
    assert not real.all()
    outputs = outputs_by_hand(model, inputs)
    assert outputs.shape == (ROWS, LENGTH, WIDTH)

    batch = batch_of(clicks)
    torch.manual_seed(5)
    with torch.no_grad():
        queries = model(batch)["queries"]
        assert queries.shape == (int(real.sum()), WIDTH)
        assert np.allclose(array(queries), outputs[real], atol=1e-4)
        loss = model.losses({"queries": queries}, batch)

    # Places count from the end in the draw: the last column is the first row.
    torch.manual_seed(5)
    random = torch.randint(ITEMS, (LENGTH, ROWS)).numpy()[::-1].T
    labels = np.where(real, labels, random)
    assert isinstance(model.output_items, nn.Module)
    vectors = array(model.encode_items())[labels]
    assert vectors.shape == (ROWS, LENGTH, WIDTH)
    counts = np.arange(1, ITEMS + 1)
    hot_weight = np.log(counts / counts.sum())[labels]
    assert (hot_weight < 0).all()
    expected = loss_by_hand(outputs, vectors, hot_weight * real, real.astype(float))
    assert list(loss) == ["in_batch"]
    assert loss["in_batch"].item() == pytest.approx(expected, rel=1e-5)
    # Weights left out, or given to padding as well, make another loss.
    for weights in (np.zeros_like(hot_weight), hot_weight):
        other = loss_by_hand(outputs, vectors, weights, real.astype(float))
        assert abs(other / expected - 1) > 1e-3


def test_the_last_place_is_the_user_and_items_come_from_the_output_embedding() -> None:
    model = seq2seq()
    clicks = sequences(rows=6)
    outputs = outputs_by_hand(model, left_padded(clicks, slice(0, -1)))
    with torch.no_grad():
        users, items = model.queries(batch_of(clicks)), model.catalogue()
        scores = model.score_block(users, items, 0, ITEMS)
    assert np.allclose(array(users), outputs[:, -1], atol=1e-4)
    assert torch.equal(items.items.float(), model.output_items(None))
    assert not torch.allclose(model.encode_items(), model.items(None))
    assert np.allclose(array(scores), outputs[:, -1] @ array(model.encode_items()).T, atol=1e-3)


def test_there_are_three_tables_of_embeddings() -> None:
    model = Seq2SeqRec(
        schema=Schema({}, num_users=2, num_items=9), objective=build_objective("softmax", num_items=9), sides=Sides()
    )
    shapes = [tuple(p.shape) for n, p in model.named_parameters() if "encoders" not in n]
    assert sorted(shapes) == [(9, 64), (9, 64), (70, 64)]
    assert len(model.encoders) == 2


def test_negatives_are_those_of_the_same_place_with_numbers() -> None:
    """Histories of two steps and of one: the lone step meets the last step of the other, and nobody else.

    Outputs and items are one number each; log-shares of the items are log(1/10), log(2/10), log(3/10), log(4/10).
    """
    model = seq2seq(num_items=4, fill=False, hidden_size=1, num_heads=1)
    batch = batch_of([[3, 0, 1], [3, 2]])
    outputs, items = [0.5, -1.0, 2.0], [0.2, 0.4, -0.6, 1.0]
    with torch.no_grad():
        for parameter in model.output_items.parameters():
            parameter.copy_(torch.tensor(items).unsqueeze(1))
        loss = model.losses({"queries": torch.tensor(outputs).unsqueeze(1)}, batch)["in_batch"].item()

    def logit(output: float, item: int) -> float:
        return output * items[item] - math.log((item + 1) / 10)

    alone = 0.0  # The first step of the first user has no company.
    first = math.log(math.exp(logit(-1.0, 1)) + math.exp(logit(-1.0, 2))) - logit(-1.0, 1)
    second = math.log(math.exp(logit(2.0, 1)) + math.exp(logit(2.0, 2))) - logit(2.0, 2)
    assert loss == pytest.approx((alone + first + second) / 3, rel=1e-5)


def test_random_items_stand_for_missing_steps() -> None:
    """Without them a step that nobody else has costs nothing."""
    batch = batch_of([[3, 0, 1, 2], [3, 2]])
    losses = {}
    for fill in (True, False):
        model = seq2seq(num_items=4, fill=fill, hidden_size=4)
        with torch.no_grad():
            outputs = model(batch)["queries"]
            losses[fill] = model.losses({"queries": outputs}, batch)["in_batch"].item()
    assert losses[True] > losses[False] + 1e-3


def test_padding_reaches_no_output_and_the_future_neither() -> None:
    model = seq2seq()
    clicks = sequences(rows=8)
    with torch.no_grad():
        together = model(batch_of(clicks))["queries"]
        start = len(clicks[0]) - 1
        alone = model(batch_of([clicks[1]]))["queries"]
        earlier = model(batch_of([clicks[1][:-3]]))["queries"]
    stop = start + len(clicks[1]) - 1
    assert torch.allclose(together[start:stop], alone, atol=1e-5)
    assert torch.allclose(together[start : stop - 3], earlier, atol=1e-5)


def test_an_empty_history_is_answered() -> None:
    model = seq2seq()
    with torch.no_grad():
        assert not model.encode_queries(query(torch.tensor([], dtype=torch.int64))).any()


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(
        BuildError, match=r"multiple of its number of heads\. Received: hidden_size = 64, num_heads = 3"
    ):
        seq2seq(num_heads=3)
