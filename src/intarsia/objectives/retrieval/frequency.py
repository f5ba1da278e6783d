"""How often items are drawn: from counts of the training part, or estimated while training goes on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intarsia.core.errors import BuildError
from intarsia.objectives.retrieval.products import distinct

_PRIME = 2_147_483_647
_FACTOR, _SHIFT = 1_103_515_245, 12_345


def log_inclusion(log_p: Tensor, draws: int | Tensor) -> Tensor:
    """Logarithm of the probability that an item comes at least once: log(1 - (1 - p)^draws).

    Args:
        log_p: Logarithms of the probabilities of one draw.
        draws: Number of draws, a number or a tensor to go with log_p.
    """
    misses = torch.log1p(-log_p.double().exp().clamp(max=1.0)) * draws
    return torch.log(-torch.expm1(misses)).to(log_p.dtype)


class ItemCounts(nn.Module):
    """How often each item is a positive in training; the probabilities count^alpha / sum(count^alpha).

    The counts are part of the state, what follows from them is not.

    Args:
        num_items: N.
        alpha: Exponent; 1: as often as in training, 0: all alike.
    """

    counts: Tensor

    def __init__(self, *, num_items: int, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("counts", torch.zeros(num_items, dtype=torch.int64))
        self._derived: tuple[tuple[object, ...], Tensor, Tensor, int] | None = None

    def set(self, counts: Tensor) -> None:
        """Takes counts (N,).

        Raises:
            BuildError: A count is negative, or all are 0.
        """
        if bool((counts < 0).any()) or not bool((counts > 0).any()):
            raise BuildError(
                "counts of items are numbers from 0 on, not all 0. Received: "
                f"{int((counts < 0).sum())} negative of {len(counts)}, sum {int(counts.sum())}. Count the training "
                "interactions of every item."
            )
        self.counts.copy_(counts)

    @property
    def cumulative(self) -> Tensor:
        """(N,) float64 cumulative sum of count^alpha."""
        return self._of_counts()[1]

    @property
    def last(self) -> int:
        """The last item that can be drawn."""
        return self._of_counts()[3]

    def weight(self, items: Tensor) -> Tensor:
        """Float64 count^alpha of items, as the cumulative sum has it."""
        return self.cumulative[items] - self.before(items)

    def before(self, items: Tensor) -> Tensor:
        """Float64 sum of the weights of all items before."""
        found = self.cumulative[(items - 1).clamp(min=0)]
        return found.masked_fill(items == 0, 0.0)

    def draw(self, at: Tensor) -> Tensor:
        """Items at points of the cumulative sum."""
        return torch.searchsorted(self.cumulative, at, right=True).clamp_(max=self.last)

    def log_p(self, items: Tensor) -> Tensor:
        """Float32 logarithms of the probabilities of items; one that never came counts as if it had come once."""
        return self._of_counts()[2][items]

    def _of_counts(self) -> tuple[tuple[object, ...], Tensor, Tensor, int]:
        key = (self.counts.data_ptr(), self.counts._version, self.counts.device)
        if self._derived is None or self._derived[0] != key:
            counts = self.counts.double()
            weights = counts.pow(self.alpha) if self.alpha > 0 else torch.ones_like(counts)
            cumulative = weights.cumsum(0)
            if not bool((counts > 0).any()):
                raise BuildError(
                    "probabilities by popularity need counts of the items. Received: none. Call set_counts with the "
                    "number of training interactions of every item, or load a state that has them."
                )
            log_p = (counts.clamp(min=1).pow(self.alpha) / cumulative[-1]).log().float()
            self._derived = key, cumulative, log_p, int(weights.nonzero()[-1])
        return self._derived


class StreamingFrequency(nn.Module):
    """Probabilities of items, estimated from the positives that pass by.

    For each item the last draw at which it came, A, and the mean number of draws between two of its occurrences, B, are
    kept; the probability of a draw is 1 / B. At time t, in a batch where the item comes c times:

        w = max(1 - (1 - alpha)^c, c / occurrences so far)
        B = (1 - w) B + w (t - A) / c;  A = t

    Follows a distribution that changes, and needs no pass over the data beforehand.

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations (RecSys 2019),
    algorithm 2. Departures: time counts draws instead of batches, so that 1 / B is the probability of one draw and not
    of a batch, also for items that come several times in one; the average starts as a plain mean, so that no start
    value of B is needed.

    Args:
        num_items: N.
        alpha: Weight of the latest gap, above 0 and at most 1.
        buckets: Size of the arrays A and B. Items are hashed to them; 0: each item has its own place.
    """

    time: Tensor
    last: Tensor
    gap: Tensor
    seen: Tensor

    def __init__(self, *, num_items: int, alpha: float = 0.01, buckets: int = 0) -> None:
        super().__init__()
        self.alpha, self.buckets = alpha, buckets
        size = buckets or num_items
        self.register_buffer("time", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("gap", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(size, dtype=torch.int64))

    @torch.no_grad()
    def update(self, items: Tensor) -> None:
        """Takes a batch of positives (P,) in."""
        self.time += items.shape[0]
        places, inverse = distinct(self._place(items), len(self.seen))
        times = inverse.bincount(minlength=len(places))
        self.seen[places] += times
        weight = torch.maximum(1 - (1 - self.alpha) ** times.double(), times / self.seen[places])
        found = (self.time - self.last[places]) / times
        self.gap[places] += weight * (found - self.gap[places])
        self.last[places] = self.time

    def log_p(self, items: Tensor) -> Tensor:
        """Float32 logarithms of the probabilities of a draw; of an item that never came, as if it came next."""
        places = self._place(items)
        gap = torch.where(self.seen[places] > 0, self.gap[places], (self.time + 1).double())
        return -gap.clamp(min=1.0).log().float()

    def _place(self, items: Tensor) -> Tensor:
        return ((items * _FACTOR + _SHIFT) % _PRIME) % self.buckets if self.buckets else items
