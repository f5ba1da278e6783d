import numpy as np
import polars as pl
import pytest
from feature_helpers import bucket, encode, encoder_of, ids

from intarsia.core.errors import ConfigError, DataError
from intarsia.data.schema import FeatureSpec


def test_hash_of_text():
    column, spec = encode({"a": ["red", "", None, "grün"]}, input_names=["a"], hash_bucket_size=97, embedding_dim=4)
    assert ids(column) == [bucket("red", 97), -1, -1, bucket("grün", 97)]
    assert column.values.dtype == np.int32
    assert spec == FeatureSpec("a", "id", num_ids=97, embedding_dim=4)


def test_hash_of_integers_is_that_of_their_text():
    column, _ = encode({"a": [7, -1, None, -20]}, input_names=["a"], hash_bucket_size=10, embedding_dim=4)
    assert ids(column) == [bucket("7", 10), -1, -1, bucket("-20", 10)]


def test_hash_of_floats_needs_a_precision():
    frame = {"a": [0.5, None, 2.0]}
    column, _ = encode(frame, input_names=["a"], hash_bucket_size=1000, precision=2, embedding_dim=4)
    assert ids(column) == [bucket("0.50", 1000), -1, bucket("2.00", 1000)]
    with pytest.raises(DataError, match=r"feature `a`: a number must be finite\. Received: nan"):
        encode({"a": [1.0, float("nan")]}, input_names=["a"], hash_bucket_size=9, precision=1, embedding_dim=4)
    with pytest.raises(DataError, match=r"Feature `a`: ids must be text or whole numbers.*Float64.*`precision`"):
        encode(frame, input_names=["a"], hash_bucket_size=1000, embedding_dim=4)


def test_very_large_tables_keep_their_ids():
    column, _ = encode({"a": ["x", ""]}, input_names=["a"], hash_bucket_size=2**40, embedding_dim=4)
    assert ids(column) == [bucket("x", 2**40), -1]


def test_vocab_list_shares_row_0_with_unseen_values():
    column, spec = encode(
        {"a": ["b", "zzz", "", "a", None]}, input_names=["a"], vocab_list=["a", "b", "c"], embedding_dim=4
    )
    assert ids(column) == [1, 0, -1, 0, -1]
    assert spec.num_ids == 3


def test_vocab_list_of_integers_matches_integer_columns():
    column, _ = encode({"a": [20, 10, 5]}, input_names=["a"], vocab_list=["10", "20"], embedding_dim=4)
    assert ids(column) == [1, 0, 0]


def test_vocab_file_is_relative_to_the_folder_of_the_pipeline(tmp_path):
    (tmp_path / "words.txt").write_text("x\ny\n")
    column, spec = encode(
        {"a": ["y", "x", "q"]}, input_names=["a"], vocab_file="words.txt", base_dir=tmp_path, embedding_dim=4
    )
    assert ids(column) == [1, 0, 0]
    assert spec.num_ids == 2
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        encode({"a": ["y"]}, input_names=["a"], vocab_file="nowhere.txt", base_dir=tmp_path, embedding_dim=4)


def test_learned_vocabulary_comes_from_the_fitted_frame_alone():
    column, spec = encode(
        {"a": ["u", "v", "new", ""]}, fit={"a": ["v", "v", "u", "", None]}, input_names=["a"], vocab="auto",
        embedding_dim=4,
    )  # fmt: skip
    assert ids(column) == [2, 1, 0, -1]
    assert spec.num_ids == 3


def test_learned_vocabulary_leaves_out_rare_values():
    column, _ = encode({"a": [3, 3, 4]}, input_names=["a"], vocab="auto", min_count=2, embedding_dim=4)
    assert ids(column) == [1, 1, 0]


def test_an_encoder_that_has_not_learned_says_so():
    encoder = encoder_of({"input_names": ["a"], "vocab": "auto", "embedding_dim": 4})
    assert not encoder.is_fitted
    with pytest.raises(DataError, match="must be fitted before they are used"):
        encoder.transform(pl.DataFrame({"a": ["x"]}))


