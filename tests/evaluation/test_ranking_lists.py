from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import INF, jagged, list_of, others_of, queries, random_case
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.evaluation.ranking import LogFacts, rank_targets
from intarsia.evaluation.ranking import lists as lists_module
from intarsia.evaluation.ranking.evaluate import gini
from intarsia.evaluation.ranking.lists import SMOOTHING, ListMeasures


def shown(*items: int, num_items: int = 6) -> Tensor:
    """(1, N) scores that put these items in front and never show the others."""
    scores = torch.full((1, num_items), -INF)
    for place, item in enumerate(items):
        scores[0, item] = float(len(items) - place)
    return scores


def measured(
    stem: str,
    k: int,
    scores: Tensor,
    facts: LogFacts,
    targets: list[list[int]],
    excluded: list[list[int]] | None = None,
    history: Jagged | None = None,
) -> list[float]:
    asked = queries(scores, targets, excluded, history_items=history)
    ranked = rank_targets(asked, num_items=scores.shape[1], depth=k, with_lists=True)
    return ListMeasures(facts, scores.shape[1]).values(stem, k, asked, ranked).tolist()


COUNTS = LogFacts(item_counts=torch.tensor([8, 4, 2, 1, 1, 0]))
KINDS = LogFacts(categories=jagged([[0], [0, 1], [1, 2, 3], [], [0], [3]]))


def test_popularity_is_the_mean_of_training_interactions() -> None:
    assert measured("popularity", 3, shown(0, 2, 5), COUNTS, [[0]]) == [pytest.approx((8 + 2 + 0) / 3)]
    assert measured("popularity", 2, shown(0, 2, 5), COUNTS, [[0]]) == [pytest.approx(5)]
    assert measured("popularity", 4, shown(1), COUNTS, [[1]]) == [pytest.approx(4)]  # only one item is left to show


def test_novelty_is_the_mean_self_information_in_bits() -> None:
    # Shares of 16 interactions: 8 is one bit, 2 is three bits; an item that nobody took counts as taken once: four.
    assert measured("novelty", 3, shown(0, 2, 5), COUNTS, [[0]]) == [pytest.approx((1 + 3 + 4) / 3)]


def test_diversity_compares_every_pair_of_the_list() -> None:
    # Jaccard of 0 and 1: 1/2; of 1 and 2: 1/4; of 0 and 2: 0.
    expected = 1 - (1 / 2 + 1 / 4 + 0) / 3
    assert measured("diversity", 3, shown(0, 1, 2), KINDS, [[0]]) == [pytest.approx(expected, abs=1e-12)]
    assert measured("diversity", 2, shown(0, 4), KINDS, [[0]]) == [0]  # the same single category
    assert measured("diversity", 2, shown(0, 3), KINDS, [[0]]) == [1]  # an item without categories is like no other
    assert math.isnan(measured("diversity", 3, shown(2), KINDS, [[2]])[0])


def test_diversity_takes_vectors_where_there_are_no_categories() -> None:
    vectors = torch.tensor([[2.0, 0], [0, 3], [1, 1], [-1, 0], [0, 0], [5, 0]])
    facts = LogFacts(vectors=vectors)
    assert measured("diversity", 2, shown(0, 1), facts, [[0]]) == [pytest.approx(1)]
    assert measured("diversity", 2, shown(0, 3), facts, [[0]]) == [pytest.approx(2)]
    assert measured("diversity", 2, shown(0, 5), facts, [[0]]) == [pytest.approx(0)]
    third = (1 + (1 - math.sqrt(0.5)) * 2) / 3
    assert measured("diversity", 3, shown(0, 1, 2), facts, [[0]]) == [pytest.approx(third)]


def test_serendipity_counts_what_was_relevant_and_not_expected() -> None:
    # The two most popular are 0 and 1. Of the targets in the list, 2 is a surprise.
    assert measured("serendipity", 2, shown(0, 2), COUNTS, [[0, 2]]) == [pytest.approx(1 / 2)]
    assert measured("serendipity", 2, shown(0, 1), COUNTS, [[0, 1]]) == [0]
    assert measured("serendipity", 2, shown(2, 3), COUNTS, [[0, 1]]) == [0]
    # Once 0 was taken, 1 and 2 are what anybody would expect.
    assert measured("serendipity", 2, shown(2, 3), COUNTS, [[2, 3]], [[0]]) == [pytest.approx(1 / 2)]


