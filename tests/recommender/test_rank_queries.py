"""What a run measures of a model that ranks a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from intarsia.core.errors import ConfigError
from intarsia.evaluation.ranking import RankingEvaluation, load_evaluation
from intarsia.models.catalogue import build
from intarsia.models.pop import Pop
from intarsia.recommender.log_data import LogData, open_log_data
from intarsia.recommender.pipeline import pipeline_from
from intarsia.recommender.rank_queries import RankingJudge

ROLES = {"user_field": "user", "item_field": "item", "time_field": "time"}


def history() -> pl.DataFrame:
    """Thirty people with 4 to 12 of twenty items each, the low numbers more often."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(30):
        items = rng.choice(20, rng.integers(4, 13), replace=False, p=np.arange(20, 0, -1) / 210)
        rows += [{"user": f"u{user}", "item": f"i{item}", "time": float(step)} for step, item in enumerate(items)]
    return pl.DataFrame(rows)


def judged(
    *, max_history: int | None = None, data: dict[str, Any] | None = None, **options: Any
) -> tuple[RankingJudge, LogData]:
    """A judge of popular items under these options of `eval_config`."""
    files = {} if data is None else {f"{part}_input_path": data.pop(part, None) for part in ("train", "test")}
    files = {key: path for key, path in files.items() if path}
    mapping: dict[str, Any] = {
        "data_config": {"log": ROLES, "split": "leave_one_out", "prefetch_size": 0, **(data or {})},
        "model_config": {"model_class": "Pop"},
        "eval_config": {"metrics": ["ndcg@5"], **options},
    }
    config = pipeline_from(mapping | files).config
    opened = open_log_data(config, frame=None if files else history())
    model = build(config.model, opened.schema)
    assert isinstance(model, Pop)
    if max_history is not None:
        model.max_history = max_history
    model.fit(opened.division, 0)
    return RankingJudge(model, opened, config), opened


def found(judge: RankingJudge, part: str = "test") -> RankingEvaluation:
    judge.measure(part)
    return judge.found[part]


def test_every_query_is_ranked_by_the_model_without_the_history() -> None:
    judge, opened = judged(metrics=["ndcg@5", "hit_rate@5"])
    own = found(judge).per_user["hit_rate@5"]
    division = opened.division
    counts = division.item_counts()
    queries = division.queries["test"]
    for row in range(30):
        seen = set(division.log.items[queries.starts[row] : queries.ends[row]].tolist())
        (target,) = division.log.items[queries.target_starts[row] : queries.target_ends[row]].tolist()
        ahead = sum(counts[i] >= counts[target] for i in range(20) if i not in seen and i != target)
        assert own[row] == (ahead < 5), row


def test_the_size_of_a_batch_changes_nothing() -> None:
    whole, small = (found(judged(data={"eval_batch_size": size})[0]) for size in (1024, 7))
    assert small.per_user["ndcg@5"].tolist() == whole.per_user["ndcg@5"].tolist()
    assert small.values == whole.values


def test_items_of_the_history_are_ranked_where_it_is_asked_for() -> None:
    strict, loose = (found(judged(protocol={"filter_seen": seen})[0]) for seen in (True, False))
    assert (strict.values["ndcg@5"].value or 0) > (loose.values["ndcg@5"].value or 0)


def test_a_part_of_the_validation_users_is_the_same_for_every_model() -> None:
    users = [found(judged(max_history=most, num_examples=11)[0], "valid").users.tolist() for most in (1, 3, 1000)]
    assert len(users[0]) == 11
    assert users[0] == users[1] == users[2]
    assert len(found(judged(num_examples=11)[0], "test").users) == 30  # tests are never cut short


