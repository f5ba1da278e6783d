from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import INF, list_of, metric_of, others_of, places_of, queries, random_case

from intarsia.core.errors import DataError, EvaluationError
from intarsia.evaluation.ranking import NOT_FOUND, Ranked, rank_targets
from intarsia.evaluation.ranking.accuracy import ACCURACY, accuracy

CUT = ("hit_rate", "recall", "precision", "f1", "ndcg", "mrr", "map", "map_by_targets")


def ranked(*ranks: list[int], num_others: int = 100) -> Ranked:
    """Targets that stand at these places, one list a query."""
    lengths = torch.tensor([len(row) for row in ranks], dtype=torch.int64)
    rows = torch.repeat_interleave(torch.arange(len(ranks)), lengths)
    places = torch.tensor([rank for row in ranks for rank in row], dtype=torch.int64)
    return Ranked(rows, torch.zeros_like(places), places, lengths, torch.full((len(ranks),), num_others), None)


def value(stem: str, k: int | None, *ranks: list[int], num_others: int = 100) -> list[float]:
    return accuracy(stem, ranked(*ranks, num_others=num_others), k).tolist()


def test_numbers_by_hand() -> None:
    # Three targets at the places 1, 3 and 12; k = 10 finds two of them.
    one = [1, 3, 12]
    assert value("hit_rate", 10, one) == [1]
    assert value("recall", 10, one) == [pytest.approx(2 / 3)]
    assert value("precision", 10, one) == [pytest.approx(0.2)]
    assert value("f1", 10, one) == [pytest.approx(2 * 0.2 * (2 / 3) / (0.2 + 2 / 3))]
    # gains 1/log2(2) + 1/log2(4) = 1.5; ideal 1 + 0.63093 + 0.5
    assert value("ndcg", 10, one) == [pytest.approx(1.5 / 2.1309297535714578, abs=1e-12)]
    assert value("mrr", 10, one) == [1]
    # precision at the hits: 1/1, 2/3, and at the last 3/12
    assert value("map", 10, one) == [pytest.approx((1 + 2 / 3) / 3)]
    assert value("map_by_targets", 10, one) == [pytest.approx((1 + 2 / 3) / 3)]
    assert value("map", None, one) == [pytest.approx((1 + 2 / 3 + 1 / 4) / 3)]
    # others before the targets: 0, 1, 9 of 100
    assert value("auc", None, one) == [pytest.approx(1 - (0 + 0.01 + 0.09) / 3, abs=1e-12)]


def test_a_cut_above_the_best_target_finds_nothing() -> None:
    for stem in CUT:
        assert value(stem, 4, [5, 9]) == [0]
        assert value(stem, 5, [5, 9])[0] > 0
    assert value("mrr", 5, [5, 9]) == [pytest.approx(0.2)]
    assert value("mrr", None, [50]) == [pytest.approx(0.02)]


def test_a_perfect_list_is_worth_one_even_if_more_is_relevant_than_fits() -> None:
    for stem in ("ndcg", "map", "precision"):
        assert value(stem, 3, [1, 2, 3, 4, 5]) == [pytest.approx(1)]
    assert value("recall", 3, [1, 2, 3, 4, 5]) == [pytest.approx(0.6)]
    assert value("map_by_targets", 3, [1, 2, 3, 4, 5]) == [pytest.approx(0.6)]
    assert value("auc", None, [1, 2, 3, 4, 5]) == [1]


def test_a_query_without_targets_has_no_value() -> None:
    for stem in ACCURACY:
        depth = None if stem == "auc" else 3
        found = value(stem, depth, [2], [], [1])
        assert [math.isnan(x) for x in found] == [False, True, False]
        assert [math.isnan(x) for x in value(stem, depth, [], [])] == [True, True]
        assert value(stem, depth) == []