def test_calibration_by_hand() -> None:
    history = jagged([[0, 0, 2, 3]])  # p: category 0 two thirds, 1, 2, 3 one ninth each; item 3 has none
    q = {0: 0.99 * 3 / 4 + 0.01 * 2 / 3, 1: 0.99 * 1 / 4 + 0.01 / 9, 2: 0.01 / 9, 3: 0.01 / 9}
    expected = 2 / 3 * math.log(2 / 3 / q[0]) + sum(1 / 9 * math.log(1 / 9 / q[g]) for g in (1, 2, 3))
    found = measured("calibration", 2, shown(0, 1), KINDS, [[0]], history=history)
    assert found == [pytest.approx(expected, abs=1e-12)]
    assert measured("calibration", 1, shown(4), KINDS, [[4]], history=jagged([[0]])) == [pytest.approx(0, abs=1e-12)]


def test_calibration_needs_categories_on_both_sides() -> None:
    for list_item, past in ((3, [0]), (0, [3]), (0, [])):
        assert math.isnan(measured("calibration", 1, shown(list_item), KINDS, [[list_item]], history=jagged([past]))[0])


def test_without_a_history_the_excluded_items_stand_for_it() -> None:
    assert measured("calibration", 1, shown(4), KINDS, [[4]], [[0]]) == [pytest.approx(0, abs=1e-12)]


def slowly(
    stem: str, k: int, own: list[int], targets: set[int], excluded: set[int], history: list[int], facts: LogFacts
) -> float:
    own = [item for item in own if item >= 0]
    counts = facts.item_counts.tolist()  # type: ignore[union-attr]
    offsets = facts.categories.offsets.tolist()  # type: ignore[union-attr]
    kinds = [facts.categories.values[a:b].tolist() for a, b in pairwise(offsets)]  # type: ignore[union-attr]
    if stem == "popularity":
        return sum(counts[i] for i in own) / len(own) if own else math.nan
    if stem == "novelty":
        return sum(-math.log2(max(counts[i], 1) / sum(counts)) for i in own) / len(own) if own else math.nan
    if stem == "diversity":
        pairs = [(i, j) for a, i in enumerate(own) for j in own[a + 1 :]]
        alike = [len({*kinds[i]} & {*kinds[j]}) / max(1, len({*kinds[i]} | {*kinds[j]})) for i, j in pairs]
        return 1 - sum(alike) / len(pairs) if pairs else math.nan
    if stem == "serendipity":
        left = [i for i in range(len(counts)) if i not in excluded or i in targets]
        expected = sorted(left, key=lambda i: (-counts[i], i))[:k]
        return sum(i in targets and i not in expected for i in own) / k

    def shares(items: list[int]) -> dict[int, float]:
        found: Counter[int] = Counter()
        for i in items:
            for g in kinds[i]:
                found[g] += 1 / len(kinds[i])
        total = sum(found.values())
        return {g: x / total for g, x in found.items()}

    p, q = shares(history), shares(own)
    if not p or not q:
        return math.nan
    mixed = {g: (1 - SMOOTHING) * q.get(g, 0) + SMOOTHING * x for g, x in p.items()}
    return sum(x * math.log(x / mixed[g]) for g, x in p.items())


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 10]), st.booleans())
@settings(max_examples=50, deadline=None)
def test_every_metric_equals_its_definition(seed: int, k: int, in_parts: bool) -> None:
    scores, targets, excluded = random_case(seed)
    rng = np.random.default_rng(seed)
    kinds = [rng.choice(5, rng.integers(0, 4), replace=False).tolist() for _ in range(30)]
    kinds[0] = [0]
    facts = LogFacts(item_counts=torch.from_numpy(rng.integers(0, 6, 30)), categories=jagged(kinds))
    history = [rng.integers(0, 30, rng.integers(0, 8)).tolist() for _ in targets]
    with pytest.MonkeyPatch.context() as patch:
        if in_parts:
            patch.setattr(lists_module, "PAIR_NUMBERS", 10)  # one or two queries at a time
        for stem in ("popularity", "novelty", "diversity", "serendipity", "calibration"):
            found = measured(stem, k, scores, facts, targets, excluded, jagged(history))
            for row, value in enumerate(found):
                own = list_of(scores[row].tolist(), targets[row], others_of(30, targets[row], excluded[row]), k)
                expected = slowly(stem, k, own, set(targets[row]), set(excluded[row]), history[row], facts)
                assert value == pytest.approx(expected, abs=1e-9, nan_ok=True), stem


def test_gini_runs_from_equality_to_one_item() -> None:
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 12])) == pytest.approx(1 - 1 / 4)
    # sum over all pairs of |x_i - x_j| / (2 N^2 mean): 1, 2, 3, 6 has 2 (1 + 2 + 5 + 1 + 4 + 3) = 32 over 2 * 16 * 3
    assert gini(np.array([6, 1, 3, 2])) == pytest.approx(32 / 96)
