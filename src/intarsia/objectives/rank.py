"""What a rank model holds for its head: one loss or several, weighted and named, their options and labels checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from intarsia.config.schema.model import LossConfig, LossType
from intarsia.core.errors import ConfigError
from intarsia.core.params import config_from_signature
from intarsia.objectives.base import LossInputs, RankLoss
from intarsia.objectives.catalogue import LOSSES, predict, rank_loss, shaped_logits, task_of

__all__ = ["LOSSES", "RankLosses", "WeightStrategy", "predict", "rank_loss", "task_of"]

WeightStrategy = Literal["Fixed", "Uncertainty", "Random"]


class RankLosses(nn.Module):
    """The losses of one head, weighted and named.

    With one loss L of weight a the result is {name: a * L}. With several, `strategy` says how they are weighted:

    - Fixed: a_i * L_i.
    - Uncertainty: losses with `learn_loss_weight` get exp(-u_i) * L_i + u_i / 2 with a learned u_i that starts at 0,
      halved in the first term for squared losses (Kendall et al. 2018, "Multi-task learning using uncertainty to weigh
      losses", eq. 7 and 10, with u = log sigma^2); the others a_i * L_i.
    - Random: softmax(z)_i * L_i with fresh z_i ~ N(0, 1) at each training step (Lin et al. 2022, "Reasonable
      effectiveness of random weighting", section 3); equal shares outside training. `weight` plays no part, as in
      EasyRec.

    Args:
        losses: The file's `losses`, or one entry made of `loss_type`. The first one decides what is predicted.
        num_class: Classes; 1: one logit.
        strategy: `loss_weight_strategy`.

    Raises:
        ConfigError: No loss, a loss that is not in the catalogue, two of one name, losses that predict different
            things, options that the loss does not have.
    """

    def __init__(self, losses: Sequence[LossConfig], *, num_class: int = 1, strategy: WeightStrategy = "Fixed") -> None:
        super().__init__()
        if not losses:
            raise ConfigError("a head needs at least one loss. Received: none. Set loss_type or losses.")
        self.num_class = num_class
        self.strategy = strategy
        self.configs = tuple(losses)
        self.types = tuple(config.loss_type for config in losses)
        self.entries = tuple(rank_loss(loss_type) for loss_type in self.types)
        self.names = tuple(
            config.loss_name or entry.name for config, entry in zip(self.configs, self.entries, strict=True)
        )
        self.task = task_of(self.types[0], num_class)
        _check_together(self.names, self.types, num_class)
        self.options = tuple(_options(config, entry) for config, entry in zip(self.configs, self.entries, strict=True))
        learned = [strategy == "Uncertainty" and config.learn_loss_weight for config in losses]
        self.log_variances = nn.ParameterDict(
            {
                _key(name): nn.Parameter(torch.zeros(()))
                for name, learn in zip(self.names, learned, strict=True)
                if learn
            }
        )
        self._checks_left = 16

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """Predictions by name, see `predict`."""
        return predict(logits, self.types[0], self.num_class)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        ids: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Named scalars whose sum is trained.

        Args:
            logits: (B,), (B, 1) or (B, C).
            labels: (B,), (B, 1), or (B, C) for CROSS_ENTROPY_LOSS with C classes.
            weights: (B,) sample weights or None.
            ids: (B,) codes by column, for losses that group rows.

        Raises:
            DataError: Labels outside of the loss's range. On a CPU every batch is checked; elsewhere the first 16 only,
                because reading values there waits for the device.
        """
        if labels.dim() == 2 and labels.shape[1] == 1:
            labels = labels.squeeze(1)
        inputs = LossInputs(shaped_logits(logits, self.num_class), labels, weights, ids or {}, self.num_class)
        if labels.device.type == "cpu" or self._checks_left > 0:
            self._checks_left -= 1
            for entry, loss_type in zip(self.entries, self.types, strict=True):
                entry.labels(self.num_class).check(labels, loss_type.value)
        values = [entry.compute(inputs, **options) for entry, options in zip(self.entries, self.options, strict=True)]
        factors = self._factors(values)
        return {
            name: self._scaled(name, loss_type, value, factor)
            for name, loss_type, value, factor in zip(self.names, self.types, values, factors, strict=True)
        }

    def _factors(self, values: Sequence[Tensor]) -> list[Tensor | float]:
        if self.strategy != "Random" or len(values) == 1:
            return [config.weight for config in self.configs]
        if not self.training:
            return [1 / len(values)] * len(values)
        return list(torch.randn(len(values)).softmax(dim=0).to(values[0].device).unbind())

    def _scaled(self, name: str, loss_type: LossType, value: Tensor, factor: Tensor | float) -> Tensor:
        if _key(name) not in self.log_variances:
            return value * factor
        u: Tensor = self.log_variances[_key(name)]
        half = 0.5 if loss_type in (LossType.L2_LOSS, LossType.SIGMOID_L2_LOSS) else 1.0
        return half * torch.exp(-u) * value + u / 2


def _key(name: str) -> str:
    """A loss's name as a parameter's name, which may hold no dot."""
    return name.replace(".", "_")


def _check_together(names: Sequence[str], types: Sequence[LossType], num_class: int) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"names of losses must differ. Received more than once: {', '.join(repeated)}. "
            "Give each of the losses its own loss_name."
        )
    tasks = {loss_type.value: task_of(loss_type, num_class) for loss_type in types}
    if len(set(tasks.values())) > 1:
        text = ", ".join(f"{key} ({task})" for key, task in tasks.items())
        raise ConfigError(
            f"losses of one head must predict the same thing. Received: {text}. Use one task tower for each."
        )


def _options(config: LossConfig, entry: RankLoss) -> dict[str, Any]:
    """Checked options of a loss, with defaults filled in."""
    extra = dict(config.model_extra or {})
    given = extra.pop(entry.options, {}) if entry.options else {}
    if extra:
        known = (
            f"the options of {config.loss_type.value} are called `{entry.options}`"
            if entry.options
            else (f"{config.loss_type.value} has no options")
        )
        raise ConfigError(f"unknown field in losses: {known}. Received: {', '.join(sorted(extra))}. Remove it.")
    if not entry.options:
        return {}
    try:
        return config_from_signature(entry.compute, entry.options).model_validate(given).model_dump()
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"losses.{entry.options}: {found}. Received: {given}.") from None
