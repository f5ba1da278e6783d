"""What an approximate index finds of the exact answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from vector_cases import by_hand, drawn

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.batch import Jagged
from intarsia.retrieval import build_index
from intarsia.retrieval.flat import FlatIndex
from intarsia.retrieval.measure import _recall, measure, sample_queries


class Forgetful(FlatIndex):
    """Finds only items of even numbers."""

    def _search(self, queries: Tensor, k: int, excluded: Jagged | None, numbers: Tensor | None) -> Any:
        return super()._search(queries, k, excluded, torch.arange(0, self.num_items, 2))


def test_recall_is_the_share_of_the_best_that_is_found() -> None:
    items, queries = drawn(0, 60, 4), drawn(1, 25, 2, 4)
    found = measure(Forgetful.build(items, IndexConfig()), items, queries)
    best = by_hand(queries, items, 10)
    even = by_hand(queries, items, 10, candidates=list(range(0, 60, 2)))
    expected = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best, even)])
    assert found.recall[10] == pytest.approx(expected, abs=1e-6)
    assert found.recall[60] == pytest.approx(0.5, abs=1e-6)
    assert (found.queries, found.of) == (25, "queries")
    assert found.ms_per_query > 0
    assert found.exact_ms_per_query > 0


def test_nothing_found_is_no_neighbour_of_another_query() -> None:
    """An item -1 of the second query is not the last item of the first."""
    assert _recall(torch.tensor([[0, -1], [-1, 1]]), torch.tensor([[0, 3], [1, 2]])) == 0.5


def test_queries_are_drawn_by_the_seed_and_as_many_as_asked() -> None:
    items = drawn(0, 80, 6)
    one, two, other = (sample_queries(items, IndexConfig(measure_queries=30, seed=s)) for s in (1, 1, 2))
    assert one.shape == (30, 6)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert sample_queries(items, IndexConfig(measure_queries=500)).shape == (80, 6)


def test_the_noise_of_a_query_is_half_as_long_as_the_item() -> None:
    items = drawn(0, 2000, 40)
    asked = sample_queries(items, IndexConfig(measure_queries=2000))
    share = (asked - items).norm(dim=1) / items.norm(dim=1)
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)


def test_exact_kinds_are_not_measured_and_nothing_is_where_nobody_asks() -> None:
    items = drawn(0, 60, 4)
    for config in (IndexConfig(), IndexConfig(kind="faiss_flat"), IndexConfig(kind="hnsw", measure_queries=0)):
        assert build_index(items, config).measured is None
    found = build_index(items, IndexConfig(kind="hnsw", measure_queries=20)).measured
    assert found is not None
    assert (found.queries, found.of) == (20, "items")
    assert str(found).startswith("recall@10 ")
