"""Downloads, from a server that the test starts: cut off, resumed, replaced, slow, missing, wrong."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from intarsia.core.errors import DataError
from intarsia.data.catalogue import download as downloads
from intarsia.data.catalogue.download import DiskFullError, download, listening
from intarsia.data.catalogue.fetch import ByHand, FileDownload, SevenZipDownload, Together, ZipDownload, fetch

BYTES = bytes(range(256)) * 40
SHA = f"sha256:{hashlib.sha256(BYTES).hexdigest()}"
Answer = Callable[[BaseHTTPRequestHandler, str | None], None]


class Server:
    """Answers each question with the next of its answers, the last of them for ever.

    Attributes:
        asked: The `Range` header of each question, or None.
        conditions: Its `If-Range` header.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []
        self.conditions: list[str | None] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        self.conditions.append(handler.headers.get("If-Range"))
        now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        now(handler, wanted)


@contextmanager
def serving(*answers: Answer, name: str = "file.bin") -> Iterator[Server]:
    server = Server(*answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{running.server_address[1]}/{name}"
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def sends(
    data: bytes = BYTES, upto: int | None = None, tag: str | None = '"v1"', ranges: bool = True, pause: float = 0.0
) -> Answer:
    """A file, or the rest of it that is asked for; cut off after `upto` bytes."""

    def answer(handler: BaseHTTPRequestHandler, wanted: str | None) -> None:
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if tag:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(data) - first))
        handler.end_headers()
        part = data[first : len(data) if upto is None else upto]
        for begin in range(0, len(part), 1000):
            handler.wfile.write(part[begin : begin + 1000])
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def says(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: str | None) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Cut off and resumed


def test_a_line_that_is_cut_asks_for_the_rest_only(tmp_path: Path) -> None:
    with serving(sends(upto=3000), sends(upto=7000), sends()) as server:
        assert download(server.url, tmp_path / "out", tmp_path) is False
    assert (tmp_path / "out").read_bytes() == BYTES
    assert server.asked == [None, "bytes=3000-", "bytes=7000-"]
    assert server.conditions == [None, '"v1"', '"v1"']
    assert names(tmp_path) == ["out"]


