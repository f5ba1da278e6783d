"""Where a run stands: everything that a checkpoint stores beside tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class TrainState:
    """The position of a run.

    Attributes:
        step: Updates done.
        epoch: Passes over the data completed; the number of the pass under way.
        batch: Batches of this pass that are done.
        evaluated: Step of the last evaluation, -1 before the first.
        last_metrics: Its values.
        best_metrics: Values of the best evaluation.
        history: One entry for each evaluation.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    evaluated: int = -1
    last_metrics: dict[str, float | None] = field(default_factory=dict)
    best_metrics: dict[str, float | None] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainState:
        """The inverse of `to_json`."""
        return cls(**data)


class LossSums:
    """Sums of named losses since the last log line.

    On the CPU, where reading a number costs nothing, the sums are numbers and every loss is seen at once. On a GPU
    they are tensors, and reading them, which waits for the GPU, is left to the log interval.

    Args:
        eager: Whether losses are read at once.
    """

    def __init__(self, eager: bool) -> None:
        self.eager = eager
        self.sums: dict[str, float | Tensor] = {}
        self.batches = 0
        self.rows = 0

    def add(self, losses: Mapping[str, Tensor], rows: int) -> bool:
        """Takes in a batch; False if a loss is seen to be infinite or not a number.

        Args:
            losses: Scalars by name: this process's parts of those of the global batch.
            rows: Rows of the batch in this process.
        """
        self.batches += 1
        self.rows += rows
        total = 0.0
        for name, loss in losses.items():
            value: float | Tensor = loss.item() if self.eager else loss.detach().float()
            known = self.sums.get(name)
            self.sums[name] = value if known is None else known + value
            if isinstance(value, float):
                total += value
        return total - total == 0.0  # false for infinity and for not-a-number

    def read(self) -> dict[str, float]:
        """The sums as numbers. On a GPU this waits."""
        return {name: value.item() if isinstance(value, Tensor) else value for name, value in self.sums.items()}

    def clear(self) -> None:
        """Starts the next interval."""
        self.sums, self.batches, self.rows = {}, 0, 0

    def state(self) -> dict[str, Any]:
        """Plain data; numbers survive JSON exactly."""
        return {"sums": self.read(), "batches": self.batches}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """The inverse of `state`."""
        self.batches = state["batches"]
        self.sums = dict(state["sums"])
        if not self.eager:
            self.sums = {name: torch.tensor(value, device=device) for name, value in state["sums"].items()}
