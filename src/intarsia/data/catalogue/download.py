"""Downloads that survive what networks do: silence, cut lines, busy servers, and a process that ended half-way.

A file arrives beside its place as `.part`. Where the server says which version of the file it sends (ETag or date),
the part outlives errors and the process, and the next attempt asks for the rest of that version only. A server that
ignores the question, or has another version by now, sends the whole file, and the part begins anew.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import logging
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from intarsia.core.errors import DataError
from intarsia.core.files import write_json

LOG = logging.getLogger("intarsia.data")
TIMEOUT_SECONDS = 30.0
"""Longest silence of a server. However slowly a file arrives, as long as it does, nothing is given up."""
ATTEMPTS = 4
"""Attempts in a row that bring nothing new before a download is given up."""
WAIT_SECONDS = 1.0
"""Pause before the second attempt; it doubles from one attempt to the next."""
LONGEST_WAIT_SECONDS = 60.0
_CHUNK = 1 << 18
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Listener(Protocol):
    """Is told how a download gets on."""

    def begin(self, name: str, done: int, total: int | None) -> None:
        """A file begins to arrive; `done` of its `total` bytes are here. Comes again when it begins anew."""

    def advance(self, done: int) -> None:
        """So many bytes are here."""

    def wait(self, reason: str, seconds: float) -> None:
        """An attempt failed; the next one begins in a while."""

    def end(self) -> None:
        """The file is here, or was given up."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tells `listener` of the downloads that happen in the block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class DiskFullError(DataError):
    """There is no room for the data."""


class _Again(Exception):
    """An attempt failed in a way that the next one may not.

    Args:
        reason: What happened.
        seconds: Pause that the server asks for.
    """

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass
class _Part:
    """The bytes of a file that are here.

    Attributes:
        path: The file.
        file: The same, open.
        notes: Where the version of the file is written down; None where the part does not outlive the call.
        version: `etag` or `date` as the server gave it.
    """

    path: Path
    file: IO[bytes]
    notes: Path | None
    version: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.file.seek(0, os.SEEK_END)

    @property
    def condition(self) -> str | None:
        """What tells the server which version is meant; a weak ETag promises no equal bytes."""
        tag = self.version.get("etag", "")
        return (tag if tag and not tag.startswith("W/") else None) or self.version.get("date")

    def restart(self) -> None:
        """Throws everything away."""
        self.file.truncate(0)
        self._note({})

    def remember(self, headers: Mapping[str, str]) -> None:
        """Writes down which version arrives."""
        found = {"etag": headers.get("ETag"), "date": headers.get("Last-Modified")}
        self._note({name: value for name, value in found.items() if value})

    def other_version(self, headers: Mapping[str, str]) -> bool:
        """Whether a server that sends the rest sends that of another version, which it must not."""
        tag = headers.get("ETag")
        return bool(tag and self.version.get("etag") and tag != self.version["etag"])

    def _note(self, version: dict[str, str]) -> None:
        self.version = version
        if self.notes is not None:
            if self.condition is None:
                self.notes.unlink(missing_ok=True)
            else:
                write_json(self.notes, version)

    def keep_or_drop(self) -> None:
        """What becomes of it when the download is given up: without a version it is worth nothing."""
        if self.notes is None or self.condition is None or self.size == 0:
            self.path.unlink(missing_ok=True)
            if self.notes is not None:
                self.notes.unlink(missing_ok=True)


def download(url: str, target: Path, keep: Path, *, size: int | None = None) -> bool:
    """Brings a file.

    Args:
        url: Its address (http or https).
        target: Where it goes; it is there as a whole or not at all.
        keep: Folder of parts. Another process that brings the same file at the moment keeps its own.
        size: Bytes that the file must have. Default: what the server says.

    Returns:
        Whether some of the bytes came in an earlier call.

    Raises:
        DataError: The file has another size.
        DiskFullError: There is no room.
        OSError: The server cannot be reached, does not have the file, or did not bring it in several attempts.
    """
    listener = _LISTENER.get()
    with _part(url, keep) as part:
        resumed = part.size > 0
        try:
            _bring(part, url, size, listener)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _disk_full(keep) from error
            raise
        finally:
            if listener is not None:
                listener.end()
        part.file.flush()
        os.fsync(part.file.fileno())
        os.replace(part.path, target)
        if part.notes is not None:
            part.notes.unlink(missing_ok=True)
    return resumed


def _bring(part: _Part, url: str, size: int | None, listener: Listener | None) -> None:
    """Asks until everything is here."""
    failures, furthest = 0, part.size
    while True:
        try:
            _ask(part, url, size, listener)
            return
        except _Again as error:
            here = part.size
            failures = 1 if here > furthest else failures + 1
            furthest = max(furthest, here)
            if failures >= ATTEMPTS:
                raise OSError(f"{error} ({ATTEMPTS} attempts)") from error
            seconds = min(max(error.seconds, WAIT_SECONDS * 2 ** (failures - 1)), LONGEST_WAIT_SECONDS)
            LOG.info("%s: %s; next attempt in %.0f s", url, error, seconds)
            if listener is not None:
                listener.wait(str(error), seconds)
            time.sleep(seconds)


