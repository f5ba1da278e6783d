"""Exact search in two passes: single precision first, double where it matters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vector_cases import by_hand, drawn, jagged, lists

from intarsia.retrieval import exhaustive
from intarsia.retrieval.exhaustive import exhaustive_top_k, in_order, part_of, renumbered, rows_of


def search(queries: Tensor, items: Tensor, k: int, metric: str = "inner_product", *, fast: bool = True) -> Tensor:
    more = {"take": lambda numbers: items[numbers], "largest": float(items.norm(dim=1).max())} if fast else {}
    return exhaustive_top_k(queries, lambda a, b: items[a:b], len(items), k, metric=metric, **more)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["inner_product", "euclidean"])
@pytest.mark.parametrize("fast", [True, False])
def test_finds_the_best_items(metric: str, fast: bool) -> None:
    items, queries = drawn(0, 500, 4), drawn(1, 7, 2, 4)
    assert lists(search(queries, items, 9, metric, fast=fast)) == by_hand(queries, items, 9, metric)


def test_blocks_and_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    items, queries = drawn(0, 9000, 4), drawn(1, 30, 1, 4)
    whole = search(queries, items, 9)
    for rows, numbers in ((7, 1 << 12), (1, 1 << 20), (512, 1)):
        monkeypatch.setattr(exhaustive, "ROWS", rows)
        monkeypatch.setattr(exhaustive, "NUMBERS", numbers)
        assert torch.equal(search(queries, items, 9), whole)


def test_scores_that_single_precision_cannot_tell_apart_are_told_apart() -> None:
    """Large parts that cancel leave differences far below the rounding error of a product."""
    count = 200
    items = torch.full((count, 3), 4096.0)
    items[:, 2] = torch.arange(count) * 2.0**-12
    queries = torch.tensor([[[4097.0, -4097.0, 1.0]], [[4097.0, -4097.0, -1.0]]])
    assert lists(search(queries, items, 5)) == [[199, 198, 197, 196, 195], [0, 1, 2, 3, 4]]


def test_rows_of_equal_scores_keep_the_order_of_the_items() -> None:
    items = torch.ones(300, 2)
    assert lists(search(torch.ones(3, 1, 2), items, 4)) == [[0, 1, 2, 3]] * 3


def test_where_products_are_less_than_single_precision_all_is_done_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    items, queries = drawn(0, 300, 4), drawn(1, 5, 1, 4)
    monkeypatch.setattr(exhaustive, "exact_products", lambda device: False)
    monkeypatch.setattr(exhaustive, "leading", lambda *_: pytest.fail("first pass"))
    assert lists(search(queries, items, 9)) == by_hand(queries, items, 9)


def test_nothing_to_search_gives_empty_places() -> None:
    assert search(torch.ones(2, 1, 3), torch.zeros(0, 3), 2, fast=False).tolist() == [[-1, -1]] * 2


def test_an_item_that_is_twice_in_a_row_counts_with_its_larger_score() -> None:
    scores, items = in_order(torch.tensor([[1.0, 3.0, 2.0, 3.0, -torch.inf]]), torch.tensor([[4, 9, 4, 2, 7]]))
    assert items.tolist() == [[2, 9, 4, -1, -1]]
    assert scores.tolist() == [[3, 3, 2, -torch.inf, -torch.inf]]


def test_parts_of_jagged_lists() -> None:
    rows = [[1, 2], [], [3], [4, 5, 6]]
    part = part_of(jagged(rows), 1, 3)
    assert part is not None
    assert (part.values.tolist(), part.offsets.tolist()) == ([3], [0, 0, 1])
    chosen = rows_of(jagged(rows), torch.tensor([3, 0, 1]))
    assert (chosen.values.tolist(), chosen.offsets.tolist()) == ([4, 5, 6, 1, 2], [0, 3, 5, 5])
    places = renumbered(jagged(rows), torch.tensor([2, 4, 6]), 7)
    assert (places.values.tolist(), places.offsets.tolist()) == ([0, 1, 2], [0, 1, 1, 1, 3])
    assert part_of(None, 0, 1) is None
