"""How a table starts. Works in place and in chunks, because a table may fill most of the memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intarsia.core.errors import BuildError
from intarsia.nn.component import nearest
from intarsia.nn.embedding.spec import TableSpec

_CHUNK = 1 << 14  # Fits the cache, and is too little to be split between threads, which the draw cannot use.
# Standard deviation of a standard normal that is cut at two standard deviations.
_CUT_STDDEV = 0.87962566103423978
_KINDS = (
    "truncated_normal_initializer",
    "random_normal_initializer",
    "glorot_normal_initializer",
    "constant_initializer",
)


def initialize_table_(rows: Tensor, spec: TableSpec, generator: torch.Generator | None = None) -> None:
    """Fills the rows of one table as its `initializer` says.

    Truncated normal values are drawn by the inverse of the distribution function, which costs one uniform number a
    value: 26 tables of a million rows and 16 numbers take about two seconds.

    Args:
        rows: (num_rows, D) of one table; changed in place.
        spec: The table.
        generator: Source of random numbers. Default: torch's global one.

    Raises:
        BuildError: The initializer is unknown, or the number of constants fits neither one nor num_rows * D.
    """
    given = {kind: message for kind, message in (spec.initializer or {}).items() if message is not None}
    unknown = next((kind for kind in given if kind not in _KINDS), None)
    if unknown is not None:
        raise BuildError(f"table `{spec.name}`: no initializer is called `{unknown}`. {nearest(unknown, _KINDS)}")
    if len(given) > 1:
        raise BuildError(f"table `{spec.name}`: a table has one initializer. Received {', '.join(given)}")
    kind, message = next(iter(given.items()), ("truncated_normal_initializer", {"stddev": spec.dim**-0.5}))
    mean, stddev = float(message.get("mean", 0.0)), float(message.get("stddev", 1.0))
    with torch.no_grad():
        if kind == "constant_initializer":
            rows.copy_(_constants(rows, spec, message.get("consts", [0.0])))
        elif kind == "random_normal_initializer":
            rows.normal_(mean, stddev, generator=generator)
        elif kind == "glorot_normal_initializer":
            stddev = math.sqrt(2.0 / (spec.num_rows + spec.dim)) / _CUT_STDDEV
            _truncated_normal_(rows, 0.0, stddev, generator)
        else:
            _truncated_normal_(rows, mean, stddev, generator)


def _constants(rows: Tensor, spec: TableSpec, consts: list[float]) -> Tensor:
    if len(consts) not in (1, rows.numel()):
        raise BuildError(
            f"table `{spec.name}`: `consts` has one value, or one for each of the {spec.num_rows} x {spec.dim} = "
            f"{rows.numel()} entries. Received {len(consts)} values"
        )
    values = torch.tensor(consts, dtype=rows.dtype, device=rows.device)
    return values if len(consts) == 1 else values.view(rows.shape)


def _truncated_normal_(rows: Tensor, mean: float, stddev: float, generator: torch.Generator | None) -> None:
    bound = math.erf(math.sqrt(2.0))  # Probability mass within two standard deviations.
    flat = rows.view(-1)
    for start in range(0, flat.shape[0], _CHUNK):
        part = flat[start : start + _CHUNK]
        part.uniform_(-bound, bound, generator=generator).erfinv_().mul_(math.sqrt(2.0) * stddev)
        # Rounding must not carry a value over the cut.
        part.clamp_(-2.0 * stddev, 2.0 * stddev).add_(mean)
