"""Negatives to rank targets against, drawn for each user by a seed and nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from intarsia.config.schema.evaluation import RankingProtocol
from intarsia.core.batch import Jagged
from intarsia.core.errors import DataError
from intarsia.evaluation.ranking.evaluate import mix64

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
ROUNDS = 8
"""A user whose negatives are not found within this many times their number gets them by a draw over all items."""
DENSE_NUMBERS = 1 << 22
"""Keys of such draws that are in memory at a time."""


class NegativeSampler:
    """Draws M different items for each user, none of which is excluded.

    The draws of a user are a stream of numbers that depends on the seed and the user alone, so they are the same in any
    batch, in any order, in any process. The distribution is that of drawing one item after the other, each item alike
    or in proportion to count^alpha, and passing over excluded ones and repetitions.

    Args:
        protocol: How many, by what, and the seed.
        num_items: N.
        item_counts: (N,) training interactions, for draws by popularity; items without any are never drawn.
    """

    def __init__(self, protocol: RankingProtocol, num_items: int, item_counts: Tensor | None = None) -> None:
        self.num, self.num_items = protocol.num_negatives, num_items
        self.seed = mix64(np.array([protocol.seed], dtype=np.uint64) + np.uint64(1))[0]
        self.weights: npt.NDArray[np.float64] | None = None
        if protocol.sampler == "popularity":
            if item_counts is None:
                raise DataError("negatives by popularity need the training interactions of the items. Received none.")
            self.weights = item_counts.double().cpu().numpy() ** protocol.alpha
            self.weights[item_counts.cpu().numpy() == 0] = 0.0
            self._bounds = self.weights.cumsum() / self.weights.sum()

    def draw(self, users: Tensor, excluded: Jagged) -> Tensor:
        """Negatives of B users.

        Args:
            users: (B,) user numbers.
            excluded: Items that are no negatives, such as targets and history, in any order.

        Returns:
            (B, M) int64, in the order of the draws; -1 at the end for a user with fewer than M items left.
        """
        names, batch = users.cpu().numpy().astype(np.uint64), len(users)
        rows = np.repeat(np.arange(batch, dtype=np.int64), excluded.lengths.cpu().numpy())
        barred = np.unique(rows * self.num_items + excluded.values.cpu().numpy())
        width = 2 * self.num
        found = np.full((batch, self.num), -1, dtype=np.int64)
        open_rows = np.arange(batch)
        while len(open_rows) and width <= ROUNDS * self.num:
            drawn = self._stream(names[open_rows], width)
            own, enough = _first_good(drawn, open_rows, barred, self.num_items, self.num)
            found[open_rows[enough]] = own[enough]
            open_rows, width = open_rows[~enough], 2 * width
        step = max(1, DENSE_NUMBERS // self.num_items)
        for start in range(0, len(open_rows), step):
            part = open_rows[start : start + step]
            found[part] = self._over_all(names[part], part, barred)
        return torch.from_numpy(found)

    def _uniform(self, names: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        """(B, n) numbers in [0, 1): the given ones of each user's stream."""
        with np.errstate(over="ignore"):
            base = mix64(names + self.seed)[:, None]
            bits = mix64(base + numbers * np.uint64(0xD1342543DE82EF95))
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def _stream(self, names: npt.NDArray[np.uint64], width: int) -> Ints:
        """(B, width) first items of each user's stream, with repetitions."""
        uniform = self._uniform(names, np.arange(1, width + 1, dtype=np.uint64))
        if self.weights is None:
            return (uniform * self.num_items).astype(np.int64)
        return np.searchsorted(self._bounds, uniform, side="right").clip(max=self.num_items - 1).astype(np.int64)

    def _over_all(self, names: npt.NDArray[np.uint64], rows: Ints, barred: Ints) -> Ints:
        """(B, M) by a key for every item: log(u) / weight, the largest first.

        Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir (2006): the same distribution as
        drawing one after the other.
        """
        items = np.arange(self.num_items, dtype=np.int64)
        uniform = self._uniform(names, (items + 1).astype(np.uint64) << np.uint64(32))
        keys = np.log(uniform + 2.0**-54)
        if self.weights is not None:
            with np.errstate(divide="ignore"):
                keys = np.where(self.weights > 0, keys / self.weights, -np.inf)
        keys[_has(barred, rows[:, None] * self.num_items + items)] = -np.inf
        best = np.argsort(-keys, axis=1, kind="stable")[:, : self.num]
        best[np.take_along_axis(keys, best, axis=1) == -np.inf] = -1
        if best.shape[1] < self.num:
            best = np.pad(best, ((0, 0), (0, self.num - best.shape[1])), constant_values=-1)
        return best


def _first_good(drawn: Ints, rows: Ints, barred: Ints, num_items: int, wanted: int) -> tuple[Ints, Bools]:
    """(B, wanted) first items that are neither barred nor repeated, and whether there are so many."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    again = np.zeros_like(ordered, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    good = np.empty_like(again)
    np.put_along_axis(good, order, ~again, axis=1)
    good &= ~_has(barred, rows[:, None] * num_items + drawn)
    place = good.cumsum(axis=1)
    enough = place[:, -1] >= wanted
    out = np.full((len(drawn), wanted), -1, dtype=np.int64)
    row, column = np.nonzero(good & (place <= wanted))
    out[row, place[row, column] - 1] = drawn[row, column]
    return out, enough


def _has(keys: Ints, wanted: Ints) -> Bools:
    """Whether sorted keys hold the wanted ones."""
    if not len(keys):
        return np.zeros(wanted.shape, dtype=bool)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.asarray(keys[place] == wanted)
