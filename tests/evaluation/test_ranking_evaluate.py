from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ranking_cases import INF, batches, list_of, others_of, queries, random_case
from scipy import stats
from torch import Tensor

from intarsia.core.errors import DataError, EvaluationError
from intarsia.evaluation.ranking import (
    LogFacts,
    RankingAccumulator,
    RankingEvaluation,
    RankingQueries,
    build_ranking_metrics,
    evaluate_ranking,
)
from intarsia.evaluation.ranking.evaluate import mean_interval
from intarsia.models.retriever import interest_scores

NAMES = (
    "recall@5", "hit_rate@1", "precision@3", "f1@10", "ndcg@5", "ndcg@20", "mrr@5", "mrr", "map@5", "map",
    "map_by_targets@5", "auc", "coverage@5", "gini@5", "popularity@5", "novelty@5", "serendipity@5", "diversity@5",
)  # fmt: skip


def facts(items: int, seed: int = 0) -> LogFacts:
    rng = np.random.default_rng(seed)
    return LogFacts(
        item_counts=torch.from_numpy(rng.integers(0, 9, items)), vectors=torch.from_numpy(rng.normal(size=(items, 4)))
    )


def same(a: RankingEvaluation, b: RankingEvaluation) -> bool:
    """Whether all that was found is the same, bit for bit."""
    arrays = [(a.users, b.users), (a.targets, b.targets), *((a.per_user[n], b.per_user[n]) for n in a.per_user)]
    lists = a.lists is b.lists is None or bool((a.lists == b.lists).all())  # type: ignore[union-attr]
    return a.values == b.values and lists and all(x.tobytes() == y.tobytes() for x, y in arrays)


