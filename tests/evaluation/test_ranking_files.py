from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ranking_cases import batches, queries, random_case

from intarsia.core.errors import CheckpointError
from intarsia.evaluation.ranking import (
    RankingEvaluation,
    build_ranking_metrics,
    evaluate_ranking,
    load_evaluation,
    save_evaluation,
)
from intarsia.evaluation.ranking.files import paired_values

IDS = pl.Series([f"u{number}" for number in range(20)])
PROTOCOL = {"split": "leave_one_out", "candidates": "full", "filter_seen": True}


def evaluated(seed: int = 0) -> RankingEvaluation:
    scores, targets, excluded = random_case(seed, rows=20)
    targets[3] = []
    metrics = build_ranking_metrics(["ndcg@5", "auc", "coverage@5"], groups=["history"])
    return evaluate_ranking(batches(6, scores, targets, excluded), metrics, num_items=30)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_evaluation(evaluated(), tmp_path, "test", user_ids=IDS, protocol=PROTOCOL, model="MF")
    return tmp_path


def test_what_is_saved_is_read_again(saved: Path) -> None:
    found, expected = load_evaluation(saved, "test"), evaluated()
    assert found is not None
    assert (found.part, found.model, found.protocol) == ("test", "MF", PROTOCOL)
    assert found.values == expected.values
    assert found.metrics == ["ndcg@5", "auc"]
    assert found.users["user"].to_list() == IDS.to_list()
    assert found.users["targets"].to_list() == expected.targets.tolist()
    values = found.users["ndcg@5"]
    assert values.null_count() == 1
    assert values[3] is None
    assert np.array_equal(values.fill_null(np.nan).to_numpy(), expected.per_user["ndcg@5"], equal_nan=True)
    told = json.loads((saved / "evaluation_test.json").read_text(encoding="utf-8"))
    assert told["queries"] == 20
    assert sum(group["queries"] for group in told["groups"]["history"].values()) == 20


def test_users_keep_their_own_ids_whatever_order_they_are_numbered_in(tmp_path: Path) -> None:
    asked = queries(torch.rand(2, 5), [[1], [2]], users=torch.tensor([17, 4]))
    found = evaluate_ranking([asked], build_ranking_metrics(["recall@5"]), num_items=5)
    save_evaluation(found, tmp_path, "valid", user_ids=IDS, protocol={})
    read = load_evaluation(tmp_path, "valid")
    assert read is not None
    assert read.users["user"].to_list() == ["u4", "u17"]


def test_a_folder_without_the_part_has_no_evaluation(saved: Path) -> None:
    assert load_evaluation(saved, "valid") is None
    assert load_evaluation(saved / "nowhere", "test") is None


def test_damage_is_named(saved: Path) -> None:
    about, table = saved / "evaluation_test.json", saved / "evaluation_test.parquet"
    text, rows = about.read_text(encoding="utf-8"), table.read_bytes()
    for wrong in (text[:50], "[]", text.replace('"format": 1', '"format": 2'), text.replace('"protocol"', '"p"')):
        about.write_text(wrong, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"must hold a whole evaluation. Received: .*Evaluate the run again"):
            load_evaluation(saved, "test")
    about.write_text(text, encoding="utf-8")
    table.write_bytes(rows[:100])
    with pytest.raises(CheckpointError, match=r"evaluation_test.json and evaluation_test.parquet must hold a whole"):
        load_evaluation(saved, "test")
    table.unlink()
    with pytest.raises(CheckpointError, match="must hold a whole evaluation"):
        load_evaluation(saved, "test")
    table.write_bytes(rows)
    about.unlink()
    with pytest.raises(CheckpointError, match="must hold a whole evaluation"):
        load_evaluation(saved, "test")


def test_pairs_are_the_queries_with_a_value_in_both(saved: Path) -> None:
    a = load_evaluation(saved, "test")
    assert a is not None
    other = pl.Series([None, *range(19)], dtype=pl.Float32)
    b = replace(a, users=a.users.with_columns(other.alias("ndcg@5")))
    x, y = paired_values(a, b, "ndcg@5")
    assert len(x) == len(y) == 18  # the first has none in b, the fourth none in a
    assert y.tolist() == [0, 1, *range(3, 19)]
    assert x.tolist() == [v for row, v in enumerate(a.users["ndcg@5"].to_list()) if row not in (0, 3)]