def test_auc_needs_somebody_to_beat() -> None:
    assert math.isnan(value("auc", None, [1, 2], num_others=0)[0])


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 10, 50]))
@settings(max_examples=60, deadline=None)
def test_every_metric_equals_its_definition(seed: int, k: int) -> None:
    scores, targets, excluded = random_case(seed)
    asked = queries(scores, targets, excluded)
    shallow = rank_targets(asked, num_items=30, depth=k, with_lists=True)
    deep = rank_targets(asked, num_items=30, exact=True)
    both = rank_targets(asked, num_items=30, depth=k, exact=True, with_lists=True, item_chunk=7)
    assert both.lists is not None
    assert shallow.lists is not None
    for row, own in enumerate(scores.tolist()):
        others = others_of(30, targets[row], excluded[row])
        places = places_of(own, targets[row], others)
        for stem in CUT:
            expected = metric_of(stem, k, places, len(others))
            assert accuracy(stem, shallow, k)[row].item() == pytest.approx(expected, abs=1e-12), stem
        for stem in ("mrr", "map", "auc"):
            expected = metric_of(stem, math.inf, places, len(others))
            assert accuracy(stem, deep, None)[row].item() == pytest.approx(expected, abs=1e-12, nan_ok=True), stem
        expected_list = list_of(own, targets[row], others, min(k, 30))
        assert shallow.lists[row, :30].tolist() == both.lists[row, :30].tolist() == expected_list
    assert torch.equal(both.ranks, deep.ranks)
    assert deep.num_others.tolist() == [len(others_of(30, t, e)) for t, e in zip(targets, excluded)]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 20]))
@settings(max_examples=60, deadline=None)
def test_candidates_are_all_that_counts_where_they_are_given(seed: int, k: int) -> None:
    scores, targets, excluded = random_case(seed)
    rng = np.random.default_rng(seed)
    candidates = torch.from_numpy(rng.integers(-1, 30, (len(scores), 12)))  # repeated, missing, some are targets
    asked = queries(scores, targets, excluded, candidates)
    shallow = rank_targets(asked, num_items=30, depth=k, with_lists=True)
    deep = rank_targets(asked, num_items=30, exact=True)
    assert shallow.lists is not None
    collisions = 0
    for row, own in enumerate(scores.tolist()):
        others = others_of(30, targets[row], excluded[row], candidates[row].tolist())
        places = places_of(own, targets[row], others)
        collisions += len(set(targets[row]) & set(candidates[row].tolist()))
        for stem in CUT:
            expected = metric_of(stem, k, places, len(others))
            assert accuracy(stem, shallow, k)[row].item() == pytest.approx(expected, abs=1e-12), stem
        for stem in ("mrr", "map", "auc"):
            expected = metric_of(stem, math.inf, places, len(others))
            assert accuracy(stem, deep, None)[row].item() == pytest.approx(expected, abs=1e-12, nan_ok=True), stem
        assert shallow.lists[row].tolist() == list_of(own, targets[row], others, k)
    assert shallow.collisions == collisions


@pytest.mark.parametrize("constant", [0.0, 1.0, -3.5])
def test_constant_scores_never_beat_chance(constant: float) -> None:
    asked = queries(torch.full((4, 50), constant), [[0], [0, 1], [49], [7, 8, 9]])
    found = rank_targets(asked, num_items=50, depth=49, with_lists=True)
    deep = rank_targets(asked, num_items=50, exact=True)
    assert deep.ranks.tolist() == [50, 49, 50, 50, 48, 49, 50]
    for stem in CUT:
        assert accuracy(stem, found, 10).tolist() == [0] * 4
    assert accuracy("auc", deep, None).tolist() == [0] * 4


def test_scores_at_random_give_chance_and_rounding_them_never_helps() -> None:
    rows, items, k = 4000, 50, 5
    scores = torch.rand(rows, items, generator=torch.Generator().manual_seed(0))
    targets = [[row % items, (row * 7 + 3) % items] for row in range(rows)]
    targets = [sorted(set(row)) for row in targets]
    before = rank_targets(queries(scores, targets), num_items=items, depth=k, exact=True)
    assert accuracy("recall", before, k).mean().item() == pytest.approx(k / items, abs=0.01)
    assert accuracy("auc", before, None).mean().item() == pytest.approx(0.5, abs=0.015)
    for levels in (100, 10, 2, 1):
        rounded = (scores * levels).floor()
        after = rank_targets(queries(rounded, targets), num_items=items, depth=k, exact=True)
        for stem in (*CUT, "auc"):
            depth = None if stem == "auc" else k
            assert bool((accuracy(stem, after, depth) <= accuracy(stem, before, depth) + 1e-12).all()), (stem, levels)


def test_targets_are_ranked_even_if_they_were_excluded_and_count_once() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    found = rank_targets(queries(scores, [[1, 1]], [[0, 1]]), num_items=4, depth=3, with_lists=True)
    assert (found.ranks.tolist(), found.num_targets.tolist(), found.num_others.tolist()) == ([1], [1], [2])
    assert found.lists is not None
    assert found.lists.tolist() == [[1, 2, 3]]


