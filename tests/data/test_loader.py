import threading
import time
import traceback

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intarsia.data.columns import DenseColumn
from intarsia.data.dataset import SampleDataset
from intarsia.data.loader import Loader, permutation, prefetched
from intarsia.data.schema import FeatureSpec, Schema


def numbered(num_rows):
    schema = Schema({"row": FeatureSpec("row", "id", num_ids=max(num_rows, 1))})
    return SampleDataset(schema, {"row": DenseColumn(np.arange(num_rows))}, num_rows=num_rows)


def read(loader, epoch=0, start_batch=0):
    return [batch.features["row"].values.tolist() for batch in loader.epoch(epoch, start_batch)]


def flat(batches):
    return [row for batch in batches for row in batch]


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_is_a_permutation_of_all_rows_whatever_the_batch_size(rows, size, seed, epoch):
    dataset = numbered(rows)
    got = read(Loader(dataset, size, shuffle=True, seed=seed), epoch)
    assert sorted(flat(got)) == list(range(rows))
    assert flat(got) == flat(read(Loader(dataset, 7, shuffle=True, seed=seed), epoch))
    assert len(got) == Loader(dataset, size).batches_per_epoch


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 5), st.booleans())
def test_processes_share_each_global_batch(rows, size, world, drop):
    dataset = numbered(rows)
    whole = read(Loader(dataset, size, shuffle=True, seed=3, drop_remainder=drop))
    parts = [
        read(Loader(dataset, size, shuffle=True, seed=3, drop_remainder=drop, rank=r, world_size=world))
        for r in range(world)
    ]
    assert [flat(batch) for batch in zip(*parts, strict=True)] == whole
    for batch in zip(*parts, strict=True):
        sizes = [len(part) for part in batch]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("prefetch", [1, 3, 100])
def test_prefetching_changes_nothing(prefetch):
    dataset = numbered(50)
    plain = Loader(dataset, 8, shuffle=True, seed=1)
    ahead = Loader(dataset, 8, shuffle=True, seed=1, prefetch=prefetch)
    assert read(ahead, epoch=2) == read(plain, epoch=2)
    assert read(ahead, epoch=2, start_batch=3) == read(plain, epoch=2)[3:]


def test_epochs_and_seeds_differ_and_repeat():
    loader = Loader(numbered(100), 100, shuffle=True, seed=5)
    assert read(loader, 0) == read(loader, 0)
    assert read(loader, 0) != read(loader, 1)
    assert read(loader, 0) != read(Loader(numbered(100), 100, shuffle=True, seed=6), 0)


def test_the_definition_of_the_order_is_pinned():
    assert permutation(10, seed=42, epoch=7).tolist() == [6, 5, 7, 2, 8, 9, 0, 1, 4, 3]


def test_stored_order_and_last_batch():
    assert read(Loader(numbered(5), 2)) == [[0, 1], [2, 3], [4]]
    assert read(Loader(numbered(5), 2, drop_remainder=True)) == [[0, 1], [2, 3]]
    assert read(Loader(numbered(5), 2), start_batch=2) == [[4]]
    assert read(Loader(numbered(5), 2), start_batch=9) == []


def test_skipped_batches_are_not_computed():
    class Counting:
        num_rows = 100
        taken = 0

        def take(self, rows):
            self.taken += 1
            return rows

    source = Counting()
    assert len(list(Loader(source, 10).epoch(0, start_batch=8))) == 2
    assert source.taken == 2


class Failing:
    num_rows = 10

    def take(self, rows):
        if rows.start == 4:
            raise RuntimeError("row group 4 is damaged")
        return rows


@pytest.mark.parametrize("prefetch", [0, 1, 8])
def test_an_exception_comes_where_its_batch_would_have_come(prefetch):
    batches = Loader(Failing(), 2, prefetch=prefetch).epoch(0)
    assert [next(batches), next(batches)] == [slice(0, 2), slice(2, 4)]
    with pytest.raises(RuntimeError, match="row group 4 is damaged") as caught:
        next(batches)
    assert any(frame.name == "take" for frame in traceback.extract_tb(caught.value.__traceback__))


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name == "intarsia-prefetch"]


def test_an_abandoned_iterator_leaves_no_thread():
    before = len(prefetch_threads())
    batches = Loader(numbered(10_000), 1, prefetch=2).epoch(0)
    next(batches)
    assert len(prefetch_threads()) == before + 1
    begin = time.perf_counter()
    del batches
    assert len(prefetch_threads()) == before
    assert time.perf_counter() - begin < 2


def test_prefetch_works_ahead_but_not_beyond_its_bound():
    made = []

    def items():
        for k in range(100):
            made.append(k)
            yield k

    reader = prefetched(items, 4)
    assert next(reader) == 0
    deadline = time.perf_counter() + 5
    while len(made) < 5 and time.perf_counter() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 5  # one read, four ahead
    reader.close()


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1\. Received: 0"):
        Loader(numbered(1), 0)
    with pytest.raises(ValueError, match=r"`prefetch` must not be negative\. Received: -1"):
        Loader(numbered(1), 1, prefetch=-1)
    with pytest.raises(ValueError, match=r"Received: rank 2 of 2"):
        Loader(numbered(1), 1, rank=2, world_size=2)


def test_a_process_without_rows_still_gets_its_batch():
    batches = list(Loader(numbered(5), 4, rank=0, world_size=4).epoch(0))
    assert [batch.size for batch in batches] == [1, 0]
    assert batches[1].features["row"].values.dtype == torch.int64
