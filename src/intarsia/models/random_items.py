"""Random: items at random."""

from __future__ import annotations

import torch
from torch import Tensor

from intarsia.core.batch import Batch, Dense
from intarsia.core.batch_names import USER
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.retriever import history_of, rows_and_steps
from intarsia.models.solver import Solver

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)
"""2^64 over the golden ratio, as a signed number."""


class Random(Solver):
    """Scores every item with a random number between 0 and 1.

    The floor that anything must beat, and a check of an evaluation: its hit rate at k is about k / N.

    A score is a hash of the seed, the query (its user and its history) and the item. So the same query always gets
    the same answer, whatever else is in its batch and however many items are scored at a time.

    Shapes: queries (B,) int64.

    Source: the hash is the finalizer of Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA
    2014), figure 16.
    """

    reads = frozenset({"user", "history"})
    answers_empty = True

    def __init__(self, *, schema: Schema) -> None:
        super().__init__()
        self.num_items = schema.num_items
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    def fit(self, division: Division, seed: int) -> None:
        """Takes the seed."""
        self.get_buffer("seed").fill_(seed)

    def queries(self, batch: Batch) -> Tensor:
        """(B,) a number for each query."""
        user, history = batch.features[USER], history_of(batch)
        assert isinstance(user, Dense)
        rows, steps = rows_and_steps(history.offsets, len(history.values))
        taken = _mixed(_mixed(history.values) + steps)
        of_history = torch.zeros_like(user.values).index_add_(0, rows, taken)
        return _mixed(_mixed(of_history + user.values) + self.get_buffer("seed"))

    def score_block(self, queries: Tensor, catalogue: None, start: int, stop: int) -> Tensor:
        """(B, stop - start)."""
        return _uniform(queries.unsqueeze(1), torch.arange(start, stop, device=queries.device))

    def score_pairs(self, queries: Tensor, catalogue: None, items: Tensor) -> Tensor:
        """(B, M)."""
        return _uniform(queries.unsqueeze(1), items)


def _uniform(queries: Tensor, items: Tensor) -> Tensor:
    """Numbers in [0, 1), in steps of 2^-24, which single precision holds exactly."""
    return (_mixed(queries ^ _mixed(items)) >> 40 & 0xFFFFFF).float() / (1 << 24)


def _mixed(numbers: Tensor) -> Tensor:
    """A one-to-one scramble of 64-bit numbers."""
    out = (numbers + 1) * _ODD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64))):
        out = (out ^ _shifted(out, shift)) * factor
    return out ^ _shifted(out, 31)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """Shifted to the right with zeros coming in from the left, which int64 does not do by itself."""
    return numbers >> by & (1 << 64 - by) - 1


MODEL = Random
