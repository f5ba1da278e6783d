"""Batches of data that do not fit in memory: read, encoded and mixed by row groups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intarsia.config.schema import DataConfig, PipelineConfig
from intarsia.core.batch import Batch
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.labels import without_unlabelled
from intarsia.data.loader import check_loader_arguments, prefetched, share
from intarsia.data.reading import ReadResult, RowGroup, RowGroupReader, iter_row_groups
from intarsia.data.reading.table import skips_bad_rows
from intarsia.data.rows import encode_rows
from intarsia.data.schema import Schema

LOG = logging.getLogger("intarsia")

MAX_BUFFER_BYTES = 1 << 27
"""Bytes of row groups, before encoding, that are mixed at a time. A constant, since the order of the rows follows."""


@dataclass(frozen=True)
class Group:
    """One piece of the data.

    Attributes:
        read: Reads and encodes it.
        rows: Number of rows; None where it is known only after reading.
        nbytes: Size in memory, roughly.
    """

    read: Callable[[], SampleDataset]
    rows: int | None = None
    nbytes: int = 0


class StreamingSource:
    """Cuts a stream of groups into batches, with the methods of a `Loader`.

    Without shuffling the batches are those of a `Loader` over all rows: what a group leaves over goes into a batch
    with the rows of the next one. With shuffling the order of the groups is drawn anew in each epoch, `buffer_groups`
    of them at a time are held together, and their rows are permuted. The order depends on nothing but the seed and
    the epoch. It is not a permutation over all rows, as that of a `Loader` is: rows mix with those of the groups that
    fall into the same buffer.

    Memory holds one buffer, and one more where `prefetch` is on, which is being read or waits.

    Args:
        groups: The pieces.
        batch_size: Rows in one batch over all processes.
        shuffle: Whether groups and rows are mixed; otherwise they come in stored order.
        seed: Seed of the order.
        drop_remainder: Whether an epoch's last batch is left out where it is smaller than `batch_size`.
        prefetch: Batches that a thread prepares ahead; 0: none, and no threads.
        buffer_groups: Groups that are mixed at a time.
        max_buffer_bytes: Bound on the sum of the groups' `nbytes` in one buffer; one group may be larger.
        rank: Number of this process.
        world_size: Number of processes. Every process reads everything and keeps its part of each global batch.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        prefetch: int = 0,
        *,
        buffer_groups: int = 32,
        max_buffer_bytes: int = MAX_BUFFER_BYTES,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_loader_arguments(batch_size, prefetch, rank, world_size)
        self.groups = tuple(groups)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_remainder = drop_remainder
        self.prefetch = prefetch
        self.rank = rank
        self.world_size = world_size
        self._buffer_groups = max(buffer_groups, 1) if shuffle else 1
        self._max_buffer_bytes = max_buffer_bytes

    @property
    def num_rows(self) -> int | None:
        """Rows in one epoch; None where that is known only at its end."""
        rows = [group.rows for group in self.groups if group.rows is not None]
        return sum(rows) if len(rows) == len(self.groups) else None

    @property
    def batches_per_epoch(self) -> int | None:
        """Number of global batches in one epoch; None where that is known only at its end."""
        if self.num_rows is None:
            return None
        full, rest = divmod(self.num_rows, self.batch_size)
        return full if self.drop_remainder or rest == 0 else full + 1

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            epoch: Number of the epoch.
            start_batch: Batches to skip. Groups whose number of rows is known are not read for it.
        """
        return prefetched(lambda: self._batches(epoch, start_batch), self.prefetch)

    def buffers(self, epoch: int) -> list[list[int]]:
        """Numbers of the groups that are held together, in the order in which they are read."""
        order = np.arange(len(self.groups))
        if self.shuffle:
            _generator(self.seed, epoch).shuffle(order)
        buffers: list[list[int]] = []
        size = 0
        for number in order.tolist():
            size += self.groups[number].nbytes
            full = buffers and len(buffers[-1]) >= self._buffer_groups
            if not buffers or full or size > self._max_buffer_bytes:
                buffers.append([])
                size = self.groups[number].nbytes
            buffers[-1].append(number)
        return buffers

    def _batches(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        carried: list[SampleDataset] = []
        waiting = 0
        ahead = 1 if self.prefetch else 0
        for dataset, order in prefetched(lambda: self._mixed(epoch, start_batch * self.batch_size), ahead):
            at = 0
            while at < len(order):
                taken = order[at : at + self.batch_size - waiting]
                at += len(taken)
                waiting += len(taken)
                if waiting < self.batch_size:
                    carried.append(dataset.gather(taken))
                elif carried:
                    yield self._share(SampleDataset.concat([*carried, dataset.gather(taken)]))
                else:
                    begin, end = share(0, len(taken), self.rank, self.world_size)
                    yield dataset.take(taken[begin:end])
                if waiting == self.batch_size:
                    carried, waiting = [], 0
            del dataset
        if carried and not self.drop_remainder:
            yield self._share(SampleDataset.concat(carried))

    def _share(self, whole: SampleDataset) -> Batch:
        return whole.take(slice(*share(0, whole.num_rows, self.rank, self.world_size)))

    def _mixed(self, epoch: int, skip: int) -> Iterator[tuple[SampleDataset, npt.NDArray[np.int64]]]:
        """Each buffer's rows and their order, without the first `skip` rows of the epoch."""
        for number, buffer in enumerate(self.buffers(epoch)):
            known = [self.groups[k].rows for k in buffer]
            rows = sum(r for r in known if r is not None)
            if None not in known and skip >= rows:
                skip -= rows
                continue
            dataset = SampleDataset.concat([self.groups[k].read() for k in buffer])
            order = np.arange(dataset.num_rows)
            if self.shuffle:
                _generator(self.seed, epoch, number + 1).shuffle(order)
            if skip < dataset.num_rows:
                yield dataset, order[skip:]
            skip = max(skip - dataset.num_rows, 0)
            del dataset


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(numbers))))


