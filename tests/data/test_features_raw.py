import numpy as np
import polars as pl
import pytest
from feature_helpers import encode, encoder_of, ids, rows

from intarsia.core.errors import DataError
from intarsia.data.schema import FeatureSpec

RAW = {"feature_type": "RawFeature", "input_names": ["x"]}


def test_plain_numbers():
    column, spec = encode({"x": [1, 2, None]}, **RAW)
    assert column.values.tolist() == [[1.0], [2.0], [0.0]]
    assert column.values.dtype == np.float32
    assert spec == FeatureSpec("x", "dense")
    column, _ = encode({"x": ["1.5", " -2e3 ", ""]}, **RAW)
    assert column.values.tolist() == [[1.5], [-2000.0], [0.0]]


def test_numbers_that_are_projected_keep_their_kind():
    _, spec = encode({"x": [1]}, embedding_dim=8, **RAW)
    assert spec == FeatureSpec("x", "dense", embedding_dim=8)


def test_scaling_by_range():
    column, _ = encode({"x": [-3.0, 1.0, 5.0, None]}, min_val=-3.0, max_val=5.0, **RAW)
    assert column.values[:, 0].tolist() == [0.0, 0.5, 1.0, 0.375]


def test_scaling_comes_before_the_normaliser():
    column, _ = encode({"x": [0.0, 10.0]}, min_val=0, max_val=10, normalizer_fn="lambda x: x * 4 + 1", **RAW)
    assert column.values[:, 0].tolist() == [1.0, 5.0]
    column, _ = encode({"x": [0.0, 99.0]}, normalizer_fn="tf.math.log1p", **RAW)
    assert column.values[:, 0] == pytest.approx([0.0, 4.605170])


def test_boundaries_count_the_borders_at_or_below():
    column, spec = encode({"x": [-9.0, 0.999, 1.0, 2.5, 3.0, 4.0, None]}, boundaries=[1, 3], embedding_dim=4, **RAW)
    assert ids(column) == [0, 0, 1, 1, 2, 2, -1]
    assert spec == FeatureSpec("x", "id", num_ids=3, embedding_dim=4)


def test_boundaries_are_compared_with_scaled_numbers():
    column, _ = encode({"x": [0, 4, 5, 10]}, boundaries=[0.5], min_val=0, max_val=10, embedding_dim=4, **RAW)
    assert ids(column) == [0, 0, 1, 1]


def test_equally_wide_buckets():
    column, spec = encode(
        {"x": [-5.0, 0.0, 2.4, 2.5, 9.99, 10.0, 70.0]}, num_buckets=4, min_val=0, max_val=10, embedding_dim=4, **RAW
    )
    assert ids(column) == [0, 0, 0, 1, 3, 3, 3]
    assert spec.num_ids == 4


def test_several_numbers_in_a_cell():
    column, spec = encode({"x": ["1|2|3", "", "4|5|6"]}, raw_input_dim=3, **RAW)
    assert column.values.tolist() == [[1, 2, 3], [0, 0, 0], [4, 5, 6]]
    assert spec.width == 3
    column, _ = encode({"x": ["1 2", "3 4"]}, raw_input_dim=2, separator=" ", **RAW)
    assert column.values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float32), pl.Array(pl.Float64, 2)])
def test_lists_of_numbers(dtype):
    frame = pl.DataFrame({"x": pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=dtype)})
    column, _ = encode(frame, raw_input_dim=2, **RAW)
    assert column.values.tolist() == [[1, 2], [0, 0], [3, 4]]


def test_each_of_several_bucketed_numbers_has_rows_of_its_own():
    column, spec = encode({"x": ["0|5", "9|9", ""]}, raw_input_dim=2, boundaries=[1.0], embedding_dim=4, **RAW)
    assert rows(column) == [[0, 3], [1, 3], []]
    assert (spec.num_ids, spec.multi) == (4, True)


