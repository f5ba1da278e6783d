"""Counts of columns, by hand and by simulation."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intarsia.data import profile

LISTS = pl.Series([["a", "b"], [], None, ["c"]])


def test_missing_cells() -> None:
    assert profile.missing(pl.Series(["a", "", None, " "])) == 2
    assert profile.missing(pl.Series([0, None, 3])) == 1
    assert profile.missing(LISTS) == 2
    assert profile.missing(pl.Series([None, None], dtype=pl.Null)) == 2


def test_ids() -> None:
    found = profile.ids(pl.Series(["a", "b", "a", "", None, "a"]))
    assert (found.values, found.distinct, found.most_common, found.most_common_share) == (4, 2, "a", 0.75)
    empty = profile.ids(pl.Series([None, ""], dtype=pl.String))
    assert (empty.values, empty.distinct, empty.most_common) == (0, 0, None)


def test_unseen_ids() -> None:
    found = profile.unseen(pl.Series([1, 2, 2]), pl.Series([2, 3, 3, 4, None]))
    assert (found.distinct, found.share) == (2, 0.75)
    # Whole numbers and their text are the same ids: one part may be typed, the other not.
    assert profile.unseen(pl.Series(["1", "2"]), pl.Series([1, 2])).share == 0
    assert profile.unseen(pl.Series(["a"]), pl.Series([], dtype=pl.String)).share == 0


@pytest.mark.parametrize(("distinct", "size"), [(50, 100), (1000, 500), (2, 10), (300, 100_000)])
def test_expected_collisions_are_those_of_random_draws(distinct: int, size: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(size, size=(4000, distinct))
    ordered = np.sort(rows, axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    meets = np.zeros(rows.shape, dtype=bool)
    meets[:, 1:] |= same
    meets[:, :-1] |= same
    assert profile.expected_collisions(distinct, size) == pytest.approx(meets.mean(), abs=0.01)


def test_expected_collisions_at_the_edges() -> None:
    assert profile.expected_collisions(0, 10) == 0
    assert profile.expected_collisions(1, 1) == 0
    assert profile.expected_collisions(2, 1) == 1
    assert profile.expected_collisions(10**9, 10) == 1


def test_collisions_are_counted_where_ids_meet() -> None:
    assert profile.collisions(pl.Series(["a", "b", "c", "a"]), 1) == 1.0
    assert profile.collisions(pl.Series(["a", "a"]), 5) == 0.0
    assert profile.collisions(pl.Series([], dtype=pl.String), 5) == 0.0
    many = pl.Series(range(2000))
    assert profile.collisions(many, 4000) == pytest.approx(profile.expected_collisions(2000, 4000), abs=0.05)


@given(st.integers(2, 10**7), st.floats(0.001, 0.9))
def test_the_advised_size_is_the_smallest_that_holds(distinct: int, share: float) -> None:
    size = profile.size_for(distinct, share)
    assert profile.expected_collisions(distinct, size) <= share * (1 + 1e-6)
    if size > 2:
        assert profile.expected_collisions(distinct, size - 1) > share * (1 - 1e-6)


def test_numbers() -> None:
    found = profile.numbers([[1.0, 2.0], [3.0, np.nan], [np.inf, 6.0]])
    assert (found.values, found.not_finite, found.minimum, found.maximum) == (4, 2, 1.0, 6.0)
    assert (found.mean, found.median) == (3.0, 2.5)
    assert found.stddev == pytest.approx(np.std([1, 2, 3, 6]))
    nothing = profile.numbers([])
    assert nothing.values == 0
    assert np.isnan(nothing.mean)


def test_numbers_of_columns() -> None:
    assert profile.column_numbers(pl.Series([" 1", "x", "3", None])).values == 2
    assert profile.column_numbers(pl.Series(["1|2", "3", None]), "|").maximum == 3
    assert profile.column_numbers(pl.Series([[1.0, 2.0], None, [5.0]])).mean == pytest.approx(8 / 3)
    assert profile.column_numbers(pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2))).values == 2


def test_list_lengths() -> None:
    assert profile.list_lengths(pl.Series(["a|b", "", None, "a", "|"]), "|").tolist() == [2, 0, 0, 1, 2]
    assert profile.list_lengths(pl.Series(["a.b", "axb"]), ".").tolist() == [2, 1]
    assert profile.list_lengths(pl.Series(["a|b", ""]), "").tolist() == [1, 0]
    assert profile.list_lengths(LISTS).tolist() == [2, 0, 0, 1]
    assert profile.list_lengths(pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2))).tolist() == [2]
    assert profile.list_lengths(pl.Series([4, None])).tolist() == [1, 0]


def test_lengths() -> None:
    found = profile.lengths(np.array([0, 0, 1, 2, 3, 10]), limit=2)
    assert found.quantiles == (0, 0, 1, 3, 10, 10)
    assert (found.mean, found.empty_share, found.cut_share) == (
        pytest.approx(16 / 6),
        pytest.approx(2 / 6),
        pytest.approx(2 / 6),
    )
    assert profile.lengths(np.array([], dtype=np.int64)).mean == 0


def test_rows_that_are_equal() -> None:
    train = pl.DataFrame({"a": ["x", "y", "x", None], "b": [1, 2, 1, 3], "c": [["p", "q"], [], ["p", "q"], ["pq"]]})
    later = pl.DataFrame({"a": ["x", "y", None], "b": [1, 1, 3], "c": [["p", "q"], [], ["pq"]]})
    hashes = profile.row_hashes(train)
    assert profile.repeated(hashes) == 1
    assert profile.shared(hashes, profile.row_hashes(later)) == 2
    # Types may differ between parts of the data, as long as the text is the same.
    assert (
        profile.shared(profile.row_hashes(pl.DataFrame({"a": [1, 2]})), profile.row_hashes(pl.DataFrame({"a": ["2"]})))
        == 1
    )


def test_a_missing_cell_is_no_empty_one() -> None:
    hashes = profile.row_hashes(pl.DataFrame({"a": [None, ""], "b": ["", None]}))
    assert profile.repeated(hashes) == 0
