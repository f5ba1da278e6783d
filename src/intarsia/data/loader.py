"""Batches of a data set, epoch by epoch, in an order that only the seed decides."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from intarsia.core.batch import Batch
from intarsia.data.columns import Rows

T = TypeVar("T")


class RowSource(Protocol):
    """What a `Loader` reads: rows by number."""

    @property
    def num_rows(self) -> int:
        """N."""

    def take(self, rows: Rows) -> Batch:
        """The given rows, in the given order."""


class Loader:
    """Cuts a data set into batches.

    The order of the rows is a permutation of all of them, drawn anew for each epoch from (seed, epoch). It depends
    on nothing else: not on the batch size, not on prefetching, not on the number of processes. A position in the
    data is a pair (epoch, number of the batch), and any position can be gone to at once.

    Args:
        dataset: The rows.
        batch_size: Rows in one batch over all processes.
        shuffle: Whether rows are permuted; otherwise they come in stored order.
        seed: Seed of the permutations.
        drop_remainder: Whether an epoch's last batch is left out where it is smaller than `batch_size`.
        prefetch: Batches that a thread prepares ahead; 0: none, and no thread.
        rank: Number of this process.
        world_size: Number of processes. Each takes its own consecutive part of every global batch; parts differ
            by at most one row, and can be empty in a small last batch, so that all make equally many steps.
        lengths: (N,) sizes of the rows, where batches should hold rows of like size: of every `BUCKET` batches of the
            permutation, the rows are sorted by length, and the batches mixed again. Default: the permutation itself.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        dataset: RowSource,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        prefetch: int = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> None:
        check_loader_arguments(batch_size, prefetch, rank, world_size)
        self.dataset = dataset
        self.lengths = lengths
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_remainder = drop_remainder
        self.prefetch = prefetch
        self.rank = rank
        self.world_size = world_size

    @property
    def batches_per_epoch(self) -> int:
        """Number of global batches in one epoch."""
        full, rest = divmod(self.dataset.num_rows, self.batch_size)
        return full if self.drop_remainder or rest == 0 else full + 1

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            epoch: Number of the epoch.
            start_batch: Batches to skip; they are not computed.
        """
        return prefetched(lambda: self._batches(epoch, start_batch), self.prefetch)

    def _batches(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        num_rows = self.dataset.num_rows
        order = permutation(num_rows, self.seed, epoch) if self.shuffle else None
        if order is not None and self.lengths is not None:
            order = bucketed(order, self.lengths, self.batch_size, self.seed, epoch)
        for batch in range(start_batch, self.batches_per_epoch):
            begin = batch * self.batch_size
            end = min(begin + self.batch_size, num_rows)
            begin, end = share(begin, end, self.rank, self.world_size)
            yield self.dataset.take(slice(begin, end) if order is None else order[begin:end])


def permutation(num_rows: int, seed: int, epoch: int) -> npt.NDArray[np.integer[Any]]:
    """The order of the rows in one epoch."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    order: npt.NDArray[np.integer[Any]]
    order = np.arange(num_rows, dtype=np.int32) if num_rows < 2**31 else np.arange(num_rows, dtype=np.int64)
    generator.shuffle(order)
    return order


BUCKET = 32
"""Batches whose rows are sorted by length together."""


def bucketed(
    order: npt.NDArray[np.integer[Any]], lengths: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> npt.NDArray[np.integer[Any]]:
    """The order with rows of like length side by side inside of buckets; full batches of a bucket come mixed."""
    size = batch_size * BUCKET
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, 1])))
    parts = []
    for start in range(0, len(order), size):
        part = order[start : start + size]
        part = part[np.argsort(lengths[part], kind="stable")]
        full = len(part) // batch_size * batch_size
        # The short last batch of the epoch must stay last.
        head, tail = part[:full].reshape(-1, batch_size), part[full:]
        parts += [head[generator.permutation(len(head))].reshape(-1), tail]
    return np.concatenate(parts) if parts else order


def share(begin: int, end: int, rank: int, world_size: int) -> tuple[int, int]:
    """The consecutive part of the rows `begin:end` that belongs to one process."""
    size = end - begin
    return begin + size * rank // world_size, begin + size * (rank + 1) // world_size


def check_loader_arguments(batch_size: int, prefetch: int, rank: int, world_size: int) -> None:
    """Raises a `ValueError` for sizes that make no sense."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    if prefetch < 0:
        raise ValueError(f"`prefetch` must not be negative. Received: {prefetch}.")
    if not 0 <= rank < world_size:
        raise ValueError(f"`rank` must lie in 0 <= rank < world_size. Received: rank {rank} of {world_size}.")


def prefetched(make: Callable[[], Iterator[T]], size: int) -> Iterator[T]:
    """The items of an iterator, up to `size` of them made ahead by a thread, the one it is working on included.

    An exception of the iterator is raised at the place of the item it prevented, with its own traceback. When
    the result is dropped or closed early, the thread stops after the item it is working on.

    Args:
        make: Makes the iterator; called in the thread.
        size: Items made ahead; 0: no thread.
    """
    if size == 0:
        yield from make()
        return
    items: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(size)
    stop = threading.Event()

    def work() -> None:
        try:
            source = make()
            while True:
                room.acquire()
                if stop.is_set():
                    return
                try:
                    item = next(source)
                except StopIteration:
                    items.put((None, _END))
                    return
                items.put((item, None))
                del item  # a large item must not outlive its turn while the next one is made
        except BaseException as error:  # handed to the reader, who raises it
            items.put((None, error))

    thread = threading.Thread(target=work, name="intarsia-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = items.get()
            if error is _END:
                return
            if error is not None:
                raise error
            room.release()
            yield item  # type: ignore[misc]
            item = None
    finally:
        stop.set()
        room.release()
        thread.join()


_END = StopIteration("the end of the items")
