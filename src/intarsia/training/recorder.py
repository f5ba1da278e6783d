"""Everything that a run tells: the log file, TensorBoard, the person who watches, and the caller's own function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from intarsia.training.distributed import World
from intarsia.training.logs import MetricsLog, Summaries, open_tensorboard
from intarsia.training.protocols import Metric, Reporter
from intarsia.training.state import LossSums, TrainState

Event = Callable[[str, Mapping[str, Any]], None]
"""Called with `update`, `evaluate` or `save`, and the values of the event."""


class Recorder:
    """Writes down what happens, in the process that writes; in the others it only takes part in sums.

    Args:
        run_dir: Folder of `metrics.jsonl` and `tensorboard/`.
        reporter: The person's view.
        world: The processes that train together.
        on_event: The caller's function.
        summary_steps: Updates between TensorBoard's entries; 0: none.
    """

    def __init__(
        self, run_dir: Path, reporter: Reporter, world: World, on_event: Event | None, summary_steps: int
    ) -> None:
        self.reporter = reporter
        self._run_dir = run_dir
        self._world = world
        self._on_event = on_event
        self._summary_steps = summary_steps
        self._log: MetricsLog | None = None
        self._summaries: Summaries | None = None
        self._clock = 0.0

    def open(self, step: int, total_steps: int | None, length: int) -> None:
        """Begins at a step.

        Args:
            step: Updates done.
            total_steps: Updates that training will have; None: not known.
            length: Bytes of the log that are kept.

        Raises:
            CheckpointError: The log is shorter than that.
            MissingExtraError: TensorBoard is wanted and not installed.
        """
        if self._world.writes:
            self._log = MetricsLog(self._run_dir / "metrics.jsonl", length)
            if self._summary_steps:
                self._summaries = open_tensorboard(self._run_dir / "tensorboard", step)
        self._clock = time.monotonic()
        self.reporter.start(step=step, total_steps=total_steps)

    def close(self) -> None:
        """Ends, well or not."""
        self.reporter.stop()
        for file in (self._log, self._summaries):
            if file is not None:
                file.close()
        self._log = self._summaries = None

    def settle(self) -> int:
        """Brings the log to the disk and returns its length; 0 in processes that do not write."""
        return self._log.settle() if self._log is not None else 0

    def updated(self, step: int) -> None:
        """An update is done. Called at every step."""
        if self._on_event is not None:
            self._on_event("update", {"step": step})

    def losses(self, state: TrainState, sums: LossSums, rates: Mapping[str, float]) -> dict[str, float]:
        """Mean losses since the last call; `loss` is their sum. Starts the next interval."""
        values, rows = sums.read(), sums.rows
        if not self._world.alone:
            # By name: a process whose shares were empty knows no names.
            parts = self._world.gather_trees({"sums": values, "rows": rows})
            rows = sum(part["rows"] for part in parts)
            names = dict.fromkeys(name for part in parts for name in part["sums"])
            values = {name: sum(part["sums"].get(name, 0.0) for part in parts) for name in names}
        losses = {name: value / sums.batches for name, value in values.items()}
        if list(losses) != ["loss"]:
            losses = {"loss": sum(losses.values()), **losses}
        now = time.monotonic()
        speed = rows / max(now - self._clock, 1e-9)
        self._clock = now
        sums.clear()
        row = {"step": state.step, "epoch": state.epoch, **rates, **losses}
        self._write("train", {**row, "samples_per_second": round(speed, 1)}, {**rates, **losses})
        self.reporter.progress(
            step=state.step, epoch=state.epoch, losses={"loss": losses["loss"]}, lr=rates["lr"], rows_per_second=speed
        )
        return losses

    def evaluated(self, state: TrainState, metrics: Mapping[str, Metric], best: bool) -> None:
        """An evaluation is done."""
        values = {name: metric.value for name, metric in metrics.items()}
        row = {"step": state.step, "epoch": state.epoch, **values}
        state.history.append(row)
        self._write("eval", row, values)
        self.reporter.evaluated(step=state.step, metrics=metrics, best=best)
        if self._on_event is not None:
            self._on_event("evaluate", row)

    def saved(self, step: int, path: Path) -> None:
        """A checkpoint is on the disk."""
        self.reporter.saved(step=step, path=str(path))
        if self._on_event is not None:
            self._on_event("save", {"step": step, "path": str(path)})

    def _write(self, kind: str, row: Mapping[str, Any], numbers: Mapping[str, float | None]) -> None:
        if self._log is not None:
            self._log.write({"kind": kind, **row})
        if self._summaries is not None and (kind == "eval" or row["step"] % self._summary_steps == 0):
            for name, value in numbers.items():
                if value is not None:
                    self._summaries.add_scalar(f"{kind}/{name}", value, row["step"])
