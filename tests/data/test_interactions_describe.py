"""What is said of a log, how it is drawn, and that it reads back as it was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from logs import make_log, random_log

from intarsia.config.schema import LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.describe import QUANTILES, describe
from intarsia.data.interactions.draw import draw_log
from intarsia.data.interactions.formats import read_raw_log
from intarsia.data.interactions.interactions import Interactions
from intarsia.data.interactions.write import write_log

DAY = 86_400.0
START = 1_462_795_200.0  # 9 May 2016, noon


def test_counts_density_and_span() -> None:
    log = make_log([[0, 1, 2], [2, 3]], times=[[START, START + 1, START + 2], [START + 3, START + DAY]], num_items=5)
    facts = describe(log)
    assert (facts.users, facts.items, facts.interactions, facts.density) == (2, 5, 5, 0.5)
    assert facts.span == (START, START + DAY)
    assert facts.moments() == ("2016-05-09 12:00", "2016-05-10 12:00")
    assert facts.ratings is None
    assert facts.parts == {}


def test_quantiles_are_values_that_occur() -> None:
    """Lengths 1 to 10: at least a tenth is at or below 1, a quarter at or below 3, half at or below 5."""
    log = make_log([list(range(n)) for n in range(1, 11)])
    assert dict(zip(QUANTILES, describe(log).lengths)) == {
        0.0: 1, 0.1: 1, 0.25: 3, 0.5: 5, 0.75: 8, 0.9: 9, 0.99: 10, 1.0: 10,
    }  # fmt: skip
    assert describe(log).popularity[-1] == 10
    assert describe(log).top_share == 10 / 55


def test_the_top_share_is_that_of_a_hundredth_of_the_items() -> None:
    rows = [[0, 1, *range(2, 200)], [0, 1], [0, 1]]
    assert describe(make_log(rows)).top_share == pytest.approx(6 / 204)


def test_a_good_log_has_no_problems() -> None:
    log = make_log([[0, 1, 2], [2, 1, 0]], times=[[START, START + 1, START + 2], [START, START + 1, START + 2]])
    assert describe(log).problems == ()


@pytest.mark.parametrize(
    ("rows", "times", "items", "message"),
    [
        (
            [[0, 1, 0], [1, 0]],
            [[1.0, 2.0, 3.0], [4.0, 5.0]],
            2,
            "1 of 5 interactions repeat an earlier one of the same user and item (log.repeated: first merges them)",
        ),
        (
            [[0, 1], [1]],
            [[1.0, 2.0], [3.0]],
            2,
            "1 of 2 users have a single interaction: nothing of theirs can be asked for (filter.k_core leaves them "
            "out)",
        ),
        ([[0, 1], [1, 2]], [[1.0, 2.0], [3.0, 4.0]], 3, "2 of 3 items were taken once: nobody can learn much of them"),
        ([[0, 1], [1, 0]], [[1.0, 2.0], [3.0, 4.0]], 3, "1 of 3 items were never taken"),
        (
            [[0, 1], [1, 0]],
            None,
            2,
            "there are no times: the order of the rows is taken for it, and no split by time is possible",
        ),
        ([[0, 1], [1, 0]], [[7.0, 7.0], [7.0, 7.0]], 2, "all interactions have the same time"),
        (
            [[0, 1], [1, 0]],
            [[START * 1000, START * 1000 + 1], [START * 1000, START * 1000 + 5]],
            2,
            "times look like milliseconds: gaps and decays that count seconds will be off by 1,000",
        ),
        (
            [[0, 1], [1, 0]],
            [[0.0, START], [START, START + 1]],
            2,
            "times are not seconds since 1970 (or some are far off)",
        ),
        (
            [[0, 1], [1, 0]],
            [[START, START], [START, START + 1]],
            2,
            "1 of 4 interactions have the time of the user's interaction before them: their order is that of the file",
        ),
    ],
)
def test_problems_are_told(rows: list[list[int]], times: list[list[float]] | None, items: int, message: str) -> None:
    assert message in describe(make_log(rows, times, items)).problems


def built(table: dict[str, list[Any]], **more: Any) -> Interactions:
    tables = {name: pl.DataFrame(value) for name, value in more.items() if isinstance(value, dict)}
    config = LogConfig(**{name: value for name, value in more.items() if not isinstance(value, dict)})
    return build_interactions(RawLog(pl.DataFrame(table), **tables), config)


def test_problems_of_ratings_tables_parts_and_negatives() -> None:
    log = built(
        {"user_id": [1, 2, 1], "item_id": [1, 2, 2], "stars": [3, 3, 3]},
        rating_field="stars",
        users={"user_id": [1], "age": [30]},
        test={"user_id": [1, 3], "item_id": [3, 1], "stars": [3, 3]},
        negatives={"user": ["1", "3"], "item": ["3", "1"], "negatives": [["3", "2"], ["2", "3"]]},
    )
    facts = describe(log)
    assert facts.parts == {"train": 3, "test": 2}
    assert facts.user_columns == ("user_id", "age")
    assert set(facts.problems) >= {
        "all ratings are 3, so they say nothing",
        "the user table says nothing of 2 of 3 users",
        "1 of 2 users of the test part never occur in training",
        "1 of 2 items of the test part never occur in training",
        "1 of 2 rows of fixed negatives hold the test item, an unknown item, or fewer items than others",
    }


# Pictures


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_a_log_is_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    log = random_log(1)
    log = replace(log, ratings=np.ones(log.num_interactions, dtype=np.float32))
    draw_log(log, describe(log), tmp_path / f"in/a{ending}", title="Mine")
    assert (tmp_path / f"in/a{ending}").stat().st_size > 5000


def test_a_picture_is_the_same_each_time_and_shows_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    log = make_log([[0, 1, 2], [2, 1]])
    for name in "ab":
        draw_log(log, describe(log), tmp_path / f"{name}.svg", title="Mine")
    picture = (tmp_path / "a.svg").read_text()
    assert picture == (tmp_path / "b.svg").read_text()
    assert "<!-- Mine -->" in picture
    assert "<!-- 2 users, 3 items, 5 interactions -->" in picture
    assert "<!-- rank of the item -->" in picture
    assert "<!-- time -->" not in picture
    assert "<!-- rating -->" not in picture


def test_a_picture_of_another_kind(tmp_path: Path) -> None:
    log = make_log([[0, 1], [1, 0]])
    with pytest.raises(DataError) as caught:
        draw_log(log, describe(log), tmp_path / "a.gif")
    assert str(caught.value) == "a picture ends in .svg, .png, .pdf. Received: a.gif. Rename it."


# Writing


ROLES = {"user_field": "u", "item_field": "i", "rating_field": "r", "time_field": "t", "context_fields": ["place"]}


def rich() -> RawLog:
    return RawLog(
        pl.DataFrame(
            {
                "u": ["a", "b", "a", "b"],
                "i": ["x, y", "z", "z", 'q"q'],
                "r": [1.0, 2.5, 3.0, 4.0],
                "t": [4, 3, 2, 1],
                "place": ["at\thome", "out", "out", "out"],
            }
        ),
        pl.DataFrame({"u": ["b", "a"], "age": [3, 4]}),
        pl.DataFrame({"i": ["z", "x, y", 'q"q'], "tags": [["p", "q"], ["p"], []], "w": [[0.5, 1.0], [2.0], [3.0]]}),
    )


def same(one: Interactions, other: Interactions) -> None:
    assert one.user_ids.ids.to_list() == other.user_ids.ids.to_list()
    assert one.item_ids.ids.to_list() == other.item_ids.ids.to_list()
    for name in ("offsets", "items", "ratings", "times", "parts"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".tsv", ".inter"])
def test_a_log_reads_back_as_it_was_written(tmp_path: Path, ending: str) -> None:
    roles = LogConfig.model_validate(ROLES)
    log = build_interactions(rich(), roles)
    files = write_log(log, roles, tmp_path / f"out/log{ending}")
    tables = (".user", ".item") if ending == ".inter" else (f".users{ending}", f".items{ending}")
    assert [path.name for path in files] == [f"log{ending}", *(f"log{name}" for name in tables)]
    config = roles
    if ending != ".inter":
        named = {"user_table": f"log{tables[0]}", "item_table": f"log{tables[1]}"}
        config = roles.model_copy(update=named)
    again = build_interactions(read_raw_log(f"log{ending}", config, base_dir=tmp_path / "out"), config)
    same(again, log)
    assert again.users is not None
    assert again.users["age"].cast(pl.Int64).to_list() == [4, 3]
    place = "at home" if ending == ".inter" else "at\thome"  # nothing could quote a tab there
    assert again.context["place"].to_list() == ["out", place, "out", "out"]
    assert again.catalogue is not None
    tags: Any = {".parquet": [[], ["p"], ["p", "q"]], ".inter": ["", "p", "p q"]}.get(ending, ["", "p", "p|q"])
    assert [tag or tags[0] for tag in again.catalogue["tags"].to_list()] == tags


def test_parts_and_negatives_become_files_of_their_own(tmp_path: Path) -> None:
    log = built(
        {"user_id": [7, 8, 7], "item_id": [1, 2, 2]},
        test={"user_id": [7, 9], "item_id": [3, 1]},
        test_inputs={"user_id": [9], "item_id": [2]},
        negatives={"user": ["9", "7"], "item": ["1", "3"], "negatives": [["2", "3"], ["3", "1"]]},
    )
    files = write_log(log, LogConfig(), tmp_path / "x.csv")
    assert [path.name for path in files] == ["x.train.csv", "x.test.csv", "x.input.csv", "x.negatives.txt"]
    assert (tmp_path / "x.train.csv").read_text() == "user_id,item_id\n7,1\n7,2\n8,2\n"
    assert (tmp_path / "x.input.csv").read_text() == "user_id,item_id\n9,2\n"
    assert (tmp_path / "x.negatives.txt").read_text() == "7 1\n9 2 3\n"
    config = LogConfig(negatives_path=str(tmp_path / "x.negatives.txt"))
    again = build_interactions(read_raw_log(tmp_path / "x.train.csv", config), config)
    assert again.parts is not None
    assert again.parts.tolist() == [0, 0, 2, 0, 2]
    assert again.fixed_negatives is not None
    assert again.fixed_negatives.tolist() == [[0, -1], [1, 2]]


def test_triples_go_beside_atomic_files(tmp_path: Path) -> None:
    log = make_log([[0, 1], [1, 0]])
    graph = pl.DataFrame({"head": ["m"], "relation": ["r"], "tail": ["n"]})
    links = pl.DataFrame({"item": ["i0"], "entity": ["m"]})
    write_log(log, LogConfig(), tmp_path / "x.inter", knowledge=graph, links=links)
    raw = read_raw_log(tmp_path / "x.inter", LogConfig())
    assert raw.knowledge is not None
    assert raw.knowledge.rows() == graph.rows()
    assert raw.links is not None
    assert raw.links.rows() == links.rows()


def test_times_of_atomic_files_are_numbers(tmp_path: Path) -> None:
    write_log(make_log([[0, 1], [1, 0]], times=[[1, 2], [3, 4.5]]), LogConfig(), tmp_path / "half.inter")
    write_log(make_log([[0, 1], [1, 0]], times=[[1, 2], [3, 4]]), LogConfig(), tmp_path / "whole.inter")
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    assert (tmp_path / "half.inter").read_text() == head + "u0\ti0\t1.0\nu0\ti1\t2.0\nu1\ti1\t3.0\nu1\ti0\t4.5\n"
    assert (tmp_path / "whole.inter").read_text() == head + "u0\ti0\t1\nu0\ti1\t2\nu1\ti1\t3\nu1\ti0\t4\n"


def test_nothing_is_replaced_and_endings_are_known(tmp_path: Path) -> None:
    log = make_log([[0, 1], [1, 0]])
    write_log(log, LogConfig(), tmp_path / "x.csv")
    with pytest.raises(DataError) as caught:
        write_log(log, LogConfig(), tmp_path / "x.csv")
    assert str(caught.value) == (
        f"{tmp_path / 'x.csv'} is there already, and no file is replaced. Remove it, or choose another name."
    )
    with pytest.raises(DataError) as caught:
        write_log(log, LogConfig(), tmp_path / "x.xls")
    assert str(caught.value) == (
        "a log is written to a file that ends in .parquet, .csv, .tsv, .inter. Received: x.xls. Rename it."
    )
