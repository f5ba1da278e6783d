"""Greedy lists against the same in plain Python, and against all lists there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from vector_cases import drawn, jagged

from intarsia.core.errors import DataError
from intarsia.retrieval import CategoryDifference, VectorDifference, list_diversity, rerank_diverse, rerank_mmr

G = Callable[[int, int], float]
SETS = [[0], [0], [1], [0, 1], [], [2, 1, 1], [2], [0, 1, 2], [3], [3, 0], [], [1]]


def jaccard(a: int, b: int) -> float:
    one, two = set(SETS[a]), set(SETS[b])
    return 1 - len(one & two) / len(one | two) if one | two else 1.0


def quality(chosen: tuple[int, ...], scores: list[float], g: G, weight: float) -> float:
    """Q(S) of candidates by their place."""
    pairs = sum(g(a, b) for a, b in itertools.combinations(chosen, 2))
    return sum(scores[place] for place in chosen) + weight * pairs


def greedy(scores: list[float], g: G, k: int, weight: float) -> list[int]:
    """The best next candidate, k times; each by the whole of Q."""
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        left = [place for place in range(len(scores)) if place not in chosen]
        chosen.append(max(left, key=lambda place: (round(quality((*chosen, place), scores, g, weight), 9), -place)))
    return chosen


# Greedy choice


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_chooses_what_plain_python_chooses(weight: float, k: int) -> None:
    scores = drawn(0, 6, 12).sort(dim=1, descending=True).values
    items = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(s)) for s in range(6)])
    values, found = rerank_diverse(scores, items, jagged(SETS), k, weight)
    for row in range(6):
        own = items[row].tolist()
        expected = greedy(scores[row].tolist(), lambda a, b, own=own: jaccard(own[a], own[b]), k, weight)  # type: ignore[misc]
        assert found[row].tolist() == [own[place] for place in expected]
        assert values[row].tolist() == [scores[row, place].item() for place in expected]


def test_is_not_far_from_the_best_of_all_lists() -> None:
    """Of 12 candidates there are 495 lists of four; the best has a Q that the greedy one nearly reaches."""
    scores = drawn(3, 12).abs()
    items = torch.arange(12).unsqueeze(0)
    for weight in (0.0, 0.3, 1.0):
        found = tuple(rerank_diverse(scores.unsqueeze(0), items, jagged(SETS), 4, weight)[1][0].tolist())
        own = quality(found, scores.tolist(), jaccard, weight)
        best = max(quality(c, scores.tolist(), jaccard, weight) for c in itertools.combinations(range(12), 4))
        assert 0.9 * best <= own <= best + 1e-6
        if weight == 0:
            assert own == pytest.approx(best)


def test_a_small_case_by_hand() -> None:
    """Scores 5, 4, 3 and categories 0, 0, 1: the third goes before the second once the weight is above 1."""
    scores, items = torch.tensor([[5.0, 4.0, 3.0]]), torch.tensor([[0, 1, 2]])
    categories = torch.tensor([0, 0, 1])
    assert rerank_diverse(scores, items, categories, 2, 0.9)[1].tolist() == [[0, 1]]
    values, found = rerank_diverse(scores, items, categories, 2, 1.1)
    assert found.tolist() == [[0, 2]]
    assert values.tolist() == [[5, 3]]


def test_without_weight_the_order_stays() -> None:
    scores = torch.tensor([[3.0, 3.0, 1.0, 2.0]])
    assert rerank_diverse(scores, torch.arange(4).unsqueeze(0), torch.zeros(4).long(), 4, 0)[1].tolist() == [
        [0, 1, 3, 2]
    ]


def test_rows_do_not_depend_on_each_other() -> None:
    scores = drawn(0, 5, 12)
    items = torch.arange(12).repeat(5, 1)
    together = rerank_diverse(scores, items, jagged(SETS), 6, 0.7)[1]
    for row in range(5):
        assert torch.equal(rerank_diverse(scores[row : row + 1], items[:1], jagged(SETS), 6, 0.7)[1][0], together[row])


def test_what_is_no_candidate_is_not_chosen_however_different() -> None:
    scores = torch.tensor([[2.0, -torch.inf, 1.0, 9.0], [-torch.inf] * 4])
    items = torch.tensor([[0, 1, 2, -1], [0, 1, 2, 3]])
    values, found = rerank_diverse(scores, items, torch.arange(4), 3, 50.0)
    assert found.tolist() == [[0, 2, -1], [-1, -1, -1]]
    assert values.tolist() == [[2, 1, -torch.inf], [-torch.inf] * 3]


def test_the_arguments_are_left_as_they_were() -> None:
    scores, items = drawn(0, 3, 12), torch.arange(12).repeat(3, 1)
    before = scores.clone(), items.clone()
    rerank_diverse(scores, items, jagged(SETS), 5, 1.0)
    assert torch.equal(scores, before[0])
    assert torch.equal(items, before[1])


@pytest.mark.parametrize(
    ("scores", "items", "k", "weight", "told"),
    [
        ([[1.0]], [[0]], 0, 1.0, r"k must be at least 1. Received: 0"),
        ([[1.0]], [[0]], 1, -0.5, r"diversity must be a number of at least 0. Received: -0.5"),
        ([[1.0]], [[0]], 1, float("nan"), r"at least 0. Received: nan"),
        ([[1.0, 2.0]], [[0]], 1, 1.0, r"must both be \(B, M\). Received: items \(1, 1\), scores \(1, 2\)"),
        ([[1.0, 2.0]], [[0, 12]], 1, 1.0, r"numbers below 12.* Received: 1 that are not, the first is 12"),
        ([[float("nan")]], [[0]], 1, 1.0, r"scores must be numbers. Received: 1 that are not"),
    ],
)
def test_wrong_questions_are_refused(
    scores: list[list[float]], items: list[list[int]], k: int, weight: float, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        rerank_diverse(torch.tensor(scores), torch.tensor(items), jagged(SETS), k, weight)


# Differences


def test_categories_differ_by_what_they_do_not_share() -> None:
    between = CategoryDifference(jagged(SETS)).among(torch.arange(12).unsqueeze(0))
    for place in range(12):
        expected = [jaccard(place, other) for other in range(12)]
        assert between(torch.tensor([place]))[0].tolist() == pytest.approx(expected)


def test_an_item_without_a_category_differs_from_all_others() -> None:
    between = CategoryDifference(torch.tensor([-1, 0, -1])).among(torch.tensor([[0, 1, 2]]))
    assert between(torch.tensor([0]))[0].tolist() == [1, 1, 1]
    assert CategoryDifference(torch.full((3,), -1)).among(torch.tensor([[0, 2]]))(torch.tensor([1])).tolist() == [
        [1, 1]
    ]


def test_wrong_categories_are_refused() -> None:
    with pytest.raises(DataError, match=r"Received: \(2, 1\) of int64"):
        CategoryDifference(torch.zeros(2, 1).long())
    with pytest.raises(DataError, match=r"Received: \(2,\) of float32"):
        CategoryDifference(torch.zeros(2))
    with pytest.raises(DataError, match=r"categories must be numbers from 0. Received: -1"):
        CategoryDifference(jagged([[0, -1]]))


def test_vectors_differ_by_direction() -> None:
    vectors = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    between = VectorDifference(vectors).among(torch.arange(4).unsqueeze(0))
    assert between(torch.tensor([0]))[0].tolist() == pytest.approx([0, 0, 0.5, 1])


def test_marginal_relevance_looks_at_the_nearest_item_of_the_list() -> None:
    vectors, scores = drawn(5, 10, 4), drawn(6, 1, 10)
    unit = (vectors / vectors.norm(dim=1, keepdim=True)).double()
    chosen: list[int] = []
    for _ in range(6):
        left = [one for one in range(10) if one not in chosen]
        value = {
            o: float(scores[0, o]) - 0.8 * max((float(unit[o] @ unit[c]) for c in chosen), default=0) for o in left
        }
        chosen.append(max(left, key=lambda one: value[one]))
    assert rerank_mmr(scores, torch.arange(10).unsqueeze(0), vectors, 6, 0.8)[1].tolist() == [chosen]


# Diversity of lists


def test_diversity_is_the_mean_over_pairs() -> None:
    lists = torch.tensor([[0, 3, 5, 8], [1, 0, -1, -1], [7, -1, -1, -1], [-1, 2, 6, -1]])
    found = list_diversity(lists, jagged(SETS)).tolist()
    for row, value in zip(lists.tolist(), found):
        pairs = list(itertools.combinations([one for one in row if one >= 0], 2))
        if pairs:
            assert value == pytest.approx(np.mean([jaccard(a, b) for a, b in pairs]))
        else:
            assert np.isnan(value)


def test_diversity_rises_with_the_weight() -> None:
    scores, items = drawn(0, 20, 12), torch.arange(12).repeat(20, 1)
    found = [
        float(list_diversity(rerank_diverse(scores, items, jagged(SETS), 5, w)[1], jagged(SETS)).mean())
        for w in (0.0, 0.2, 1.0, 50.0)
    ]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.05
