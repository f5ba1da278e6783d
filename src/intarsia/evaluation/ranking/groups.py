"""Which group a query belongs to, for metrics broken down by group."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from intarsia.config.schema.evaluation import QueryGroup
from intarsia.evaluation.ranking.queries import Ranked, RankingQueries
from intarsia.evaluation.ranking.spec import LogFacts

HISTORY_EDGES = (1, 5, 10, 20, 50, 100)
"""First lengths of the buckets of histories."""
LABELS: Mapping[QueryGroup, tuple[str, ...]] = MappingProxyType(
    {
        "new_users": ("known users", "new users"),
        "popularity": ("head", "middle", "tail"),
        "history": (
            "0 items",
            *(f"{a}-{b - 1} items" for a, b in pairwise(HISTORY_EDGES)),
            f"{HISTORY_EDGES[-1]}+ items",
        ),
    }
)
"""Names of the groups of each breakdown."""


class QueryGroups:
    """Sorts queries into groups.

    - `new_users`: whether training saw the user.
    - `popularity`: items sorted by training interactions; the first ones, which have a third of all interactions, are
      the head, the next third the middle, the rest the tail. A query belongs where the median of its targets belongs
      (of two in the middle, the more popular one).
    - `history`: length of the history, in buckets.

    Args:
        kinds: The breakdowns.
        facts: Of the log.
    """

    def __init__(self, kinds: tuple[QueryGroup, ...], facts: LogFacts) -> None:
        self.kinds, self.facts = kinds, facts
        if "popularity" in kinds:
            assert facts.item_counts is not None
            counts = facts.item_counts.cpu().double()
            order = counts.argsort(descending=True, stable=True)
            before = counts[order].cumsum(0) - counts[order]
            bucket = (3 * before / counts.sum().clamp(min=1)).long().clamp(max=2)
            self.place, self.bucket = torch.empty_like(order), torch.empty_like(order)
            self.place[order], self.bucket[order] = torch.arange(len(order)), bucket
            self.bucket[counts == 0] = 2

    def codes(self, queries: RankingQueries, ranked: Ranked) -> dict[QueryGroup, Tensor]:
        """(B,) int64 position in `LABELS` of each breakdown."""
        return {kind: getattr(self, f"_{kind}")(queries, ranked) for kind in self.kinds}

    def _new_users(self, queries: RankingQueries, ranked: Ranked) -> Tensor:
        trained, users = self.facts.trained, queries.users.cpu()
        assert trained is not None
        return (~(trained.cpu()[users.clamp(min=0)] & (users >= 0))).long()

    def _popularity(self, queries: RankingQueries, ranked: Ranked) -> Tensor:
        places = self.place[ranked.items]
        order = places.argsort(stable=True)
        order = order[ranked.rows[order].argsort(stable=True)]
        firsts = ranked.num_targets.cumsum(0) - ranked.num_targets
        median = firsts + (ranked.num_targets - 1).clamp(min=0) // 2
        out = torch.full((len(firsts),), 2, dtype=torch.int64)
        full = ranked.num_targets > 0
        out[full] = self.bucket[ranked.items[order[median[full]]]]
        return out

    def _history(self, queries: RankingQueries, ranked: Ranked) -> Tensor:
        lengths = queries.excluded.lengths if queries.histories is None else queries.histories
        return torch.bucketize(lengths.cpu(), torch.tensor(HISTORY_EDGES), right=True)
