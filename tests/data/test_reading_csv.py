"""Text files: what is read, and what is said of files that cannot be."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading import ReadResult, read_table
from intarsia.data.reading import text as text_module

ABC = [
    {"input_name": "a", "input_type": "INT32"},
    {"input_name": "b", "input_type": "STRING"},
    {"input_name": "c", "input_type": "FLOAT"},
]


def config(**options: Any) -> DataConfig:
    return DataConfig(**({"input_fields": ABC} | options))


@pytest.fixture
def read(tmp_path: Path):
    def read_bytes(content: bytes, name: str = "t.csv", columns: list[str] | None = None, **options: Any) -> ReadResult:
        path = tmp_path / name
        path.write_bytes(content)
        return read_table(path, config(**options), columns=columns)

    return read_bytes


@pytest.fixture
def fails(tmp_path: Path):
    def message(content: bytes, name: str = "t.csv", columns: list[str] | None = None, **options: Any) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_table(path, config(**options), columns=columns)
        return str(caught.value).replace(str(tmp_path) + "/", "")

    return message


def test_types_and_nulls(read):
    frame = read(b"1,x,2.5\n-7,,\n,007,1e3\n").frame
    assert frame.schema == {"a": pl.Int32, "b": pl.String, "c": pl.Float32}
    assert frame.rows() == [(1, "x", 2.5), (-7, None, None), (None, "007", 1000.0)]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INT32", "2147483647", 2**31 - 1),
        ("INT32", " 5 ", 5),
        ("INT32", "+5", 5),
        ("INT32", "   ", None),
        ("INT64", "-9223372036854775808", -(2**63)),
        ("DOUBLE", "0.1", 0.1),
        ("DOUBLE", ".5", 0.5),
        ("FLOAT", "16777217", 16777216.0),
        ("BOOL", "true", True),
        ("BOOL", "False", False),
        ("BOOL", "1", True),
        ("BOOL", "", None),
        ("STRING", "007", "007"),
        ("STRING", " x ", " x "),
        ("STRING", "", None),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_one_value(read, kind, text, value, quoted):
    cell = f'"{text}"' if quoted else text
    fields = [{"input_name": "v", "input_type": kind}, {"input_name": "w"}]
    assert read(f"{cell},x\n".encode(), input_fields=fields).frame["v"].to_list() == [value]


@pytest.mark.parametrize(
    ("kind", "text", "rule"),
    [
        ("INT32", "abc", "INT32 must be a whole number from -2147483648 to 2147483647. Received: 'abc'."),
        ("INT32", "2147483648", "2147483647. Received: '2147483648'."),
        ("INT32", "3.0", "Received: '3.0'."),
        ("INT64", "9223372036854775808", "Received: '9223372036854775808'."),
        ("INT64", "1_000", "Received: '1_000'."),
        ("FLOAT", "inf", "FLOAT must be a finite number of 32 bits. Received: 'inf'."),
        ("FLOAT", "1e39", "Received: '1e39'."),
        ("DOUBLE", "NaN", "DOUBLE must be a finite number. Received: 'NaN'."),
        ("DOUBLE", "1e999", "Received: '1e999'."),
        ("DOUBLE", "1,5", "Received: '1,5'."),
        ("BOOL", "yes", "BOOL must be true, false, 1 or 0. Received: 'yes'."),
    ],
)
def test_a_value_that_does_not_fit(fails, kind, text, rule):
    fields = [{"input_name": "w"}, {"input_name": "v", "input_type": kind}]
    message = fails(f"x;\ny;{text}\n".encode(), input_fields=fields, separator=";")
    assert message.startswith("t.csv, line 2, column `v`: ")
    assert rule in message
    assert f"The line reads: 'y;{text}'" in message
    assert "on_bad_rows: skip" in message


def test_header_gives_the_order_and_extra_columns_are_ignored(read):
    frame = read(b"z,c,b,a\n9,2.5,x,1\n", with_header=True).frame
    assert frame.rows(named=True) == [{"a": 1, "b": "x", "c": 2.5}]
    assert read(b"z,c,b,a\n9,2.5,x,1\n", with_header=True, columns=["z", "a"]).frame.rows() == [(9, 1)]


def test_types_are_inferred_from_all_rows_without_declarations(read):
    rows = b"".join(b"%d,%d,0%d,1.5,x\n" % (k, k, k) for k in range(3000))
    content = b"n,late,zero,d,s\n" + rows + b"5,7.5,1,2,9\n"
    result = read(content, with_header=True, input_fields=[])
    assert result.frame.schema == {
        "n": pl.Int64,
        "late": pl.Float64,
        "zero": pl.String,
        "d": pl.Float64,
        "s": pl.String,
    }
    assert result.frame["zero"][7] == "07"


@pytest.mark.parametrize(
    "cells",
    [["123456789012345678901", "1"], ["0.5", "01.5"], ["+5", "6"], ["1x", "1"], ["", ""], ["nan", "1"]],
)
def test_text_that_a_number_would_change_stays_text(read, cells):
    frame = read(f"v,w\n{cells[0]},0\n{cells[1]},0\n".encode(), with_header=True, input_fields=[]).frame
    assert frame["v"].to_list() == [cell or None for cell in cells]


def test_only_needed_columns_are_converted(read):
    content = b"abc,x,2.5\n1,y,inf\n"
    assert read(content, columns=["b"]).frame.rows() == [("x",), ("y",)]


@pytest.mark.parametrize("separator", ["\t", ";", "|", "\x01", "\x02", "\x1d", "||", "::", "·", "\x02\x03", " "])
@pytest.mark.parametrize("quoted", [False, True])
def test_separators(read, separator, quoted):
    second = f'"x{separator}y"' if quoted else "xy"
    content = separator.join(["1", second, "2.5"]) + "\n" + separator.join(["2", "", "3"]) + "\n"
    frame = read(content.encode(), separator=separator).frame
    assert frame.rows() == [(1, f"x{separator}y" if quoted else "xy", 2.5), (2, None, 3.0)]


def test_overlapping_separators_are_cut_from_the_left(read):
    fields = [{"input_name": "p"}, {"input_name": "q"}]
    assert read(b"x|||y\n", separator="||", input_fields=fields).frame.rows() == [("x", "|y")]


@pytest.mark.parametrize("separator", ["", "\n", 'a"b'])
def test_separators_that_cannot_be(fails, separator):
    message = fails(b"1,x,2\n", separator=separator)
    assert f"data_config.separator must be text without line ends or double quotes. Received: {separator!r}." in message


def test_quotes(read):
    content = b'1,"x,\r\ny",2.5\r\n2,"say ""hi""",3\r\n3,"",4\r\n"4",z,"5"\r\n'
    result = read(content)
    assert result.frame.rows() == [(1, "x,\r\ny", 2.5), (2, 'say "hi"', 3.0), (3, None, 4.0), (4, "z", 5.0)]
    assert [result.origin(row).rpartition(" ")[2] for row in range(4)] == ["1", "3", "4", "5"]


