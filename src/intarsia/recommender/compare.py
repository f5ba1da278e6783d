"""Metrics of several runs side by side, and whether they differ by more than chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from intarsia.core.errors import CheckpointError, ConfigError, DataError
from intarsia.evaluation.ranking.evaluate import mean_interval
from intarsia.evaluation.ranking.files import TARGETS, USER, SavedEvaluation, load_evaluation, paired_values
from intarsia.evaluation.ranking.spec import SMALLER_IS_BETTER
from intarsia.evaluation.significance import compare_means

PARTS = ("test", "valid")
_SMALLER = SMALLER_IS_BETTER | {"logloss", "mse"}


@dataclass(frozen=True)
class Measured:
    """One metric of one run, beside the first run.

    Attributes:
        value: Of all queries or rows; None where it is undefined.
        low: Lower end of the confidence interval of the mean over queries; None where nothing is kept of each query.
        high: Upper end.
        difference: Value less that of the first run, over the queries for which both have one; None in the first run.
        difference_low: Lower end of its confidence interval.
        difference_high: Upper end.
        p_value: Two-sided p-value of the paired t-test of the difference.
        num_pairs: Queries that the test compares; 0 without one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    num_pairs: int = 0


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of all runs.

    Attributes:
        name: The metric.
        bigger: Whether a larger value is better.
        runs: In the order of the runs.
    """

    name: str
    bigger: bool
    runs: tuple[Measured, ...]


@dataclass(frozen=True)
class RunComparison:
    """Runs on the same data, the first of which is the one that the others are compared with.

    Attributes:
        part: `valid` or `test`.
        runs: Names of the runs, all different.
        models: Names of their models.
        metrics: What all of them have.
        confidence: Level of the intervals.
        num_queries: Queries, or rows where there is no metric of each query.
        paired: Whether there are metrics of each query, and therefore intervals and tests.
        notes: What a reader should know.
    """

    part: str
    runs: tuple[str, ...]
    models: tuple[str, ...]
    metrics: tuple[ComparedMetric, ...]
    confidence: float
    num_queries: int
    paired: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Run:
    """What a run folder tells of a part."""

    folder: Path
    model: str
    values: dict[str, float | None]
    rows: dict[str, int]
    saved: SavedEvaluation | None


def compare_runs(
    folders: Sequence[str | Path], *, part: str = "test", metrics: Sequence[str] = (), confidence: float = 0.95
) -> RunComparison:
    """Compares runs by the metrics that their folders hold; nothing is computed anew.

    Runs that rank a catalogue keep the metrics of every query. They must have divided the same log alike and ranked by
    the same protocol; queries are then paired by user and targets. Where a user has several queries, the test takes
    them together. Of runs that score rows only the metrics are known, without intervals and tests.

    Args:
        folders: Run folders, two or more; differences are to the first.
        part: `test` or `valid`.
        metrics: Names of metrics. Default: all that every run has.
        confidence: Level of the confidence intervals.

    Raises:
        ConfigError: Fewer than two folders, an unknown part, or a metric that not all runs have.
        CheckpointError: A folder is no run, or its files are damaged.
        DataError: A run was not measured on the part, or the runs had other data, protocols, users or targets.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise ConfigError(f"a comparison needs two run folders or more. Received: {len(paths)}. Name another run.")
    if part not in PARTS:
        raise ConfigError(f"the part of a comparison is {' or '.join(PARTS)}. Received: {part!r}.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1, such as 0.95. Received: {confidence:g}.")
    names = _names(paths)
    runs = [_open(path, part) for path in paths]
    _refuse_other_kinds(names, runs)
    paired = runs[0].saved is not None
    for name, run in zip(names[1:], runs[1:]):
        _refuse_other_data(names[0], runs[0], name, run, part)
    runs = [_in_order(run) for run in runs]
    if paired:
        for name, run in zip(names[1:], runs[1:]):
            _refuse_other_queries(names[0], runs[0], name, run)
    chosen, notes = _chosen(metrics, names, runs)
    compared = tuple(
        ComparedMetric(metric, _bigger(metric), tuple(_measured(metric, runs[0], run, confidence) for run in runs))
        for metric in chosen
    )
    if not paired:
        notes.append("models of rows keep no metric of each row: differences are without intervals and tests")
    first = runs[0].saved
    num_queries = runs[0].rows[part] if first is None else first.users.height
    models = tuple(run.model for run in runs)
    return RunComparison(part, names, models, compared, confidence, num_queries, paired, tuple(notes))


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(own[-length:]) for own in parts)
        if len(set(names)) == len(names):
            return names
    again = next(path for i, path in enumerate(paths) if parts[i] in parts[:i])
    raise ConfigError(f"each run of a comparison is named once. Received: {again} twice.")


def _open(folder: Path, part: str) -> _Run:
    try:
        told = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        metrics, rows = dict(told["metrics"]), dict(told["rows"])
    except FileNotFoundError as error:
        why = "it has no result.json" if folder.is_dir() else "there is no such folder"
        raise CheckpointError(
            f"{folder} is no finished run: {why}. Give the folder that `intarsia train` wrote into, and let it finish."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'result.json'} must hold the result of a run. Received: {error}. Train the run anew."
        ) from error
    if part not in metrics:
        have = f"the parts {', '.join(metrics)}" if metrics else "none"
        hint = f"Compare by {next(iter(metrics))}" if metrics else "Give the pipeline validation or test data"
        raise DataError(f"{folder} has no metrics of the part {part}. Received: {have}. {hint}.")
    saved = load_evaluation(folder, part)
    if saved is not None and not {USER, TARGETS} <= set(saved.users.columns):
        raise CheckpointError(
            f"{folder}/evaluation_{part}.parquet must have the columns {USER} and {TARGETS}. Received: "
            f"{', '.join(saved.users.columns)}. Train the run anew."
        )
    if saved is None:
        return _Run(folder, _model_of(folder), metrics[part], rows, None)
    return _Run(folder, saved.model, {name: value.value for name, value in saved.values.items()}, rows, saved)


