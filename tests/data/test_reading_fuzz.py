"""Random tables and random bytes: what is read equals what Python's csv module reads, or is refused."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading import delimited, read_table

QUICK = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))

SEPARATORS = st.sampled_from([",", "\t", ";", "|", "\x01", " "])
CELLS = st.text(alphabet="ab1\", \t;|\n\r\x01'é漢-.", max_size=6)


def read_bytes(content: bytes, width: int, separator: str, kind: str = "STRING", input_type: str = "CSVInput"):
    fields = [{"input_name": f"f{k}", "input_type": kind} for k in range(width)]
    config = DataConfig(input_fields=fields, separator=separator, input_type=input_type)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        return read_table(path, config)


def by_csv_module(content: bytes, separator: str) -> list[tuple[str | None, ...]] | None:
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except (UnicodeDecodeError, csv.Error):
        return None
    return [tuple(cell or None for cell in row) for row in rows if row]


@st.composite
def tables(draw: st.DrawFn) -> tuple[bytes, int, str, list[tuple[str | None, ...]]]:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8))
    separator = draw(SEPARATORS)
    out = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    if end == "\n" and any("\r" in cell for row in rows for cell in row):
        quoting = csv.QUOTE_ALL  # Older Pythons write a carriage return bare where lines end in a line feed.
    csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    text = out.getvalue()
    if draw(st.booleans()):
        text = text.removesuffix(end)
    content = text.encode()
    if draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    return content, width, separator, [tuple(cell or None for cell in row) for row in rows]


def check_table(table: tuple[bytes, int, str, list[tuple[str | None, ...]]]) -> None:
    content, width, separator, rows = table
    assert read_bytes(content, width, separator).frame.rows() == rows


def check_bytes(content: bytes, width: int, separator: str) -> None:
    try:
        found = read_bytes(content, width, separator).frame.rows()
    except DataError:
        return
    assert found == by_csv_module(content, separator)


def check_mutation(
    table: tuple[bytes, int, str, list[tuple[str | None, ...]]], edits: list[tuple[float, int, bool]]
) -> None:
    content, width, separator, _ = table
    changed = bytearray(content)
    for place, byte, insert in edits:
        at = int(place * len(changed))
        if insert or not changed:
            changed.insert(at, byte)
        else:
            changed[min(at, len(changed) - 1)] = byte
    check_bytes(bytes(changed), width, separator)


def check_numbers(cells: list[str], kind: str) -> None:
    """Either way of reading gives what Python's own `int` and `float` give, or refuses."""
    content = "".join(f"{cell},x\n" for cell in cells).encode()
    fields = [{"input_name": "v", "input_type": kind}, {"input_name": "w"}]
    outcomes = []
    plain = delimited._read_plain
    for way in (plain, lambda *args: None):
        delimited._read_plain = way
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "t.csv"
                path.write_bytes(content)
                outcomes.append(read_table(path, DataConfig(input_fields=fields)).frame["v"].to_list())
        except DataError as error:
            outcomes.append(str(error).split("t.csv")[1])
        finally:
            delimited._read_plain = plain
    assert outcomes[0] == outcomes[1]
    if isinstance(outcomes[0], list):
        python = int if kind.startswith("INT") else float
        expected = [python(cell) if cell.strip(" ") else None for cell in cells]
        assert outcomes[0] == expected
        assert all(value is None or math.isfinite(value) for value in outcomes[0])


ALPHABET = st.sampled_from(list(b'a1",,,\n\n\r\t; |\xff\xc3\xa9\x00\x01-.'))
BYTES = st.lists(ALPHABET, max_size=30).map(bytes)
EDITS = st.lists(st.tuples(st.floats(0, 1), ALPHABET, st.booleans()), min_size=1, max_size=3)
NUMBERS = st.lists(
    st.one_of(
        st.integers(-(10**20), 10**20).map(str),
        st.floats(allow_nan=True).map(repr),
        st.text(alphabet="0123456789+-.eE _xXnaifINF", max_size=8),
        st.sampled_from(["-0", "+0", "9223372036854775807", "-9223372036854775808", "1e308", "1e-400", "0x10", "1_0"]),
    ),
    min_size=1,
    max_size=4,
)
WIDTHS = st.integers(1, 3)


@QUICK
@given(tables())
def test_tables_come_back(table):
    check_table(table)


@QUICK
@given(BYTES, WIDTHS, SEPARATORS)
def test_random_bytes(content, width, separator):
    check_bytes(content, width, separator)


@QUICK
@given(tables(), EDITS)
def test_changed_tables(table, edits):
    check_mutation(table, edits)


@QUICK
@given(NUMBERS, st.sampled_from(["INT64", "DOUBLE"]))
def test_numbers(cells, kind):
    check_numbers(cells, kind)


@pytest.mark.fuzz
@LONG
@given(tables())
def test_tables_come_back_long(table):
    check_table(table)


@pytest.mark.fuzz
@LONG
@given(BYTES, WIDTHS, SEPARATORS)
def test_random_bytes_long(content, width, separator):
    check_bytes(content, width, separator)


@pytest.mark.fuzz
@LONG
@given(tables(), EDITS)
def test_changed_tables_long(table, edits):
    check_mutation(table, edits)


@pytest.mark.fuzz
@LONG
@given(NUMBERS, st.sampled_from(["INT64", "DOUBLE"]))
def test_numbers_long(cells, kind):
    check_numbers(cells, kind)
