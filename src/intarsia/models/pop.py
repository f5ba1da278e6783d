"""Pop: what most people took."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.core.errors import DataError
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.interactions.views import window_index
from intarsia.data.schema import Schema
from intarsia.models.solver import Solver


class Pop(Solver):
    """Scores an item by the number of its training interactions, recent ones counting more if asked for.

    The yardstick that every other model has to beat, and the fallback of most for people without a history.

        score(i) = sum over interactions e of i of 2 ** -((T - time_e) / half_life)

    with T the time of the last training interaction; without a half-life every interaction counts 1.

    Shapes: scores (N,), the same for all queries.

    Source: the count is folklore; fading counts are Ji et al., A Re-visit of the Popularity Baseline in Recommender
    Systems (SIGIR 2020), section 3.
    """

    reads = frozenset[str]()
    answers_empty = True

    def __init__(
        self,
        *,
        schema: Schema,
        half_life_days: Annotated[
            float, Param("Days after which an interaction counts half; 0: all count alike. Needs times.", ge=0)
        ] = 0.0,
    ) -> None:
        super().__init__()
        self.num_items, self.half_life_days = schema.num_items, half_life_days
        self.register_buffer("scores", torch.zeros(schema.num_items))

    def fit(self, division: Division, seed: int) -> None:
        """Counts."""
        log = division.log
        index, _ = window_index(division.train_starts, division.train_ends)
        weights = None
        if self.half_life_days:
            if log.times is None:
                raise DataError(
                    f"pop.half_life_days needs the times of the interactions. Received: {self.half_life_days:g} and a "
                    "log without log.time_field. Name the column, or set half_life_days: 0."
                )
            times = log.times[index]
            weights = np.exp2((times - times.max()) / (86400.0 * self.half_life_days))
        counts = np.bincount(log.items[index], weights, minlength=log.num_items)
        self.get_buffer("scores").copy_(torch.from_numpy(counts.astype(np.float32)))

    def queries(self, batch: Batch) -> int:
        """B."""
        return batch.size

    def score_block(self, queries: int, catalogue: None, start: int, stop: int) -> Tensor:
        """(B, stop - start)."""
        return self.get_buffer("scores")[start:stop].expand(queries, stop - start)


MODEL = Pop
