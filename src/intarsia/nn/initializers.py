"""Initial values of weights by name, with the scales that Keras gives these names."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from intarsia.core.errors import BuildError
from intarsia.nn.component import nearest

_STDDEV = 0.05
# Standard deviation of a normal distribution that is cut at two standard deviations.
_CUT_STDDEV = 0.87962566103423978


def truncated_normal_(weight: Tensor, stddev: float = _STDDEV) -> Tensor:
    """Normal values around 0, redrawn where they are more than two standard deviations away."""
    return nn.init.trunc_normal_(weight, 0.0, stddev, -2 * stddev, 2 * stddev)


def _fans(weight: Tensor) -> tuple[float, float]:
    if weight.dim() < 2:
        return float(weight.numel()), float(weight.numel())
    field = math.prod(weight.shape[2:])
    return float(weight.shape[1] * field), float(weight.shape[0] * field)


def _uniform(scale: Callable[[float, float], float]) -> Callable[[Tensor], Tensor]:
    def initialize(weight: Tensor) -> Tensor:
        limit = math.sqrt(3.0 * scale(*_fans(weight)))
        return nn.init.uniform_(weight, -limit, limit)

    return initialize


def _normal(scale: Callable[[float, float], float]) -> Callable[[Tensor], Tensor]:
    def initialize(weight: Tensor) -> Tensor:
        return truncated_normal_(weight, math.sqrt(scale(*_fans(weight))) / _CUT_STDDEV)

    return initialize


def _he(fan_in: float, fan_out: float) -> float:
    return 2.0 / fan_in


def _glorot(fan_in: float, fan_out: float) -> float:
    return 2.0 / (fan_in + fan_out)


def _lecun(fan_in: float, fan_out: float) -> float:
    return 1.0 / fan_in


INITIALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "glorot_uniform": _uniform(_glorot),
    "glorot_normal": _normal(_glorot),
    "lecun_uniform": _uniform(_lecun),
    "lecun_normal": _normal(_lecun),
    "truncated_normal": truncated_normal_,
    "random_normal": lambda weight: nn.init.normal_(weight, 0.0, _STDDEV),
    "random_uniform": lambda weight: nn.init.uniform_(weight, -_STDDEV, _STDDEV),
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
}


def initialize_(weight: Tensor, name: str) -> Tensor:
    """Fills a weight in place and returns it.

    Args:
        weight: (out, in) of a dense layer, (out, in, width) of a convolution, or a bias.
        name: he_uniform, he_normal, glorot_uniform (also xavier_uniform), glorot_normal, lecun_uniform, lecun_normal,
            truncated_normal, random_normal, random_uniform, orthogonal, zeros or ones.

    Raises:
        BuildError: The name is unknown.
    """
    key = name.lower().replace("xavier", "glorot")
    if key not in INITIALIZERS:
        raise BuildError(f"no initializer is called `{name}`. {nearest(name, INITIALIZERS)}")
    with torch.no_grad():
        return INITIALIZERS[key](weight)
