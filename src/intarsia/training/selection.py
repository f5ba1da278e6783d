"""Following a metric: which step was best, and whether to stop."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from intarsia.config.schema.evaluation import ExportConfig
from intarsia.config.schema.training import TrainConfig
from intarsia.core.errors import ConfigError
from intarsia.training.protocols import Metric

SMALLER_IS_BETTER = frozenset(
    {"logloss", "loss", "mae", "mse", "rmse", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"}
)


def bigger_is_better(name: str, metric: Metric | None = None) -> bool:
    """Whether a larger value is better: told by the metric where it has `bigger`, else by its name.

    Names may carry a tower, a task or a depth: `ctr/logloss`, `rmse_price`, `ndcg@10`.
    """
    told = getattr(metric, "bigger", None)
    if isinstance(told, bool):
        return told
    words = re.split(r"[/:@.\s]", name.lower())
    return not any(word in SMALLER_IS_BETTER or word.endswith("loss") or _begins(word) for word in words)


def _begins(word: str) -> bool:
    return any(word.startswith(f"{name}_") or word.endswith(f"_{name}") for name in SMALLER_IS_BETTER)


@dataclass
class Follower:
    """The best values of one metric over the evaluations of a run.

    Attributes:
        metric: Name in the table of metrics; empty: the table's first, without complaint.
        bigger: Whether larger is better; None: told by the metric.
        min_delta: Smallest improvement that counts.
        keep: Best steps that are remembered.
        best: (value, step) of the best evaluations, the best first.
        since: Evaluations since the last improvement.
    """

    metric: str
    bigger: bool | None = None
    min_delta: float = 0.0
    keep: int = 1
    best: list[tuple[float, int]] = field(default_factory=list)
    since: int = 0

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation."""
        return self.best[0][1] if self.best else None

    def update(self, step: int, metrics: Mapping[str, Metric], option: str) -> bool:
        """Takes in an evaluation and tells whether it is the best so far.

        A value that is not defined (None or not a number) is not an improvement. Ties go to the earlier step.

        Args:
            step: Updates done.
            metrics: The table.
            option: Where the metric's name was written, for the message.

        Raises:
            ConfigError: The table has no such metric.
        """
        name = self.metric or next(iter(metrics), "")
        if not name:
            return False
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, 1, 0.5)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ConfigError(
                f"`{option}` names a metric of the evaluation. Received `{name}`; the evaluation gives: "
                f"{', '.join(metrics) or 'nothing'}.{hint}"
            )
        value = metrics[name].value
        if self.bigger is None:
            self.bigger = bigger_is_better(name, metrics[name])
        if value is None or math.isnan(value):
            self.since += 1
            return False
        sign = 1.0 if self.bigger else -1.0
        improved = not self.best or sign * value > sign * self.best[0][0] + self.min_delta
        self.since = 0 if improved else self.since + 1
        if improved:
            self.best.insert(0, (value, step))
        elif self.keep > 1:
            self.best.append((value, step))
            self.best[1:] = sorted(self.best[1:], key=lambda pair: -sign * pair[0])
        del self.best[self.keep :]
        return improved

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"metric": self.metric, "bigger": self.bigger, "best": self.best, "since": self.since}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`. A follower of another metric starts anew."""
        if state["metric"] == self.metric:
            self.best = [(float(value), int(step)) for value, step in state["best"]]
            self.since = int(state["since"])
            self.bigger = state["bigger"] if self.bigger is None else self.bigger


class Selection:
    """What a run does with its evaluations: the best checkpoint, and the early stop.

    `train_config.early_stop` counts evaluations, `export_config.enable_early_stop` counts steps; both may be set.
    The best checkpoint follows `export_config.best_exporter_metric`; where that is not written, the early stop's
    metric; where there is none either, the first metric of the table.

    Args:
        train: Read for `early_stop`.
        export: Read for the exporter.
    """

    def __init__(self, train: TrainConfig, export: ExportConfig) -> None:
        early = train.early_stop
        self.by_steps = export.max_check_steps if export.enable_early_stop else None
        self.patience = early.patience if early else None
        self.stopper: Follower | None = None
        self.stop_option = "train_config.early_stop.metric"
        if early is not None:
            self.stopper = Follower(early.metric, early.bigger, early.min_delta)
        bigger = export.metric_bigger
        stops_early = early is not None or export.enable_early_stop
        self.exports_best = export.exporter_type == "best" or (export.exporter_type is None and stops_early)
        self.keeps_best = self.exports_best or stops_early
        if export.best_exporter_metric is not None or (early is None and self.keeps_best):
            metric = "auc" if export.best_exporter_metric is None else export.best_exporter_metric
            self.best = Follower(metric, bigger, keep=export.exports_to_keep)
            self.best_option = "export_config.best_exporter_metric"
        elif early is not None:
            self.best = Follower(early.metric, early.bigger if bigger is None else bigger, keep=export.exports_to_keep)
            self.best_option = self.stop_option
        else:
            self.best = Follower("", None, keep=export.exports_to_keep)
            self.best_option = ""

    def update(self, step: int, metrics: Mapping[str, Metric]) -> bool:
        """Takes in an evaluation; True if it is the best so far."""
        if self.stopper is not None:
            self.stopper.update(step, metrics, self.stop_option)
        return self.best.update(step, metrics, self.best_option)

    def should_stop(self, step: int) -> bool:
        """Whether the metric has not improved for long enough at the evaluation of `step`."""
        if self.stopper is not None and self.patience is not None and self.stopper.since >= self.patience:
            return True
        if self.by_steps is None or self.best.since == 0:
            return False
        return step - (self.best.best_step or 0) >= self.by_steps

    def protected(self) -> set[int]:
        """Steps whose checkpoints are kept beyond the newest ones."""
        return {step for _, step in self.best.best}

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"best": self.best.state(), "stopper": self.stopper.state() if self.stopper else None}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.best.load(state["best"])
        if self.stopper is not None and state["stopper"] is not None:
            self.stopper.load(state["stopper"])
