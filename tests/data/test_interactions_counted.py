"""Blocks that are parsed at once say what the careful way says, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from intarsia.core.errors import DataError
from intarsia.data.interactions.counted import CountedCells, written_length
from intarsia.data.interactions.tables import Shape, read_columns

KINDS = {"u": "id", "i": "id", "t": "time", "r": "number"}
NUMBERS = ["0", "7", "10", "-5", "2147483647", "2147483648", "-2147483648", "9223372036854775807", "99"]
ODD = ["007", "+7", "-0", " 7", "\t7", "7 ", "", "x", "1e3", "3.5", '"7"', "9223372036854775808", "ü"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(st.sampled_from(NUMBERS), min_size=4, max_size=4), min_size=1, max_size=30),
    odd=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 3), st.sampled_from(ODD)), max_size=2),
    bare=st.lists(
        st.tuples(st.integers(0, 29), st.sampled_from(["", "7", "7,7,7", "7,7,7,7,7", "7,7,7,7\r"])), max_size=1
    ),
    separator=st.sampled_from([",", "::"]),
)
def test_it_reads_what_the_careful_way_reads(tmp_path: Path, rows, odd, bare, separator: str) -> None:
    for row, column, cell in odd:
        rows[row % len(rows)][column] = cell
    lines = [separator.join(row) for row in rows]
    for row, line in bare:
        lines[row % len(lines)] = line.replace(",", separator)
    (tmp_path / "log.csv").write_bytes("\n".join([separator.join(KINDS), *lines, ""]).encode())

    def read() -> pl.DataFrame | str:
        try:
            found = read_columns([tmp_path / "log.csv"], Shape(separator=separator), lambda names: KINDS)
        except DataError as error:
            return str(error)
        return found if found["t"].dtype == pl.String else found.cast({"t": pl.Float64})

    found = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CountedCells, "read", lambda *args: None)
        wanted = read()
    if isinstance(wanted, str):
        assert found == wanted
    else:
        assert_frame_equal(found, wanted)


def test_wider_numbers_and_text_are_vouched_for() -> None:
    cells = CountedCells(["a", "b"], {"a"}, [["1", "x"], ["-20", "y"]])
    one = cells.read(b"1,x\n-20,y\n", ",")
    two = cells.read(b"3000000000,\xc3\xbc\n", ",")
    assert one is not None
    assert two is not None
    assert one.rows() == [(1, "x"), (-20, "y")]
    assert one.dtypes == [pl.Int32, pl.String]
    assert two.rows() == [(3_000_000_000, "ü")]
    assert two.dtypes == [pl.Int64, pl.String]


@pytest.mark.parametrize(
    "block",
    [b"1,07\n", b"1,+7\n", b"1, 7\n", b"1,-0\n", b"1,\n", b"1\n", b"1,2\n\n3,4\n", b"1,2,3\n", b"1,x\n", b"1,07\n2\n"],
)
def test_nothing_is_vouched_for_after_cells_that_numbers_lose(block: bytes) -> None:
    cells = CountedCells(["a", "b"], {"a", "b"}, [["1", "2"]])
    assert cells.read(b"1,2\n", ",") is not None
    assert cells.read(block, ",") is None
    assert cells.read(b"1,2\n", ",") is None


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.booleans())
def test_lengths_of_numbers_are_those_of_their_text(values: list[int], narrow: bool) -> None:
    array = np.array([value >> 32 for value in values] if narrow else values, dtype=np.int32 if narrow else np.int64)
    assert written_length(array) == sum(len(str(value)) for value in array.tolist())
