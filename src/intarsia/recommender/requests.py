"""Requests for recommendations as batches: known users, and histories of people whom nobody knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.batch_names import HISTORY, TARGET, USER
from intarsia.data.columns import Column, DenseColumn, JaggedColumn
from intarsia.data.interactions.interactions import Ints
from intarsia.recommender.log_data import SideEncoders
from intarsia.recommender.memory import Memory


@dataclass(frozen=True)
class Requests:
    """R requests.

    Attributes:
        users: (R,) user numbers, -1 for strangers.
        histories: All items of each request, oldest first.
        events: (S,) positions of the steps in the memory's log, -1 where a step came with the request.
    """

    users: Ints
    histories: Jagged
    events: Ints

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of_users(cls, memory: Memory, users: Ints) -> Requests:
        """What the log knows of users; -1 is somebody without a history."""
        histories, events = memory.histories(users)
        return cls(users, histories, events)

    @classmethod
    def of_histories(cls, histories: Sequence[Ints]) -> Requests:
        """Histories of strangers."""
        lengths = np.array([len(one) for one in histories], dtype=np.int64)
        values = np.concatenate([np.zeros(0, dtype=np.int64), *histories])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        jagged = Jagged(torch.from_numpy(values), torch.from_numpy(offsets))
        return cls(np.full(len(lengths), -1, dtype=np.int64), jagged, np.full(len(values), -1, dtype=np.int64))

    def part(self, start: int, stop: int) -> Requests:
        """Some of the requests."""
        offsets = self.histories.offsets
        first, last = int(offsets[start]), int(offsets[stop])
        histories = Jagged(self.histories.values[first:last], offsets[start : stop + 1] - first)
        return Requests(self.users[start:stop], histories, self.events[first:last])


class RequestBatches:
    """Cuts requests into batches that a model reads as it reads evaluation batches.

    Args:
        memory: The log.
        encoders: Of side features.
        max_history: Latest steps that the model reads.
    """

    def __init__(self, memory: Memory, encoders: SideEncoders, max_history: int) -> None:
        self.memory, self.encoders, self.max_history = memory, encoders, max_history
        self._of_user = encoders.columns("user", memory.users) if memory.users is not None else {}
        self._of_event = encoders.columns("context", memory.context) if memory.context is not None else {}
        self._nobody = {group: _missing(encoders, group) for group in ("user", "context")}

    def batches(self, requests: Requests, size: int) -> Iterator[tuple[Ints, Requests, Batch]]:
        """Numbers of the requests, the requests, and their batch, some at a time."""
        for start in range(0, len(requests), size):
            stop = min(start + size, len(requests))
            part = requests.part(start, stop)
            yield np.arange(start, stop), part, self.batch(part)

    def batch(self, requests: Requests) -> Batch:
        """The latest steps of the histories, and everything known beside the ids."""
        memory, jagged = self.memory, requests.histories
        starts = torch.maximum(jagged.offsets[:-1], jagged.offsets[1:] - self.max_history)
        lengths = jagged.offsets[1:] - starts
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        index = torch.repeat_interleave(starts - offsets[:-1], lengths) + torch.arange(int(offsets[-1]))
        known = np.where(memory.trained_on(requests.users), requests.users, -1)
        features: dict[str, Feature] = {
            USER: Dense(torch.from_numpy(known.astype(np.int64))),
            HISTORY: Jagged(jagged.values[index], offsets),
        }
        users = np.where(requests.users < 0, len(memory.user_ids), requests.users)
        for name, column in self._of_user.items():
            features[f"{USER}/{name}"] = _with_missing(column, self._nobody["user"][name]).take(users)
        events = requests.events[index.numpy()]
        for name, nothing in self._nobody["context"].items():
            column = self._of_event.get(name, nothing)
            place = np.where(events < 0, len(column), events)
            whole = _with_missing(column, nothing)
            features[f"{HISTORY}/{name}"] = whole.take(place)
            features[f"{TARGET}/{name}"] = nothing.take(np.zeros(len(requests), dtype=np.int64))
        return Batch(features, size=len(requests))


def _missing(encoders: SideEncoders, group: str) -> dict[str, Column]:
    """One row of each feature of a group, all of whose columns are empty."""
    encoder = encoders.by_group.get(group)
    if encoder is None:
        return {}
    empty = pl.DataFrame({name: pl.Series([None], dtype=pl.String) for name in encoder.input_columns})
    return dict(encoder.transform(empty))


def _with_missing(column: Column, nothing: Column) -> Column:
    """The column with one more row, of nothing."""
    if isinstance(column, DenseColumn) and isinstance(nothing, DenseColumn):
        return DenseColumn(np.concatenate([column.values, nothing.values]))
    assert isinstance(column, JaggedColumn)
    end = np.array([0], dtype=column.ends.dtype)
    return JaggedColumn(
        column.values,
        np.concatenate([column.starts, end]),
        np.concatenate([column.ends, end]),
        column.weights,
        column.inner_offsets,
    )