def test_fixed_negatives_come_from_the_file(tmp_path: Path) -> None:
    # Items by popularity: 10 three times, 11 and 12 twice, 13 and 14 once.
    (tmp_path / "train.txt").write_text("0 10 11 12\n1 10 12 13\n2 10 11 14\n")
    (tmp_path / "test.txt").write_text("0 13\n1 11\n2 12\n")
    (tmp_path / "negatives.txt").write_text("0 14 12\n1 10 14\n2 12 13\n")  # 12 is what user 2 is asked for
    log = {"negatives_path": str(tmp_path / "negatives.txt"), "format": "lines"}
    data = {"log": log, "train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt"), "split": None}
    judge, _ = judged(data=data, metrics=["mrr@9", "auc"], protocol="fixed")
    evaluation = found(judge)
    assert list(evaluation.values) == ["mrr@9[fixed 2]", "auc[fixed 2]"]
    # User 0: 13 is behind 12 and, as a tie, behind 14. User 1: 11 stands between 10 and 14. User 2: only 13 is left.
    assert evaluation.per_user["mrr@9[fixed 2]"].tolist() == pytest.approx([1 / 3, 1 / 2, 1])
    assert evaluation.per_user["auc[fixed 2]"].tolist() == [0, 0.5, 1]


def test_sampled_negatives_are_neither_history_nor_targets() -> None:
    protocol = {"candidates": "sampled", "num_negatives": 4, "sampler": "popularity"}
    judge, _ = judged(metrics=["hit_rate@1", "hit_rate@5"], protocol=protocol)
    evaluation = found(judge)
    assert list(evaluation.values) == ["hit_rate@1[sampled 4 popularity]", "hit_rate@5[sampled 4 popularity]"]
    assert evaluation.values["hit_rate@5[sampled 4 popularity]"].value == 1  # five items, the target one of them
    assert evaluation.notes == ()
    again = found(judged(metrics=["hit_rate@1"], protocol=protocol)[0])
    assert again.per_user.popitem()[1].tolist() == evaluation.per_user["hit_rate@1[sampled 4 popularity]"].tolist()


def test_what_the_log_lacks_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"protocol fixed ranks against negatives .* Received: a log without such"):
        judged(protocol="fixed")
    judge, _ = judged(metrics=["diversity@5"], category="genres")
    with pytest.raises(ConfigError, match=r"names a column of the item table. Received: `genres`, and no item table"):
        judge.measure("test")
    judge, _ = judged(metrics=["diversity@5"])
    with pytest.raises(ConfigError, match=r"diversity compares the categories of items. Received none"):
        judge.measure("test")


def test_whom_a_model_knows_nothing_of_is_measured_by_popular_items() -> None:
    class Blind(Pop):
        """Reads histories, and scores everybody by falling item number."""

        reads = frozenset({"history"})
        answers_empty = False

        def score_block(self, queries: int, catalogue: None, start: int, stop: int) -> Tensor:
            return -torch.arange(start, stop).float().expand(queries, -1)

    judge, opened = judged(metrics=["hit_rate@5"])
    blind = Blind(schema=opened.schema)
    blind.fit(opened.division, 0)
    other = RankingJudge(blind, opened, judge.config)
    popular, own = found(judge).per_user["hit_rate@5"], found(other).per_user["hit_rate@5"]
    assert own.tolist() != popular.tolist()
    queries = opened.division.queries["test"]
    queries.starts[:] = queries.ends  # nobody has a history any more
    popular, own = found(judge).per_user["hit_rate@5"], found(other).per_user["hit_rate@5"]
    assert own.tolist() == popular.tolist()


def test_what_was_measured_is_kept_with_its_protocol(tmp_path: Path) -> None:
    judge, opened = judged()
    for part in ("valid", "test"):
        judge.measure(part)
    judge.save(tmp_path)
    saved = load_evaluation(tmp_path, "test")
    assert saved is not None
    assert saved.protocol == {"split": opened.division.by, "items": 20, "candidates": "full", "filter_seen": True}
    assert set(saved.users["user"]) == {f"u{n}" for n in range(30)}
    assert load_evaluation(tmp_path, "valid") is not None
    sampled, _ = judged(protocol={"candidates": "sampled", "num_negatives": 3, "seed": 5})
    found(sampled)
    sampled.save(tmp_path)
    saved = load_evaluation(tmp_path, "test")
    assert saved is not None
    assert (saved.protocol["num_negatives"], saved.protocol["seed"], saved.model) == (3, 5, "Pop")
