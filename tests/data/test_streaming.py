import itertools
import threading
import weakref

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import DataError
from intarsia.data.columns import DenseColumn, JaggedColumn, offsets_of
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.loader import Loader
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.data.streaming import Group, StreamingSource, open_stream

SCHEMA = Schema({"row": FeatureSpec("row", "id", num_ids=1000), "tags": FeatureSpec("tags", "id", 1000, multi=True)})


def piece(start, stop):
    rows = np.arange(start, stop)
    lengths = rows % 3
    tags = np.repeat(rows, lengths)
    columns = {
        "row": DenseColumn(rows.astype(np.int32)),
        "tags": JaggedColumn.from_offsets(tags, offsets_of(lengths)),
        "pair": DenseColumn(np.stack([rows, -rows], axis=1).astype(np.float32)),
    }
    return SampleDataset(SCHEMA, columns, {"y": rows % 2}, rows / 2, {"u": rows % 5}, len(rows))


def groups_of(sizes, known=True, nbytes=0, read=None):
    ends = np.cumsum([0, *sizes]).tolist()
    make = read or piece
    return [Group(lambda a=a, b=b: make(a, b), b - a if known else None, nbytes) for a, b in itertools.pairwise(ends)]


def content(batch):
    features = {
        name: (f.values.tolist(), f.offsets.tolist() if hasattr(f, "offsets") else None)
        for name, f in batch.features.items()
    }
    labels = {name: values.tolist() for name, values in batch.labels.items()}
    return features, labels, batch.weights.tolist(), batch.ids["u"].tolist(), batch.size


def read(source, epoch=0, start_batch=0):
    return [content(batch) for batch in source.epoch(epoch, start_batch)]


def rows_in(batches):
    return [row for features, *_ in batches for row in features["row"][0]]


sizes_of_groups = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@settings(deadline=None)
@given(sizes_of_groups, st.integers(1, 12), st.booleans(), st.integers(0, 3), st.booleans())
def test_without_shuffling_batches_are_those_in_memory(sizes, batch_size, drop, start, known):
    memory = Loader(piece(0, sum(sizes)), batch_size, drop_remainder=drop)
    stream = StreamingSource(groups_of(sizes, known), batch_size, drop_remainder=drop)
    assert read(stream, start_batch=start) == read(memory, start_batch=start)
    assert stream.batches_per_epoch == (memory.batches_per_epoch if known else None)