def _model_of(folder: Path) -> str:
    """Name of the model in the run's pipeline; empty where it cannot be read."""
    import yaml

    try:
        told = yaml.safe_load((folder / "pipeline.yaml").read_text(encoding="utf-8"))
        return str(told["model_config"]["model_class"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""


def _refuse_other_kinds(names: Sequence[str], runs: Sequence[_Run]) -> None:
    kinds = {run.saved is not None: name for name, run in zip(names, runs)}
    if len(kinds) > 1:
        raise DataError(
            f"runs are compared by metrics of the same kind. Received: {kinds[True]}, which ranks a catalogue and "
            f"keeps the metrics of every query, and {kinds[False]}, which has none. Compare runs of one kind."
        )


def _refuse_other_data(first: str, a: _Run, second: str, b: _Run, part: str) -> None:
    """Errors where runs were not measured on the same data in the same way, as far as it is told."""
    mine, other = ({"rows": run.rows.get(part)} if run.saved is None else run.saved.protocol for run in (a, b))
    wrong = [key for key in dict.fromkeys([*mine, *other]) if mine.get(key) != other.get(key)]
    if wrong:
        told = ", ".join(f"{key} {mine.get(key)} and {other.get(key)}" for key in wrong)
        raise DataError(
            f"runs can be compared where data and protocol are the same. Received: {first} and {second} with {told}. "
            "Train both on the same data, with the same data_config and eval_config.protocol."
        )


def _in_order(run: _Run) -> _Run:
    """The same with its queries in an order that all runs share, however they numbered their users."""
    saved = run.saved
    if saved is None:
        return run
    users = saved.users.sort(USER, TARGETS, maintain_order=True)
    ordered = SavedEvaluation(saved.part, saved.protocol, saved.values, users, saved.model)
    return _Run(run.folder, run.model, run.values, run.rows, ordered)


def _refuse_other_queries(first: str, a: _Run, second: str, b: _Run) -> None:
    assert a.saved is not None
    assert b.saved is not None
    mine, other = a.saved.users.select(USER, TARGETS), b.saved.users.select(USER, TARGETS)
    if mine.equals(other):
        return
    alone = [x.join(y, on=USER, how="anti").height for x, y in ((mine, other), (other, mine))]
    if any(alone):
        raise DataError(
            f"runs can be compared where the users are the same. Received: {alone[0]:,} queries of users in {first} "
            f"alone, and {alone[1]:,} in {second} alone. Train both on the same log, with the same filters and split."
        )
    kept = mine.join(other, on=[USER, TARGETS], how="semi").height
    raise DataError(
        f"runs can be compared where every user has the same targets. Received: {first} and {second}, in which "
        f"{mine.height - kept:,} of {mine.height:,} queries have others. Train both on the same log, with the same "
        "split and seed."
    )


def _chosen(metrics: Sequence[str], names: Sequence[str], runs: Sequence[_Run]) -> tuple[list[str], list[str]]:
    """Metrics to compare, and notes on those that not all runs have."""
    common = [metric for metric in runs[0].values if all(metric in run.values for run in runs)]
    unknown = [metric for metric in metrics if metric not in common]
    if unknown or not common:
        asked = f"Received: {', '.join(unknown)}" if unknown else "Received: runs without a common metric"
        told = f"These have: {', '.join(common)}" if common else "Give them the same eval_config"
        raise ConfigError(f"runs are compared by metrics that all of them have. {asked}. {told}.")
    if metrics:
        return list(dict.fromkeys(metrics)), []
    notes = []
    for name, run in zip(names, runs):
        left = [metric for metric in run.values if metric not in common]
        if left:
            notes.append(f"not every run has {', '.join(left)} of {name}")
    return common, notes


def _bigger(metric: str) -> bool:
    return metric.partition("@")[0].partition("[")[0] not in _SMALLER


def _measured(metric: str, first: _Run, run: _Run, confidence: float) -> Measured:
    value, other = run.values[metric], first.values[metric]
    difference = None if run is first or value is None or other is None else value - other
    a, b = run.saved, first.saved
    if a is None or b is None or metric not in a.users.columns or metric not in b.users.columns:
        return Measured(value, difference=difference)
    known = a.users[metric].drop_nulls().cast(pl.Float64).to_numpy()
    low, high = mean_interval(known, confidence) or (None, None)
    if run is first:
        return Measured(value, low, high)
    x, y = paired_values(a, b, metric)
    if len(x) < 2:
        return Measured(value, low, high, difference)
    groups = _groups(a, b, metric) if a.users[USER].is_duplicated().any() else None
    if groups is not None and len(set(groups)) < 2:
        return Measured(value, low, high, difference)
    found = compare_means(x, y, groups=groups, confidence=confidence)
    return Measured(value, low, high, found.difference, found.low, found.high, found.p_value, found.num_rows)


def _groups(a: SavedEvaluation, b: SavedEvaluation, metric: str) -> Any:
    """Users of the pairs that `paired_values` gives."""
    return a.users.filter(a.users[metric].is_not_null() & b.users[metric].is_not_null())[USER].to_numpy()
