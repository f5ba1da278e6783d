"""Users with four separate interests, and how many of them a recommender finds.

The catalogue has four departments of as many clusters each. A user likes one cluster of every department and takes its
items in random order, so that nothing tells which interest comes next; clusters are equally popular.

A vector of D numbers cuts the catalogue with one plane through the origin. In few dimensions no plane has four clusters
in all four corners of the catalogue on one side and everything else on the other, whereas four vectors need only point
at one cluster each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

INTERESTS = 4


@dataclass(frozen=True)
class Planted:
    """U users with histories of four interests each.

    Attributes:
        clusters: Clusters of a department.
        size: Items of a cluster.
        items: (U, L) what each user has taken, in this order.
        liked: (U, 4) clusters of each user.
    """

    clusters: int
    size: int
    items: npt.NDArray[np.int64]
    liked: npt.NDArray[np.int64]

    @property
    def num_items(self) -> int:
        return INTERESTS * self.clusters * self.size

    def recovered(self, top: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(U,) how many of its interests each user finds among the items recommended (U, k)."""
        found = top[:, :, None] // self.size == self.liked[:, None, :]
        return found.any(axis=1).sum(axis=1)


def planted_interests(num_users: int, *, clusters: int = 12, size: int = 8, taken: int = 4, seed: int = 0) -> Planted:
    """Users who have taken `taken` of the `size` items of each cluster that they like."""
    rng = np.random.default_rng(seed)
    liked = rng.integers(0, clusters, (num_users, INTERESTS)) + clusters * np.arange(INTERESTS)
    within = rng.random((num_users, INTERESTS, size)).argsort(axis=2)[:, :, :taken]
    items = (liked[:, :, None] * size + within).reshape(num_users, -1)
    return Planted(clusters, size, rng.permuted(items, axis=1), liked)
