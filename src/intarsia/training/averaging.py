"""The exponential moving average of the dense parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class MovingAverage:
    """average <- decay * average + (1 - decay) * weights, after every update; it starts at the initial weights.

    Only dense parameters are averaged. Embedding tables are evaluated and exported as they are: an average would
    touch every row at every step, which the rest of the system avoids, and a row changes only when it is seen.

    Args:
        parameters: Averaged parameters by name.
        decay: Weight of the past.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self._names = list(parameters)
        self._live = [tensor.detach() for tensor in parameters.values()]
        self._average = [tensor.clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after an update."""
        torch._foreach_lerp_(self._average, self._live, 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the model the averaged weights for good."""
        torch._foreach_copy_(self._live, self._average)

    def state(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(zip(self._names, self._average))

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        for name, average in zip(self._names, self._average):
            average.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        kept = [tensor.clone() for tensor in self._live]
        torch._foreach_copy_(self._live, self._average)
        torch._foreach_copy_(self._average, kept)
