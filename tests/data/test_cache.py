"""The cache of encoded columns."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from intarsia.config.schema.data import DataConfig
from intarsia.config.schema.features import FeatureConfig
from intarsia.data.cache import EncodedCache, cache_key, default_cache_dir
from intarsia.data.columns import DenseColumn, JaggedColumn
from intarsia.data.dataset import SampleDataset
from intarsia.data.schema import FeatureSpec, Schema


def make_dataset(rows: int = 50, seed: int = 0) -> SampleDataset:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, rows))])
    specs = [
        FeatureSpec("user", "id", num_ids=100, embedding_dim=4),
        FeatureSpec("price", "raw", width=1),
        FeatureSpec("vector", "raw", width=3),
        FeatureSpec("tags", "id", num_ids=9, multi=True, weighted=True, embedding_dim=4),
        FeatureSpec("history", "id", num_ids=9, sequence=True, embedding_dim=4),
    ]
    shared = rng.integers(0, 9, 30).astype(np.int16)
    columns = {
        "user": DenseColumn(rng.integers(-1, 100, rows).astype(np.int32)),
        "price": DenseColumn(rng.random((rows, 1), dtype=np.float32)),
        "vector": DenseColumn(rng.random((rows, 3), dtype=np.float32)),
        "tags": JaggedColumn.from_offsets(
            rng.integers(0, 9, offsets[-1]).astype(np.int8), offsets, rng.random(offsets[-1], dtype=np.float32)
        ),
        "history": JaggedColumn(shared, np.zeros(rows, np.int64), rng.integers(0, 30, rows)),
    }
    return SampleDataset(
        Schema({spec.name: spec for spec in specs}, {"clk": 1}, ("user",)),
        columns,
        {"clk": rng.integers(0, 2, rows).astype(np.float32)},
        rng.random(rows, dtype=np.float32),
        {"user": rng.integers(-(2**62), 2**62, rows)},
        rows,
    )


def arrays_of(dataset: SampleDataset) -> dict[str, np.ndarray]:
    return dataset.to_arrays()[1]


def assert_same(found: SampleDataset | None, expected: SampleDataset) -> None:
    assert found is not None
    assert found.schema == expected.schema
    rows = np.array([3, 0, 49, 3])
    one, other = found.take(rows), expected.take(rows)
    assert one.features.keys() == other.features.keys()
    for name, feature in other.features.items():
        for field in ("values", "offsets", "weights", "inner_offsets"):
            left, right = getattr(one.features[name], field, None), getattr(feature, field, None)
            assert (left is None) == (right is None)
            if left is not None:
                assert torch.equal(left, right), (name, field)
    assert torch.equal(one.labels["clk"], other.labels["clk"])
    assert torch.equal(one.ids["user"], other.ids["user"])
    assert torch.equal(one.weights, other.weights)


def test_round_trip_is_mapped_into_memory(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="intarsia")
    cache = EncodedCache(tmp_path / "c")
    dataset = make_dataset()
    assert cache.load("k1") is None
    assert "Encoded data are not in the cache" in caplog.text
    assert cache.store("k1", dataset)
    assert "Encoded data were cached" in caplog.text
    found = cache.load("k1")
    assert "Encoded data come from the cache" in caplog.text
    assert_same(found, dataset)
    columns = found.columns
    mapped = [columns["tags"].values, columns["history"].values, columns["vector"].values, found.weights]
    mapped += [found.labels["clk"], found.ids["user"], *(block.matrix for block in found.packed)]
    for array in mapped:
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    assert columns["tags"].values.dtype == np.int8
    assert columns["history"].values.dtype == np.int16


def test_columns_without_values(tmp_path):
    schema = Schema({"t": FeatureSpec("t", "id", num_ids=3, multi=True)})
    empty = JaggedColumn.from_offsets(np.zeros(0, np.int32), np.zeros(3, np.int64))
    cache = EncodedCache(tmp_path)
    assert cache.store("k", SampleDataset(schema, {"t": empty}, num_rows=2))
    found = cache.load("k")
    assert found is not None
    assert found.take(slice(0, 2)).features["t"].values.numel() == 0


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "no manifest", "header", "version"])
def test_a_damaged_entry_is_removed_and_made_anew(tmp_path, caplog, damage):
    cache = EncodedCache(tmp_path)
    dataset = make_dataset()
    cache.store("k", dataset)
    array = max((tmp_path / "k").glob("*.npy"), key=lambda path: path.stat().st_size)
    manifest = tmp_path / "k" / "manifest.json"
    if damage == "cut":
        array.write_bytes(array.read_bytes()[:-1])
    elif damage == "gone":
        array.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-30])
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "header":
        array.write_bytes(b"\0" * array.stat().st_size)
    else:
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 0'))
    assert cache.load("k") is None
    assert "Encoded data in the cache are damaged and will be made anew" in caplog.text
    assert not (tmp_path / "k").exists()
    assert cache.store("k", dataset)
    assert_same(cache.load("k"), dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_writers_at_the_same_time(tmp_path):
    cache = EncodedCache(tmp_path)
    dataset = make_dataset(2000)
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda _: cache.store("k", dataset), range(16)))
        loaded = list(pool.map(lambda _: cache.load("k"), range(8)))
    assert all(stored)
    for found in loaded:
        assert_same(found, dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_readers_while_entries_are_written_and_damaged(tmp_path):
    """A reader gets a whole data set or none, whatever other processes do."""
    cache = EncodedCache(tmp_path)
    dataset = make_dataset()

    def churn(turn: int) -> None:
        cache.store("k", dataset)
        for manifest in tmp_path.glob("k/manifest.json"):
            try:
                os.truncate(manifest, 10)
            except FileNotFoundError:
                continue

    def look(turn: int) -> None:
        found = cache.load("k")
        if found is not None:
            assert_same(found, dataset)

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(action, turn) for turn in range(30) for action in (churn, look)]
        for job in jobs:
            job.result()


def test_a_disk_that_cannot_be_written_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert not EncodedCache(tmp_path / "file").store("k", make_dataset())
    assert "Encoded data cannot be cached in" in caplog.text


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, caplog):
    calls = []

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert not EncodedCache(tmp_path).store("k", make_dataset())
    assert "No space left on device" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_prune_removes_the_least_recently_used(tmp_path):
    cache = EncodedCache(tmp_path)
    for k in range(3):
        cache.store(f"k{k}", make_dataset(seed=k))
    size = sum(path.stat().st_size for path in (tmp_path / "k0").iterdir())
    now = time.time()
    for k in range(3):
        os.utime(tmp_path / f"k{k}", (now - 100 + k, now - 100 + k))
    assert cache.load("k0") is not None
    stale = tmp_path / ".k9.left"
    stale.mkdir()
    (stale / "a0.npy").write_bytes(b"x" * 10)
    os.utime(stale, (now - 10**6, now - 10**6))
    fresh = tmp_path / ".k8.busy"
    fresh.mkdir()
    freed = cache.prune(int(size * 2.5))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".k8.busy", "k0", "k2"]
    assert freed >= size
    assert cache.prune(0) > 0
    assert [path.name for path in tmp_path.iterdir()] == [".k8.busy"]
    assert EncodedCache(tmp_path / "none").prune(0) == 0


def test_the_key_follows_files_and_configuration(tmp_path):
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_text("1\n")
    second.write_text("2\n")
    data = DataConfig(separator=",")
    features = [FeatureConfig(input_names=["a"], hash_bucket_size=10)]
    base = cache_key([first, second], data, features)
    assert base == cache_key([str(first), second], DataConfig(separator=","), list(features))
    others = {
        cache_key([second, first], data, features),
        cache_key([first], data, features),
        cache_key([first, second], DataConfig(separator=";"), features),
        cache_key([first, second], data, [FeatureConfig(input_names=["a"], hash_bucket_size=11)]),
        cache_key([first, second], data, features, {"vocab": ["x"]}),
        cache_key([first, second], data, features, version=99),
    }
    stat = first.stat()
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    others.add(cache_key([first, second], data, features))
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert base == cache_key([first, second], data, features)
    first.write_text("12\n")
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    others.add(cache_key([first, second], data, features))
    assert len(others) == 8
    assert base not in others
    with pytest.raises(TypeError, match=r"must be plain data\. Received: set"):
        cache_key([first], {"a": {1}})


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("INTARSIA_CACHE", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here"
    assert EncodedCache().directory == tmp_path / "here" / "encoded"
    monkeypatch.delenv("INTARSIA_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "intarsia"
