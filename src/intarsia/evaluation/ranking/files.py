"""What an evaluation leaves in a run folder: metrics of every user as a table, the protocol and the means as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from intarsia.core.errors import CheckpointError
from intarsia.core.files import replacing, write_json
from intarsia.evaluation.ranking.evaluate import RankingEvaluation, RankingValue

FORMAT = 1
USER, TARGETS = "user", "targets"
"""Columns of the table beside the metrics: raw ids, and a number that stands for the set of targets."""


@dataclass(frozen=True)
class SavedEvaluation:
    """An evaluation as it was saved.

    Attributes:
        part: `valid` or `test`.
        protocol: How the log was divided and the targets were ranked, by name.
        values: Means by metric name.
        users: One row a query: `user` (raw id), `targets`, and a column for each metric that is a mean over queries.
        model: Name of the model.
    """

    part: str
    protocol: dict[str, Any]
    values: dict[str, RankingValue]
    users: pl.DataFrame
    model: str = ""

    @property
    def metrics(self) -> list[str]:
        """Metrics that have a value for every user."""
        return [name for name in self.users.columns if name not in (USER, TARGETS)]


def save_evaluation(
    evaluation: RankingEvaluation,
    folder: str | Path,
    part: str,
    *,
    user_ids: pl.Series,
    protocol: Mapping[str, Any],
    model: str = "",
) -> None:
    """Writes `evaluation_<part>.parquet` and `evaluation_<part>.json`.

    Args:
        evaluation: What was measured.
        folder: Run folder.
        part: `valid` or `test`.
        user_ids: (U,) raw ids by user number.
        protocol: All that two runs must have in common to be compared: plain values by name.
        model: Name of the model.
    """
    folder = Path(folder)
    columns: dict[str, Any] = {USER: user_ids.cast(pl.String).gather(evaluation.users), TARGETS: evaluation.targets}
    columns.update({name: pl.Series(values).fill_nan(None) for name, values in evaluation.per_user.items()})
    with replacing(folder / f"evaluation_{part}.parquet") as aside:
        pl.DataFrame(columns).write_parquet(aside)
    groups = {
        kind: {
            label: {
                "queries": group.num_queries,
                "metrics": {name: value.value for name, value in group.values.items()},
            }
            for label, group in found.items()
        }
        for kind, found in evaluation.groups.items()
    }
    write_json(
        folder / f"evaluation_{part}.json",
        {
            "format": FORMAT,
            "part": part,
            "model": model,
            "protocol": dict(protocol),
            "metrics": {name: asdict(value) for name, value in evaluation.values.items()},
            "groups": groups,
            "queries": evaluation.num_queries,
            "seconds": round(evaluation.seconds, 3),
            "notes": list(evaluation.notes),
        },
    )


def load_evaluation(folder: str | Path, part: str = "test") -> SavedEvaluation | None:
    """Reads what `save_evaluation` wrote; None where the folder has no such evaluation.

    Raises:
        CheckpointError: A file is damaged, missing beside the other, or of another version.
    """
    about, table = (Path(folder) / f"evaluation_{part}.{kind}" for kind in ("json", "parquet"))
    if not about.exists() and not table.exists():
        return None
    try:
        told = json.loads(about.read_text(encoding="utf-8"))
        if told.get("format") != FORMAT:
            raise ValueError(f"format {told.get('format')!r} instead of {FORMAT}")
        users = pl.read_parquet(table)
        values = {name: RankingValue(**value) for name, value in told["metrics"].items()}
        return SavedEvaluation(told["part"], told["protocol"], values, users, told["model"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{about} and {table.name} must hold a whole evaluation. Received: {reason}. Evaluate the run again."
        ) from error


def paired_values(a: SavedEvaluation, b: SavedEvaluation, metric: str) -> tuple[np.ndarray[Any, Any], ...]:
    """(n,) values of a metric in both evaluations, for the queries that have one in both; the rows are the same."""
    x, y = (s.users[metric].cast(pl.Float64).fill_null(np.nan).to_numpy() for s in (a, b))
    both = ~(np.isnan(x) | np.isnan(y))
    return x[both], y[both]