@settings(deadline=None)
@given(sizes_of_groups, st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
def test_shuffling_gives_every_row_once_whatever_the_batch_size(sizes, batch_size, buffer, epoch):
    stream = StreamingSource(groups_of(sizes), batch_size, True, 7, buffer_groups=buffer)
    batches = read(stream, epoch)
    assert sorted(rows_in(batches)) == list(range(sum(sizes)))
    other = StreamingSource(groups_of(sizes), 5, True, 7, buffer_groups=buffer)
    assert rows_in(read(other, epoch)) == rows_in(batches)
    for start in range(4):
        assert read(stream, epoch, start) == batches[start:]


@settings(deadline=None)
@given(sizes_of_groups, st.integers(1, 12), st.integers(1, 3), st.booleans())
def test_processes_share_each_global_batch(sizes, batch_size, world, shuffle):
    options = {"shuffle": shuffle, "seed": 1, "buffer_groups": 3}
    whole = StreamingSource(groups_of(sizes), batch_size, **options)
    parts = [
        [
            rows_in([batch])
            for batch in read(StreamingSource(groups_of(sizes), batch_size, rank=r, world_size=world, **options))
        ]
        for r in range(world)
    ]
    joined = [[row for part in batch for row in part] for batch in zip(*parts, strict=True)]
    assert joined == [rows_in([batch]) for batch in read(whole)]


def test_shuffling_mixes_groups_and_differs_between_epochs_and_seeds():
    stream = StreamingSource(groups_of([50] * 8), 20, True, 3, buffer_groups=4)
    first = rows_in(read(stream, 0))
    assert first == rows_in(read(stream, 0))
    assert first != rows_in(read(stream, 1))
    assert first != rows_in(read(StreamingSource(groups_of([50] * 8), 20, True, 4, buffer_groups=4), 0))
    assert len({row // 50 for row in first[:40]}) == 4
    assert len({row // 50 for row in first[:200]}) == 4


def test_prefetching_changes_nothing_and_leaves_no_thread():
    plain = StreamingSource(groups_of([7, 0, 30, 11]), 8, True, 3, buffer_groups=2)
    ahead = StreamingSource(groups_of([7, 0, 30, 11]), 8, True, 3, prefetch=2, buffer_groups=2)
    assert read(ahead, 1) == read(plain, 1)
    before = threading.active_count()
    batches = ahead.epoch(0)
    next(batches)
    del batches
    assert threading.active_count() <= before


@pytest.mark.parametrize("prefetch", [0, 2])
def test_memory_holds_few_buffers_at_a_time(prefetch):
    alive = weakref.WeakSet()
    most = 0

    def counted(start, stop):
        nonlocal most
        made = piece(start, stop)
        alive.add(made)
        most = max(most, len(alive))
        return made

    stream = StreamingSource(groups_of([10] * 40, read=counted), 4, prefetch=prefetch)
    assert len(rows_in(read(stream))) == 400
    assert most <= (2 if prefetch else 1)


def test_skipped_buffers_are_not_read():
    seen = []

    def counted(start, stop):
        seen.append(start)
        return piece(start, stop)

    stream = StreamingSource(groups_of([10] * 6, read=counted), 5, buffer_groups=2)
    assert rows_in(read(stream, start_batch=9)) == list(range(45, 60))
    assert seen == [40, 50]


def test_buffers_are_bounded_by_count_and_by_size():
    groups = groups_of([1] * 7, nbytes=10)
    assert [len(b) for b in StreamingSource(groups, 1, True, buffer_groups=3).buffers(0)] == [3, 3, 1]
    assert [len(b) for b in StreamingSource(groups, 1, True, max_buffer_bytes=20).buffers(0)] == [2, 2, 2, 1]
    assert [len(b) for b in StreamingSource(groups, 1, True, max_buffer_bytes=1).buffers(0)] == [1] * 7
    assert StreamingSource(groups, 1, buffer_groups=9).buffers(0) == [[k] for k in range(7)]


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1\. Received: 0"):
        StreamingSource([], 0)


# Parquet files


def pipeline(**data):
    return PipelineConfig.model_validate(
        {
            "data_config": {"input_type": "ParquetInput", "label_fields": ["clk"], "batch_size": 7, **data},
            "feature_config": {
                "features": [
                    {"input_names": ["item"], "vocab": "auto", "embedding_dim": 2},
                    {"input_names": ["tags"], "feature_type": "TagFeature", "hash_bucket_size": 50, "embedding_dim": 2},
                    {"input_names": ["price"], "num_buckets": 40, "embedding_dim": 2},
                ]
            },
            "model_config": {"model_class": "DeepFM"},
        }
    )


def write(folder, rows, first=0, price=None):
    numbers = np.arange(first, first + rows)
    frame = pl.DataFrame(
        {
            "clk": numbers % 2,
            "item": [f"i{k % 6}" for k in numbers],
            "tags": ["|".join(f"t{j}" for j in range(k % 4)) for k in numbers],
            "price": numbers % 40 if price is None else price,
            "user": numbers % 3,
        }
    )
    path = folder / f"part{first}.parquet"
    frame.write_parquet(path, row_group_size=10)
    return path, frame


def stream_of(paths, config):
    encoder = FeatureEncoder(config.feature_config.features, config.data_config)
    columns = [*encoder.input_columns, "clk", "user"]
    source = open_stream(
        paths,
        config.data_config,
        encoder,
        schema=lambda: Schema(encoder.schema_features, {"clk": 1}, ("user",)),
        columns=columns,
        label="clk",
        ids=["user"],
        config=config,
    )
    return source, encoder


def test_parquet_streams_equal_the_files_in_memory(tmp_path):
    first, one = write(tmp_path, 25)
    second, two = write(tmp_path, 13, first=25)
    config = pipeline(shuffle=False)
    source, encoder = stream_of([first, second], config)
    whole = pl.concat([one, two])
    memory = FeatureEncoder(config.feature_config.features, config.data_config).fit(whole)
    assert encoder.to_json() == memory.to_json()
    dataset = SampleDataset(
        Schema(memory.schema_features), memory.transform(whole), {"clk": whole["clk"].to_numpy()}, num_rows=38
    )
    assert source.batches_per_epoch == 6
    got, expected = list(source.epoch(0)), list(Loader(dataset, 7).epoch(0))
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.labels["clk"].tolist() == theirs.labels["clk"].tolist()
        for name, feature in theirs.features.items():
            assert mine.features[name].values.tolist() == feature.values.tolist()
        assert mine.features["tags"].offsets.tolist() == theirs.features["tags"].offsets.tolist()
        assert len(mine.ids["user"]) == mine.size


def test_shuffled_parquet_gives_each_row_once(tmp_path):
    path, frame = write(tmp_path, 38)
    source, _ = stream_of([path], pipeline(shuffle=True, shuffle_buffer_size=2))
    prices = [p for batch in source.epoch(3) for p in batch.features["price"].values.tolist()]
    assert sorted(prices) == sorted(frame["price"].to_list())
    assert prices != frame["price"].to_list()


def test_errors_name_file_and_row_of_the_file(tmp_path):
    path, _ = write(tmp_path, 25, price=[*range(24), 41])
    source, _ = stream_of([path], pipeline(shuffle=False))
    with pytest.raises(DataError, match=r"part0\.parquet, row 25: feature `price`: an id must lie in .*Received: 41"):
        list(source.epoch(0))


def test_skipped_bad_values_leave_the_number_of_batches_open(tmp_path):
    path, _ = write(tmp_path, 25, price=[*range(24), 41])
    source, encoder = stream_of([path], pipeline(shuffle=False, on_bad_rows="skip"))
    assert source.batches_per_epoch is None
    prices = [p for batch in source.epoch(0) for p in batch.features["price"].values.tolist()]
    assert prices == [*range(24), 0]
    assert sum(encoder.skipped.values()) == 1
