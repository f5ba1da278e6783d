import numpy as np
import polars as pl
import pytest
import xxhash
from feature_helpers import bucket, encode, encoder_of, ids, rows, weights
from hypothesis import given
from hypothesis import strategies as st

from intarsia.core.errors import DataError
from intarsia.data.schema import FeatureSpec

TAG = {"feature_type": "TagFeature", "embedding_dim": 4}
SEQUENCE = {"feature_type": "SequenceFeature", "embedding_dim": 4, "input_names": ["s"]}
RAW_SEQUENCE = {"feature_type": "SequenceFeature", "sub_feature_type": "RawFeature", "input_names": ["s"]}


# Tags


def test_tags_are_the_parts_of_a_cell():
    column, spec = encode({"t": ["a|b", "", None, "c||a", "zz"]}, input_names=["t"], vocab_list=["a", "b", "c"], **TAG)
    assert rows(column) == [[0, 1], [], [], [2, 0], [0]]
    assert column.weights is None
    assert spec == FeatureSpec("t", "id", num_ids=3, multi=True, embedding_dim=4)


def test_tags_with_other_separators_and_sources():
    column, _ = encode({"t": ["1\x032", "-1", "0"]}, input_names=["t"], separator="\x03", num_buckets=3, **TAG)
    assert rows(column) == [[1, 2], [], [0]]
    column, _ = encode({"t": ["x y"]}, input_names=["t"], separator=" ", hash_bucket_size=50, **TAG)
    assert rows(column) == [[bucket("x", 50), bucket("y", 50)]]
    column, spec = encode({"t": ["b|a|b", "c"]}, fit={"t": ["b|a|b"]}, input_names=["t"], vocab="auto", **TAG)
    assert rows(column) == [[1, 2, 1], [0]]
    assert spec.num_ids == 3


def test_tags_in_lists_and_in_single_numbers():
    frame = pl.DataFrame({"t": [[1, 2], [], None, [0, None, -1]]})
    column, _ = encode(frame, input_names=["t"], num_buckets=3, **TAG)
    assert rows(column) == [[1, 2], [], [], [0]]
    column, _ = encode({"t": [2, None, 1]}, input_names=["t"], num_buckets=3, **TAG)
    assert rows(column) == [[2], [], [1]]


def test_weights_behind_each_tag():
    column, spec = encode(
        {"t": ["a:0.5|b:2", "", "|b:1.5"]}, input_names=["t"], kv_separator=":", vocab_list=["a", "b"], **TAG
    )
    assert rows(column) == [[0, 1], [], [1]]
    assert weights(column) == [[0.5, 2.0], [], [1.5]]
    assert column.weights.dtype == np.float32
    assert spec.weighted


def test_weights_in_a_second_column():
    column, spec = encode(
        {"t": ["a|b", "", "b"], "w": ["0.5|2", "", "1.5"]}, input_names=["t", "w"], vocab_list=["a", "b"], **TAG
    )
    assert (rows(column), weights(column)) == ([[0, 1], [], [1]], [[0.5, 2.0], [], [1.5]])
    assert spec.weighted
    frame = pl.DataFrame({"t": [[1, -1, 0]], "w": [[1.0, 2.0, 3.0]]})
    column, _ = encode(frame, input_names=["t", "w"], num_buckets=2, **TAG)
    assert (rows(column), weights(column)) == ([[1, 0]], [[1.0, 3.0]])


@pytest.mark.parametrize(
    ("frame", "options", "text"),
    [
        ({"t": ["a:1", "b"]}, {"kv_separator": ":"}, r"row 2: feature `t`: a part must be a tag and a weight with one "
                                                     r"kv_separator ':' between them\. Received: 'b'"),
        ({"t": ["a:1", "b:1:2"]}, {"kv_separator": ":"}, r"row 2: .*Received: 'b:1:2'"),
        ({"t": ["a:1", "a:2|b:x"]}, {"kv_separator": ":"}, r"row 2: feature `t`: a value must be a number.*'x'"),
        ({"t": ["a", "a|b"], "w": ["1", "2"]}, {"input_names": ["t", "w"]},
         r"row 2: feature `t`: columns `t` and `w` must have equally many parts\. Received: '2 tags and 1 weights'"),
    ],
)  # fmt: skip
def test_bad_weights_are_errors(frame, options, text):
    with pytest.raises(DataError, match=text):
        encode(frame, **{"input_names": ["t"], "vocab_list": ["a", "b"], **TAG, **options})