def test_what_a_model_would_never_recommend_is_not_found() -> None:
    scores = torch.tensor([[-INF, 1.0, -INF, -INF]])
    asked = queries(scores, [[0, 1]])
    found = rank_targets(asked, num_items=4, depth=4, with_lists=True)
    assert found.ranks.tolist() == [1, NOT_FOUND]
    assert found.lists is not None
    assert found.lists.tolist() == [[1, -1, -1, -1]]
    assert accuracy("recall", found, 4).tolist() == [0.5]
    assert rank_targets(asked, num_items=4, exact=True).ranks.tolist() == [1, 4]  # behind everything that was ranked
    nothing = rank_targets(queries(torch.full((1, 4), -INF), [[2]]), num_items=4, depth=4, with_lists=True)
    assert accuracy("hit_rate", nothing, 4).tolist() == [0]
    assert nothing.lists is not None
    assert nothing.lists.tolist() == [[-1] * 4]


def test_an_infinite_score_is_the_best() -> None:
    found = rank_targets(queries(torch.tensor([[1.0, INF, 2.0]]), [[1]]), num_items=3, depth=2)
    assert found.ranks.tolist() == [1]


@pytest.mark.parametrize("place", [0, 3, 29])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("with_candidates", [False, True])
def test_a_score_that_is_no_number_is_an_error(place: int, exact: bool, with_candidates: bool) -> None:
    scores = torch.rand(3, 30, generator=torch.Generator().manual_seed(0))
    scores[1, place] = torch.nan
    candidates = torch.tensor([[0, 29]] * 3) if with_candidates else None
    asked = queries(scores, [[3], [3], [3]], candidates=candidates)
    with pytest.raises(EvaluationError, match=r"Received: NaN from Fancy for 1 of 3 queries of a batch"):
        rank_targets(asked, num_items=30, depth=0 if exact else 5, exact=exact, item_chunk=8, model="Fancy")


def test_nan_of_an_item_that_is_not_ranked_does_no_harm() -> None:
    scores = torch.tensor([[torch.nan, 1.0, 2.0]])
    assert rank_targets(queries(scores, [[1]], [[0]]), num_items=3, depth=2).ranks.tolist() == [2]


def test_wrong_numbers_and_shapes_are_named() -> None:
    scores = torch.rand(2, 5)
    with pytest.raises(DataError, match=r"targets must be item numbers from 0 to 4. Received: 2 others, such as -1"):
        rank_targets(queries(scores, [[-1], [5]]), num_items=5, depth=1)
    with pytest.raises(DataError, match=r"excluded items must be item numbers from 0 to 4. Received: 1 others"):
        rank_targets(queries(scores, [[1], [2]], [[5], []]), num_items=5, depth=1)
    with pytest.raises(DataError, match=r"targets must be given for each of 2 queries. Received: 1 lists"):
        rank_targets(queries(scores, [[1]], [[], []]), num_items=5, depth=1)
    with pytest.raises(DataError, match=r"candidates must be \(2, M\) item numbers. Received: shape \(3, 4\)"):
        rank_targets(queries(scores, [[1], [2]], None, torch.zeros(3, 4).long()), num_items=5, depth=1)
    with pytest.raises(
        DataError, match=r"candidates must be item numbers from 0 to 4, or -1 for none. Received: 1 oth"
    ):
        rank_targets(queries(scores, [[1], [2]], None, torch.tensor([[0, 5], [1, 1]])), num_items=5, depth=1)
    with pytest.raises(EvaluationError, match=r"Fancy must give \(2, 6\) scores of items 0 to 5. Received: \(2, 5\)"):
        rank_targets(queries(scores, [[1], [2]]), num_items=6, depth=1, model="Fancy")


def test_an_empty_batch_is_no_trouble() -> None:
    found = rank_targets(queries(torch.zeros(0, 5), []), num_items=5, depth=3, with_lists=True)
    assert found.lists is not None
    assert (len(found.ranks), tuple(found.lists.shape)) == (0, (0, 3))


def test_double_scores_are_compared_in_double() -> None:
    scores = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert rank_targets(queries(scores, [[1]]), num_items=2, depth=2).ranks.tolist() == [1]
    assert rank_targets(queries(scores, [[0]]), num_items=2, exact=True).ranks.tolist() == [2]
    assert rank_targets(queries(scores.float(), [[1]]), num_items=2, depth=2).ranks.tolist() == [2]