def test_a_download_goes_on_where_an_earlier_process_ended(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    with serving(sends(upto=4000), says(404)) as server:
        with pytest.raises(OSError, match="404"):
            download(server.url, tmp_path / "out", keep)
        assert not (tmp_path / "out").exists()
        assert [path.stat().st_size for path in keep.glob(".*.part")] == [4000]
        server.answers = [sends()]
        assert download(server.url, tmp_path / "out", keep) is True
    assert server.asked[-1] == "bytes=4000-"
    assert (tmp_path / "out").read_bytes() == BYTES
    assert names(keep) == []


def test_a_file_that_was_replaced_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    other = BYTES[::-1]
    with serving(sends(upto=4000), sends(other, tag='"v2"', ranges=False)) as server:
        download(server.url, tmp_path / "out", tmp_path)
    assert (tmp_path / "out").read_bytes() == other


def test_a_rest_of_another_version_is_not_taken(tmp_path: Path) -> None:
    other = BYTES[::-1]
    with serving(sends(upto=4000), sends(other, tag='"v2"'), sends(other, tag='"v2"')) as server:
        download(server.url, tmp_path / "out", tmp_path)
    assert server.asked == [None, "bytes=4000-", None]
    assert (tmp_path / "out").read_bytes() == other


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_version_nothing_is_resumed(tmp_path: Path, tag: str | None) -> None:
    with serving(sends(upto=4000, tag=tag), sends(tag=tag)) as server:
        download(server.url, tmp_path / "out", tmp_path)
    assert server.asked == [None, None]
    assert (tmp_path / "out").read_bytes() == BYTES


def test_a_part_that_is_the_whole_needs_no_rest(tmp_path: Path) -> None:
    with serving(sends(), says(416, Content_Range=f"bytes */{len(BYTES)}")) as server:
        download(server.url, tmp_path / "out", tmp_path)
        part = tmp_path / f".file.bin.{hashlib.sha256(server.url.encode()).hexdigest()[:10]}.part"
        part.write_bytes(BYTES)
        part.with_suffix(".json").write_text(json.dumps({"etag": '"v1"'}))
        assert download(server.url, tmp_path / "again", tmp_path) is True
    assert (tmp_path / "again").read_bytes() == BYTES


def test_a_damaged_part_is_found_by_the_hash_and_fetched_anew(tmp_path: Path) -> None:
    with serving(sends(upto=4000), says(404)) as server:
        source = FileDownload(server.url, SHA, "a.bin")
        with pytest.raises(DataError):
            fetch("set", [source], tmp_path)
        part = next(tmp_path.glob(".file.bin.*.part"))
        part.write_bytes(b"x" * 4000)
        server.answers = [sends()]
        found = fetch("set", [source], tmp_path)
    assert (found / "a.bin").read_bytes() == BYTES
    assert server.asked[-2:] == ["bytes=4000-", None]


# Busy, silent, slow, missing


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with serving(says(503), says(429, Retry_After="0"), sends()) as server:
        download(server.url, tmp_path / "out", tmp_path)
    assert len(server.asked) == 3


def test_patience_ends(tmp_path: Path) -> None:
    with serving(says(503)) as server, pytest.raises(OSError, match=r"HTTP Error 503.*\(4 attempts\)"):
        download(server.url, tmp_path / "out", tmp_path)
    assert len(server.asked) == downloads.ATTEMPTS
    assert names(tmp_path) == []


def test_attempts_that_bring_something_do_not_count(tmp_path: Path) -> None:
    pieces = [sends(upto=k * 1000) for k in range(1, 9)]
    with serving(*pieces, sends()) as server:
        download(server.url, tmp_path / "out", tmp_path)
    assert len(server.asked) == 9 > downloads.ATTEMPTS
    assert (tmp_path / "out").read_bytes() == BYTES


def test_what_is_missing_is_not_asked_for_again(tmp_path: Path) -> None:
    with serving(says(404)) as server, pytest.raises(OSError, match="404"):
        download(server.url, tmp_path / "out", tmp_path)
    assert len(server.asked) == 1


def test_a_silent_server_is_asked_again(tmp_path: Path) -> None:
    quiet = threading.Event()

    def silent(handler: BaseHTTPRequestHandler, _: str | None) -> None:
        quiet.wait(5)

    with serving(silent, sends()) as server:
        download(server.url, tmp_path / "out", tmp_path)
        quiet.set()
    assert len(server.asked) == 2


def test_a_slow_server_is_waited_for(tmp_path: Path) -> None:
    """The whole takes longer than the longest silence, no pause does."""
    begin = time.monotonic()
    with serving(sends(pause=0.06)) as server:
        download(server.url, tmp_path / "out", tmp_path)
    assert time.monotonic() - begin > downloads.TIMEOUT_SECONDS
    assert len(server.asked) == 1
    assert (tmp_path / "out").read_bytes() == BYTES


# Wrong files


def test_a_wrong_hash_leaves_nothing(tmp_path: Path) -> None:
    with serving(sends(b"other")) as server, pytest.raises(DataError) as caught:
        fetch("set", [FileDownload(server.url, SHA, "a.bin")], tmp_path)
    assert f"a.bin from {server.url} must have the sha256 {SHA[7:]}. Received: " in str(caught.value)
    assert "(5 bytes). The download is damaged or the file was replaced; try again later." in str(caught.value)
    assert names(tmp_path) == []


def test_a_wrong_size_is_refused_before_it_arrives(tmp_path: Path) -> None:
    with serving(sends()) as server, pytest.raises(DataError) as caught:
        download(server.url, tmp_path / "out", tmp_path, size=5)
    assert str(caught.value) == (
        "the file must have 5 bytes. Received: 10,240. It was replaced at its address, or another is sent in its place."
    )
    assert names(tmp_path) == []


def test_without_a_published_hash_the_first_file_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(sends(), sends(), sends(BYTES[:-1])) as server:
        source = FileDownload(server.url, "", "a.bin")
        assert not source.checked
        for _ in range(2):
            shutil.rmtree(fetch("set", [source], tmp_path))
        assert [m.split(":")[0] for m in caplog.messages if "no hash" in m] == ["no hash is published for http"]
        with pytest.raises(DataError, match=r"must give the file that it gave first, on \d{4}-\d\d-\d\d: sha256 "):
            fetch("set", [source], tmp_path)


def test_a_page_that_says_sorry_is_not_trusted(tmp_path: Path) -> None:
    with serving(sends(b"<!DOCTYPE html><p>Log in first</p>"), name="data.csv") as server:
        with pytest.raises(DataError, match=r"must give a csv file\. Received: one that begins with b'<!DOCTYPE html"):
            fetch("set", [FileDownload(server.url, "", "data.csv")], tmp_path)
        with pytest.raises(DataError, match=r"must give a gz file"):
            fetch("set", [FileDownload(server.url, "", "data.csv.gz")], tmp_path)
    assert not (tmp_path / "set").exists()


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 500, 500))
    with serving(sends()) as server, pytest.raises(DiskFullError) as caught:
        fetch("set", [FileDownload(server.url, SHA, "a"), FileDownload(server.url, SHA, "b")], tmp_path)
    assert "must have room for the file. 0.0 MB are needed. Received: 0.0 MB free." in str(caught.value)
    assert len(server.asked) == 1  # another source would not help