@pytest.mark.parametrize("line", ['2,5" disk,3', '2,"a"b,3', '2,"open,3', '2,a"b"c,3'])
def test_stray_quotes_are_refused_and_plain_text_in_csv_input_ex(fails, read, line):
    content = f"1,x,2\n{line}\n3,y,4\n".encode()
    message = fails(content)
    assert message.startswith(
        "t.csv, line 2: a double quote must open or close a whole cell, or be doubled inside one."
    )
    assert "input_type: CSVInputEx" in message
    frame = read(content, input_type="CSVInputEx").frame
    assert frame["b"].to_list() == ["x", line.split(",")[1], "y"]


def test_skipping_goes_on_at_the_line_after_a_stray_quote(read):
    content = b'1,x,2\n2,"open,3\n3,y,4\n4,"z",5\n5,6" disk,6\n7,"multi\nline",8\n'
    result = read(content, on_bad_rows="skip")
    assert result.frame["a"].to_list() == [1, 3, 4, 7]
    assert result.frame["b"].to_list() == ["x", "y", "z", "multi\nline"]
    assert result.skipped == 2
    assert [row.row for row in result.examples] == [2, 5]
    assert [result.origin(row).rpartition(" ")[2] for row in range(4)] == ["1", "3", "4", "6"]
    assert result.examples[0].text == '2,"open,3'


