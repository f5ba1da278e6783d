"""What the training loop needs from its neighbours: batches, metrics, a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from intarsia.core.batch import Batch


class BatchSource(Protocol):
    """Training batches whose order depends on nothing but the epoch's number (and the source's own seed)."""

    @property
    def batches_per_epoch(self) -> int | None:
        """Number of batches; None where it is not known before the end."""

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Batches of an epoch, from `start_batch` on. Two calls give the same batches."""


class Metric(Protocol):
    """One row of the table of metrics."""

    @property
    def value(self) -> float | None:
        """The value; None where the metric is not defined, for instance AUC with one class."""


Evaluate = Callable[[], Mapping[str, Metric]]
"""Evaluates the model as it stands; the trainer has put it in evaluation mode."""


class Reporter(Protocol):
    """Where a person sees how training goes. Calls come at the log interval, never at every update."""

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Training begins at `step`."""

    def progress(
        self, *, step: int, epoch: int, losses: Mapping[str, float], lr: float, rows_per_second: float
    ) -> None:
        """Mean losses since the last call."""

    def evaluated(self, *, step: int, metrics: Mapping[str, Metric], best: bool) -> None:
        """An evaluation is done."""

    def saved(self, *, step: int, path: str) -> None:
        """A checkpoint is on the disk."""

    def message(self, text: str) -> None:
        """Anything else worth a line."""

    def stop(self) -> None:
        """Training has ended, well or not."""
