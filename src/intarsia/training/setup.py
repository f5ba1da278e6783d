"""Readings of `train_config` that the loop starts from, and its complaint when numbers go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from intarsia.core.errors import ConfigError, TrainingError
from intarsia.training.distributed import World


def choose_device(name: str, world: World) -> torch.device:
    """The device that `train_config.device` names; `auto` is the process's own GPU where there is one.

    Raises:
        ConfigError: There is no such device.
    """
    if world.device.type == "cuda":
        return world.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"`train_config.device` is auto, cpu, cuda or cuda:1. Received `{name}`.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"`train_config.device` is `{name}`, but torch finds no GPU. Use `auto` or `cpu`.")
    return device


def parse_dead_line(text: str) -> float | None:
    """Seconds since 1970 of a local time; None for an empty text.

    Raises:
        ConfigError: The text is no time.
    """
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d %H:%M:%S").timestamp()
    except ValueError as error:
        raise ConfigError(
            f"`train_config.dead_line` is a local time written `YYYYMMDD HH:MM:SS`. Received `{text}`."
        ) from error


def first_bad_weight(model: nn.Module) -> str | None:
    """Name of a weight that is infinite or not a number; None where all are finite. Reads every weight once."""
    for name, tensor in model.state_dict().items():
        # Extremes are infinite or not a number as soon as one entry is, and need no second tensor of that size.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            return name
    return None


def not_a_number(
    step: int, what: str, losses: Mapping[str, float], last_good: Path | None, eager: bool
) -> TrainingError:
    """The error for a loss, gradient or weight that is infinite or not a number.

    Args:
        step: The update that would come next.
        what: What was found, such as `the loss`.
        losses: Losses by name, as far as they are known.
        last_good: Latest checkpoint.
        eager: Whether every step is looked at, so that `step` is where it happened.
    """
    parts = ", ".join(f"{name} = {value:g}" for name, value in losses.items()) or "none since the last log line"
    return TrainingError(
        f"{'At' if eager else 'At or before'} step {step}: {what} must be a finite number. Received losses: {parts}. "
        f"{last_good_in_words(last_good)} Lower the learning rate, set `train_config.gradient_clipping_by_norm`, or "
        "look for extreme values in the features and labels."
    )


def last_good_in_words(folder: Path | None) -> str:
    """Which checkpoint one can go on from."""
    return f"The last good checkpoint is {folder}." if folder else "There is no checkpoint yet."