def test_line_ends_byte_order_mark_and_blank_lines(read):
    expected = [(1, "x", 2.0), (2, "y", 3.0)]
    for content in (
        b"1,x,2\n2,y,3",
        b"1,x,2\r\n2,y,3\r\n",
        b"\xef\xbb\xbf1,x,2\n2,y,3\n",
        b"1,x,2\n2,y,3\n\n\r\n\n",
        b"\n1,x,2\n\n2,y,3\n",
    ):
        assert read(content).frame.rows() == expected, content
    result = read(b"\n1,x,2\n\n2,y,3\n")
    assert [result.origin(row).rpartition(" ")[2] for row in (0, 1)] == ["2", "4"]


def test_single_column(read):
    fields = [{"input_name": "v", "input_type": "INT64"}]
    assert read(b"1\n\n2\n", input_fields=fields).frame["v"].to_list() == [1, 2]
    assert read(b'1\n""\n2', input_fields=fields).frame["v"].to_list() == [1, None, 2]


def test_a_lone_carriage_return_is_refused(fails):
    message = fails(b"1,x,2\r2,y,3\r\n")
    assert "t.csv, line 1: a carriage return outside quotes must be followed by a line feed. One is not." in message


@pytest.mark.parametrize("content", [b"1,x,2\n2,y\n3,z,4\n", b"1,x,2\n2,y\n3,z,w,4\n", b'1,"x",2\n2,y\n3,z,4\n'])
def test_too_few_cells(fails, content):
    message = fails(content)
    assert message.startswith(
        "t.csv, line 2: a row must have 3 cells, as data_config.input_fields says. Received: 2. The line reads: '2,y'"
    )


def test_too_many_cells(fails):
    message = fails(b"a,b,c\n1,x,2\n3,z,w,4\n", with_header=True)
    assert message.startswith("t.csv, line 3: a row must have 3 cells, as the header says. Received: 4.")


@pytest.mark.parametrize("separator", ["\t", ";", "|", "\x01"])
def test_another_separator_is_named(fails, separator):
    content = f"1{separator}x{separator}2\n2{separator}y{separator}3\n".encode()
    assert f"The lines seem to be separated by {separator!r}: set data_config.separator." in fails(content)
    content = f"a{separator}b{separator}c\n".encode() + content
    message = fails(content, with_header=True)
    assert "columns `a`, `b`, `c` must exist." in message
    assert f"The lines seem to be separated by {separator!r}" in message


def test_bytes_that_are_not_utf8(fails, read):
    content = b"1,x,2\n2,\xff\xfe,3\n4,\xc3\xa9,5\n"
    message = fails(content)
    assert message.startswith("t.csv, line 2: text must be UTF-8. The line holds other bytes")
    assert "2,\\\\xff\\\\xfe,3" in message
    result = read(content, on_bad_rows="skip")
    assert result.frame["b"].to_list() == ["x", "é"]
    assert result.skipped == 1


def test_long_lines_are_cut_in_messages(fails):
    message = fails(b"abc," + b"y" * 1000 + b",1\n")
    assert f"The line reads: 'abc,{'y' * 196}'\n" in message


def test_skipped_rows_are_counted_and_reported(read, caplog):
    content = b"1,x,2\nabc,y,3\n2,z\n3,w,inf\n4,v,5\n"
    for options in ({"on_bad_rows": "skip"}, {"ignore_error": True}):
        caplog.clear()
        result = read(content, **options)
        assert result.frame["a"].to_list() == [1, 4]
        assert result.skipped == 3
        assert [(row.row, row.column, row.value) for row in result.examples] == [
            (2, "a", "abc"),
            (3, None, None),
            (4, "c", "inf"),
        ]
        assert "Left out 3 of 5 rows that cannot be read:" in result.report()
        assert "Left out 3 of 5 rows" in caplog.text
        assert result.origin(1).endswith("t.csv, line 5")
    assert read(b"1,x,2\n").report() == ""


def test_on_bad_rows_overrides_ignore_error(fails):
    assert "Received: 'abc'" in fails(b"abc,y,3\n", on_bad_rows="error", ignore_error=True)


def test_many_bad_rows_are_counted_and_few_are_shown(read):
    content = b"1,x,2\n" + b"abc,y,3\n" * 1000
    result = read(content, on_bad_rows="skip")
    assert result.skipped == 1000
    assert len(result.examples) == 5


