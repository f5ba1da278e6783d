from __future__ import annotations

import polars as pl
import pytest
import torch

from intarsia.config.schema.evaluation import EvalConfig, RankingProtocol, ranking_metric
from intarsia.core.errors import ConfigError
from intarsia.evaluation.ranking import (
    LogFacts,
    build_ranking_metrics,
    categories_of,
    code_ids,
    protocol_suffix,
)

ALL_FACTS = LogFacts(item_counts=torch.ones(3), trained=torch.ones(2).bool(), vectors=torch.ones(3, 2))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ndcg@10", ("ndcg", 10, "")),
        ("mrr", ("mrr", None, "")),
        ("map_by_targets@3", ("map_by_targets", 3, "")),
        ("hit_rate@10[fixed 99]", ("hit_rate", 10, "[fixed 99]")),
        ("auc[sampled 100 popularity^0.5]", ("auc", None, "[sampled 100 popularity^0.5]")),
    ],
)
def test_a_name_is_taken_apart(name: str, parts: tuple[str, int | None, str]) -> None:
    assert ranking_metric(name) == parts


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ndgc@10", "no metric of ranked lists is called 'ndgc@10'.*ndcg"),
        ("ndcg", "ndcg needs a depth, such as ndcg@10"),
        ("auc@10", "auc has no depth. Received: 'auc@10'. Write auc"),
        ("recall@0", "the depth of a metric is at least 1"),
        ("recall@-1", "no metric of ranked lists"),
    ],
)
def test_a_wrong_name_is_explained(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ranking_metric(name)
    with pytest.raises(ValueError, match=words):
        EvalConfig.model_validate({"metrics": [name]})


@pytest.mark.parametrize(
    ("protocol", "num_fixed", "suffix"),
    [
        ({}, None, ""),
        ({"filter_seen": False}, None, ""),
        ({"candidates": "fixed"}, 99, "[fixed 99]"),
        ({"candidates": "fixed"}, None, "[fixed]"),
        ({"candidates": "sampled"}, None, "[sampled 100 uniform]"),
        ({"candidates": "sampled", "num_negatives": 7, "sampler": "popularity"}, None, "[sampled 7 popularity]"),
        ({"candidates": "sampled", "sampler": "popularity", "alpha": 0.5}, None, "[sampled 100 popularity^0.5]"),
    ],
)
def test_what_is_not_full_ranking_is_named_in_every_metric(
    protocol: dict[str, object], num_fixed: int | None, suffix: str
) -> None:
    made = RankingProtocol.model_validate(protocol)
    assert protocol_suffix(made, num_fixed) == suffix
    metrics = build_ranking_metrics(["hit_rate@10", "mrr", "rmse"], protocol=made, num_fixed=num_fixed)
    assert [spec.name for spec in metrics.specs] == [f"hit_rate@10{suffix}", f"mrr{suffix}", "rmse"]
    again = build_ranking_metrics([spec.name for spec in metrics.specs], protocol=made, num_fixed=num_fixed)
    assert again.specs == metrics.specs


def test_the_protocol_in_a_name_must_be_the_one_that_is_set() -> None:
    with pytest.raises(ConfigError, match=r"full ranking. Received: 'ndcg@5\[fixed 99\]'. Write ndcg@5, or set the pr"):
        build_ranking_metrics(["ndcg@5[fixed 99]"])


def test_without_names_the_usual_metrics_are_measured() -> None:
    names = [spec.name for spec in build_ranking_metrics([]).specs]
    assert names == ["hit_rate@10", "recall@10", "ndcg@10", "mrr@10", "coverage@10"]
    sampled = build_ranking_metrics([], protocol=RankingProtocol(candidates="sampled"))
    assert [spec.stem for spec in sampled.specs] == ["hit_rate", "recall", "ndcg", "mrr"]  # no lists to cover anything


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_ranking_metrics(["ndcg@5", "ndcg@5", "novelty@5", "diversity@5", "calibration@5", "recall"])
    told = {problem.path: problem.message for problem in caught.value.problems}
    assert list(told) == [f"eval_config.metrics[{place}]" for place in (1, 2, 3, 4, 5)]
    assert "Received: ndcg@5 twice" in told["eval_config.metrics[1]"]
    assert "novelty needs to know how often items were taken" in told["eval_config.metrics[2]"]
    assert "diversity compares the categories of items. Received none" in told["eval_config.metrics[3]"]
    assert "calibration compares categories of the list" in told["eval_config.metrics[4]"]


def test_lists_are_described_under_full_ranking_only() -> None:
    with pytest.raises(ConfigError, match="coverage describes lists of recommendations, which need all items"):
        build_ranking_metrics(["coverage@5"], protocol=RankingProtocol(candidates="sampled"), facts=ALL_FACTS)


def test_a_metric_says_which_direction_is_better() -> None:
    names = ["ndcg@5", "gini@5", "popularity@5", "novelty@5", "diversity@5", "rmse", "mae", "auc"]
    specs = build_ranking_metrics(names, facts=ALL_FACTS).specs
    assert [spec.bigger for spec in specs] == [True, False, False, True, True, False, False, True]
    assert [spec.of_all for spec in specs] == [False, True, False, False, False, True, True, False]


def test_no_more_is_remembered_than_the_metrics_need() -> None:
    metrics = build_ranking_metrics(["ndcg@50", "coverage@5", "recall@10"])
    assert (metrics.depth, metrics.list_depth, metrics.exact, metrics.rates) == (50, 5, False, False)
    metrics = build_ranking_metrics(["mrr", "rmse"])
    assert (metrics.depth, metrics.list_depth, metrics.exact, metrics.rates) == (0, 0, True, True)
    assert not build_ranking_metrics(["mrr@10", "map@3"]).exact


def test_codes_of_items_depend_on_their_ids_alone() -> None:
    codes = code_ids(pl.Series(["a", "b", "1"]))
    assert codes.tolist() == code_ids(pl.Series(["1", "b", "a"])).flip(0).tolist()
    assert code_ids(pl.Series([1])).tolist() == codes[2:].tolist()
    assert len(set(codes.tolist())) == 3
    assert bool((codes >= 0).all())


def test_categories_are_read_from_text_lists_and_single_values() -> None:
    found, names = categories_of(pl.Series(["b|a", None, " a |a||c", ""]))
    assert names == ["a", "b", "c"]
    assert found.offsets.tolist() == [0, 2, 2, 4, 4]
    assert [sorted(found.values[a:b].tolist()) for a, b in ((0, 2), (2, 4))] == [[0, 1], [0, 2]]
    found, names = categories_of(pl.Series([["x", "y"], ["y"]]))
    assert (found.values.tolist(), found.offsets.tolist(), names) == ([0, 1, 1], [0, 2, 3], ["x", "y"])
    found, names = categories_of(pl.Series([7, 5, 7]))
    assert (found.values.tolist(), names) == ([1, 0, 1], ["5", "7"])
    found, names = categories_of(pl.Series("kind", [None, None], dtype=pl.String))
    assert (found.values.tolist(), found.offsets.tolist(), names) == ([], [0, 0, 0], [])
    assert categories_of(pl.Series(["a,b"]), separator=",")[1] == ["a", "b"]
