"""Tables of users and items, row for row with their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from intarsia.config.schema import LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.formats import read_links, read_raw_log, read_triples
from intarsia.data.interactions.interactions import Interactions
from intarsia.data.interactions.side_tables import keyed, side_table, unseen_ids

LOG = pl.DataFrame({"user_id": [3, 1, 3], "item_id": ["b", "a", "c"]})


def built(users: pl.DataFrame | None = None, items: pl.DataFrame | None = None, **log: Any) -> Interactions:
    return build_interactions(RawLog(LOG, users, items), LogConfig.model_validate(log))


def test_row_n_is_number_n_and_missing_rows_are_nulls() -> None:
    users = pl.DataFrame({"age": [50, 30, 20], "user_id": [5, 3, 2]})
    items = pl.DataFrame({"item_id": ["c", "b", "a"], "kind": ["k3", "k2", "k1"]})
    log = built(users, items)
    assert log.users is not None
    assert log.users.columns == ["age", "user_id"]
    assert log.users.rows() == [(None, "1"), (30, "3")]
    assert log.catalogue is not None
    assert log.catalogue.rows() == [("a", "k1"), ("b", "k2"), ("c", "k3")]


def test_a_log_without_tables_has_none() -> None:
    log = built()
    assert log.users is None
    assert log.catalogue is None
    assert log.titles is None


def test_ids_match_whatever_type_holds_them() -> None:
    ids = pl.Series(["1", "20", "3"])
    for column in (pl.Series([20, 1]), pl.Series([20.0, 1.0]), pl.Series(["20", "1"])):
        found = side_table(pl.DataFrame({"id": column, "x": ["twenty", "one"]}), "id", ids, "item")
        assert found is not None
        assert found["x"].to_list() == ["one", "twenty", None]


def test_a_table_of_other_ids_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    built(users=pl.DataFrame({"user_id": ["u3", "u1"], "age": [1, 2]}))
    assert caplog.messages == [
        "the user table knows none of the log's 2 users; its ids are such as ['u3', 'u1'], those of the log such as "
        "['1', '3']"
    ]


def test_ids_that_a_table_lacks_are_told_of_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "intarsia")
    built(items=pl.DataFrame({"item_id": ["a"], "kind": [1]}))
    assert caplog.messages == ["the item table lacks 2 of 3 items"]


def test_unseen_ids_are_those_that_the_log_lacks() -> None:
    table = pl.DataFrame({"id": [4, 2, 9], "x": [1, 1, 1]})
    found = unseen_ids(table, "id", pl.Series(["2", "3"]))
    assert found is not None
    assert found.to_list() == ["4", "9"]
    assert unseen_ids(None, "id", pl.Series(["2"])) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"item": ["a"], "kind": [1]},
            "the item table lacks the column `item_id`. Did you mean `item`? Columns: item, kind. Rename one.",
        ),
        (
            {"item_id": ["a", "b", "a", "a"]},
            "the item table has one row an id. Received: 3 rows whose `item_id` occurs more than once, such as 'a'. "
            "Remove the duplicates.",
        ),
        (
            {"item_id": ["a", None]},
            "ids must not be empty. Received: no `item_id` in row 2 of the item table (1 such rows). Remove such rows.",
        ),
        (
            {"item_id": [1.5, 2.0]},
            "ids must be text or whole numbers. Received: 1.5 as `item_id` in row 1 of the item table. Name another "
            "column, or write the ids as text.",
        ),
    ],
)
def test_tables_that_break_a_rule(table: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        keyed(pl.DataFrame(table), "item_id", "item")
    assert str(caught.value) == message


def test_a_title_that_the_table_lacks() -> None:
    with pytest.raises(DataError) as caught:
        built(items=pl.DataFrame({"item_id": ["a"], "title": ["A"]}), title_field="titles")
    assert str(caught.value) == (
        "log.title_field names the column `titles`, which the item table does not have. Did you mean `title`? Columns: "
        "item_id, title. Name one of these."
    )
    log = built(items=pl.DataFrame({"item_id": ["a"], "title": ["A"]}), title_field="title")
    assert log.titles == "title"


# Files


def test_tables_are_files_with_or_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text("1::a\n2::b\n1::b\n")
    (tmp_path / "users.dat").write_text("2::F::30\n1::M::25\n")
    (tmp_path / "items.csv").write_text('item_id,title,price\nb,"Bees, the",2.5\na,Ants,1\n')
    config = LogConfig(
        columns=["user_id", "item_id"],
        separator="::",
        user_table="users.dat",
        user_columns=["user_id", "gender", "age"],
        item_table="items.csv",
        title_field="title",
    )
    log = build_interactions(read_raw_log("log.dat", config, base_dir=tmp_path), config)
    assert log.users is not None
    assert log.users.rows() == [("1", "M", 25), ("2", "F", 30)]
    assert log.catalogue is not None
    assert log.catalogue.rows() == [("a", "Ants", 1.0), ("b", "Bees, the", 2.5)]


def test_a_table_in_parquet_keeps_its_types(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a", "b"], "tags": [["x", "y"], []]}).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,a\n2,b\n")
    config = LogConfig(item_table="items.parquet")
    log = build_interactions(read_raw_log("log.csv", config, base_dir=tmp_path), config)
    assert log.catalogue is not None
    assert log.catalogue["tags"].to_list() == [["x", "y"], []]


def test_names_of_a_table_without_a_header_fit_its_cells(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,a\n2,b\n")
    (tmp_path / "users.csv").write_text("1,M\n2,F\n")
    with pytest.raises(DataError) as caught:
        read_raw_log("log.csv", LogConfig(user_table="users.csv", user_columns=["user_id"]), base_dir=tmp_path)
    assert "log.user_columns names every cell of a line. Received: 1 names (user_id) for 2 cells" in str(caught.value)


def test_triples_and_links_have_a_typed_header_or_none(tmp_path: Path) -> None:
    (tmp_path / "kg").write_text("head_id:token\trelation_id:token\ttail_id:token\n1\tr\t2\n")
    (tmp_path / "kg.txt").write_text("1\tr\t2\n3\ts\t4\n")
    (tmp_path / "links").write_text("7 1\n8 3\n")
    log = LogConfig()
    assert read_triples(tmp_path / "kg", log).rows(named=True) == [{"head": "1", "relation": "r", "tail": "2"}]
    assert read_triples(tmp_path / "kg.txt", log).rows() == [("1", "r", "2"), ("3", "s", "4")]
    assert read_links(tmp_path / "links", log).rows(named=True) == [
        {"item": "7", "entity": "1"},
        {"item": "8", "entity": "3"},
    ]


def test_triples_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,a\n2,b\n")
    (tmp_path / "kg.txt").write_text("m\tr\tn\n")
    (tmp_path / "links.txt").write_text("a\tm\n")
    config = LogConfig(knowledge_path="kg.txt", links_path="links.txt")
    asked = read_raw_log("log.csv", config, base_dir=tmp_path, knowledge=True)
    assert asked.knowledge is not None
    assert asked.knowledge.rows() == [("m", "r", "n")]
    assert asked.links is not None
    assert asked.links.rows() == [("a", "m")]
    assert read_raw_log("log.csv", config, base_dir=tmp_path).knowledge is None