def test_bad_weights_are_left_out_and_counted_where_bad_rows_are_skipped():
    encoder = encoder_of({"input_names": ["t"], "kv_separator": ":", "num_buckets": 9, **TAG}, on_bad_rows="skip")
    column = encoder.transform(pl.DataFrame({"t": ["1:0.5|2", "3:1|8:x"]}))["t"]
    assert (rows(column), weights(column)) == ([[1], [3, 8]], [[0.5], [1.0, 0.0]])
    assert sum(encoder.skipped.values()) == 2
    encoder = encoder_of({"input_names": ["t", "w"], "num_buckets": 9, **TAG}, on_bad_rows="skip")
    column = encoder.transform(pl.DataFrame({"t": ["1|2", "3"], "w": ["1", "4"]}))["t"]
    assert (rows(column), weights(column)) == ([[], [3]], [[], [4.0]])


# Sequences


def test_sequences_keep_their_order():
    column, spec = encode({"s": ["c|a|c", "", None, "b"]}, vocab_list=["a", "b", "c"], max_seq_len=50, **SEQUENCE)
    assert rows(column) == [[2, 0, 2], [], [], [1]]
    assert spec == FeatureSpec("s", "id", num_ids=3, sequence=True, max_length=50, embedding_dim=4)


@pytest.mark.parametrize(("keep", "expected"), [("first", [[0, 1], [4]]), ("last", [[2, 3], [4]])])
def test_sequences_longer_than_max_seq_len_lose_one_end(keep, expected):
    options = {"num_buckets": 5, "max_seq_len": 2, "keep": keep, **SEQUENCE}
    column, _ = encode({"s": ["0|1|2|3", "4"]}, **options)
    assert rows(column) == expected
    column, _ = encode(pl.DataFrame({"s": [[0, 1, 2, 3], [4]]}), **options)
    assert rows(column) == expected


def test_steps_with_several_values():
    column, spec = encode({"s": ["1;2|3|;4", "", "0"]}, seq_multi_sep=";", num_buckets=5, **SEQUENCE)
    assert rows(column) == [[[1, 2], [3], [4]], [], [[0]]]
    assert spec.step_multi
    column, _ = encode(pl.DataFrame({"s": [[[1, 2], [-1], [3]], []]}), seq_multi_sep=";", num_buckets=5, **SEQUENCE)
    assert rows(column) == [[[1, 2], [], [3]], []]


def test_missing_steps_are_left_out_but_stay_where_steps_hold_several_values():
    column, _ = encode({"s": ["1||2", "-1|0"]}, num_buckets=3, **SEQUENCE)
    assert rows(column) == [[1, 2], [0]]
    column, _ = encode({"s": ["1||2"]}, num_buckets=3, seq_multi_sep=";", **SEQUENCE)
    assert rows(column) == [[[1], [], [2]]]


def test_bad_values_of_steps_name_their_row():
    with pytest.raises(DataError, match=r"row 3: feature `s`: an id must lie in .*Received: 7"):
        encode({"s": ["1|2", "", "3;4|7;1"]}, num_buckets=5, seq_multi_sep=";", **SEQUENCE)
    with pytest.raises(DataError, match=r"row 2: feature `s`: an id must lie in .*Received: 7"):
        encode({"s": ["1|2", "3|7"]}, num_buckets=5, **SEQUENCE)


def test_learned_vocabulary_of_steps_with_several_values():
    column, spec = encode({"s": ["x;y|x", "z"]}, seq_multi_sep=";", vocab="auto", **SEQUENCE)
    assert rows(column) == [[[1, 2], [1]], [[3]]]
    assert spec.num_ids == 4


def test_sequences_of_numbers():
    column, spec = encode({"s": ["1|2.5|", "", "4"]}, **RAW_SEQUENCE)
    assert rows(column) == [[[1.0], [2.5], [0.0]], [], [[4.0]]]
    assert column.values.dtype == np.float32
    assert spec == FeatureSpec("s", "dense", sequence=True)