def test_no_good_row(fails):
    message = fails(b"abc,y,3\nx,y,3\n", on_bad_rows="skip")
    assert message.startswith("At least one row must be readable; all 2 are bad, first: t.csv, line 1, column `a`")


@pytest.mark.parametrize(
    ("content", "name", "options", "expected"),
    [
        (b"", "t.csv", {}, "t.csv: the file must hold rows. It is empty."),
        (b"\n\r\n\n", "t.csv", {}, "t.csv: the file must hold rows. It is empty."),
        (
            b"a,b,c\n",
            "t.csv",
            {"with_header": True},
            "the file must hold rows. It holds only a header: 'a, b, c'.",
        ),
        (b"1,x,2\n", "t.csv.gz", {}, "t.csv.gz: the file must be gzip, for its name or data_config.data_compression"),
        (b"1,x,2\n", "t.csv", {"data_compression_type": "GZIP"}, "It is not: Not a gzipped file"),
        (b"1,x,2\n", "t.csv", {"data_compression_type": "LZO"}, "must be GZIP or empty. Received: 'LZO'."),
        (gzip.compress(b"1,x,2\n", mtime=0), "t.csv", {}, "It is gzip; set data_config.data_compression_type: GZIP"),
        (b"PAR1....", "t.csv", {}, "It is Parquet; set data_config.input_type: ParquetInput."),
        (b"PK\x03\x04....", "t.csv", {}, "It is a zip archive; unpack it."),
        ("1,x,2\n".encode("utf-16"), "t.csv", {}, "It is UTF-16; convert it to UTF-8."),
        (b"ab\x00\x01\x02\xff\n", "t.csv", {}, "It is binary: byte 2 is 0. First bytes: b'ab\\x00"),
        (b"a,b,a\n1,2,3\n", "t.csv", {"with_header": True}, "Column names must differ. the header of"),
        (b"1,2\n", "t.csv", {"input_fields": []}, "t.csv: columns need names. Set data_config.with_header: true"),
        (b"1,x,2\n", "t.tar.gz", {}, "t.tar.gz: archives cannot be read; unpack it"),
    ],
)
def test_files_that_cannot_be_read(fails, content, name, options, expected):
    assert expected in fails(content, name, **options)