@pytest.mark.parametrize(
    ("combiner", "expected"),
    [
        ("sum", [[4, 6], [5, 6], [0, 0]]),
        ("mean", [[2, 3], [5, 6], [0, 0]]),
        ("min", [[1, 2], [5, 6], [0, 0]]),
        ("max", [[3, 4], [5, 6], [0, 0]]),
        ("sqrtn", [[4 / 2**0.5, 6 / 2**0.5], [5, 6], [0, 0]]),
    ],
)
def test_several_vectors_are_pooled(combiner, expected):
    column, spec = encode({"x": ["1|2;3|4", "5|6", ""]}, raw_input_dim=2, seq_multi_sep=";", combiner=combiner, **RAW)
    np.testing.assert_allclose(column.values, expected, rtol=1e-6)
    assert not spec.multi
    frame = pl.DataFrame({"x": [[[1, 2], [3, 4]], [[5, 6]], None]})
    column, _ = encode(frame, raw_input_dim=2, combiner=combiner, **RAW)
    np.testing.assert_allclose(column.values, expected, rtol=1e-6)


def test_several_numbers_are_pooled():
    column, _ = encode({"x": ["1;2;;3", "7", ""]}, seq_multi_sep=";", combiner="mean", **RAW)
    assert column.values[:, 0].tolist() == [2.0, 7.0, 0.0]


@pytest.mark.parametrize(
    ("values", "options", "text"),
    [
        ([1.0, float("nan")], {}, r"row 2: feature `x`: a number must be finite\. Received: nan"),
        (["1", "inf"], {}, r"row 2: feature `x`: a number must be finite\. Received: 'inf'"),
        (["1", "two"], {}, r"row 2: feature `x`: a value must be a number\. Received: 'two'"),
        (
            ["1|2", "1|2|3"],
            {"raw_input_dim": 2},
            r"row 2: feature `x`: a value must have raw_input_dim = 2 numbers, and this one has 3\. "
            r"Received: \['1', '2', '3'\]",
        ),
        (
            ["1|2", "1|2;3"],
            {"raw_input_dim": 2, "seq_multi_sep": ";"},
            r"row 2: .*raw_input_dim = 2 numbers, and this one has 1\. Received: \['3'\]",
        ),
        (["1|2", "1|b"], {"raw_input_dim": 2}, r"row 2: feature `x`: a value must be a number\. Received: 'b'"),
        (["1|2;1|2", "1|b"], {"raw_input_dim": 2, "seq_multi_sep": ";"}, r"row 2: .*a number\. Received: 'b'"),
        (
            [1.0, -1.0],
            {"normalizer_fn": "tf.math.log"},
            r"row 2: feature `x`: normalizer_fn `tf\.math\.log` must give a finite number\. Received: -1\.0",
        ),
    ],
)
def test_bad_numbers_are_errors(values, options, text):
    with pytest.raises(DataError, match=text):
        encode({"x": values}, **RAW, **options)


def test_bad_numbers_become_zeros_and_are_counted_where_bad_rows_are_skipped():
    encoder = encoder_of({**RAW, "raw_input_dim": 2}, on_bad_rows="skip")
    column = encoder.transform(pl.DataFrame({"x": ["1|2", "3", "4|x", "nan|5"]}))["x"]
    assert column.values.tolist() == [[1, 2], [0, 0], [4, 0], [0, 5]]
    assert sorted(encoder.skipped.values()) == [1, 1, 1]


def test_declared_defaults():
    fields = [{"input_name": "x", "input_type": "DOUBLE", "default_val": "2.5"}]
    column, _ = encode({"x": [None, 1.0]}, fields=fields, **RAW)
    assert column.values[:, 0].tolist() == [2.5, 1.0]


def test_pass_through_is_never_scaled_or_embedded():
    column, spec = encode(
        {"x": ["1|2", "3|4"]}, feature_type="PassThroughFeature", input_names=["x"], raw_input_dim=2, max_val=9,
        embedding_dim=3,
    )  # fmt: skip
    assert column.values.tolist() == [[1, 2], [3, 4]]
    assert spec == FeatureSpec("x", "raw", width=2)


def test_expressions():
    frame = {"age": [18, 40, None], "price": ["2", "10", "3"]}
    column, spec = encode(
        frame, feature_type="ExprFeature", feature_name="old", input_names=["age", "price"],
        expression="(age >= 18) & (price < 5)",
    )  # fmt: skip
    assert column.values.tolist() == [[1.0], [0.0], [0.0]]
    assert spec == FeatureSpec("old", "dense")
    with pytest.raises(DataError, match=r"row 3: feature `q`: the expression `price / age` must give a finite number"):
        encode(
            frame, feature_type="ExprFeature", feature_name="q", input_names=["age", "price"], expression="price / age"
        )
