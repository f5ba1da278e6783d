"""What is said of logs that break a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from intarsia.config.schema import DataConfig, FilterConfig, LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.formats import read_raw_log
from intarsia.data.interactions.interactions import Interactions

ROLES: dict[str, Any] = {"user_field": "user", "item_field": "item"}


def built(table: dict[str, list[Any]], bounds: dict[str, Any] | None = None, **log: Any) -> Interactions:
    frame = pl.DataFrame(table, strict=False)
    config = LogConfig.model_validate({**ROLES, **log})
    return build_interactions(RawLog(frame), config, FilterConfig.model_validate(bounds or {}))


def told(table: dict[str, list[Any]], bounds: dict[str, Any] | None = None, **log: Any) -> str:
    with pytest.raises(DataError) as caught:
        built(table, bounds, **log)
    return str(caught.value)


GOOD = {"user": ["a", "b", "a"], "item": ["x", "y", "y"]}


# Columns


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (
            {"user_field": "users"},
            "log.user_field names the column `users`, which the log does not have. Did you mean `user`? Columns: user, "
            "item. Name one of these.",
        ),
        (
            {"item_field": "product"},
            "log.item_field names the column `product`, which the log does not have. Columns: user, item. Name one of "
            "these.",
        ),
        (
            {"time_field": "timestamp"},
            "log.time_field names the column `timestamp`, which the log does not have. Columns: user, item. Name one "
            "of these.",
        ),
        (
            {"context_fields": ["user", "itm"]},
            "log.context_fields names the column `itm`, which the log does not have. Did you mean `item`? Columns: "
            "user, item. Name one of these.",
        ),
        (
            {"positive_rating": 4},
            "log.positive_rating tells positive ratings from negative ones. Received: 4 without log.rating_field. Name "
            "the column with the rating.",
        ),
    ],
)
def test_roles_that_no_column_has(log: dict[str, Any], message: str) -> None:
    assert told(GOOD, **log) == message


def test_a_missing_column_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("usr,item\na,x\n")
    with pytest.raises(DataError) as caught:
        read_raw_log(path, LogConfig.model_validate(ROLES))
    assert str(caught.value) == (
        f"log.user_field names the column `user`, which {path} does not have. Did you mean `usr`? Columns: usr, item. "
        "Name one of these."
    )


def test_a_part_without_the_column_is_named() -> None:
    raw = RawLog(pl.DataFrame(GOOD), test=pl.DataFrame({"user": ["a"], "thing": ["x"]}))
    with pytest.raises(DataError, match="names the column `item`, which the test part does not have"):
        build_interactions(raw, LogConfig.model_validate(ROLES))


# Ids


@pytest.mark.parametrize("empty", [None, ""])
def test_ids_must_not_be_empty(empty: str | None) -> None:
    message = told({"user": ["a", empty, empty, "b"], "item": ["x", "y", "x", "x"]})
    assert message == "ids must not be empty. Received: no `user` in row 2 of the log (2 such rows). Remove such rows."


def test_ids_of_numbers_must_be_whole() -> None:
    assert told({"user": [1.0, 2.5], "item": ["x", "y"]}) == (
        "ids must be text or whole numbers. Received: 2.5 as `user` in row 2 of the log. Name another column, or write "
        "the ids as text."
    )


def test_lists_are_no_ids() -> None:
    assert told({"user": ["a", "b"], "item": [[1], [2]]}) == (
        "ids must be text or whole numbers. Received: `item` of the log holds List(Int64). Convert the column."
    )


# Times


@pytest.mark.parametrize(
    ("times", "time_format", "message"),
    [
        (
            ["2016-05-09", "yesterday", ""],
            None,
            "`at` must hold times: numbers, ISO dates or timestamps such as 2016-05-09T10:51:09Z. Received: "
            "'yesterday' in row 2 of the log (2 such rows). Set log.time_format, or correct or remove the rows.",
        ),
        (
            ["09/05/2016", "09.05.2016", "09/06/2016"],
            "%d/%m/%Y",
            "`at` must hold times: written as log.time_format `%d/%m/%Y` says. Received: '09.05.2016' in row 2 of the "
            "log (1 such rows). Correct log.time_format, or correct or remove the rows.",
        ),
        (
            [1.0, float("nan"), 2.0],
            None,
            "`at` must hold times: numbers, ISO dates or timestamps such as 2016-05-09T10:51:09Z. Received: nan in row "
            "2 of the log (1 such rows). Set log.time_format, or correct or remove the rows.",
        ),
        (
            ["2016-02-30", "2016-05-09", "2016-05-09"],
            None,
            "`at` must hold times: numbers, ISO dates or timestamps such as 2016-05-09T10:51:09Z. Received: "
            "'2016-02-30' in row 1 of the log (1 such rows). Set log.time_format, or correct or remove the rows.",
        ),
        (
            [True, False, True],
            None,
            "`at` must hold times: numbers, ISO dates or timestamps such as 2016-05-09T10:51:09Z. Received: True in "
            "row 1 of the log (3 such rows). Set log.time_format, or correct or remove the rows.",
        ),
    ],
)
def test_times_that_are_none(times: list[Any], time_format: str | None, message: str) -> None:
    assert told({**GOOD, "at": times}, time_field="at", time_format=time_format) == message


def test_a_pattern_of_times_that_is_none() -> None:
    message = told({**GOOD, "at": ["1", "2", "3"]}, time_field="at", time_format="%Y-%m-%d %H")
    assert message.startswith(
        "log.time_format must be a pattern of strptime. Received: '%Y-%m-%d %H', for `at` with values "
    )


def test_times_in_a_file_that_are_none_keep_their_text(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,at\na,x,5\nb,y,soon\n")
    config = LogConfig.model_validate({**ROLES, "time_field": "at"})
    with pytest.raises(DataError, match="Received: 'soon' in row 2 of the log"):
        build_interactions(read_raw_log(tmp_path / "log.csv", config), config)


# Ratings


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        (
            [5, -1, -2],
            "`stars` must hold ratings of 0 and above. Received: -1 in row 2 of the log (2 such rows). Set "
            "filter.min_rating to the lowest rating that counts, or remove them.",
        ),
        (
            [5.0, 1.0, float("nan")],
            "`stars` must hold finite numbers. Received: nan in row 3 of the log (1 such rows). Correct or remove "
            "them.",
        ),
        (
            [5.0, float("inf"), 1.0],
            "`stars` must hold finite numbers. Received: inf in row 2 of the log (1 such rows). Correct or remove "
            "them.",
        ),
        (
            [5, None, 1],
            "`stars` must hold finite numbers. Received: None in row 2 of the log (1 such rows). Correct or remove "
            "them.",
        ),
        (
            ["5", "good", "1"],
            "`stars` must hold finite numbers. Received: 'good' in row 2 of the log (1 such rows). Correct or remove "
            "them.",
        ),
    ],
)
def test_ratings_that_are_none(ratings: list[Any], message: str) -> None:
    assert told({**GOOD, "stars": ratings}, rating_field="stars") == message


def test_negative_ratings_are_fine_where_a_bound_says_what_counts() -> None:
    rows: dict[str, list[Any]] = {"user": ["a", "b", "a"], "item": ["x", "y", "y"], "stars": [1, 1, -1]}
    assert built(rows, {"min_rating": 0}, rating_field="stars").num_interactions == 2
    assert built(rows, {"min_rating": -1}, rating_field="stars").num_interactions == 3


# Size


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        ({"user": ["a", "a"], "item": ["x", "y"]}, "1 users, 2 items, 2 interactions"),
        ({"user": ["a", "b"], "item": ["x", "x"]}, "2 users, 1 items, 2 interactions"),
        ({"user": ["a"], "item": ["x"]}, "1 users, 1 items, 1 interactions"),
    ],
)
def test_one_user_or_one_item_is_no_log(rows: dict[str, list[Any]], shape: str) -> None:
    assert told(rows) == (
        f"a log needs at least two users and two items. Received: the log: {shape}. Check log.user_field and "
        "log.item_field."
    )


def test_no_rows_are_no_log() -> None:
    assert told({"user": [], "item": []}) == (
        "a log needs at least two users and two items. Received: no rows. Check the log's files."
    )


# Negatives


def with_negatives(users: list[str], items: list[str | None], negatives: list[list[str]]) -> Interactions:
    table = pl.DataFrame({"user": users, "item": items, "negatives": negatives}, schema_overrides={"item": pl.String})
    raw = RawLog(pl.DataFrame(GOOD), test=pl.DataFrame({"user": ["a", "b"], "item": ["z", "x"]}), negatives=table)
    return build_interactions(raw, LogConfig.model_validate(ROLES))


def test_negatives_that_are_the_positive_are_counted_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log = with_negatives(["b", "a"], ["x", "z"], [["z", "y"], ["y", "z"]])
    assert caplog.messages == [
        "fixed negatives: in 1 of 2 rows the test item is among its own negatives, which are then left out"
    ]
    assert log.fixed_negatives is not None
    assert log.fixed_negatives.tolist() == [[1, -1], [2, 1]]


def test_negatives_of_strangers_are_counted_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log = with_negatives(["b", "stranger", "a"], [None, None, None], [["y", "new"], ["x"], ["x"]])
    assert caplog.messages == [
        "fixed negatives: 1 rows are of users that the log does not know",
        "fixed negatives: 1 of 3 are items that the log does not know",
    ]
    assert log.negative_users is not None
    assert log.negative_users.tolist() == [0, 1]
    assert log.fixed_negatives is not None
    assert log.fixed_negatives.tolist() == [[0, -1], [1, -1]]


def test_negatives_have_one_row_a_user() -> None:
    with pytest.raises(DataError) as caught:
        with_negatives(["a", "a"], [None, None], [["x"], ["y"]])
    assert str(caught.value) == (
        "fixed negatives have one row a user. Received: several rows of 1 users, such as 'a'. Join the rows of a user."
    )


def test_a_line_of_negatives_holds_some(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 10 11\n1 12\n")
    (tmp_path / "neg").write_text("(0,11)\t12\n(1,12)\n")
    with pytest.raises(DataError) as caught:
        read_raw_log(tmp_path / "train.txt", LogConfig(negatives_path=str(tmp_path / "neg")))
    assert str(caught.value) == (
        f"{tmp_path / 'neg'}: every line must hold `(user,item)` and items to rank against. Received: line 2 without "
        "any. Correct the file or name another one in log.negatives_path."
    )


# Files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file must hold rows. It is empty."),
        (b"\n \n", "the file must hold rows. It is empty."),
        (
            b"user,item\na,x\nb\n",
            "line 3: a row must have 2 cells, as the header says. Received: 1. The line reads: 'b'",
        ),
        (b"user,item,item\na,x,y\n", "column names must differ. Received: user, item, item. Rename one of these."),
        (
            b"1,2\n3,4\n",
            "the first line must hold the names of the columns. Received: '1,2'. Name them in log.columns, or say how "
            "the file is written in log.format.",
        ),
        (b"user,item\nJos\xe9,x\nb,y\n", "UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_raw_log(tmp_path / "log.csv", LogConfig.model_validate(ROLES))
    assert str(tmp_path / "log.csv") in str(caught.value)
    assert message in str(caught.value)


def test_the_encoding_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"user,item\nJos\xe9,x\nb,y\n")
    config = LogConfig.model_validate({**ROLES, "encoding": "latin-1"})
    assert build_interactions(read_raw_log(tmp_path / "log.csv", config), config).user_ids.ids.to_list() == [
        "José",
        "b",
    ]


def test_bad_rows_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log.csv").write_text("user,item\na,x\nb\nb,y\n")
    config = LogConfig.model_validate(ROLES)
    raw = read_raw_log(tmp_path / "log.csv", config, data=DataConfig(on_bad_rows="skip"))
    assert raw.interactions.rows() == [("a", "x"), ("b", "y")]
    assert "left out 1 rows that cannot be read" in caplog.text


def test_names_that_do_not_fit_the_cells(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text("1::2::3\n4::5::6\n")
    with pytest.raises(DataError) as caught:
        read_raw_log(tmp_path / "log.dat", LogConfig.model_validate({**ROLES, "columns": ["user", "item"]}))
    assert str(caught.value) == (
        f"{tmp_path / 'log.dat'}: log.columns names every cell of a line. Received: 2 names (user, item) for 3 cells, "
        "separated by '::': '1::2::3'. Name all columns, or set log.separator."
    )


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_text("user,item\n")
    with pytest.raises(DataError, match=r"log\.parquet: the file must be Parquet\. It cannot be read"):
        read_raw_log(tmp_path / "log.parquet", LogConfig.model_validate(ROLES))


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        read_raw_log(tmp_path / "none.csv", LogConfig.model_validate(ROLES))
