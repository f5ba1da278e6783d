"""Runs side by side, from what their folders hold."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from intarsia.core.errors import BuildError, CheckpointError, ConfigError, DataError
from intarsia.evaluation.ranking import RankingEvaluation, RankingValue, save_evaluation
from intarsia.recommender.compare import compare_runs
from intarsia.recommender.comparison_plot import p_text, plot_comparison

USERS = 40
PROTOCOL = {"split": "leave_one_out", "items": 100, "candidates": "full", "filter_seen": True}


def ranking_run(
    folder: Path,
    each: dict[str, Sequence[float]],
    *,
    of_all: dict[str, float] | None = None,
    users: Sequence[str] | None = None,
    targets: Sequence[int] | None = None,
    protocol: dict[str, Any] | None = None,
    model: str = "MF",
    part: str = "test",
) -> Path:
    """A folder such as a run of a retriever leaves; `users` are raw ids in the order of their numbers."""
    count = len(next(iter(each.values())))
    names = list(users or [f"u{n}" for n in range(count)])
    numbered = list(dict.fromkeys(names))
    values = {n: RankingValue(n, float(np.nanmean(np.asarray(v, dtype=np.float64)))) for n, v in each.items()}
    values |= {n: RankingValue(n, v) for n, v in (of_all or {}).items()}
    found = RankingEvaluation(
        values,
        np.array([numbered.index(name) for name in names]),
        {n: np.array(v, dtype=np.float32) for n, v in each.items()},
        np.array(targets or [1000 + int(name[1:]) for name in names]),
        count,
        1.0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    ids = pl.Series(numbered)
    save_evaluation(found, folder, part, user_ids=ids, protocol=protocol or PROTOCOL, model=model)
    told = {"metrics": {part: {n: v.value for n, v in values.items()}}, "rows": {"train": 9, part: count}}
    (folder / "result.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def row_run(folder: Path, metrics: dict[str, float | None], rows: int = 50, model: str = "DeepFM") -> Path:
    folder.mkdir(parents=True)
    told = {"metrics": {"test": metrics}, "rows": {"train": 400, "test": rows}}
    (folder / "result.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "pipeline.yaml").write_text(f"model_config:\n  model_class: {model}\n", encoding="utf-8")
    return folder


def values(seed: int, shift: float = 0.0) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).random(USERS).astype(np.float32) + np.float32(shift)]


def test_by_hand(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"ndcg@5": [0.0, 0.5, 1.0, 0.5]}, of_all={"coverage@5": 0.25}, model="MF")
    b = ranking_run(tmp_path / "b", {"ndcg@5": [0.5, 0.5, 1.0, 1.0]}, of_all={"coverage@5": 0.5}, model="SASRec")
    found = compare_runs([a, b])
    assert (found.part, found.runs, found.models) == ("test", ("a", "b"), ("MF", "SASRec"))
    assert (found.num_queries, found.paired, found.notes) == (4, True, ())
    ndcg, coverage = found.metrics
    first, second = ndcg.runs
    assert (first.value, first.difference, first.p_value) == (0.5, None, None)
    # 0, .5, 1, .5: deviation sqrt(1/6); t of 3 degrees 3.18245
    margin = 3.182446305284263 * math.sqrt(1 / 6 / 4)
    assert (first.low, first.high) == pytest.approx((0.5 - margin, 0.5 + margin))
    # Differences .5, 0, 0, .5: mean .25, deviation sqrt(1/12), error sqrt(1/48), t = sqrt(3)
    assert (second.value, second.difference, second.num_pairs) == (0.75, 0.25, 4)
    margin = 3.182446305284263 / math.sqrt(48)
    assert (second.difference_low, second.difference_high) == pytest.approx((0.25 - margin, 0.25 + margin))
    assert second.p_value == pytest.approx(2 * stats.t.sf(math.sqrt(3), 3))
    assert (coverage.name, coverage.runs[1].value, coverage.runs[1].difference) == ("coverage@5", 0.5, 0.25)
    assert (coverage.runs[1].low, coverage.runs[1].p_value, coverage.runs[1].num_pairs) == (None, None, 0)


def test_the_test_is_scipys_and_every_run_meets_the_first(tmp_path: Path) -> None:
    columns = [values(0), values(1, 0.3), values(2)]
    folders = [ranking_run(tmp_path / f"r{n}", {"mrr": own}) for n, own in enumerate(columns)]
    found = compare_runs(folders, confidence=0.9).metrics[0].runs
    for own, run in zip(columns[1:], found[1:]):
        expected = stats.ttest_rel(own, columns[0])
        assert run.p_value == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.9)
        assert (run.difference_low, run.difference_high) == pytest.approx((interval.low, interval.high))
    assert found[1].p_value is not None
    assert found[1].p_value < 0.01


def test_queries_are_paired_by_user_however_a_run_numbered_them(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(USERS)
    a = ranking_run(tmp_path / "a", {"mrr": values(0)})
    b = ranking_run(tmp_path / "b", {"mrr": values(1)})
    turned = ranking_run(tmp_path / "c", {"mrr": [values(1)[n] for n in order]}, users=[f"u{n}" for n in order])
    straight, other = (compare_runs([a, run]).metrics[0].runs[1] for run in (b, turned))
    assert other.p_value == pytest.approx(straight.p_value)
    assert other.difference == pytest.approx(straight.difference)
    same = compare_runs([b, turned]).metrics[0].runs[1]
    assert (same.difference, same.p_value) == (0, 1)


def test_several_queries_of_a_user_are_taken_together(tmp_path: Path) -> None:
    users = [f"u{n}" for n in range(10) for _ in range(4)]
    targets = list(range(40))
    steps = np.repeat(np.random.default_rng(0).normal(0.1, 0.2, 10), 4).tolist()
    a = ranking_run(tmp_path / "a", {"mrr": [0.0] * 40}, users=users, targets=targets)
    b = ranking_run(tmp_path / "b", {"mrr": steps}, users=users, targets=targets)
    found = compare_runs([a, b]).metrics[0].runs[1]
    # Four copies of the same ten differences say no more than the ten.
    assert found.p_value == pytest.approx(stats.ttest_1samp(steps[::4], 0).pvalue, rel=1e-5)
    assert found.num_pairs == 40


def test_queries_without_a_value_are_left_out_of_the_pairs(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"auc": [math.nan, 0.5, 0.25, 1.0]})
    b = ranking_run(tmp_path / "b", {"auc": [0.5, math.nan, 0.75, 0.75]})
    found = compare_runs([a, b]).metrics[0].runs[1]
    assert (found.num_pairs, found.difference) == (2, pytest.approx((0.5 - 0.25) / 2))
    c = ranking_run(tmp_path / "c", {"auc": [0.5, math.nan, 0.75, math.nan]})
    found = compare_runs([a, c]).metrics[0].runs[1]
    assert (found.num_pairs, found.p_value, found.difference_low) == (0, None, None)


def test_metrics_can_be_chosen_and_others_are_noted(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"mrr": values(0), "recall@5": values(1)}, of_all={"gini@5": 0.5})
    b = ranking_run(tmp_path / "b", {"mrr": values(0), "map": values(1)}, of_all={"gini@5": 0.4})
    found = compare_runs([a, b])
    assert [metric.name for metric in found.metrics] == ["mrr", "gini@5"]
    assert [metric.bigger for metric in found.metrics] == [True, False]
    assert found.notes == ("not every run has recall@5 of a", "not every run has map of b")
    assert [metric.name for metric in compare_runs([a, b], metrics=["gini@5"]).metrics] == ["gini@5"]
    with pytest.raises(ConfigError, match=r"Received: recall@5. These have: mrr, gini@5"):
        compare_runs([a, b], metrics=["recall@5", "mrr"])
    c = ranking_run(tmp_path / "c", {"ndcg@1": values(0)})
    with pytest.raises(ConfigError, match=r"Received: runs without a common metric. Give them the same eval_config"):
        compare_runs([a, c])


def test_runs_of_rows_are_compared_by_their_metrics_alone(tmp_path: Path) -> None:
    a = row_run(tmp_path / "a", {"auc": 0.75, "logloss": 0.5, "gauc": None})
    b = row_run(tmp_path / "b", {"auc": 0.8125, "logloss": 0.25, "gauc": 0.5}, model="DCN")
    found = compare_runs([a, b])
    assert (found.models, found.paired, found.num_queries) == (("DeepFM", "DCN"), False, 50)
    assert found.notes == (
        "models of rows keep no metric of each row: differences are without intervals and tests",
    )  # fmt: skip
    auc, logloss, gauc = found.metrics
    assert (auc.runs[1].value, auc.runs[1].difference, auc.runs[1].p_value) == (0.8125, 0.0625, None)
    assert (auc.bigger, logloss.bigger, logloss.runs[1].difference) == (True, False, -0.25)
    assert (gauc.runs[0].value, gauc.runs[1].difference) == (None, None)


def test_runs_of_other_rows_are_refused(tmp_path: Path) -> None:
    a, b = row_run(tmp_path / "a", {"auc": 0.7}), row_run(tmp_path / "b", {"auc": 0.7}, rows=51)
    with pytest.raises(DataError, match=r"Received: a and b with rows 50 and 51. Train both on the same data"):
        compare_runs([a, b])


def test_runs_of_different_kinds_are_refused(tmp_path: Path) -> None:
    a, b = ranking_run(tmp_path / "a", {"mrr": values(0)}), row_run(tmp_path / "b", {"auc": 0.7})
    for folders in ([a, b], [b, a]):
        with pytest.raises(DataError, match=r"Received: a, which ranks a catalogue .*, and b, which has none"):
            compare_runs(folders)


def test_other_data_or_another_protocol_is_refused(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"mrr": values(0)})
    other = {**PROTOCOL, "items": 90, "filter_seen": False}
    b = ranking_run(tmp_path / "b", {"mrr": values(0)}, protocol=other)
    with pytest.raises(DataError, match=r"a and b with items 100 and 90, filter_seen True and False. Train both"):
        compare_runs([a, b])
    c = ranking_run(tmp_path / "c", {"mrr": values(0)}, protocol={**PROTOCOL, "num_negatives": 50})
    with pytest.raises(DataError, match=r"a and c with num_negatives None and 50"):
        compare_runs([a, c])


def test_other_users_are_refused(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"mrr": values(0)})
    b = ranking_run(tmp_path / "b", {"mrr": values(0)}, users=[f"u{n + 3}" for n in range(USERS)])
    with pytest.raises(DataError, match=r"Received: 3 queries of users in a alone, and 3 in b alone"):
        compare_runs([a, b])
    c = ranking_run(tmp_path / "c", {"mrr": values(0)[:-1]})
    with pytest.raises(DataError, match=r"Received: 1 queries of users in a alone, and 0 in c alone"):
        compare_runs([a, c])


def test_other_targets_are_refused(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"mrr": values(0)})
    targets = [1000 + n for n in range(USERS - 2)] + [5, 6]
    b = ranking_run(tmp_path / "b", {"mrr": values(0)}, targets=targets)
    with pytest.raises(DataError, match=r"Received: a and b, in which 2 of 40 queries have others. Train both"):
        compare_runs([a, b])


def test_a_part_that_was_not_measured_is_named(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"mrr": values(0)}, part="valid")
    b = ranking_run(tmp_path / "b", {"mrr": values(0)}, part="valid")
    with pytest.raises(
        DataError, match=r"has no metrics of the part test. Received: the parts valid. Compare by valid"
    ):
        compare_runs([a, b])
    found = compare_runs([a, b], part="valid")
    assert (found.part, found.metrics[0].runs[1].p_value) == ("valid", 1)
    (a / "result.json").write_text('{"metrics": {}, "rows": {}}', encoding="utf-8")
    with pytest.raises(DataError, match=r"Received: none. Give the pipeline validation or test data"):
        compare_runs([a, b])


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    a = ranking_run(tmp_path / "a", {"mrr": values(0)})
    with pytest.raises(CheckpointError, match=r"nowhere is no finished run: there is no such folder"):
        compare_runs([a, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty is no finished run: it has no result.json. Give the folder"):
        compare_runs([a, tmp_path / "empty"])
    for text in ("{", "[]", '{"metrics": 5}'):
        (tmp_path / "empty" / "result.json").write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"result.json must hold the result of a run. Received: "):
            compare_runs([a, tmp_path / "empty"])


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    a, b = (ranking_run(tmp_path / name, {"mrr": values(0)}) for name in "ab")
    pl.DataFrame({"mrr": values(0)}).write_parquet(b / "evaluation_test.parquet")
    with pytest.raises(CheckpointError, match=r"must have the columns user and targets. Received: mrr"):
        compare_runs([a, b])
    (b / "evaluation_test.parquet").unlink()
    with pytest.raises(CheckpointError, match=r"must hold a whole evaluation"):
        compare_runs([a, b])


def test_wrong_questions_are_explained(tmp_path: Path) -> None:
    a, b = (ranking_run(tmp_path / name, {"mrr": values(0)}) for name in "ab")
    with pytest.raises(ConfigError, match=r"a comparison needs two run folders or more. Received: 1"):
        compare_runs([a])
    with pytest.raises(ConfigError, match=r"each run of a comparison is named once. Received: .*a twice"):
        compare_runs([a, b, tmp_path / "b" / ".." / "a"])
    with pytest.raises(ConfigError, match=r"the part of a comparison is test or valid. Received: 'train'"):
        compare_runs([a, b], part="train")
    with pytest.raises(ConfigError, match=r"confidence must lie between 0 and 1, such as 0.95. Received: 95"):
        compare_runs([a, b], confidence=95)


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folders = [ranking_run(tmp_path / place / "run", {"mrr": values(0)}) for place in ("x", "y")]
    assert compare_runs(folders).runs == ("x/run", "y/run")


@pytest.mark.parametrize("paired", [True, False])
def test_the_picture_shows_every_run_and_metric(tmp_path: Path, paired: bool) -> None:
    pytest.importorskip("matplotlib")
    if paired:
        names = [f"ndcg@{k}" for k in (1, 5, 10, 20, 50)]
        made = [
            ranking_run(tmp_path / f"run_{n}", {name: values(n, 0.2 * n) for name in names}, of_all={"gini@5": 0.5})
            for n in range(3)
        ]
    else:
        made = [row_run(tmp_path / f"run_{n}", {"auc": 0.7 + n / 10, "gauc": None}) for n in range(3)]
    found = compare_runs(made)
    picture = tmp_path / "pictures" / "compared.svg"
    plot_comparison(found, picture)
    text = picture.read_text(encoding="utf-8")
    for words in [*found.runs, *(metric.name for metric in found.metrics)]:
        assert f"<!-- {words}" in text, words
    assert ("p &lt; 0.001" in text or "p < 0.001" in text) == paired
    again = tmp_path / "again.svg"
    plot_comparison(found, again)
    assert again.read_text(encoding="utf-8") == text
    with pytest.raises(BuildError, match=r"a picture ends in .svg, .png, .pdf. Received: compared.txt"):
        plot_comparison(found, tmp_path / "compared.txt")


def test_small_p_values_are_not_written_as_zero() -> None:
    assert (p_text(0.0), p_text(0.0421)) == ("p < 0.001", "p = 0.042")
