"""Losses of rank models: one row, one score (or one score a class).

`LOSSES` is the catalogue. A further loss is one more entry: how it is computed, what it predicts, which labels it
accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.config.schema.model import LossType
from intarsia.core.errors import BuildError, ConfigError, DataError
from intarsia.objectives.base import LabelRule, LossInputs, RankLoss, Task, weighted_mean

LOG_LOSS_EPSILON = 1e-7


def log_loss(probs: Tensor, labels: Tensor) -> Tensor:
    """Log loss of probabilities, element by element: -y log(p + e) - (1 - y) log(1 - p + e), e = 1e-7.

    For labels that are probabilities themselves, as in distillation.

    Args:
        probs: Any shape, in [0, 1].
        labels: Same shape, in [0, 1].
    """
    epsilon = LOG_LOSS_EPSILON
    return -(labels * (probs + epsilon).log() + (1 - labels) * (1 - probs + epsilon).log())


def _classification(inputs: LossInputs, /) -> Tensor:
    if inputs.num_class == 1:
        rows = functional.binary_cross_entropy_with_logits(
            inputs.logits, inputs.labels.to(inputs.logits.dtype), reduction="none"
        )
    else:
        rows = functional.cross_entropy(inputs.logits, inputs.labels.long(), reduction="none")
    return weighted_mean(rows, inputs.weights)


def _squared(inputs: LossInputs, /) -> Tensor:
    return weighted_mean((inputs.logits - inputs.labels.to(inputs.logits.dtype)).square(), inputs.weights)


def _sigmoid_squared(inputs: LossInputs, /) -> Tensor:
    error = inputs.logits.sigmoid() - inputs.labels.to(inputs.logits.dtype)
    return weighted_mean(error.square(), inputs.weights)


def _cross_entropy(inputs: LossInputs, /) -> Tensor:
    probs = _probs(inputs.logits, inputs.num_class)
    labels = inputs.labels.to(probs.dtype)
    if labels.shape != probs.shape:
        raise DataError(
            "CROSS_ENTROPY_LOSS compares probabilities, so labels and probabilities must have the same shape. "
            f"Received: labels {tuple(labels.shape)}, probabilities {tuple(probs.shape)}. Give one label value a "
            "class, or use CLASSIFICATION for class numbers."
        )
    rows = log_loss(probs, labels)
    return weighted_mean(rows if rows.dim() == 1 else rows.mean(dim=1), inputs.weights)


def _probs(logits: Tensor, num_class: int) -> Tensor:
    return logits.sigmoid() if num_class == 1 else logits.softmax(dim=1)


def _predict_class(logits: Tensor, num_class: int) -> dict[str, Tensor]:
    out = {"logits": logits, "probs": _probs(logits, num_class)}
    if num_class > 1:
        out["y"] = logits.argmax(dim=1)
    return out


def _predict_number(logits: Tensor, num_class: int) -> dict[str, Tensor]:
    return {"logits": logits, "y": logits}


def _predict_share(logits: Tensor, num_class: int) -> dict[str, Tensor]:
    return {"logits": logits, "y": logits.sigmoid()}


def _class_task(num_class: int) -> Task:
    return "binary" if num_class == 1 else "multiclass"


def _number_task(num_class: int) -> Task:
    return "regression"


_SHARE = LabelRule(0, 1)

LOSSES: Mapping[LossType, RankLoss] = MappingProxyType(
    {
        LossType.CLASSIFICATION: RankLoss(
            name="cross_entropy_loss",
            compute=_classification,
            task=_class_task,
            labels=lambda num_class: _SHARE if num_class == 1 else LabelRule(0, num_class - 1, integer=True),
            predict=_predict_class,
        ),
        LossType.L2_LOSS: RankLoss(
            name="l2_loss",
            compute=_squared,
            task=_number_task,
            labels=lambda num_class: LabelRule(),
            predict=_predict_number,
        ),
        LossType.SIGMOID_L2_LOSS: RankLoss(
            name="sigmoid_l2_loss",
            compute=_sigmoid_squared,
            task=_number_task,
            labels=lambda num_class: _SHARE,
            predict=_predict_share,
        ),
        LossType.CROSS_ENTROPY_LOSS: RankLoss(
            name="log_loss",
            compute=_cross_entropy,
            task=_class_task,
            labels=lambda num_class: _SHARE,
            predict=_predict_class,
        ),
    }
)
"""Losses of rank models by `loss_type`."""


def rank_loss(loss_type: LossType) -> RankLoss:
    """The catalogue's entry.

    Raises:
        ConfigError: A rank model cannot be trained with this loss.
    """
    try:
        return LOSSES[loss_type]
    except KeyError:
        known = ", ".join(sorted(key.value for key in LOSSES))
        raise ConfigError(
            f"loss_type of a rank model must be one of: {known}. Received: {loss_type.value}. Choose one of these."
        ) from None


def task_of(loss_type: LossType, num_class: int = 1) -> Task:
    """What a head with this loss predicts.

    Raises:
        ConfigError: The loss is not in the catalogue, or a regression asks for classes.
    """
    task = rank_loss(loss_type).task(num_class)
    if task == "regression" and num_class != 1:
        raise ConfigError(
            f"{loss_type.value} predicts one number, so num_class must be 1. Received: num_class {num_class}. "
            "Leave num_class out, or use CLASSIFICATION."
        )
    return task


def predict(logits: Tensor, loss_type: LossType, num_class: int = 1) -> dict[str, Tensor]:
    """Predictions of a head by name.

    | loss                                              | names                                                     |
    |---------------------------------------------------|-----------------------------------------------------------|
    | CLASSIFICATION, CROSS_ENTROPY_LOSS, one logit     | logits (B,), probs (B,) = sigmoid                         |
    | the same, C classes                               | logits (B, C), probs (B, C) = softmax, y (B,) = arg max   |
    | L2_LOSS                                           | logits (B,), y (B,) = logits                              |
    | SIGMOID_L2_LOSS                                   | logits (B,), y (B,) = sigmoid                             |

    EasyRec further copies single columns of the class probabilities (`probs_1`, `probs_y`); here they are not repeated.

    Args:
        logits: (B,) or (B, 1) with one class, (B, C) otherwise. Half precision is raised to float32.
        loss_type: The loss that the head is trained with.
        num_class: C; 1: one logit.

    Raises:
        ConfigError: Unknown loss.
        BuildError: The shape does not fit num_class.
    """
    task_of(loss_type, num_class)
    return rank_loss(loss_type).predict(shaped_logits(logits, num_class), num_class)


def shaped_logits(logits: Tensor, num_class: int) -> Tensor:
    """Logits as (B,) or (B, C), at least float32."""
    if num_class == 1 and logits.dim() == 2 and logits.shape[1] == 1:
        logits = logits.squeeze(1)
    fits = logits.dim() == 1 if num_class == 1 else logits.dim() == 2 and logits.shape[1] == num_class
    if not fits:
        wanted = "(B,) or (B, 1)" if num_class == 1 else f"(B, {num_class})"
        raise BuildError(
            f"logits must have the shape {wanted} with num_class {num_class}. Received: {tuple(logits.shape)}. "
            "Make the head's last layer that wide, or change num_class."
        )
    return logits if logits.dtype == torch.float64 else logits.float()