def test_sequence_length_cuts_sequences_of_numbers_only_where_it_is_written():
    column, spec = encode({"s": ["1|2|3"]}, sequence_length=2, **RAW_SEQUENCE)
    assert (rows(column), spec.max_length) == ([[[1.0], [2.0]]], 2)
    column, spec = encode({"s": ["1|2|3"]}, sequence_length=2, max_seq_len=1, keep="last", **RAW_SEQUENCE)
    assert (rows(column), spec.max_length) == ([[[3.0]]], 1)


def test_sequences_of_scaled_and_bucketed_numbers():
    column, _ = encode({"s": ["0|5|10"]}, min_val=0, max_val=10, normalizer_fn="lambda x: x * 2", **RAW_SEQUENCE)
    assert rows(column) == [[[0.0], [1.0], [2.0]]]
    column, spec = encode({"s": ["0|1|1.5|9", "", "|2"]}, boundaries=[1, 2], embedding_dim=4, **RAW_SEQUENCE)
    assert rows(column) == [[0, 1, 1, 2], [], [2]]
    assert (spec.kind, spec.num_ids) == ("id", 3)
    column, _ = encode({"s": ["0|5|10"]}, num_buckets=2, min_val=0, max_val=10, embedding_dim=4, **RAW_SEQUENCE)
    assert rows(column) == [[0, 1, 1]]


def test_sequences_of_vectors():
    column, spec = encode({"s": ["1;2|3;4", "5;6"]}, raw_input_dim=2, seq_multi_sep=";", **RAW_SEQUENCE)
    assert rows(column) == [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]
    assert spec.width == 2
    column, _ = encode(pl.DataFrame({"s": [[[1, 2], [3, 4]], []]}), raw_input_dim=2, **RAW_SEQUENCE)
    assert rows(column) == [[[1.0, 2.0], [3.0, 4.0]], []]


def test_numbers_of_one_step_are_pooled():
    column, _ = encode({"s": ["1;2|3", "4;5;6"]}, seq_multi_sep=";", combiner="mean", **RAW_SEQUENCE)
    assert rows(column) == [[[1.5], [3.0]], [[5.0]]]
    column, _ = encode({"s": ["1;2;3;4|5;6"]}, raw_input_dim=2, seq_multi_sep=";", combiner="max", **RAW_SEQUENCE)
    assert rows(column) == [[[3.0, 4.0], [5.0, 6.0]]]


def test_bad_steps_of_numbers():
    with pytest.raises(DataError, match=r"row 2: feature `s`: a step must have raw_input_dim = 2 numbers .* has 3"):
        encode({"s": ["1;2", "1;2|1;2;3"]}, raw_input_dim=2, seq_multi_sep=";", **RAW_SEQUENCE)
    with pytest.raises(DataError, match=r"row 2: feature `s`: a value must be a number\. Received: 'q'"):
        encode({"s": ["1;2", "1;2|1;q"]}, raw_input_dim=2, seq_multi_sep=";", **RAW_SEQUENCE)
    encoder = encoder_of({**RAW_SEQUENCE, "raw_input_dim": 2, "seq_multi_sep": ";"}, on_bad_rows="skip")
    column = encoder.transform(pl.DataFrame({"s": ["1;2|1;2;3|4;5"]}))["s"]
    assert rows(column) == [[[1.0, 2.0], [0.0, 0.0], [4.0, 5.0]]]
    with pytest.raises(DataError, match=r"row 2: feature `s`: normalizer_fn .*finite number\. Received: -1\.0"):
        encode({"s": ["1", "2|-1"]}, normalizer_fn="tf.math.log", **RAW_SEQUENCE)


cells = st.lists(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=4), min_size=1, max_size=8)


@given(cells, st.integers(0, 3), st.sampled_from(["first", "last"]))
def test_steps_equal_python_splitting(nested, limit, keep):
    texts = ["|".join(";".join(map(str, step)) for step in row) for row in nested]
    column, _ = encode({"s": texts}, num_buckets=10, seq_multi_sep=";", max_seq_len=limit, keep=keep, **SEQUENCE)
    cut = nested if not limit else [row[:limit] if keep == "first" else row[-limit:] for row in nested]
    assert rows(column) == cut


# Combinations


def both(*texts):
    return xxhash.xxh64_intdigest(b"".join(xxhash.xxh64_intdigest(t.encode()).to_bytes(8, "little") for t in texts))


