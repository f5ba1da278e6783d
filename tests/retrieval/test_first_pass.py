"""The largest scores of many blocks, most of which are read once and left."""

from __future__ import annotations

import pytest
import torch
from vector_cases import drawn

from intarsia.retrieval import first_pass
from intarsia.retrieval.first_pass import leading


@pytest.mark.parametrize("width", [1, 7, 64, 100, 1000])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_finds_the_largest_whatever_the_blocks(width: int, k: int) -> None:
    scores = drawn(0, 6, 1000)
    values, items = leading([(a, scores[:, a : a + width]) for a in range(0, 1000, width)], k)
    expected = scores.topk(k, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(items, expected.indices)


def test_scores_that_rise_from_block_to_block_are_sorted_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.arange(2000.0).repeat(3, 1)
    monkeypatch.setattr(first_pass, "CROWDED", 0)
    values, items = leading([(a, scores[:, a : a + 500]) for a in range(0, 2000, 500)], 4)
    assert items.tolist() == [[1999, 1998, 1997, 1996]] * 3
    assert values.tolist() == [[1999, 1998, 1997, 1996]] * 3


def test_what_may_not_be_found_is_not() -> None:
    scores = torch.full((2, 300), -torch.inf)
    scores[0, [5, 250]] = torch.tensor([1.0, 2.0])
    values, items = leading([(a, scores[:, a : a + 100]) for a in range(0, 300, 100)], 3)
    assert items.tolist() == [[250, 5, -1], [-1, -1, -1]]
    assert values[0].tolist() == [2, 1, -torch.inf]


def test_fewer_items_than_asked_for() -> None:
    values, items = leading([(0, torch.tensor([[1.0, 2.0]])), (2, torch.tensor([[3.0]]))], 9)
    assert items.tolist() == [[2, 1, 0]]
    assert values.tolist() == [[3, 2, 1]]


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_floor_lies_below_k_scores_and_not_below_many(k: int, levels: int) -> None:
    scores = drawn(0, 20, 1003)
    if levels:
        scores = (scores * levels).round()
    least = first_pass._floor(scores, k)
    assert least is not None
    assert bool(((scores > least.unsqueeze(1)).sum(dim=1) >= k).all())
    smallest = torch.nextafter(least, torch.tensor(torch.inf)).unsqueeze(1)  # may come often
    assert int((scores > smallest).sum(dim=1).max()) < 2.5 * k + 8


def test_there_is_no_floor_where_a_row_has_too_few_scores() -> None:
    scores = drawn(0, 2, 100)
    scores[1, 3:] = -torch.inf
    assert first_pass._floor(scores, 4) is None
    assert first_pass._floor(scores[:1, :7], 4) is None


def test_many_scores_above_the_floor_are_sorted_instead() -> None:
    scores = torch.zeros(2, 2000)
    scores[0, 1500:] = 1.0
    values, items = leading([(0, scores)], 3)
    assert values.tolist() == [[1.0] * 3, [0.0] * 3]
    assert bool((items[0] >= 1500).all())


def test_no_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one block. Received: none"):
        leading([], 3)
