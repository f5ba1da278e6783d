"""Parquet files, Criteo's binary files and data frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading import from_frame, iter_row_groups, read_criteo, read_table, row_group_index

FIELDS = [
    {"input_name": "user", "input_type": "STRING"},
    {"input_name": "label", "input_type": "INT32"},
    {"input_name": "items", "input_type": "INT64"},
    {"input_name": "price", "input_type": "FLOAT"},
]


def config(**options: Any) -> DataConfig:
    return DataConfig(**({"input_type": "ParquetInput", "input_fields": FIELDS} | options))


def table(start: int, rows: int) -> pa.Table:
    numbers = list(range(start, start + rows))
    return pa.table(
        {
            "extra": pa.array(numbers, pa.int64()),
            "user": pa.array([f"u{n}" for n in numbers]).dictionary_encode(),
            "label": pa.array([n % 2 for n in numbers], pa.int64()),
            "items": pa.array([None if n % 5 == 4 else list(range(n % 4)) for n in numbers], pa.list_(pa.int32())),
            "price": pa.array([None if n % 3 == 0 else n / 4 for n in numbers], pa.float64()),
        }
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pq.write_table(table(0, 25), tmp_path / "1.parquet", row_group_size=10)
    pq.write_table(table(25, 10), tmp_path / "2.parquet", row_group_size=10)
    return tmp_path


def test_whole_files(files):
    result = read_table(files, config())
    frame = result.frame
    assert frame.schema == {"user": pl.String, "label": pl.Int32, "items": pl.List(pl.Int64), "price": pl.Float32}
    assert frame.height == 35
    assert frame.row(7) == ("u7", 1, [0, 1, 2], 1.75)
    assert frame["items"][4] is None
    assert frame["items"][8].to_list() == []
    assert frame["price"][3] is None
    assert result.origin(12) == f"{files}/1.parquet, row 13"
    assert result.origin(34) == f"{files}/2.parquet, row 10"


def test_without_declarations_stored_types_hold(files):
    frame = read_table(files, config(input_fields=[]), columns=["extra", "price", "items"]).frame
    assert frame.schema == {"extra": pl.Int64, "price": pl.Float64, "items": pl.List(pl.Int64)}


def test_parquet_by_its_name_under_csv_input(files, caplog):
    frame = read_table(files / "1.parquet", config(input_type="CSVInput")).frame
    assert frame.equals(read_table(files / "1.parquet", config()).frame)
    assert "is read as Parquet, for its name says so, though input_type is CSVInput" in caplog.text


def test_row_groups_are_listed_without_reading_them(files, monkeypatch):
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    found = row_group_index(files)
    assert [(g.file_index, g.group_index, g.rows) for g in found] == [(0, 0, 10), (0, 1, 10), (0, 2, 5), (1, 0, 10)]


def test_row_groups_equal_the_whole(files):
    found = list(iter_row_groups(files, config()))
    assert [(file, group) for file, group, _ in found] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert pl.concat([frame for _, _, frame in found]).equals(read_table(files, config()).frame)


def test_row_groups_in_a_chosen_order(files):
    index = row_group_index(files)
    found = list(iter_row_groups(files, config(), columns=["user"], groups=[index[3], index[1]]))
    assert [frame["user"][0] for _, _, frame in found] == ["u25", "u10"]


def test_row_groups_are_read_one_at_a_time(files, monkeypatch):
    read: list[int] = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, k, columns: read.append(k) or original(self, k, columns=columns),
    )
    groups = iter_row_groups(files, config())
    next(groups)
    assert read == [0]


def test_streaming_holds_one_group_in_memory(tmp_path):
    path = tmp_path / "t.parquet"
    values = np.arange(2_000_000)
    pq.write_table(pa.table({"v": values}), path, row_group_size=100_000, compression="none", use_dictionary=False)
    before = pa.total_allocated_bytes()
    peak = 0
    for _, _, frame in iter_row_groups(path, DataConfig(input_type="ParquetInput")):
        assert frame.height == 100_000
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < values.nbytes / 4


@pytest.mark.parametrize(
    ("kind", "values", "row", "received"),
    [
        ("INT32", [1, 2**40], 2, str(2**40)),
        ("INT64", [1.0, 2.5], 2, "2.5"),
        ("INT64", ["7", "abc"], 2, "'abc'"),
        ("FLOAT", [1.0, float("inf")], 2, "inf"),
        ("DOUBLE", [float("nan"), 1.0], 1, "nan"),
        ("BOOL", [0, 2], 2, "2"),
        ("INT32", [[1], [2, 2**40]], 2, f"[2, {2**40}]"),
        ("FLOAT", [[1.0, float("nan")], None, []], 1, "[1.0, nan]"),
    ],
)
def test_values_that_do_not_fit(tmp_path, kind, values, row, received):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"v": pa.array(values)}), path)
    fields = [{"input_name": "v", "input_type": kind}]
    with pytest.raises(DataError) as caught:
        read_table(path, config(input_fields=fields))
    assert str(caught.value).startswith(f"{path}, row {row}, column `v`: {kind} must be ")
    assert f"Received: {received}." in str(caught.value)
    result = read_table(path, config(input_fields=fields, on_bad_rows="skip"))
    assert result.skipped == 1
    assert result.frame.height == len(values) - 1
    other = 1 if row == 2 else 2
    assert result.origin(0) == f"{path}, row {other}"


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("STRING", pa.array([7, None]), ["7", None]),
        ("STRING", pa.array([b"x", b"\xc3\xa9"]), ["x", "é"]),
        ("STRING", pa.array(["", "x"]), [None, "x"]),
        ("INT32", pa.array([7.0, None]), [7, None]),
        ("INT64", pa.array(["007", ""]), [7, None]),
        ("INT64", pa.array([2**63 - 1], pa.uint64()), [2**63 - 1]),
        ("DOUBLE", pa.array([1, 2]), [1.0, 2.0]),
        ("BOOL", pa.array([0, 1]), [False, True]),
        ("STRING", pa.array([[1, None], None, []]), [["1", None], None, []]),
        ("FLOAT", pa.array([["1.5"], ["2"]]), [[1.5], [2.0]]),
        ("INT64", pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)), [[1, 2], [3, 4]]),
    ],
)
def test_stored_types_become_declared_ones(tmp_path, kind, array, expected):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"v": array}), path)
    frame = read_table(path, config(input_fields=[{"input_name": "v", "input_type": kind}])).frame
    assert frame["v"].to_list() == expected


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("STRING", pa.array([1.5]), "Column `v` is declared STRING and must hold text or whole numbers"),
        ("INT64", pa.array([{"a": 1}]), "Column `v` is declared INT64 and must hold text, numbers, booleans or lists"),
        ("INT64", pa.array([[[1]]]), "not lists of lists. Stored type: List(List(Int64))."),
        ("STRING", pa.array([b"\xff"]), "Column `v`: text must be UTF-8."),
    ],
)
def test_stored_types_that_cannot_be_read(tmp_path, kind, array, expected):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"v": array}), path)
    with pytest.raises(DataError) as caught:
        read_table(path, config(input_fields=[{"input_name": "v", "input_type": kind}]))
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_columns(files):
    with pytest.raises(DataError) as caught:
        read_table(files / "1.parquet", config(), columns=["usr"])
    assert str(caught.value) == (
        f"{files}/1.parquet: column `usr` (near: `user`) must exist. The columns are: extra, user, label, items, price."
    )


def test_files_that_are_cut_off_or_no_parquet(files):
    whole = (files / "1.parquet").read_bytes()
    cases = {
        "cut.parquet": (whole[:-20], "the file must be Parquet. It is cut off or damaged: its footer cannot be read"),
        "text.parquet": (b"a,b\n1,2\n", "the file must be Parquet. It is not ("),
        "void.parquet": (b"", "the file must be Parquet. It is empty."),
    }
    for name, (content, expected) in cases.items():
        (files / name).write_bytes(content)
        for action in (
            lambda path: read_table(path, config()),
            lambda path: row_group_index(path),
            lambda path: list(iter_row_groups(path, config())),
        ):
            with pytest.raises(DataError) as caught:
                action(files / name)
            assert str(caught.value).startswith(f"{files}/{name}: {expected}")


def test_a_damaged_group_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table(0, 3000), path, row_group_size=1000)
    meta = pq.ParquetFile(path).metadata
    column = meta.row_group(1).column(1)
    begin = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(content))
    expected = f"{path}: row group 1 of 3 must be readable. It is damaged or cut off ("
    with pytest.raises(DataError) as caught:
        read_table(path, config())
    assert str(caught.value).startswith(expected)
    groups = iter_row_groups(path, config())
    assert next(groups)[2].height == 1000
    with pytest.raises(DataError) as caught:
        next(groups)
    assert str(caught.value).startswith(expected)


def test_no_rows(tmp_path):
    pq.write_table(table(0, 0), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: the file must hold rows\. It holds none\."):
        read_table(tmp_path / "t.parquet", config())


DATA = {"user": ["a", "b", None], "label": [1, 0, 1], "items": [[1, 2], [], None], "price": [0.5, None, 2.0]}


@pytest.mark.parametrize("make", [dict, pl.DataFrame, pa.table, lambda data: pl.DataFrame(data).lazy()])
def test_frames(make):
    frame = from_frame(make(DATA), config()).frame
    assert frame.schema == {"user": pl.String, "label": pl.Int32, "items": pl.List(pl.Int64), "price": pl.Float32}
    assert frame.to_dict(as_series=False) == DATA


def test_pandas():
    pandas = pytest.importorskip("pandas")
    data = {"user": ["a", "b"], "label": [1.0, float("nan")]}
    fields = [entry for entry in FIELDS if entry["input_name"] in data]
    frame = from_frame(pandas.DataFrame(data, index=[5, 6]), config(input_fields=fields)).frame
    assert frame.to_dict(as_series=False) == {"user": ["a", "b"], "label": [1, None]}


def test_frames_of_numpy_arrays_keep_their_types():
    frame = from_frame({"i": np.arange(3, dtype=np.int16), "f": np.ones(3, np.float32), "v": np.ones((3, 2))}).frame
    assert frame.schema == {"i": pl.Int64, "f": pl.Float64, "v": pl.List(pl.Float64)}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (DATA | {"label": [1, 0, 2**40]}, "row 3, column `label`: INT32 must be a whole number"),
        ({k: v for k, v in DATA.items() if k != "label"}, "the data frame: column `label` must exist."),
        ({"user": [], "label": [], "items": [], "price": []}, "The data frame must hold rows. It holds none."),
        (DATA | {"label": [1]}, "The data frame must have named columns of equal length and plain types."),
        ([1, 2], "Rows in memory must be a data frame of Polars or pandas, an Arrow table, or a mapping"),
    ],
)
def test_frames_that_cannot_be(frame, expected):
    with pytest.raises(DataError) as caught:
        from_frame(frame, config())
    assert expected in str(caught.value)


@dataclass
class Files:
    category_path: str
    dense_path: str
    label_path: str


@pytest.fixture
def criteo(tmp_path: Path) -> Files:
    rng = np.random.default_rng(0)
    for k, rows in enumerate((5, 3)):
        rng.integers(0, 2**32, (rows, 26), dtype=np.uint32).tofile(tmp_path / f"{k}_category.bin")
        rng.random((rows, 13), dtype=np.float32).tofile(tmp_path / f"{k}_dense.bin")
        (np.arange(rows, dtype=np.int32) % 2).tofile(tmp_path / f"{k}_label.bin")
    return Files(*(str(tmp_path / f"*_{kind}.bin") for kind in ("category", "dense", "label")))


def test_criteo(criteo, tmp_path):
    frame = read_criteo(criteo, DataConfig(input_type="CriteoInput")).frame
    assert frame.columns == ["label", *(f"f{k}" for k in range(1, 14)), *(f"c{k}" for k in range(1, 27))]
    assert frame["label"].to_list() == [0, 1, 0, 1, 0, 0, 1, 0]
    raw = np.fromfile(tmp_path / "1_category.bin", dtype=np.uint32).reshape(3, 26)
    assert frame["c7"].to_list()[5:] == raw[:, 6].tolist()
    dense = np.fromfile(tmp_path / "0_dense.bin", dtype=np.float32).reshape(5, 13)
    assert frame["f13"].to_list()[:5] == pytest.approx(dense[:, 12].tolist(), abs=0)
    declared = DataConfig(
        input_type="CriteoInput", input_fields=[{"input_name": "c1"}, {"input_name": "label", "input_type": "FLOAT"}]
    )
    assert read_criteo(criteo, declared).frame.schema == {"c1": pl.String, "label": pl.Float32}


def test_criteo_files_of_wrong_size(criteo, tmp_path):
    config = DataConfig(input_type="CriteoInput")
    (tmp_path / "1_label.bin").write_bytes(b"\x00" * 16)
    with pytest.raises(DataError, match=r"must hold equally many rows\. Received: 4, 3 and 3\."):
        read_criteo(criteo, config)
    (tmp_path / "1_label.bin").write_bytes(b"\x00" * 13)
    with pytest.raises(DataError, match=r"the size must be a multiple of 4 bytes, one row\. It is 13 bytes\."):
        read_criteo(criteo, config)
    (tmp_path / "1_label.bin").unlink()
    with pytest.raises(DataError, match="must name equally many files"):
        read_criteo(criteo, config)