def test_num_buckets_takes_the_value_as_the_row():
    column, spec = encode({"a": [0, 49, -1, None]}, input_names=["a"], num_buckets=50, embedding_dim=4)
    assert ids(column) == [0, 49, -1, -1]
    assert spec.num_ids == 50
    column, _ = encode({"a": ["3", " 4 ", "", "-1"]}, input_names=["a"], num_buckets=5, embedding_dim=4)
    assert ids(column) == [3, 4, -1, -1]
    column, _ = encode({"a": [1.0, 2.0]}, input_names=["a"], num_buckets=5, embedding_dim=4)
    assert ids(column) == [1, 2]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 61, 2], r"row 2: feature `a`: an id must lie in 0 <= id < num_buckets = 50 \(-1: missing\)\. "
                     r"Received: 61\. Raise num_buckets to more than 61"),
        ([1, 2, -3], r"row 3: feature `a`: an id must lie in .*Received: -3\. Correct the data"),
        (["1", "x"], r"row 2: feature `a`: a value must be a whole number.*Received: 'x'"),
        ([0.5], r"row 1: feature `a`: a value must be a whole number.*Received: 0\.5"),
    ],
)  # fmt: skip
def test_values_that_num_buckets_cannot_take_are_errors(values, text):
    with pytest.raises(DataError, match=text):
        encode({"a": values}, input_names=["a"], num_buckets=50, embedding_dim=4)


def test_bad_ids_become_row_0_and_are_counted_where_bad_rows_are_skipped():
    encoder = encoder_of({"input_names": ["a"], "num_buckets": 5, "embedding_dim": 4}, on_bad_rows="skip")
    column = encoder.transform(pl.DataFrame({"a": [9, 4, -7, -1]}))["a"]
    assert ids(column) == [0, 4, 0, -1]
    assert sum(encoder.skipped.values()) == 2
    assert encoder.report().startswith("2 values: feature `a`: an id must lie in 0 <= id < num_buckets = 5")
    assert ids(encoder.transform(pl.DataFrame({"a": ["x", "2"]}))["a"]) == [0, 2]


def test_messages_name_the_place_that_the_reader_knows():
    encoder = encoder_of({"input_names": ["a"], "num_buckets": 5, "embedding_dim": 4})
    with pytest.raises(DataError, match=r"^train\.csv, line 2: feature `a`"):
        encoder.transform(pl.DataFrame({"a": [1, 5]}), locate=lambda row: f"train.csv, line {row + 1}")


def test_priority_of_the_sources():
    both = {"vocab_list": ["x", "y"], "num_buckets": 7, "hash_bucket_size": 11}
    column, spec = encode({"a": ["y"]}, input_names=["a"], embedding_dim=4, **both)
    assert (ids(column), spec.num_ids) == ([bucket("y", 11)], 11)
    del both["hash_bucket_size"]
    column, spec = encode({"a": ["y"]}, input_names=["a"], embedding_dim=4, **both)
    assert (ids(column), spec.num_ids) == ([1], 2)


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ({"input_type": "STRING", "default_val": "b"}, ["", None, "c"], [1, 1, 2]),
        ({"input_type": "STRING"}, ["", None, "c"], [-1, -1, 2]),
        ({"input_type": "INT64", "default_val": "2"}, [None, 1], [2, 1]),
        ({"input_type": "INT64", "default_val": 1.0}, [None, 2], [1, 2]),
        ({"input_type": "INT64"}, [None, 1], [0, 1]),
        ({"input_type": "INT64", "ignore_val": 1}, [None, 1, 2], [-1, -1, 2]),
        ({"input_type": "STRING", "ignore_val": "c", "default_val": "b"}, ["a", "c", None], [0, -1, -1]),
    ],
)
def test_defaults_are_applied_first(field, values, expected):
    source = {"num_buckets": 3} if isinstance(values[-1], int) else {"vocab_list": ["a", "b", "c"]}
    column, _ = encode(
        {"a": values}, fields=[{"input_name": "a", **field}], input_names=["a"], embedding_dim=4, **source
    )
    assert ids(column) == expected


def test_a_default_of_another_type_is_refused():
    fields = [{"input_name": "a", "input_type": "INT64", "default_val": "many"}]
    with pytest.raises(ConfigError, match=r"`a`\.default_val: must be a value of the column's type, Int64\..*'many'"):
        encode({"a": [1]}, fields=fields, input_names=["a"], num_buckets=3, embedding_dim=4)


def test_lists_are_refused_where_one_value_is_expected():
    with pytest.raises(DataError, match=r"Feature `a`: a cell must hold one value\. Received: lists .*TagFeature"):
        encode({"a": [["x"]]}, input_names=["a"], hash_bucket_size=3, embedding_dim=4)


def test_a_missing_column_is_named_with_the_near_one():
    with pytest.raises(DataError, match=r"column `user_id` \(near: `userid`\)"):
        encode({"userid": ["x"]}, input_names=["user_id"], hash_bucket_size=3, embedding_dim=4)


def test_booleans_are_text():
    column, _ = encode({"a": [True, False, None]}, input_names=["a"], hash_bucket_size=99, embedding_dim=4)
    assert ids(column) == [bucket("true", 99), bucket("false", 99), -1]
