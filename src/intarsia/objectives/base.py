"""What a loss reads, which labels it accepts, and what an entry of the catalogue of losses holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from intarsia.core.errors import DataError

Task = Literal["binary", "multiclass", "regression"]
"""What a head predicts; decides which metrics apply."""


@dataclass(frozen=True)
class LossInputs:
    """What a loss reads.

    Attributes:
        logits: (B,) raw scores of the head, or (B, C) with C classes; float32 or float64.
        labels: (B,), or (B, C) for losses against a distribution.
        weights: (B,) sample weights, or None: all rows count alike.
        ids: (B,) codes of columns that rows are grouped by, by column name.
        num_class: C; 1: one logit.
    """

    logits: Tensor
    labels: Tensor
    weights: Tensor | None = None
    ids: Mapping[str, Tensor] = field(default_factory=dict)
    num_class: int = 1


@dataclass(frozen=True)
class LabelRule:
    """Labels that a loss accepts: finite numbers from `low` to `high`, whole ones if `integer`."""

    low: float = float("-inf")
    high: float = float("inf")
    integer: bool = False

    def check(self, labels: Tensor, loss_name: str) -> None:
        """Raises DataError if a label breaks the rule. Reads the values, so it waits for a GPU."""
        wrong = ~torch.isfinite(labels) | (labels < self.low) | (labels > self.high)
        if self.integer:
            wrong |= labels != labels.round()
        if not bool(wrong.any()):
            return
        kind = "whole numbers" if self.integer else "numbers"
        span = "" if self.high == float("inf") else f" from {self.low:g} to {self.high:g}"
        raise DataError(
            f"labels of the loss {loss_name} must be finite {kind}{span}. Received: {int(wrong.sum())} of "
            f"{labels.numel()} labels that are not, such as {labels[wrong][0].item():g}. Correct the label column, "
            "or choose the loss_type and num_class that fit it."
        )


@dataclass(frozen=True)
class RankLoss:
    """An entry of the catalogue.

    Attributes:
        name: Name in logs unless the file gives a `loss_name`.
        compute: `LossInputs` to the mean loss, a scalar. Keyword-only arguments with `Param` are the loss's options.
        task: What is predicted, given num_class.
        labels: Which labels are accepted, given num_class.
        predict: Predictions from logits of the checked shape, given num_class.
        options: Name of the loss's own message inside `losses`; empty: it has no options.
    """

    name: str
    compute: Callable[..., Tensor]
    task: Callable[[int], Task]
    labels: Callable[[int], LabelRule]
    predict: Callable[[Tensor, int], dict[str, Tensor]]
    options: str = ""


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of per-row losses: sum(w * l) / count(w != 0); without weights the plain mean; 0 for no rows.

    The divisor is a count, not the sum of the weights: doubling all weights doubles the loss and its gradient, and a
    row of weight 0 is as good as absent. EasyRec reduces in this way (TensorFlow's SUM_BY_NONZERO_WEIGHTS), and its
    files keep their meaning here.

    Args:
        losses: (B,).
        weights: (B,) or None.
    """
    if weights is None:
        return losses.sum() / max(losses.shape[0], 1)
    weights = weights.to(losses.dtype)
    return (losses * weights).sum() / (weights != 0).sum().clamp(min=1)