def test_combination_is_the_hash_of_the_hashes():
    column, spec = encode(
        {"a": ["x", "x", "", None], "b": [1, 2, 3, 4]}, feature_type="ComboFeature", feature_name="c",
        input_names=["a", "b"], hash_bucket_size=1000, embedding_dim=4,
    )  # fmt: skip
    assert ids(column) == [both("x", "1") % 1000, both("x", "2") % 1000, -1, -1]
    assert spec == FeatureSpec("c", "id", num_ids=1000, embedding_dim=4)


def test_combinations_of_several_values_are_all_pairs():
    options = {"feature_type": "ComboFeature", "input_names": ["a", "b", "k"], "embedding_dim": 4}
    frame = {"a": ["x|y", "x", "", "x"], "b": ["1", "2,3", "1", ""], "k": ["p", "q", "r", "s"]}
    seps = ["|", ","]
    column, spec = encode(frame, hash_bucket_size=10**6, combo_input_seps=seps, **options)
    expected = [[("x", "1", "p"), ("y", "1", "p")], [("x", "2", "q"), ("x", "3", "q")], [], []]
    assert rows(column) == [[both(*pair) % 10**6 for pair in row] for row in expected]
    assert spec.multi
    column, _ = encode(frame, hash_bucket_size=10**6, combo_input_seps=seps, combo_join_sep="X", **options)
    assert rows(column) == [[bucket("X".join(pair), 10**6) for pair in row] for row in expected]


def test_joined_combinations_take_any_source():
    options = {"feature_type": "ComboFeature", "input_names": ["a", "b"], "embedding_dim": 4, "combo_join_sep": "-"}
    frame = {"a": ["m", "f", "f", ""], "b": [1, 2, 1, 1]}
    column, _ = encode(frame, vocab_list=["f-1", "f-2"], **options)
    assert ids(column) == [0, 1, 0, -1]
    column, spec = encode(frame, fit={"a": ["f", "f", "m"], "b": [2, 2, 1]}, vocab="auto", **options)
    assert ids(column) == [2, 1, 0, -1]
    assert spec.num_ids == 3


@given(st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=3), st.lists(st.sampled_from("xy"), max_size=3))))
def test_combinations_equal_python_products(pairs):
    frame = pl.DataFrame(
        {"a": ["|".join(a) for a, _ in pairs], "b": ["|".join(b) for _, b in pairs]},
        schema={"a": pl.String, "b": pl.String},
    )
    vocabulary = [a + b for a in "abc" for b in "xy"]
    column, _ = encode(
        frame, feature_type="ComboFeature", input_names=["a", "b"], combo_input_seps=["|", "|"], combo_join_sep="+",
        vocab_list=[f"{v[0]}+{v[1]}" for v in vocabulary], embedding_dim=4,
    )  # fmt: skip
    assert rows(column) == [[vocabulary.index(x + y) for x in a for y in b] for a, b in pairs]


# Lookups


LOOKUP = {"feature_type": "LookupFeature", "feature_name": "l", "embedding_dim": 4, "kv_separator": ":"}


def test_lookup_gives_the_values_of_the_key():
    frame = {"k": ["a", "b", "z", "", "a"], "m": ["a:1|b:2|a:3", "a:1|b:2", "a:1", ":5|a:1", None]}
    column, spec = encode(frame, input_names=["k", "m"], num_buckets=9, **LOOKUP)
    assert rows(column) == [[1, 3], [2], [], [], []]
    assert spec == FeatureSpec("l", "id", num_ids=9, multi=True, embedding_dim=4)


def test_lookup_with_hashes_integer_keys_and_a_bound():
    frame = {"k": [1, 2], "m": ["1:x,1:y,2:q,1:z", "1:x,2:"]}
    column, _ = encode(
        frame, input_names=["k", "m"], hash_bucket_size=99, lookup_max_sel_elem_num=2, separator=",", **LOOKUP
    )
    assert rows(column) == [[bucket("x", 99), bucket("y", 99)], []]


def test_lookup_refuses_entries_that_are_no_pairs():
    with pytest.raises(DataError, match=r"row 1: feature `l`: a part must be a key and a value .*Received: 'b'"):
        encode({"k": ["a"], "m": ["a:1|b"]}, input_names=["k", "m"], hash_bucket_size=9, **LOOKUP)