def vectors(users: int = 60, items: int = 9000, dim: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(users, dim, generator=generator), torch.randn(items, dim, generator=generator)


def products(size: int, users: Tensor, items: Tensor) -> Iterator[RankingQueries]:
    """Scores computed block by block, as a retriever does."""
    rng = np.random.default_rng(1)
    targets = [rng.integers(0, len(items), 3).tolist() for _ in users]
    excluded = [rng.integers(0, len(items), 40).tolist() for _ in users]
    for start in range(0, len(users), size):
        part = slice(start, start + size)
        mine = users[part].double()
        own = queries(torch.zeros(len(mine), 1), targets[part], excluded[part])

        def block(first: int, stop: int, mine: Tensor = mine) -> Tensor:
            return interest_scores(mine, items[first:stop].double())

        numbers = torch.arange(len(users))[part]
        yield RankingQueries(numbers, own.targets, own.excluded, None, block, own.pair_scores)


def test_neither_chunks_nor_batches_change_a_bit() -> None:
    users, items = vectors()
    metrics = build_ranking_metrics(NAMES, facts=facts(len(items)))

    def found(size: int, chunk: int | None) -> RankingEvaluation:
        return evaluate_ranking(
            products(size, users, items), metrics, num_items=len(items), item_chunk=chunk, keep_lists=20
        )

    whole = found(60, None)
    assert 0 < (whole.values["auc"].value or 0) < 1
    for size, chunk in ((60, 100), (60, 4096), (7, 4096), (13, 9000), (1, None)):
        assert same(found(size, chunk), whole), (size, chunk)
    few = build_ranking_metrics(["recall@20", "ndcg@20", "coverage@20"])
    kept = [
        evaluate_ranking(products(60, users, items), few, num_items=len(items), item_chunk=chunk, keep_lists=20)
        for chunk in (7, 100, 4096)
    ]
    assert same(kept[0], kept[1])
    assert same(kept[0], kept[2])


@pytest.mark.parametrize("chunk", [1, 7, 30])
@pytest.mark.parametrize("size", [1, 5, 40])
def test_ties_are_settled_the_same_in_any_batch_chunk_and_order(size: int, chunk: int) -> None:
    scores, targets, excluded = random_case(3, rows=40, levels=3)
    metrics = build_ranking_metrics(NAMES, facts=facts(30))
    whole = evaluate_ranking(batches(40, scores, targets, excluded), metrics, num_items=30, keep_lists=6)
    order = np.random.default_rng(5).permutation(40).tolist()
    made = batches(size, scores, targets, excluded, order)
    assert same(evaluate_ranking(made, metrics, num_items=30, keep_lists=6, item_chunk=chunk), whole)
    assert whole.users.tolist() == list(range(40))
    assert whole.lists is not None
    for row, own in enumerate(whole.lists.tolist()):
        assert own == list_of(scores[row].tolist(), targets[row], others_of(30, targets[row], excluded[row]), 6)


def test_queries_of_the_same_user_and_targets_are_put_in_an_order_too() -> None:
    scores = torch.rand(6, 9, generator=torch.Generator().manual_seed(0))
    rows = [queries(scores[i : i + 1], [[3]], users=torch.tensor([7])) for i in range(6)]
    metrics = build_ranking_metrics(["mrr", "ndcg@5"])
    forth = evaluate_ranking(rows, metrics, num_items=9)
    back = evaluate_ranking(rows[::-1], metrics, num_items=9)
    assert same(forth, back)
    assert len(set(forth.per_user["mrr"].tolist())) > 1


def test_processes_merge_exactly() -> None:
    scores, targets, excluded = random_case(8, rows=24)
    ratings = torch.rand(24, generator=torch.Generator().manual_seed(0))
    targets = [row[:1] for row in targets]
    scores = scores.clamp(min=0)
    metrics = build_ranking_metrics([*NAMES, "rmse", "mae"], facts=facts(30), groups=["history"])
    whole = evaluate_ranking(
        batches(24, scores, targets, excluded, ratings=ratings), metrics, num_items=30, keep_lists=3
    )
    workers = [RankingAccumulator(metrics, num_items=30, keep_lists=3) for _ in range(3)]
    for number, worker in enumerate(workers):
        for part in batches(3, scores, targets, excluded, range(number, 24, 3), ratings=ratings):
            worker.update(part)
    workers[2].merge(workers[0].state())
    workers[2].merge(workers[1].state())
    merged = workers[2].compute()
    assert same(merged, whole)
    assert merged.groups == whole.groups
    idle = RankingAccumulator(metrics, num_items=30, keep_lists=3)
    idle.merge(workers[2].state())
    assert same(idle.compute(), whole)


def test_batches_stream_and_are_asked_for_one_at_a_time() -> None:
    scores, targets, excluded = random_case(0, rows=6)
    alive = 0

    def made() -> Iterator[RankingQueries]:
        nonlocal alive
        for part in batches(1, scores, targets, excluded):
            alive += 1
            assert alive == 1
            yield part
            alive -= 1

    found = evaluate_ranking(made(), build_ranking_metrics(["recall@5"]), num_items=30)
    assert (found.num_queries, alive) == (6, 0)


def test_no_block_is_wider_than_asked_and_no_item_is_scored_twice() -> None:
    asked = []
    plain = queries(torch.rand(3, 100), [[1], [2], [3]])

    def scores(start: int, stop: int) -> Tensor:
        asked.append((start, stop))
        return plain.scores(start, stop)

    counted = RankingQueries(plain.users, plain.targets, plain.excluded, None, scores, plain.pair_scores)
    evaluate_ranking([counted], build_ranking_metrics(["recall@5", "coverage@9"]), num_items=100, item_chunk=30)
    assert asked == [(0, 30), (30, 60), (60, 90), (90, 100)]


def test_what_a_model_returns_is_only_read() -> None:
    scores, targets, excluded = random_case(1)
    before = scores.clone()
    evaluate_ranking(batches(6, scores, targets, excluded), build_ranking_metrics(["auc", "ndcg@5"]), num_items=30)
    assert torch.equal(scores, before)


def test_intervals_are_students_and_hold_the_mean_as_often_as_announced() -> None:
    found = mean_interval(np.array([1.0, 2.0, 4.0]), 0.95)
    assert found is not None
    # mean 7/3, deviation sqrt(7/3), t of 2 degrees 4.30265
    margin = 4.302652729911275 * math.sqrt(7 / 3 / 3)
    assert found == pytest.approx((7 / 3 - margin, 7 / 3 + margin))
    assert mean_interval(np.array([1.0]), 0.95) is None
    rng = np.random.default_rng(0)
    hits = [low < 0.5 < high for low, high in (mean_interval(rng.random(30), 0.9) for _ in range(1000))]  # type: ignore[misc]
    assert 0.87 < np.mean(hits) < 0.93


def test_a_mean_over_queries_has_an_interval_and_a_number_of_the_whole_has_none() -> None:
    scores, targets, excluded = random_case(2, rows=30)
    metrics = build_ranking_metrics(["ndcg@5", "coverage@5"], confidence=0.9)
    found = evaluate_ranking(batches(7, scores, targets, excluded), metrics, num_items=30)
    each, value = found.per_user["ndcg@5"].astype(np.float64), found.values["ndcg@5"]
    expected = stats.ttest_1samp(each, 0).confidence_interval(0.9)
    assert (value.low, value.high) == pytest.approx((expected.low, expected.high))
    assert value.value == each.mean()
    assert (found.values["coverage@5"].low, found.values["coverage@5"].high) == (None, None)


def test_coverage_and_gini_look_at_all_lists() -> None:
    scores = torch.tensor([[3.0, 2, 1, 0], [3.0, 1, 2, 0], [9.0, 8, -INF, -INF]])
    metrics = build_ranking_metrics(["coverage@1", "coverage@2", "gini@2"])
    found = evaluate_ranking(batches(2, scores, [[3]] * 2 + [[0]], [[], [], []]), metrics, num_items=4)
    assert found.values["coverage@1"].value == 1 / 4
    assert found.values["coverage@2"].value == 3 / 4
    # times 3, 2, 1, 0: (1*... ) sum of (2 j - 5) x_j over 0, 1, 2, 3 = -1 + 2 + 9 = 10, of 4 * 6
    assert found.values["gini@2"].value == pytest.approx(10 / 24)


def test_errors_of_ratings_are_those_of_the_targets() -> None:
    scores = torch.tensor([[3.0, 5.0, 1.0], [2.0, 0.0, 4.0]])
    metrics = build_ranking_metrics(["rmse", "mae"])
    asked = queries(scores, [[1, 0], [2]], ratings=torch.tensor([4.0, 3.5, 1.0]))
    found = evaluate_ranking([asked], metrics, num_items=3)
    assert found.values["mae"].value == pytest.approx((1 + 0.5 + 3) / 3)
    assert found.values["rmse"].value == pytest.approx(math.sqrt((1 + 0.25 + 9) / 3))
    assert not found.values["rmse"].bigger
    with pytest.raises(DataError, match=r"Received: targets without ratings. Name log.rating_field"):
        evaluate_ranking([queries(scores, [[1], [2]])], metrics, num_items=3)


def test_the_sum_of_errors_is_the_same_in_any_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, ratings = torch.randn(50, 20, generator=generator), torch.randn(50, generator=generator)
    metrics = build_ranking_metrics(["rmse", "mae"])
    targets, excluded = [[row % 20] for row in range(50)], [[] for _ in range(50)]
    found = {
        evaluate_ranking(
            batches(size, scores, targets, excluded, order, ratings=ratings), metrics, num_items=20
        ).values["rmse"].value
        for size, order in ((50, None), (7, None), (3, list(range(50))[::-1]))
    }  # fmt: skip
    assert len(found) == 1


def test_queries_without_a_value_are_left_out_and_counted() -> None:
    scores = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    found = evaluate_ranking(
        [queries(scores, [[1], [], []])], build_ranking_metrics(["recall@5", "auc"]), num_items=5
    )  # fmt: skip
    value = found.values["recall@5"]
    assert (value.value, value.low, value.note) == (1.0, None, "without 2 of 3 queries, where it is undefined")
    assert found.num_queries == 3
    nothing = evaluate_ranking([queries(scores, [[], [], []])], build_ranking_metrics(["ndcg@5"]), num_items=5)
    assert (nothing.values["ndcg@5"].value, nothing.values["ndcg@5"].note) == (None, "undefined for all 3 queries")


def test_no_queries_at_all_are_undefined_and_not_an_error() -> None:
    metrics = build_ranking_metrics(["ndcg@5", "coverage@5", "rmse"], groups=["history"])
    found = evaluate_ranking([], metrics, num_items=5, keep_lists=2)
    assert [value.value for value in found.values.values()] == [None] * 3
    assert found.values["ndcg@5"].note == "undefined: no queries"
    assert found.values["coverage@5"].note == "undefined: nothing was recommended"
    assert found.values["rmse"].note == "undefined: no rated targets"
    assert (found.num_queries, found.groups) == (0, {})


def test_scores_that_are_all_minus_infinity_recommend_nothing() -> None:
    metrics = build_ranking_metrics(["recall@5", "coverage@5", "novelty@5"], facts=facts(6))
    found = evaluate_ranking([queries(torch.full((2, 6), -INF), [[0], [1]])], metrics, num_items=6)
    assert found.values["recall@5"].value == 0
    assert found.values["coverage@5"].note == "undefined: nothing was recommended"
    assert found.values["novelty@5"].note == "undefined for all 2 queries"


def test_nan_stops_the_evaluation_and_names_the_model() -> None:
    scores = torch.rand(4, 6)
    scores[2, 5] = torch.nan
    asked = batches(2, scores, [[0]] * 4, [[]] * 4)
    with pytest.raises(EvaluationError, match=r"Received: NaN from SASRec for 1 of 2 queries of a batch"):
        evaluate_ranking(asked, build_ranking_metrics(["recall@5"]), num_items=6, model="SASRec")


def test_collisions_of_negatives_and_targets_are_told() -> None:
    candidates = torch.tensor([[0, 1, 2], [3, 4, 4]])
    asked = queries(torch.rand(2, 6), [[1], [5]], candidates=candidates)
    found = evaluate_ranking([asked], build_ranking_metrics(["recall@5"]), num_items=6)
    assert found.notes == ("1 negatives were targets of the same query, and were left out",)


def test_the_targets_of_a_query_have_the_same_number_in_any_order_and_run() -> None:
    metrics = build_ranking_metrics(["recall@5"], facts=LogFacts(item_codes=torch.tensor([50, 60, 70])))
    turned = build_ranking_metrics(["recall@5"], facts=LogFacts(item_codes=torch.tensor([70, 60, 50])))
    scores = torch.rand(2, 3)
    a = evaluate_ranking([queries(scores, [[0, 1], [1, 2]])], metrics, num_items=3).targets
    b = evaluate_ranking([queries(scores, [[1, 2, 2], [0, 1]])], turned, num_items=3).targets
    assert a.tolist() == b.tolist()
    assert a[0] != a[1]
