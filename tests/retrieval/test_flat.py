"""The exact index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vector_cases import by_hand, drawn, jagged, lists, score

from intarsia.core.errors import CheckpointError, DataError
from intarsia.retrieval import build_index, load_index

METRICS = ("inner_product", "cosine", "euclidean")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6)])
@pytest.mark.parametrize("count", [7, 150])
def test_finds_the_best_items_in_order(metric: str, shape: tuple[int, ...], count: int) -> None:
    items, queries = drawn(0, count, 6), drawn(1, *shape)
    scores, found = build_index(items, {"kind": "flat", "metric": metric}).search(queries, 5)  # type: ignore[arg-type]
    assert lists(found) == by_hand(queries, items, 5, metric)
    assert scores.dtype == torch.float32
    for row, query in enumerate(queries if queries.dim() == 3 else queries.unsqueeze(1)):
        expected = [score(query, items[one], metric) for one in found[row].tolist()]
        assert scores[row].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_small_case_by_hand() -> None:
    """Interests (1, 0) and (0, 2): scores max(x, 2 y) of the items are 3, 2, 4, 4."""
    index = build_index(torch.tensor([[3.0, 1.0], [0.0, 1.0], [4.0, -1.0], [1.0, 2.0]]))
    scores, found = index.search(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), 3)
    assert found.tolist() == [[2, 3, 0]]
    assert scores.tolist() == [[4, 4, 3]]


def test_equal_scores_are_in_the_order_of_the_items() -> None:
    items = torch.ones(200, 3)
    items[150] = 2
    assert build_index(items).search(torch.ones(2, 3), 4)[1].tolist() == [[150, 0, 1, 2]] * 2


@pytest.mark.parametrize("metric", METRICS)
def test_excluded_items_and_those_that_are_no_candidates_are_not_found(metric: str) -> None:
    items, queries = drawn(2, 120, 5), drawn(3, 4, 5)
    index = build_index(items, {"kind": "flat", "metric": metric})  # type: ignore[arg-type]
    out = [[5, 6, 7, 7], [], list(range(100)), [119, 0]]
    among = [*range(0, 120, 3)]
    found = index.search(queries, 6, excluded=jagged(out))[1]
    assert lists(found) == by_hand(queries, items, 6, metric, out)
    mask = torch.zeros(120, dtype=torch.bool)
    mask[among] = True
    for given in (mask, torch.tensor(among), np.array(among[::-1])):
        found = index.search(queries, 6, excluded=jagged(out), candidates=given)[1]
        assert lists(found) == by_hand(queries, items, 6, metric, out, among)


def test_places_that_no_item_fills_are_minus_one() -> None:
    index = build_index(drawn(0, 5, 3))
    scores, found = index.search(drawn(1, 2, 3), 9, excluded=jagged([[0, 1, 2, 3, 4], [1]]))
    assert found[0].tolist() == [-1] * 9
    assert sorted(found[1].tolist()) == [-1] * 5 + [0, 2, 3, 4]
    assert scores[0].tolist() == [-np.inf] * 9
    assert scores[1, 4:].tolist() == [-np.inf] * 5
    assert index.search(drawn(1, 2, 3), 2, candidates=torch.tensor([], dtype=torch.int64))[1].tolist() == [[-1, -1]] * 2
    assert index.search(torch.zeros(0, 3), 2)[1].shape == (0, 2)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"queries": drawn(0, 2, 3), "k": 0}, r"k must be at least 1. Received: 0"),
        ({"queries": drawn(0, 2, 4), "k": 1}, r"queries must be \(B, 3\) or \(B, K, 3\) .* Received: \(2, 4\)"),
        ({"queries": drawn(0, 3), "k": 1}, r"Received: \(3,\)"),
        ({"queries": torch.full((2, 3), torch.nan), "k": 1}, r"queries must be finite. Received: 6 numbers in 2 of 2"),
        ({"queries": drawn(0, 2, 3), "k": 1, "excluded": jagged([[1]])}, r"one list a query, 2 here. Received: 1"),
        (
            {"queries": drawn(0, 1, 3), "k": 1, "excluded": jagged([[5]])},
            r"excluded items must be .* 0 to 4. Received: 1",
        ),
        ({"queries": drawn(0, 1, 3), "k": 1, "candidates": torch.tensor([-1])}, r"candidates must be .* first is -1"),
        (
            {"queries": drawn(0, 1, 3), "k": 1, "candidates": torch.ones(4, dtype=torch.bool)},
            r"5 here. Received: \(4,\)",
        ),
        ({"queries": drawn(0, 1, 3), "k": 1, "candidates": torch.ones(4)}, r"one list of item numbers, or a mask"),
    ],
)
def test_wrong_questions_are_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        build_index(drawn(0, 5, 3)).search(asked.pop("queries"), asked.pop("k"), **asked)


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        (torch.zeros(0, 3), r"at least one. Received: \(0, 3\)"),
        (torch.zeros(3), r"item vectors \(N, D\), at least one. Received: \(3,\)"),
        (torch.tensor([[1.0, torch.inf]]), r"item vectors must be finite. Received: 1 numbers in 1 of 1"),
    ],
)
def test_wrong_vectors_are_refused(vectors: torch.Tensor, told: str) -> None:
    with pytest.raises(DataError, match=told):
        build_index(vectors)


@pytest.mark.parametrize("metric", METRICS)
def test_is_saved_and_loaded(metric: str, tmp_path: Path) -> None:
    items, queries = drawn(0, 50, 4), drawn(1, 3, 4)
    index = build_index(items, {"kind": "flat", "metric": metric})  # type: ignore[arg-type]
    index.save(tmp_path / "index")
    again = load_index(tmp_path / "index", vectors=items)
    assert again.config == index.config
    for one, two in zip(index.search(queries, 7), again.search(queries, 7)):
        assert torch.equal(one, two)
    grown = again.rebuild(torch.cat([items, drawn(5, 1, 4)]))
    assert (grown.num_items, grown.config.metric) == (51, metric)


def test_damage_is_told(tmp_path: Path) -> None:
    place = tmp_path / "index"
    with pytest.raises(CheckpointError, match=r"there is no index in .*: index.json is missing"):
        load_index(place)
    build_index(drawn(0, 5, 3)).save(place)
    (place / "index.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match=r"the index in .* is damaged: .*Build the index again"):
        load_index(place)
    (place / "index.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"index.json is no JSON"):
        load_index(place)
    (place / "index.json").write_text('{"version": 9}')
    with pytest.raises(CheckpointError, match=r"of version 9, this program reads version 1"):
        load_index(place)
