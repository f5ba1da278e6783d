"""Public data sets: how they are read, and how they are fetched."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from intarsia.core.errors import DataError
from intarsia.data.catalogue import default_folder, download, resolve_dataset
from intarsia.data.catalogue.entry import dataset_names
from intarsia.data.catalogue.fetch import Wheel, ZipDownload, check_digest, fetch
from intarsia.data.catalogue.ml_100k import ENTRY, GENRES, read


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without pauses."""
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.01)


# MovieLens 100K, in both layouts


def flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES)


def published(folder: Path) -> Path:
    """As its publisher packs it: Latin-1, no headers, years in titles, one flag a genre."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t1\t891717742\n")
    (folder / "u.user").write_text("196|49|M|writer|55105\n186|39|F|executive|T8H1N\n")
    items = [
        "242|Toy Story (1995)|01-Jan-1995||http://x|" + flags("Animation", "Children's", "Comedy"),
        f"302|Cité des enfants perdus, La (1995)|01-Jan-1995||http://x|{flags('Sci-Fi')}",
        f"267|unknown||||{flags('unknown')}",
        f'55|A "quoted" one (1996)|09-Feb-1996||http://x|{flags("Film-Noir", "War")}',
    ]
    (folder / "u.item").write_bytes("\n".join(items).encode("latin-1"))
    return folder


def atomic(folder: Path) -> Path:
    """As atomic files: UTF-8, typed headers, genres separated by spaces."""
    folder.mkdir(parents=True, exist_ok=True)
    inter = (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t302\t1\t891717742\n"
    )
    user = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    item = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    (folder / "ml-100k.inter").write_text(inter)
    (folder / "ml-100k.user").write_text(user + "196\t49\tM\twriter\t55105\n186\t39\tF\texecutive\tT8H1N\n")
    rows = [
        "242\tToy Story\t1995\tAnimation Children's Comedy",
        "302\tCité des enfants perdus, La\t1995\tSci-Fi",
        "267\tunknown\t\tunknown",
        '55\tA "quoted" one\t1996\tFilm-Noir War',
    ]
    (folder / "ml-100k.item").write_text(item + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_both_layouts_of_movielens_read_equal(tmp_path: Path) -> None:
    one, two = read(published(tmp_path / "a")), read(atomic(tmp_path / "b"))
    assert one.interactions.equals(two.interactions)
    assert one.users is not None
    assert one.users.equals(two.users)
    assert one.items is not None
    assert one.items.equals(two.items)
    assert one.items.to_dicts()[:3] == [
        {
            "item_id": "242",
            "title": "Toy Story",
            "release_year": "1995",
            "genres": "Animation|Children's|Comedy",
        },
        {"item_id": "302", "title": "Cité des enfants perdus, La", "release_year": "1995", "genres": "Sci-Fi"},
        {"item_id": "267", "title": "unknown", "release_year": None, "genres": "unknown"},
    ]
    assert one.interactions.columns == ["user_id", "item_id", "rating", "timestamp"]


def test_a_folder_inside_the_folder_will_do(tmp_path: Path) -> None:
    published(tmp_path / "ml-100k")
    assert read(tmp_path).interactions.height == 2


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "u.date").touch()
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} must hold MovieLens 100K: `u.data`, `u.user`, `u.item`, or `ml-100k.inter`, `.user`, `.item`. "
        "Received: u.date"
    )
    with pytest.raises(DataError, match="Received: no such folder"):
        read(tmp_path / "none")


def test_the_defaults_fit_what_is_read(tmp_path: Path) -> None:
    """Features of the short form read columns that the reader gives."""
    raw = read(atomic(tmp_path))
    assert raw.users is not None
    assert raw.items is not None
    columns = {*raw.interactions.columns, *raw.users.columns, *raw.items.columns, "history"}
    features = ENTRY.defaults["feature_config"]["features"]
    assert {name for feature in features for name in feature["input_names"]} <= columns
    log = ENTRY.defaults["data_config"]["log"]
    assert {log["rating_field"], log["time_field"], log["title_field"]} <= columns


# Names


def test_names_of_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ml-100k" in dataset_names()
    assert resolve_dataset("ml-100k") == (ENTRY, None)
    assert resolve_dataset(f"ml-100k:{tmp_path}") == (ENTRY, tmp_path)
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    assert resolve_dataset(str(folder)) == (ENTRY, folder)
    monkeypatch.chdir(folder.parent)
    assert resolve_dataset("ml-100k") == (ENTRY, None)  # the name, not the folder beside us


@pytest.mark.parametrize(
    ("name", "hint"),
    [("ml-100", "Did you mean ml-100k or ml-10m or ml-1m?"), ("zzzzz", f"Known: {', '.join(dataset_names())}.")],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        resolve_dataset(name)
    assert str(caught.value) == (
        f"dataset must name an entry of the catalogue. Received: '{name}'. {hint} A local copy is named as "
        "`ml-100k:folder`."
    )


def test_a_local_folder_is_read_without_fetching(tmp_path: Path) -> None:
    assert ENTRY.load(published(tmp_path)).interactions.height == 2


def test_where_data_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTARSIA_DATA", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("INTARSIA_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/intarsia/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_folder() == Path("/home/someone/.cache/intarsia/data")


# Fetching, from a server of our own


def archive(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in files.items():
            file.writestr(f"set/{name}.txt", text)
    return data.getvalue()


GOOD = archive(a="first", b="second")
MEMBERS = {"set/a.txt": "a.txt", "set/b.txt": "b.txt"}


def digest(data: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, data).hexdigest()}"


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on this machine; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}/set.zip"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def sends(data: bytes, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def source(url: str, data: bytes = GOOD, **more: object) -> ZipDownload:
    return ZipDownload(url, digest(data), MEMBERS, **more)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_an_archive_is_downloaded_checked_and_unpacked(tmp_path: Path, kind: str) -> None:
    with server(sends(GOOD)) as url:
        found = fetch("set", [ZipDownload(url, digest(GOOD, kind), MEMBERS)], tmp_path)
    assert found == tmp_path / "set"
    assert left_in(found) == ["a.txt", "b.txt"]
    assert (found / "b.txt").read_text() == "second"
    assert left_in(tmp_path) == ["set"]
    assert found.stat().st_mode & 0o777 == 0o755


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert fetch("set", [source("http://127.0.0.1:1/")], tmp_path) == tmp_path / "set"


def test_sources_are_tried_in_order_until_one_works(tmp_path: Path) -> None:
    asked = []

    def missing(handler: BaseHTTPRequestHandler) -> None:
        asked.append("missing")
        handler.send_error(404)

    def good(handler: BaseHTTPRequestHandler) -> None:
        asked.append("good")
        sends(GOOD)(handler)

    def never(handler: BaseHTTPRequestHandler) -> None:
        asked.append("never")
        sends(GOOD)(handler)

    with server(missing) as first, server(good) as second, server(never) as third:
        fetch("set", [source(first), source(second), source(third)], tmp_path)
    assert asked == ["missing", "good"]


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.close()
    handler.connection.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sends(GOOD[:50], len(GOOD)), "must have the sha256|IncompleteRead|bytes"),
        (
            sends(GOOD + b"x"),
            r"archive\.zip from http://.* must have the sha256 [0-9a-f]{64}\. Received: [0-9a-f]{64} \(",
        ),
        (lambda handler: handler.send_error(503), "HTTP Error 503"),
        (hangs_up, "closed connection without response|reset"),
    ],
)
def test_failed_downloads_leave_nothing_behind(
    tmp_path: Path, answer: Callable[[BaseHTTPRequestHandler], None], told: str
) -> None:
    with server(answer) as url, pytest.raises(DataError) as caught:
        fetch("set", [source(url)], tmp_path)
    assert left_in(tmp_path) == []
    message = str(caught.value)
    assert message.startswith(f"set could not be fetched:\n  {url}: ")
    assert re.search(told, message)
    assert message.endswith("\nFetch its files by other means and name their folder: `dataset: set:FOLDER`.")


def test_no_server_at_all(tmp_path: Path) -> None:
    with server(sends(GOOD)) as url:
        pass
    with pytest.raises(DataError, match="refused"):
        fetch("set", [source(url)], tmp_path)
    assert left_in(tmp_path) == []


def test_every_source_tells_its_reason(tmp_path: Path) -> None:
    bad, none = archive(a="only"), b"no archive"
    with server(sends(bad)) as first, server(sends(none)) as second, pytest.raises(DataError) as caught:
        fetch("set", [source(first, bad), source(second, none)], tmp_path)
    message = str(caught.value)
    assert f"\n  {first}: \"There is no item named 'set/b.txt' in the archive\"" in message
    assert f"\n  {second}: File is not a zip file" in message
    assert left_in(tmp_path) == []


def test_a_failed_fetch_can_be_repeated(tmp_path: Path) -> None:
    answers = [sends(GOOD[:20]), sends(GOOD)]
    with server(lambda handler: answers.pop(0)(handler)) as url:
        with pytest.raises(DataError):
            fetch("set", [source(url)], tmp_path)
        assert left_in(fetch("set", [source(url)], tmp_path)) == ["a.txt", "b.txt"]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    class Stopped(ZipDownload):
        def get(self, folder: Path) -> None:
            (folder / "part").write_text("...")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("set", [Stopped("http://x", "md5:0")], tmp_path)
    assert left_in(tmp_path) == []


def test_many_may_fetch_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        together.wait(timeout=20)  # all four download before the first of them is done
        sends(GOOD)(handler)

    with server(answer) as url, ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: fetch("set", [source(url)], tmp_path), range(4))]
    assert set(found) == {tmp_path / "set"}
    assert left_in(tmp_path) == ["set"]
    assert left_in(found[0]) == ["a.txt", "b.txt"]


def test_members_cannot_leave_the_folder(tmp_path: Path) -> None:
    with server(sends(GOOD)) as url:
        members = {"set/a.txt": "../outside.txt"}
        found = fetch("set", [ZipDownload(url, digest(GOOD), members)], tmp_path / "root")
    assert left_in(found) == ["outside.txt"]
    assert left_in(tmp_path) == ["root"]


def test_check_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    check_digest(tmp_path / "x", "md5:900150983cd24fb0d6963f7d28e17f72", "somewhere")
    with pytest.raises(DataError) as caught:
        check_digest(tmp_path / "x", "md5:0", "somewhere")
    assert str(caught.value) == (
        "x from somewhere must have the md5 0. Received: 900150983cd24fb0d6963f7d28e17f72 (3 bytes). The download is "
        "damaged or the file was replaced; try again later."
    )


# Out of a wheel, with pip and without a network


def wheel_in(folder: Path, name: str = "somedata", version: str = "1.0") -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}/set/a.txt", "first")
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_in(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))


@pytest.mark.usefixtures("local_index")
def test_files_come_out_of_a_wheel(tmp_path: Path) -> None:
    good = Wheel("somedata==1.0", {"somedata/set/a.txt": "a.txt"}, {"a.txt": digest(b"first")})
    found = fetch("set", [good], tmp_path / "data")
    assert left_in(found) == ["a.txt"]
    assert (found / "a.txt").read_text() == "first"


@pytest.mark.usefixtures("local_index")
def test_a_wheel_that_is_another_or_not_there(tmp_path: Path) -> None:
    other = Wheel("somedata==1.0", {"somedata/set/a.txt": "a.txt"}, {"a.txt": digest(b"other")})
    absent = Wheel("somedata==2.0", {}, {})
    with pytest.raises(DataError) as caught:
        fetch("set", [other, absent], tmp_path / "data")
    message = str(caught.value)
    assert "the wheel somedata==1.0: a.txt from somedata==1.0 must have the sha256" in message
    assert "the wheel somedata==2.0: pip could not download somedata==2.0: " in message
    assert "No matching distribution found for somedata==2.0" in message
    assert left_in(tmp_path / "data") == []


def test_nothing_of_the_reader_is_row_by_row(tmp_path: Path) -> None:
    """All columns arrive as text; types are those of the features that read them."""
    raw = read(atomic(tmp_path))
    assert set(raw.interactions.schema.values()) == {pl.String}
