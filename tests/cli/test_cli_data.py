"""`data list`, `fetch`, `describe`, `convert`."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
from conftest import Call

from intarsia.data.catalogue import movielens
from intarsia.data.catalogue.fetch import ZipDownload

ROLES = ("--log", "user_field=user", "--log", "item_field=item", "--log", "time_field=at")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(
        "user,item,stars,at\na,x,5,2016-05-09\na,y,2,2016-05-10\nb,x,4,2016-05-11\nb,x,4,2016-05-12\nc,z,1,2016-05-13\n"
    )
    return path


# list


def test_all_data_sets_are_listed_with_licence_and_hash(call: Call) -> None:
    rows = {row["name"]: row for row in call("data", "list", "--json").json}
    assert {"ml-1m", "gowalla", "amazon-beauty", "yelp", "taobao"} <= set(rows)
    assert rows["ml-1m"]["hash"] == "known"
    assert rows["steam"]["hash"] == "not published"
    assert rows["taobao"]["by_hand"] is True
    assert "https://files.grouplens.org/datasets/movielens/ml-1m.zip" in rows["ml-1m"]["sources"]
    shown = call("data", "list").out
    assert "by hand" in shown
    assert "not fetched yet" in shown


# fetch


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A small MovieLens 1M at an address of this machine."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("ml-1m/ratings.dat", "1::10::5::100\n2::20::3::200\n")
        file.writestr("ml-1m/movies.dat", "10::Ten (1999)::Drama\n20::Twenty (2000)::Comedy\n")
        file.writestr("ml-1m/users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n")
    data = packed.getvalue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    entry = movielens.ENTRIES["ml-1m"]
    source = entry.sources[0]
    assert isinstance(source, ZipDownload)
    address = f"http://127.0.0.1:{server.server_address[1]}/ml-1m.zip"
    here = replace(source, url=address, digest=f"md5:{hashlib.md5(data).hexdigest()}")
    monkeypatch.setitem(movielens.ENTRIES, "ml-1m", replace(entry, sources=(here,)))
    monkeypatch.setenv("INTARSIA_DATA", str(tmp_path / "sets"))
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("publisher")
def test_a_data_set_is_fetched_and_described(call: Call, tmp_path: Path) -> None:
    said = call("data", "fetch", "ml-1m")
    assert said.code == 0
    assert "note: fetching ml-1m.zip, " in said.err
    assert f"folder:  {tmp_path / 'sets' / 'ml-1m'}" in said.out
    assert sorted(path.name for path in (tmp_path / "sets/ml-1m").iterdir()) == [
        "movies.dat",
        "ratings.dat",
        "users.dat",
    ]
    facts = call("data", "describe", "ml-1m", "--json").json
    assert (facts["users"], facts["items"], facts["interactions"]) == (2, 2, 2)
    assert facts["item_columns"] == ["item_id", "title", "genres", "release_year"]
    assert {row["name"] for row in call("data", "list", "--json").json if row["folder"]} == {"ml-1m"}


@pytest.mark.usefixtures("publisher")
def test_json_is_alone_on_the_output_and_errors_are_quiet(call: Call) -> None:
    said = call("data", "fetch", "ml-1m", "--json")
    assert said.json["tables"]["interactions"]["rows"] == 2
    assert said.err == ""


def test_what_has_to_be_downloaded_by_hand_is_told(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTARSIA_DATA", str(tmp_path))
    said = call("data", "fetch", "yelp")
    assert said.code == 3
    assert "a person has to download them: get yelp_academic_dataset_review.json" in said.err


# describe


def test_a_file_is_described(call: Call, log: Path) -> None:
    said = call("data", "describe", log, *ROLES, "--log", "rating_field=stars")
    assert said.code == 0
    assert said.out.splitlines() == [
        "log.csv",
        "3 users, 3 items, 5 interactions",
        "density: 55.5556%",
        "time: 2016-05-09 00:00 to 2016-05-13 00:00",
        "",
        "                         least  10%  25%  median  75%  90%  99%  most",
        "interactions of a user       1    1    1       2    2    2    2     2",
        "interactions of an item      1    1    1       1    3    3    3     3",
        "ratings                      1    1    2       4    4    5    5     5",
        "the most popular hundredth of the items has 60.0% of the interactions",
        "",
        "problem: 1 of 5 interactions repeat an earlier one of the same user and item (log.repeated: first merges "
        "them)",
        "problem: 1 of 3 users have a single interaction: nothing of theirs can be asked for (filter.k_core leaves "
        "them out)",
        "problem: 2 of 3 items were taken once: nobody can learn much of them",
    ]


def test_a_description_is_one_document(call: Call, log: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = call("data", "describe", log, *ROLES, "--plot", tmp_path / "log.svg", "--json")
    assert said.json["interactions"] == 5
    assert said.json["moments"] == ["2016-05-09 00:00", "2016-05-13 00:00"]
    assert said.json["quantiles"] == [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]
    assert said.json["lengths"] == [1, 1, 1, 2, 2, 2, 2, 2]
    assert said.json["plot"] == str(tmp_path / "log.svg")
    assert "<!-- rank of the item -->" in (tmp_path / "log.svg").read_text()


def test_filters_and_merging_hold_before_anything_is_counted(call: Call, log: Path) -> None:
    options = ("--log", "repeated=first", "--filter", "min_item_interactions=1", "--json")
    assert call("data", "describe", log, *ROLES, *options).json["interactions"] == 4
    said = call("data", "describe", log, *ROLES, "--filter", "k_core=2")
    assert said.code == 3
    assert "round 1, items with at least 2 interactions: 2 users, 1 items, 3 interactions" in said.err


def test_ready_made_parts_are_counted(call: Call, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1 2\n1 2 3 1\n")
    (tmp_path / "test.txt").write_text("0 3\n1 4\n")
    whole = call("data", "describe", tmp_path)
    assert "parts: train 5, test 2" in whole.out
    assert "problem: 1 of 2 items of the test part never occur in training" in whole.out
    named = call("data", "describe", tmp_path / "train.txt", "--test", tmp_path / "test.txt", "--json")
    assert named.json["parts"] == {"train": 5, "test": 2}


def test_the_log_of_a_pipeline_is_described(call: Call, folder: Path) -> None:
    facts = call("data", "describe", folder / "log.yaml", "--json").json
    assert (facts["users"], facts["items"]) == (20, 15)
    assert facts["ratings"][0] == facts["ratings"][-1] == 5  # log.positive_rating: 4 leaves the others out
    said = call("data", "describe", folder / "pipeline.yaml")
    assert said.code == 3
    assert "the pipeline must describe a log. Received: none. Add data_config.log." in said.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("nothing",), 3, "a log is a catalogued data set, a pipeline file, or a file, folder or glob."),
        (("{log}",), 3, "log.user_field names the column `user_id`, which"),
        (("{log}", "--log", "user"), 2, "values are set as FIELD=VALUE. Received: user"),
        (("{log}", "--log", "user_feld=user"), 2, "unknown key"),
        (("{log}", "--log", "user_field=user", "--log", "item_field=item", "--plot", "x.gif"), 3, "a picture ends in"),
    ],
)
def test_mistakes_are_told_in_plain_words(call: Call, log: Path, words: tuple[str, ...], code: int, told: str) -> None:
    said = call("data", "describe", *(word.format(log=log) for word in words))
    assert said.code == code
    assert told in said.err
    assert "Traceback" not in said.err


# convert


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "inter"])
def test_a_log_is_converted_and_read_again(call: Call, log: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out/new.{ending}"
    said = call("data", "convert", log, out, *ROLES, "--log", "rating_field=stars")
    assert said.code == 0
    assert said.out == f"log.csv: 5 interactions\nwritten: {out}\n"
    again = call("data", "describe", out, *ROLES, "--log", "rating_field=stars", "--json").json
    first = call("data", "describe", log, *ROLES, "--log", "rating_field=stars", "--json").json
    assert {**again, "title": ""} == {**first, "title": ""}


def test_what_is_converted_is_sorted_and_filtered(call: Call, log: Path, tmp_path: Path) -> None:
    call("data", "convert", log, tmp_path / "new.parquet", *ROLES, "--log", "repeated=last")
    table = pl.read_parquet(tmp_path / "new.parquet")
    assert table["user"].to_list() == ["a", "a", "b", "c"]
    assert table["at"].to_list() == [1462752000, 1462838400, 1463011200, 1463097600]


def test_a_file_is_never_replaced(call: Call, log: Path, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("mine")
    said = call("data", "convert", log, tmp_path / "there.csv", *ROLES)
    assert said.code == 3
    assert "there.csv is there already, and no file is replaced." in said.err
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_sessions_become_tables(call: Call, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("3 1 2\n2 1\n")
    (tmp_path / "test.tsv").write_text("prefix\ttarget\n1 2\t3\n")
    said = call(
        "data", "convert", tmp_path / "train.txt", tmp_path / "s.csv", "--test", tmp_path / "test.tsv", "--json"
    )
    assert [Path(path).name for path in said.json["files"]] == ["s.train.csv", "s.test.csv", "s.input.csv"]
    assert (tmp_path / "s.test.csv").read_text() == "user_id,item_id\n3,3\n"