def test_truncated_and_damaged_gzip(fails):
    packed = gzip.compress(b"".join(b"%d,x,%d\n" % (k, k * 7919 % 1000) for k in range(5000)))
    assert "t.gz: the gzip file is cut off before its end." in fails(packed[: len(packed) // 2], "t.gz")
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    message = fails(bytes(damaged), "t.gz")
    assert "damaged" in message or "It is not: CRC check failed" in message


def test_missing_columns_name_near_ones(fails):
    message = fails(b"user_id,item_id,label\n1,2,3\n", with_header=True, input_fields=[], columns=["usr_id", "label"])
    assert message == "t.csv: column `usr_id` (near: `user_id`) must exist. The columns are: user_id, item_id, label."


def test_gzip_equals_plain(read):
    content = b"".join(b'%d,"v%d",%d.5\n' % (k, k, k) for k in range(1000))
    plain = read(content).frame
    assert read(gzip.compress(content), "t.csv.gz").frame.equals(plain)
    assert read(gzip.compress(content), "t.dat", data_compression_type="GZIP").frame.equals(plain)


def test_several_files_are_one_table(tmp_path):
    for k in (2, 1):
        (tmp_path / f"part-{k}.csv").write_bytes(b"a,b,c\n%d,x,1\n%d,y,2\n" % (k, k))
    (tmp_path / "part-3.csv").write_bytes(b"c,b,a\n5,x,3\n")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    result = read_table(str(tmp_path / "part-*.csv"), config(with_header=True))
    assert result.frame["a"].to_list() == [1, 1, 2, 2, 3]
    assert [result.origin(row).rpartition("/")[2] for row in (0, 3, 4)] == [
        "part-1.csv, line 2",
        "part-2.csv, line 3",
        "part-3.csv, line 2",
    ]
    assert read_table(tmp_path, config(with_header=True)).frame.equals(result.frame)


def test_types_are_inferred_over_all_files(tmp_path):
    (tmp_path / "1.csv").write_bytes(b"v,w\n1,1\n")
    (tmp_path / "2.csv").write_bytes(b"v,w\n2.5,x\n")
    frame = read_table(tmp_path, DataConfig(with_header=True)).frame
    assert frame.rows() == [(1.0, "1"), (2.5, "x")]


def test_selected_columns(read, fails):
    content = b"9,1,x,8,2.5\n9,2,y,8,3.5\n"
    assert read(content, selected_cols="1,2,4").frame.rows() == [(1, "x", 2.5), (2, "y", 3.5)]
    assert read(b"1,x,2.5\n", selected_cols="0,2").frame.rows() == [(1, 2.5)]
    assert read(b"1,x,2.5\n", selected_cols="c,a").frame.columns == ["a", "c"]
    header = b"z,a,b,y,c\n" + content
    assert read(header, selected_cols="a,c", with_header=True).frame.rows() == [(1, 2.5), (2, 3.5)]
    assert "must stay below the number of cells, 5. Received: 7." in fails(content, selected_cols="1,2,7")
    assert "column `zz` named by data_config.selected_cols must exist." in fails(content, selected_cols="a,zz")


def test_names_with_a_range_are_written_out(read, fails):
    fields = [{"input_name": "f[1-3]", "input_type": "INT64"}, {"input_name": "s"}]
    frame = read(b"1,2,3,x\n", input_fields=fields, auto_expand_input_fields=True).frame
    assert frame.columns == ["f1", "f2", "f3", "s"]
    assert "must run upwards. Received: `f[3-1]`." in fails(
        b"1\n", input_fields=[{"input_name": "f[3-1]"}], auto_expand_input_fields=True
    )
    double = [{"input_name": "a"}, {"input_name": "a"}]
    assert "data_config.input_fields has more than one: 'a'." in fails(b"1,2\n", input_fields=double)


def test_ignored_values_are_missing(read):
    fields = [
        {"input_name": "a", "input_type": "INT64", "ignore_val": -1},
        {"input_name": "b", "ignore_val": "NULL"},
        {"input_name": "c", "input_type": "FLOAT", "ignore_val": 0.1},
    ]
    assert read(b"-1,NULL,0.1\n1,x,0.2\n", input_fields=fields).frame.null_count().row(0) == (1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("KafkaInput", "KafkaInput is no file format that can be read here. Export the rows to files and set"),
        ("OdpsInputV3", "to one of CSVInput, CSVInputEx, ParquetInput, CriteoInput."),
        ("TFRecordInput", "TFRecordInput cannot be read. Write the records to Parquet"),
        ("CriteoInput", "name them in binary_train_input and binary_eval_input."),
    ],
)
def test_other_formats(fails, kind, expected):
    assert expected in fails(b"1,x,2\n", input_type=kind)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_results_do_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch, size):
    rows = [b'%d,"v,%d\n""x""",%d.5' % (k, k, k) if k % 3 else b"%d,w%d,%d" % (k, k, k) for k in range(200)]
    rows[50] = b'50,st"ray,1'
    rows[70] = b"70,short"
    path = tmp_path / "t.csv"
    path.write_bytes(b"\n".join(rows))
    whole = read_table(path, config(on_bad_rows="skip"))
    assert whole.skipped == 2
    monkeypatch.setattr(text_module.blocks, "__defaults__", (size,))
    parts = read_table(path, config(on_bad_rows="skip"))
    assert parts.frame.equals(whole.frame)
    assert parts.examples == whole.examples
    assert [parts.origin(row) for row in range(198)] == [whole.origin(row) for row in range(198)]


def test_the_fast_way_and_the_careful_way_agree(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_bytes(b"".join(b"%d,s%d,%d.%d\n" % (k, k, k, k % 7) for k in range(5000)))
    from intarsia.data.reading import delimited

    used = []
    careful = delimited._read_carefully
    monkeypatch.setattr(delimited, "_read_carefully", lambda *args: used.append(1) or careful(*args))
    fast = read_table(path, config())
    assert not used
    monkeypatch.setattr(delimited, "_read_plain", lambda *args: None)
    slow = read_table(path, config())
    assert used
    assert fast.frame.equals(slow.frame)
    assert fast.origin(4321) == slow.origin(4321) == f"{path}, line 4322"
