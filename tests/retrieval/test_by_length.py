"""Items that are too short to be found are passed over, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.core.batch import Jagged
from intarsia.nn.by_length import ByLength
from intarsia.retrieval import first_pass
from intarsia.retrieval.exhaustive import exhaustive_top_k
from intarsia.retrieval.first_pass import leading_of_long


def drawn(seed, batch, interests, count, width, levels=0):
    """Queries, item vectors of very different lengths (some zero), and items that each query must not get."""
    g = torch.Generator().manual_seed(seed)
    queries = torch.randn(batch, interests, width, generator=g)
    items = torch.randn(count, width, generator=g) * torch.rand(count, 1, generator=g).pow(6)
    if levels:  # many equal scores
        queries, items = queries.sign(), (items * levels).round()
    items[torch.rand(count, generator=g) < 0.1] = 0.0
    lengths = torch.randint(0, max(1, count // 2), (batch,), generator=g)
    rows = [torch.randperm(count, generator=g)[:length] for length in lengths.tolist()]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return queries, items, Jagged(torch.cat(rows), offsets)


def search(queries, items, k, excluded, by_length):
    return exhaustive_top_k(
        queries,
        lambda start, stop: items[start:stop],
        len(items),
        k,
        metric="inner_product",
        excluded=excluded,
        take=lambda places: items[places],
        largest=float(items.double().square().sum(dim=1).amax().sqrt()),
        by_length=by_length,
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(40, 300),
    st.sampled_from([0, 3]),
    st.booleans(),
    st.sampled_from([16, 150]),
)
def test_the_same_as_all_items(seed, batch, interests, count, levels, excludes, width):
    queries, items, excluded = drawn(seed, batch, interests, count, 5, levels)
    excluded = excluded if excludes else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_pass, "WIDTH", width)
        patch.setattr(first_pass, "STEP", 2)
        found = search(queries, items, 4, excluded, ByLength.of(items))
    expected = search(queries, items, 4, excluded, None)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_short_items_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(first_pass, "WIDTH", 64)
    queries, items, excluded = drawn(0, 5, 1, 6400, 8)
    by_length = ByLength.of(items)
    by_length.vectors[3200:] = torch.nan  # whoever looked at them would find them
    values, numbers = leading_of_long(queries, by_length, 5, excluded)
    assert bool(values.isfinite().all())
    scores = queries[:, 0] @ items.t()
    for row in range(5):
        scores[row, excluded.values[excluded.offsets[row] : excluded.offsets[row + 1]]] = -torch.inf
    assert torch.equal(numbers, scores.topk(5).indices)


def test_queries_with_too_few_items():
    items = torch.eye(3)
    excluded = Jagged(torch.tensor([0, 1, 2, 1]), torch.tensor([0, 3, 4]))
    values, numbers = leading_of_long(torch.ones(2, 1, 3), ByLength.of(items), 3, excluded)
    assert numbers[0].tolist() == [-1, -1, -1]
    assert sorted(numbers[1].tolist()) == [-1, 0, 2]
    assert values[1].tolist() == [1.0, 1.0, -torch.inf]
