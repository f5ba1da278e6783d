import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.columns import DenseColumn, JaggedColumn, concat, offsets_of, to_tensor
from intarsia.data.dataset import PackedColumns, SampleDataset
from intarsia.data.schema import FeatureSpec, Schema


def make_jagged(rows, weights=False, dtype=np.int32):
    values = np.array([v for row in rows for v in row], dtype=dtype)
    return JaggedColumn.from_offsets(
        values,
        offsets_of([len(row) for row in rows]),
        np.arange(len(values), dtype=np.float64) if weights else None,
    )


def rows_of(jagged):
    if jagged.inner_offsets is not None:
        inner = jagged.inner_offsets.tolist()
        values = jagged.values.tolist()
        steps = [values[a:b] for a, b in itertools.pairwise(inner)]
    else:
        steps = jagged.values.tolist()
    offsets = jagged.offsets.tolist()
    return [steps[a:b] for a, b in itertools.pairwise(offsets)]


ragged = st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=12)


@given(ragged, st.data())
def test_jagged_take_equals_python_slicing(rows, data):
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    column = make_jagged(rows, weights=True)
    batch = column.take(np.array(picked, dtype=np.int64))
    assert rows_of(batch) == [rows[k] for k in picked]
    weights = column.weights
    expected = [weights[column.starts[k] : column.ends[k]].tolist() for k in picked]
    assert batch.weights.tolist() == [w for row in expected for w in row]
    assert batch.values.dtype == torch.int64
    assert batch.weights.dtype == torch.float32


@given(ragged, st.integers(0, 12), st.integers(0, 12))
def test_jagged_slices_equal_python_slicing(rows, start, stop):
    column = make_jagged(rows)
    assert rows_of(column.take(slice(start, stop))) == rows[start:stop]
    assert rows_of(column.slice(start, stop).take(slice(None))) == rows[start:stop]


nested = st.lists(
    st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=4),
    min_size=1,
    max_size=8,
)


@given(nested, st.data())
def test_steps_with_several_values_equal_python_slicing(rows, data):
    steps = [step for row in rows for step in row]
    column = JaggedColumn.from_offsets(
        np.array([v for step in steps for v in step], dtype=np.int16),
        offsets_of([len(row) for row in rows]),
        inner_offsets=offsets_of([len(step) for step in steps]),
    )
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    assert rows_of(column.take(np.array(picked, dtype=np.int64))) == [rows[k] for k in picked]
    both = concat([column, column.slice(0, 1)])
    assert rows_of(both.take(slice(None))) == [*rows, rows[0]]


@given(ragged, ragged, st.data())
def test_concat_gives_the_rows_of_both(first, second, data):
    start = data.draw(st.integers(0, len(first) - 1))
    joined = concat([make_jagged(first).slice(start, len(first)), make_jagged(second)])
    assert rows_of(joined.take(slice(None))) == first[start:] + second


def test_windows_into_a_shared_array_are_gathered_without_being_written_out():
    items = np.array([7, 8, 9, 10], dtype=np.int32)
    column = JaggedColumn(items, starts=np.array([0, 0, 0, 1]), ends=np.array([0, 1, 2, 4]))
    assert column.values is items
    assert not column.is_contiguous
    assert rows_of(column.take(np.array([3, 1, 0, 2]))) == [[8, 9, 10], [7], [], [7, 8]]
    assert rows_of(column.take(slice(1, 4))) == [[7], [7, 8], [8, 9, 10]]
    assert rows_of(column.compact().take(slice(None))) == [[], [7], [7, 8], [8, 9, 10]]
    assert column.compact().is_contiguous


def test_dense_take_keeps_missing_and_width():
    ids = DenseColumn(np.array([3, -1, 5], dtype=np.int32))
    assert ids.take(np.array([2, 1, 1])).values.tolist() == [5, -1, -1]
    vectors = DenseColumn(np.array([[1.5, 2.0], [3.0, 4.0]]))
    batch = vectors.take(slice(1, 2)).values
    assert batch.tolist() == [[3.0, 4.0]]
    assert batch.dtype == torch.float32
    assert concat([ids, ids.slice(1, 2)]).take(slice(None)).values.tolist() == [3, -1, 5, -1]


def test_a_batch_has_memory_of_its_own():
    values = np.ones((2, 1), dtype=np.float32)
    DenseColumn(values).take(slice(None)).values.zero_()
    assert values.tolist() == [[1.0], [1.0]]
    assert to_tensor(np.array([1, 2])).dtype == torch.int64


def test_memory_maps_are_read_only_and_still_gathered(tmp_path):
    np.save(tmp_path / "m.npy", np.arange(6, dtype=np.int32).reshape(3, 2))
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    batch = PackedColumns(("a", "b"), mapped).take(np.array([2, 0]))
    assert batch["a"].values.tolist() == [4, 0]
    assert batch["b"].values.tolist() == [5, 1]


