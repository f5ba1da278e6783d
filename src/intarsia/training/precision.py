"""Mixed precision: half-precision forward passes, and the scaling that fp16 gradients need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from intarsia.core.errors import ConfigError


class Precision:
    """The number format of the forward pass.

    Weights, gradients and optimizers stay in float32. bf16 needs no scaling; fp16 scales the loss so that small
    gradients do not vanish, and leaves out updates whose gradients overflow.

    Args:
        kind: `off`, `bf16` or `fp16`.
        device: Where the model computes.

    Raises:
        ConfigError: fp16 without a GPU.
    """

    def __init__(self, kind: Literal["off", "bf16", "fp16"], device: torch.device) -> None:
        if kind == "fp16" and device.type != "cuda":
            raise ConfigError(
                "`train_config.mixed_precision: fp16` needs a CUDA device, because its gradients must be scaled. "
                f"Received device `{device}`. Use `bf16` or `off`."
            )
        self.dtype = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
        self.device = device
        self.scaler = torch.amp.GradScaler("cuda") if kind == "fp16" else None

    def forward(self) -> AbstractContextManager[Any]:
        """Context of the forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Backward pass of a loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def update(self, tensors: list[Tensor], step: Callable[[], None]) -> None:
        """Runs `step` on gradients in their own scale, or not at all where they overflowed.

        Args:
            tensors: Parameters with gradients, tables included.
            step: Clips and updates.
        """
        if self.scaler is None:
            step()
            return
        together: Any = _Together(tensors, step)
        self.scaler.unscale_(together)
        self.scaler.step(together)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)


class _Together:
    """All optimizers of a model, as the one optimizer that torch's scaler knows."""

    def __init__(self, tensors: list[Tensor], step: Callable[[], None]) -> None:
        self.param_groups = [{"params": tensors}]
        self.step = step
