"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intarsia.core.errors import BuildError
from intarsia.nn.component import nearest
from intarsia.nn.normalization import BatchNorm


class Dice(nn.Module):
    """A rectifier whose kink follows the data: each feature's batch mean.

    y = p x + (1 - p) alpha x with p = sigmoid(BN(x)); BN has no scale and shift, alpha is learned per feature and
    starts at 0.

    Args:
        num_features: Size of the last axis.

    Source: Zhou et al., Deep Interest Network for Click-Through Rate Prediction (2018), section 5.3.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.norm = BatchNorm(num_features, eps=1e-9, affine=False)
        self.alpha = nn.Parameter(torch.zeros(num_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        p = torch.sigmoid(self.norm(inputs))
        return inputs * (p + (1 - p) * self.alpha)


class PReLU(nn.Module):
    """max(x, 0) + alpha min(x, 0) with alpha learned per feature, 0.25 at the start.

    Args:
        num_features: Size of the last axis.

    Source: He et al., Delving Deep into Rectifiers (2015), section 2.1. EasyRec takes a fixed slope for this name.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((num_features,), 0.25))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return F.relu(inputs) - self.alpha * F.relu(-inputs)


class Function(nn.Module):
    """A function of tensors written in the pipeline file.

    Args:
        text: One-argument lambda over the whitelisted tensor functions.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        from intarsia.core.expressions.tensors import compile_lambda

        self.text = text
        self._function: Callable[[Tensor], Tensor] = compile_lambda(text)

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape; what comes out is the function's own affair."""
        return self._function(inputs)

    def extra_repr(self) -> str:
        """The text of the function."""
        return self.text


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "gelu": lambda _: nn.GELU(approximate="tanh"),
    "leaky_relu": lambda _: nn.LeakyReLU(0.2),
    "prelu": PReLU,
    "dice": Dice,
    "elu": lambda _: nn.ELU(),
    "selu": lambda _: nn.SELU(),
    "tanh": lambda _: nn.Tanh(),
    "swish": lambda _: nn.SiLU(),
    "silu": lambda _: nn.SiLU(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "softmax": lambda _: nn.Softmax(dim=-1),
    "linear": lambda _: nn.Identity(),
}

_PREFIXES = ("tf", "tensorflow", "keras", "torch", "nn")


def activation(name: str | None, *, num_features: int) -> nn.Module:
    """The activation of a name.

    Args:
        name: relu, gelu (tanh approximation), leaky_relu (slope 0.2), prelu, dice, elu, selu, tanh, swish or silu,
            sigmoid, softmax (last axis), linear; one of them under a path such as `tf.nn.relu` or `torch.relu`; text
            with `lambda`; None or the empty text for none.
        num_features: Size of the last axis, for the activations that learn a number per feature.

    Raises:
        BuildError: The name is unknown.
    """
    if not name:
        return nn.Identity()
    if "lambda" in name:
        return Function(name)
    path, _, last = name.rpartition(".")
    key = last.lower()
    if key not in ACTIVATIONS or (path and path.split(".")[0] not in _PREFIXES):
        raise BuildError(
            f"no activation is called `{name}`. {nearest(key, ACTIVATIONS)} A text with `lambda` will also do."
        )
    return ACTIVATIONS[key](num_features)