def test_concat_refuses_what_does_not_fit():
    jagged = make_jagged([[1]])
    with pytest.raises(ValueError, match="at least one column"):
        concat([])
    with pytest.raises(ValueError, match=r"one kind\. Received: \['DenseColumn', 'JaggedColumn'\]"):
        concat([DenseColumn(np.zeros(1)), jagged])
    with pytest.raises(ValueError, match=r"Received 1 with weights and 0 with inner_offsets of 2"):
        concat([jagged, make_jagged([[1]], weights=True)])


def sample_dataset():
    schema = Schema(
        {
            "user": FeatureSpec("user", "id", num_ids=10),
            "tags": FeatureSpec("tags", "id", num_ids=10, multi=True),
            "price": FeatureSpec("price", "dense"),
            "item": FeatureSpec("item", "id", num_ids=10),
            "vector": FeatureSpec("vector", "dense", width=2),
        },
        {"clk": 1},
        ("user",),
    )
    shared = np.array([4, 5, 6], dtype=np.int32)
    columns = {
        "user": DenseColumn(np.array([1, 2, -1], dtype=np.int16)),
        "tags": JaggedColumn(shared, np.array([0, 0, 1]), np.array([1, 2, 3])),
        "price": DenseColumn(np.array([[0.5], [1.5], [2.5]])),
        "item": DenseColumn(np.array([7, 8, 9], dtype=np.int32)),
        "vector": DenseColumn(np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)),
        "list": make_jagged([[1], [], [2, 3]]),
        "window": JaggedColumn(shared, np.array([0, 0, 0]), np.array([0, 1, 3])),
    }
    return SampleDataset(
        schema,
        columns,
        {"clk": np.array([1, 0, 1])},
        np.array([1.0, 2.0, 3.0]),
        {"user": np.array([11, 22, 33])},
        3,
    )


def content(batch):
    features = {
        name: f.values.tolist() if not hasattr(f, "offsets") else rows_of(f) for name, f in batch.features.items()
    }
    labels = {name: values.tolist() for name, values in batch.labels.items()}
    ids = {name: values.tolist() for name, values in batch.ids.items()}
    return features, labels, None if batch.weights is None else batch.weights.tolist(), ids, batch.size


EXPECTED = (
    {
        "user": [-1, 1],
        "item": [9, 7],
        "price": [[2.5], [0.5]],
        "tags": [[5, 6], [4]],
        "vector": [[5.0, 6.0], [1.0, 2.0]],
        "list": [[2, 3], [1]],
        "window": [[4, 5, 6], []],
    },
    {"clk": [1.0, 1.0]},
    [3.0, 1.0],
    {"user": [33, 11]},
    2,
)


def test_dataset_take_gathers_everything():
    assert content(sample_dataset().take(np.array([2, 0]))) == EXPECTED


def test_single_valued_features_are_views_of_one_gathered_matrix():
    batch = sample_dataset().take(slice(0, 3))
    user, item = batch.features["user"].values, batch.features["item"].values
    assert user.untyped_storage().data_ptr() == item.untyped_storage().data_ptr()
    assert user.is_contiguous()
    assert item.tolist() == [7, 8, 9]


def test_dataset_slices_and_columns_agree_with_take():
    dataset = sample_dataset()
    assert content(dataset.slice(1, 99).take(slice(None))) == content(dataset.take(slice(1, 3)))
    assert list(dataset.columns) == ["user", "tags", "price", "item", "vector", "list", "window"]
    assert dataset.columns["item"].values.tolist() == [7, 8, 9]
    assert dataset.columns["price"].values.shape == (3, 1)


def test_dataset_survives_storage_and_shared_arrays_are_stored_once():
    dataset = sample_dataset()
    meta, arrays = dataset.to_arrays()
    assert sum(array is dataset.columns["tags"].values for array in arrays.values()) == 1
    assert meta["columns"]["tags"]["values"] == meta["columns"]["window"]["values"]
    assert "offsets" in meta["columns"]["list"]
    again = SampleDataset.from_arrays(meta, arrays)
    assert again.schema == dataset.schema
    assert content(again.take(np.array([2, 0]))) == EXPECTED
    assert again.nbytes > 0


def test_lengths_are_checked():
    with pytest.raises(ValueError, match=r"num_rows = 3 rows\. Received: label `clk` has 2\."):
        SampleDataset(Schema({}), {}, {"clk": np.zeros(2)}, num_rows=3)


@pytest.mark.fuzz
@settings(max_examples=10_000)
@given(ragged, st.data())
def test_jagged_take_long(rows, data):
    test_jagged_take_equals_python_slicing.hypothesis.inner_test(rows, data)


def test_gathered_and_joined_datasets_hold_the_rows_of_both():
    dataset = sample_dataset()
    joined = SampleDataset.concat([dataset.gather(np.array([2, 0])), dataset.slice(1, 2)])
    assert content(joined.take(slice(None))) == content(dataset.take(np.array([2, 0, 1])))
    assert joined.columns["window"].is_contiguous
    with pytest.raises(ValueError, match="at least one data set"):
        SampleDataset.concat([])
    other = SampleDataset(Schema({}), {}, num_rows=1)
    with pytest.raises(ValueError, match="same features, labels, weights and ids"):
        SampleDataset.concat([dataset, other])