def _ask(part: _Part, url: str, size: int | None, listener: Listener | None) -> None:
    """One attempt.

    Raises:
        _Again: It failed in a way that the next one may not.
    """
    headers = {"User-Agent": "intarsia", "Accept-Encoding": "identity"}
    if part.size and part.condition is None:
        part.restart()
    if part.size:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": str(part.condition)}
    try:
        question = urllib.request.Request(url, headers=headers)
        with _lines_may_fail(), urllib.request.urlopen(question, timeout=TIMEOUT_SECONDS) as answer:
            _take(part, answer, url, size, listener)
    except urllib.error.HTTPError as error:
        if error.code == 416 and part.size:
            # There is nothing behind what is here: either it is all, or the file was replaced by a shorter one.
            if _whole(error.headers.get("Content-Range")) == part.size:
                return
            part.restart()
            raise _Again("the file was replaced") from error
        if error.code in _BUSY:
            raise _Again(str(error), _seconds(error.headers.get("Retry-After"))) from error
        raise


def _take(part: _Part, answer: Any, url: str, size: int | None, listener: Listener | None) -> None:
    """Writes what a server sends."""
    rest = answer.status == 206 and _begin(answer.headers.get("Content-Range")) == part.size
    if not rest or part.other_version(answer.headers):
        part.restart()
        if answer.status == 206:
            raise _Again("the server sent a piece that does not continue what is here")
        part.remember(answer.headers)
    length = answer.headers.get("Content-Length")
    total = part.size + int(length) if length is not None and length.isdigit() else None
    if size is not None and total is not None and total != size:
        part.restart()
        raise DataError(
            f"the file must have {size:,} bytes. Received: {total:,}. It was replaced at its address, or another "
            "is sent in its place."
        )
    if total is not None:
        _check_room(part.path.parent, total - part.size)
    if listener is not None:
        listener.begin(_name(url), part.size, total)
    done = part.size
    while piece := answer.read1(_CHUNK):
        part.file.write(piece)
        done += len(piece)
        if listener is not None:
            listener.advance(done)
    part.file.flush()
    if total is not None and done < total:
        raise _Again(f"only {done:,} of {total:,} bytes arrived")
    if size is not None and done != size:
        part.restart()
        raise DataError(f"the file must have {size:,} bytes. Received: {done:,}. It was replaced at its address.")


@contextmanager
def _lines_may_fail() -> Iterator[None]:
    """Silence and cut lines are worth another attempt; a refused connection or an unknown name are not."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
            raise _Again(str(error.reason)) from error
        raise
    except TimeoutError as error:
        raise _Again(f"silence for {TIMEOUT_SECONDS:g} s") from error
    except (ConnectionResetError, ConnectionAbortedError, ssl.SSLError, http.client.HTTPException) as error:
        raise _Again(str(error) or type(error).__name__) from error


@contextmanager
def _part(url: str, keep: Path) -> Iterator[_Part]:
    """The part of a file that is this process's own while the block lasts."""
    keep.mkdir(parents=True, exist_ok=True)
    stem = f".{_name(url)}.{hashlib.sha256(url.encode()).hexdigest()[:10]}"
    path = keep / f"{stem}.part"
    file = _locked(path)
    notes: Path | None = keep / f"{stem}.json"
    if file is None:
        path, notes = keep / f"{stem}.{os.getpid()}-{time.monotonic_ns()}.part", None
        file = path.open("x+b")
    part = _Part(path, file, notes)
    if notes is not None:
        with suppress(OSError, ValueError):
            part.version = dict(json.loads(notes.read_text(encoding="utf-8")))
    with file:
        try:
            yield part
        finally:
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                part.keep_or_drop()


def _locked(path: Path) -> IO[bytes] | None:
    """The file, open and locked by the operating system; None where another process has it (or there are no locks)."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have moved it away after it was opened here.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except OSError:
            file.close()
            return None
        file.close()


def _check_room(folder: Path, needed: int) -> None:
    if needed > shutil.disk_usage(folder).free:
        raise _disk_full(folder, needed)


def _disk_full(folder: Path, needed: int | None = None) -> DiskFullError:
    free = shutil.disk_usage(folder).free
    more = "" if needed is None else f" {needed / 1e6:,.1f} MB are needed."
    return DiskFullError(
        f"the disk of {folder} must have room for the file.{more} Received: {free / 1e6:,.1f} MB free. Make room, set "
        "INTARSIA_DATA to a folder on another disk."
    )


def _name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name or "file"


def _begin(content_range: str | None) -> int | None:
    """`bytes 100-199/500` begins at 100."""
    first = (content_range or "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _whole(content_range: str | None) -> int | None:
    """`bytes */500` says 500."""
    last = (content_range or "").rpartition("/")[2]
    return int(last) if last.isdigit() else None


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