# Several files, by hand, 7z


def test_files_of_several_addresses_come_together(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("in/b.txt", "b")
    with serving(sends(), sends(data.getvalue(), tag=None), name="x.zip") as server:
        both = Together((FileDownload(server.url, SHA, "a.bin"), ZipDownload(server.url, "", {"in/b.txt": "b.txt"})))
        found = fetch("set", [both], tmp_path)
    assert names(found) == ["a.bin", "b.txt"]
    assert not both.checked


def test_one_file_of_several_that_fails_is_named(tmp_path: Path) -> None:
    with serving(sends(), says(404)) as server:
        both = Together((FileDownload(server.url, SHA, "a.bin"), FileDownload(server.url + "2", "", "b.bin")))
        with pytest.raises(DataError) as caught:
            fetch("set", [both], tmp_path)
    assert f"{server.url}2: HTTP Error 404" in str(caught.value)
    assert names(tmp_path) == []


def test_what_a_person_has_to_download_is_told(tmp_path: Path) -> None:
    hand = ByHand("https://example.org/page", ("a.csv", "b.csv"), "The publisher asks for a login")
    with pytest.raises(DataError) as caught:
        fetch("set", [hand], tmp_path)
    assert str(caught.value) == (
        "set is not here. The publisher asks for a login, so a person has to download them: get a.csv, b.csv from "
        f"https://example.org/page and put them, unpacked or gzipped, into {tmp_path / 'set'}; or name the folder that "
        "holds them: `dataset: set:FOLDER`."
    )


def test_by_hand_comes_after_what_can_be_tried(tmp_path: Path) -> None:
    hand = ByHand("https://example.org/page", ("a.csv",), "The publisher asks for a login")
    with serving(says(404)) as server, pytest.raises(DataError) as caught:
        fetch("set", [hand, FileDownload(server.url, SHA, "a.csv")], tmp_path)
    message = str(caught.value)
    assert f"\n  {server.url}: HTTP Error 404" in message
    assert "get a.csv from https://example.org/page" in message


def test_nothing_is_downloaded_that_nobody_can_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    told = pytest.raises(DataError, match="7z archive, which one of 7zz, 7z, 7za, bsdtar must unpack")
    with serving(sends()) as server, told:
        fetch("set", [SevenZipDownload(server.url, "", {"a": "a"})], tmp_path)
    assert server.asked == []


def test_a_program_of_the_system_unpacks_7z(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for 7z, which copies the archive's bytes to one member."""
    tool = tmp_path / "7z"
    tool.write_text(
        '#!/bin/sh\nfor word in "$@"; do case "$word" in -o*) out="${word#-o}";; esac; last="$word"; done\n'
        'cp "$last" "$out/a.dat"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tool) if name == "7z" else None)
    archive = b"7z\xbc\xaf\x27\x1c and more"
    with serving(sends(archive)) as server:
        found = fetch("set", [SevenZipDownload(server.url, "", {"a.dat": "b.dat"})], tmp_path / "data")
    assert names(found) == ["b.dat"]
    assert (found / "b.dat").read_bytes() == archive


# Being told


class Heard:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def begin(self, name: str, done: int, total: int | None) -> None:
        self.events.append(("begin", name, done, total))

    def advance(self, done: int) -> None:
        self.events.append(done)

    def wait(self, reason: str, seconds: float) -> None:
        self.events.append(("wait", reason))

    def end(self) -> None:
        self.events.append("end")


def test_a_listener_hears_how_it_gets_on(tmp_path: Path) -> None:
    heard = Heard()
    with serving(sends(upto=4000), sends()) as server, listening(heard):
        download(server.url, tmp_path / "out", tmp_path)
    told = [event for event in heard.events if not isinstance(event, int)]
    assert told[0] == ("begin", "file.bin", 0, 10_240)
    assert told[1][0] == "wait"
    assert "only 4,000 of 10,240 bytes arrived" in told[1][1] or "4000 bytes read" in told[1][1]
    assert told[2:] == [("begin", "file.bin", 4000, 10_240), "end"]
    numbers = [event for event in heard.events if isinstance(event, int)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 10_240


def test_two_processes_bring_the_same_file_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler, wanted: str | None) -> None:
        together.wait(timeout=5)
        sends()(handler, wanted)

    with serving(answer) as server:
        threads = [
            threading.Thread(target=download, args=(server.url, tmp_path / str(k), tmp_path / "keep")) for k in (1, 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == BYTES
    assert names(tmp_path / "keep") == []
