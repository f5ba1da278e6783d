import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.hashing import float_text, hash_rows, hash_text

texts = st.lists(st.text(max_size=90), max_size=30)


def reference(values):
    return [xxhash.xxh64_intdigest(value.encode(), seed=0) for value in values]


@given(texts)
def test_equals_the_reference_implementation(values):
    assert hash_text(pl.Series(values, dtype=pl.String)).tolist() == reference(values)


@pytest.mark.fuzz
@settings(max_examples=10_000)
@given(texts)
def test_equals_the_reference_implementation_long(values):
    assert hash_text(pl.Series(values, dtype=pl.String)).tolist() == reference(values)


def test_all_lengths_in_one_column_and_each_length_alone():
    rng = np.random.default_rng(0)
    letters = np.array(list("abcxyz019 _äß漢😀"))
    values = ["".join(rng.choice(letters, n)) for n in [*range(130), 500, 1000]]
    assert hash_text(pl.Series(values)).tolist() == reference(values)
    for n in range(70):
        same = ["".join(rng.choice(letters[:12], n)) for _ in range(3)]
        assert hash_text(pl.Series(same)).tolist() == reference(same)


def test_the_definition_is_pinned():
    values = pl.Series(["", "a", "abc", "male", "2024-05-01", "ä", "x" * 31, "x" * 32, "x" * 100])
    assert [f"{h:016x}" for h in hash_text(values).tolist()] == [
        "ef46db3751d8e999",
        "d24ec4f1a98c6e5b",
        "44bc2cf5ad770999",
        "4ffd87cde5190dde",
        "f4dc96b714de569c",
        "ad857d534a6ca359",
        "60dd0d01083b99f0",
        "e2df261fc2ec30eb",
        "92f0de5a88a3c094",
    ]


def test_more_rows_than_one_chunk_slices_and_nulls():
    values = [f"user_{k}" for k in range(40_000)]
    series = pl.Series(values)
    hashes = hash_text(series)
    assert hashes[[0, 16383, 16384, 39_999]].tolist() == reference(["user_0", "user_16383", "user_16384", "user_39999"])
    assert np.array_equal(hash_text(series[100:200]), hashes[100:200])
    assert np.array_equal(hash_text(pl.concat([series[:7], series[7:9]], rechunk=False)), hashes[:9])
    assert hash_text(pl.Series(["a", None], dtype=pl.String)).tolist() == reference(["a", ""])
    assert len(hash_text(pl.Series([], dtype=pl.String))) == 0


def test_integers_are_hashed_as_decimal_text():
    assert hash_text(pl.Series([0, -1, 9007199254740993])).tolist() == reference(["0", "-1", "9007199254740993"])
    assert hash_text(pl.Series([True, False])).tolist() == reference(["true", "false"])
    with pytest.raises(TypeError, match=r"text, integers or booleans\. Received: Float64"):
        hash_text(pl.Series([1.0]))


def test_hash_of_hashes():
    parts = np.array([[1, 2, 3], [2**64 - 1, 0, 5]], dtype=np.uint64)
    expected = [xxhash.xxh64_intdigest(row.astype("<u8").tobytes()) for row in parts]
    assert hash_rows(parts).tolist() == expected
    assert hash_rows(parts[:0]).tolist() == []


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20),
    st.integers(0, 15),
)
def test_float_text_is_that_of_printf(values, precision):
    expected = [f"{value:.{precision}f}" for value in values]
    assert float_text(pl.Series(values, dtype=pl.Float64), precision).to_list() == expected


@given(st.lists(st.integers(-(10**7), 10**7), max_size=30), st.integers(0, 4))
def test_float_text_of_short_decimals_is_that_of_printf(values, precision):
    floats = [value / 10 ** (precision + 1) for value in values]
    expected = [f"{value:.{precision}f}" for value in floats]
    assert float_text(pl.Series(floats, dtype=pl.Float64), precision).to_list() == expected


def test_float_text_of_ties_nulls_and_what_has_no_text():
    assert float_text(pl.Series([0.125, 4.35, 2.5, -0.2, None]), 1).to_list() == ["0.1", "4.3", "2.5", "-0.2", None]
    assert float_text(pl.Series([0.5, 1.5, -0.2, 1e300]), 0).to_list() == ["0", "2", "-0", f"{1e300:.0f}"]
    with pytest.raises(ValueError, match="nan or inf"):
        float_text(pl.Series([1.0, float("nan")]), 2)
    with pytest.raises(ValueError, match="Received: -1"):
        float_text(pl.Series([1.0]), -1)
