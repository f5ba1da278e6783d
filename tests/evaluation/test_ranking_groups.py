from __future__ import annotations

import math

import pytest
import torch
from ranking_cases import batches, queries, random_case

from intarsia.core.errors import ConfigError
from intarsia.evaluation.ranking import LogFacts, build_ranking_metrics, evaluate_ranking, rank_targets
from intarsia.evaluation.ranking.groups import LABELS, QueryGroups

COUNTS = torch.tensor([3, 0, 6, 1, 2])  # 12 interactions; by popularity: items 2, 0, 4, 3, 1


def codes(kind: str, facts: LogFacts, targets: list[list[int]], **more: object) -> list[str]:
    asked = queries(torch.rand(len(targets), 5), targets, **more)  # type: ignore[arg-type]
    ranked = rank_targets(asked, num_items=5, depth=2)
    found = QueryGroups((kind,), facts).codes(asked, ranked)  # type: ignore[arg-type]
    return [LABELS[kind][code] for code in found[kind].tolist()]  # type: ignore[index]


def test_popularity_divides_the_interactions_into_thirds() -> None:
    # Interactions before an item, of 12: item 2 none, item 0 six, item 4 nine, item 3 eleven.
    facts = LogFacts(item_counts=COUNTS)
    found = codes("popularity", facts, [[2], [0], [4], [3], [1]])
    assert found == ["head", "middle", "tail", "tail", "tail"]


def test_a_query_belongs_where_its_median_target_belongs() -> None:
    facts = LogFacts(item_counts=COUNTS)
    assert codes("popularity", facts, [[1, 2, 0], [3, 0], [4, 3, 2], [], [2, 1]]) == [
        "middle",
        "middle",  # of two, the more popular one
        "tail",
        "tail",
        "head",
    ]


def test_items_that_nobody_took_are_the_tail_even_in_a_flat_log() -> None:
    facts = LogFacts(item_counts=torch.tensor([0, 0, 0, 0, 0]))
    assert codes("popularity", facts, [[0], [4]]) == ["tail", "tail"]


def test_users_are_new_where_training_never_saw_them() -> None:
    facts = LogFacts(trained=torch.tensor([True, False]))
    found = codes("new_users", facts, [[0], [0], [0]], users=torch.tensor([0, 1, -1]))
    assert found == ["known users", "new users", "new users"]


def test_histories_fall_into_buckets_by_their_length() -> None:
    lengths = [0, 1, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100, 5000]
    found = codes("history", LogFacts(), [[0] for _ in lengths], histories=torch.tensor(lengths))
    assert found == [
        "0 items",
        *["1-4 items"] * 2,
        *["5-9 items"] * 2,
        *["10-19 items"] * 2,
        *["20-49 items"] * 2,
        *["50-99 items"] * 2,
        *["100+ items"] * 2,
    ]
    assert codes("history", LogFacts(), [[0], [0]], excluded=[[1, 2], []]) == ["1-4 items", "0 items"]


@pytest.mark.parametrize("size", [1, 3, 20])
def test_the_metrics_of_a_group_are_those_of_its_queries_alone(size: int) -> None:
    scores, targets, excluded = random_case(4, rows=20)
    excluded[:5] = [[] for _ in range(5)]
    facts = LogFacts(item_counts=torch.arange(30), trained=torch.arange(20) % 3 > 0)
    metrics = build_ranking_metrics(
        ["recall@5", "novelty@5", "mrr"], facts=facts, groups=["history", "new_users", "popularity"]
    )
    whole = evaluate_ranking(batches(size, scores, targets, excluded), metrics, num_items=30)
    new = whole.groups["new_users"]["new users"]
    assert new.num_queries == 7
    alone = evaluate_ranking(batches(20, scores, targets, excluded, order=range(0, 20, 3)), metrics, num_items=30)
    assert new.values == {name: alone.values[name] for name in new.values}
    for kind, groups in whole.groups.items():
        assert list(groups) == [label for label in LABELS[kind] if label in groups]  # type: ignore[index]
        assert sum(group.num_queries for group in groups.values()) == 20
        for name, value in whole.values.items():
            together = sum(group.num_queries * (group.values[name].value or 0) for group in groups.values()) / 20
            assert value.value == pytest.approx(together), (kind, name)


def test_a_group_without_a_value_says_so() -> None:
    metrics = build_ranking_metrics(["recall@5"], groups=["history"])
    found = evaluate_ranking([queries(torch.rand(2, 5), [[0], []], [[], [1]])], metrics, num_items=5)
    group = found.groups["history"]["1-4 items"]
    assert (group.num_queries, group.values["recall@5"].value) == (1, None)
    assert group.values["recall@5"].note == "undefined for all 1 queries"
    assert not math.isnan(found.groups["history"]["0 items"].values["recall@5"].value or math.nan)


def test_groups_that_need_unknown_facts_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        build_ranking_metrics(["recall@5"], groups=["new_users", "history", "popularity"])
    assert [problem.path for problem in caught.value.problems] == ["eval_config.groups[0]", "eval_config.groups[2]"]
    assert "the group new_users needs to know who was in training" in str(caught.value)
    assert "the group popularity needs to know how often items were taken" in str(caught.value)
