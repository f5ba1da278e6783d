from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.nn.top_k import GATHER, GROUP, mask_, running_top_k

INF = float("inf")


def slowly(scores: Tensor, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """The k best of each row by sorting (-score, item) pairs."""
    values, items = [], []
    for row in scores.tolist():
        best = sorted((-score, item) for item, score in enumerate(row))[:k]
        values.append([-score for score, _ in best])
        items.append([item if score < INF else -1 for score, item in best])
    return values, items


def blocks(scores: Tensor, *widths: int) -> list[tuple[int, Tensor]]:
    out, start = [], 0
    for width in widths:
        out.append((start, scores[:, start : start + width]))
        start += width
    assert start == scores.shape[1]
    return out


def chunks(scores: Tensor, width: int) -> list[tuple[int, Tensor]]:
    return [(start, scores[:, start : start + width]) for start in range(0, scores.shape[1], width)]


def test_the_best_come_first_and_equal_ones_by_their_numbers() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 3.0, 0.0], [-INF, 5.0, -INF, 5.0, 5.0]])
    values, items = running_top_k([(0, scores)], 3)
    assert items.tolist() == [[1, 3, 2], [1, 3, 4]]
    assert values.tolist() == [[3, 3, 2], [5, 5, 5]]


def test_places_without_an_item_are_marked() -> None:
    values, items = running_top_k([(0, torch.tensor([[-INF, 7.0, -INF]]))], 2)
    assert items.tolist() == [[1, -1]]
    assert values.tolist() == [[7, -INF]]


def test_a_list_is_never_longer_than_the_catalogue() -> None:
    values, items = running_top_k([(0, torch.tensor([[1.0, 2.0]])), (2, torch.tensor([[3.0]]))], 9)
    assert items.tolist() == [[2, 1, 0]]
    assert values.shape == (1, 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 9), st.sampled_from([1, 2, 7, 30, 100]))
@settings(max_examples=80, deadline=None)
def test_it_equals_sorting_whatever_the_ties_and_the_blocks(seed: int, k: int, levels: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, levels, (3, int(rng.integers(1, 120)))).astype(np.float32))
    scores[torch.from_numpy(rng.random(scores.shape) < 0.2)] = -INF
    values, items = running_top_k(chunks(scores, width), k)
    assert (values.tolist(), items.tolist()) == slowly(scores, k)


@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_wide_blocks_go_through_groups_and_give_the_same(levels: int) -> None:
    rng = np.random.default_rng(1)
    scores = torch.from_numpy(rng.integers(0, levels, (5, 4 * 6 * GROUP + 13)).astype(np.float32))
    scores[:, -1] = levels  # the best one is in the part that fills no group
    expected = slowly(scores, 5)
    for way in (chunks(scores, scores.shape[1]), chunks(scores, 1), blocks(scores, 1500, len(scores[0]) - 1500)):
        values, items = running_top_k(way, 5)
        assert (values.tolist(), items.tolist()) == expected
        assert items[:, 0].tolist() == [scores.shape[1] - 1] * 5


def test_blocks_come_in_any_order_and_their_memory_may_be_used_again() -> None:
    scores = torch.from_numpy(np.random.default_rng(2).integers(0, 50, (4, 3 * GATHER)).astype(np.float32))
    expected = slowly(scores, 11)

    def lent(width: int) -> list[tuple[int, Tensor]]:
        buffer = torch.empty(4, width)
        starts = list(range(0, scores.shape[1], width))[::-1]

        def one(start: int) -> tuple[int, Tensor]:
            part = scores[:, start : start + width]
            buffer[:, : part.shape[1]] = part
            return start, buffer[:, : part.shape[1]]

        return (one(start) for start in starts)  # type: ignore[return-value]

    for width in (97, GATHER - 1, GATHER, GATHER + 1):
        values, items = running_top_k(lent(width), 11)
        assert (values.tolist(), items.tolist()) == expected


def test_the_scores_are_left_alone() -> None:
    scores = torch.rand(2, 300, generator=torch.Generator().manual_seed(0))
    before = scores.clone()
    running_top_k(chunks(scores, 100), 5)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("place", [0, 700, 5000])
@pytest.mark.parametrize("width", [64, 4000, 6000])
def test_a_nan_is_seen_wherever_it_stands(place: int, width: int) -> None:
    scores = torch.rand(2, 5001, generator=torch.Generator().manual_seed(0))
    scores[1, place] = torch.nan
    values, _ = running_top_k(chunks(scores, width), 3)
    assert values[:, 0].isnan().tolist() == [False, True]


def test_double_precision_is_kept() -> None:
    scores = torch.tensor([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]], dtype=torch.float64)
    values, items = running_top_k(chunks(scores, 1), 3)
    assert items.tolist() == [[1, 0, 2]]
    assert values.dtype == torch.float64


def test_nothing_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`blocks` must hold at least one block. Received: none"):
        running_top_k([], 3)
    with pytest.raises(ValueError, match=r"`k` must be at least 1. Received: 0"):
        running_top_k([(0, torch.ones(1, 2))], 0)


def test_excluded_items_are_masked_inside_of_their_block_only() -> None:
    excluded = Jagged(torch.tensor([12, 3, 10, 11, 14]), torch.tensor([0, 3, 3, 5]))
    scores = torch.zeros(3, 4)
    mask_(scores, 10, excluded)
    assert scores.tolist() == [[-INF, 0, -INF, 0], [0, 0, 0, 0], [0, -INF, 0, 0]]