def open_stream(
    paths: Sequence[str | Path],
    data_config: DataConfig,
    encoder: FeatureEncoder,
    *,
    schema: Callable[[], Schema],
    columns: Collection[str],
    label: str,
    ids: Sequence[str],
    config: PipelineConfig,
    rank: int = 0,
    world_size: int = 1,
) -> StreamingSource:
    """Training batches of Parquet files, read by row groups at each pass.

    An encoder that has something to learn is fitted first, in one pass over the files.

    Args:
        paths: The files.
        data_config: Format, columns, batches.
        encoder: Encodes the features.
        schema: Gives the schema once the encoder is fitted.
        columns: Raw columns that are needed.
        label: Name of the label.
        ids: Raw columns that metrics and losses group rows by.
        config: The pipeline: its seed, and what labels its loss can use.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        DataError: Data are missing or break a rule.
    """
    skips = skips_bad_rows(data_config)
    reader = RowGroupReader(paths, data_config, columns=columns)
    told: set[str | RowGroup] = set()

    def usable(entry: RowGroup) -> ReadResult:
        rows = without_unlabelled(reader.read(entry), data_config, [label])
        if rows.skipped and entry not in told:
            told.add(entry)
            LOG.warning("%s, row group %d. %s", entry.file, entry.group_index, rows.report())
        return rows

    if not encoder.is_fitted:
        LOG.info("one pass over the row groups to learn vocabularies")
        if skips:  # rows that are left out teach nothing
            encoder.fit(usable(entry).frame for entry in reader.index)
        else:
            needed = [name for name in columns if name in encoder.input_columns]
            encoder.fit(frame for *_, frame in iter_row_groups(paths, data_config, columns=needed))
    made = schema()

    def read(entry: RowGroup) -> SampleDataset:
        rows = usable(entry)
        dataset = encode_rows(encoder, rows, data_config, made, label, ids, config.model)
        for rule in encoder.skipped.keys() - told:
            told.add(rule)
            LOG.warning("%s, row group %d and perhaps others: %s", entry.file, entry.group_index, rule)
        return dataset

    # Where bad rows are left out, a group's number of rows is known only after reading it.
    groups = [
        Group(lambda entry=entry: read(entry), None if skips else entry.rows, entry.nbytes)  # type: ignore[misc]
        for entry in reader.index
    ]
    return StreamingSource(
        groups,
        data_config.batch_size,
        data_config.shuffle,
        config.train_config.seed,
        data_config.drop_remainder,
        min(data_config.prefetch_size, 4),
        buffer_groups=data_config.shuffle_buffer_size,
        rank=rank,
        world_size=world_size,
    )
