"""Progress for a person: a bar at a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from intarsia.training.protocols import Metric, Reporter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class SilentReporter:
    """Says nothing."""

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Nothing."""

    def progress(
        self, *, step: int, epoch: int, losses: Mapping[str, float], lr: float, rows_per_second: float
    ) -> None:
        """Nothing."""

    def evaluated(self, *, step: int, metrics: Mapping[str, Metric], best: bool) -> None:
        """Nothing."""

    def saved(self, *, step: int, path: str) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class LineReporter(SilentReporter):
    """One line for each event, for files and pipes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file if file is not None else sys.stderr
        self._total: int | None = None

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Remembers the number of steps."""
        self._total = total_steps

    def progress(
        self, *, step: int, epoch: int, losses: Mapping[str, float], lr: float, rows_per_second: float
    ) -> None:
        """Step, losses, rate and speed."""
        of = f"/{self._total}" if self._total else ""
        self.message(f"step {step}{of} epoch {epoch} {in_words(losses)} lr {lr:.3g} {rows_per_second:,.0f} rows/s")

    def evaluated(self, *, step: int, metrics: Mapping[str, Metric], best: bool) -> None:
        """The table in one line."""
        self.message(f"step {step} evaluation: {metrics_in_words(metrics)}{' (best)' if best else ''}")

    def saved(self, *, step: int, path: str) -> None:
        """Where the checkpoint is."""
        self.message(f"step {step} saved: {path}")

    def message(self, text: str) -> None:
        """The text."""
        self._file.write(text + "\n")
        self._file.flush()


class RichReporter(SilentReporter):
    """A progress bar with loss, rate and speed; evaluations scroll by above it.

    Args:
        console: Where to draw. Default: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console if console is not None else Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Draws the bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("training", total=total_steps, completed=step, note="")
        self._bar.start()

    def progress(
        self, *, step: int, epoch: int, losses: Mapping[str, float], lr: float, rows_per_second: float
    ) -> None:
        """Moves the bar."""
        if self._bar is not None and self._task is not None:
            note = f"epoch {epoch}  {in_words(losses)}  lr {lr:.3g}  {rows_per_second:,.0f} rows/s"
            self._bar.update(self._task, completed=step, note=note)

    def evaluated(self, *, step: int, metrics: Mapping[str, Metric], best: bool) -> None:
        """One line above the bar."""
        self.message(f"step {step}  {metrics_in_words(metrics)}{'  (best)' if best else ''}")

    def message(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_reporter() -> Reporter:
    """A bar when standard error is a terminal, plain lines otherwise."""
    return RichReporter() if sys.stderr.isatty() else LineReporter()


def in_words(losses: Mapping[str, float]) -> str:
    """`loss 0.693 l2 0.001`."""
    return " ".join(f"{name} {value:.4g}" for name, value in losses.items())


def metrics_in_words(metrics: Mapping[str, Metric]) -> str:
    """`auc 0.7012 gauc undefined`."""
    return "  ".join(
        f"{name} {'undefined' if m.value is None else format(m.value, '.4f')}" for name, m in metrics.items()
    )
