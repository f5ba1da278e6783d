"""Getting the files of a data set: from the cache, or from the first source that works; checked, whole or not there."""

from __future__ import annotations

import errno
import http.client
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from intarsia.core.errors import DataError
from intarsia.data.catalogue.download import DiskFullError, Listener, listening
from intarsia.data.catalogue.sources import (
    ByHand,
    FileDownload,
    SevenZipDownload,
    Source,
    Together,
    Wheel,
    ZipDownload,
    check_digest,
)

__all__ = [
    "ByHand",
    "FileDownload",
    "Listener",
    "SevenZipDownload",
    "Source",
    "Together",
    "Wheel",
    "ZipDownload",
    "check_digest",
    "default_folder",
    "fetch",
    "listening",
]

LOG = logging.getLogger("intarsia.data")


def default_folder() -> Path:
    """Where fetched data sets are kept: `$INTARSIA_DATA`, or a folder of the user's cache."""
    if os.environ.get("INTARSIA_DATA"):
        return Path(os.environ["INTARSIA_DATA"])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "intarsia" / "data"


def fetch(name: str, sources: Sequence[Source | ByHand], root: Path | None = None) -> Path:
    """The folder of a data set; it is filled from the first source that works, unless it is there already.

    Args:
        name: Name of the data set.
        sources: Tried in order.
        root: Folder of all data sets. Default: `default_folder()`.

    Raises:
        DataError: No source works; says what each of them answered and how to give a local copy. Or a person has to
            download the files; says which, from where, and where they belong.
        DiskFullError: There is no room.
    """
    target = (root or default_folder()) / name
    if target.is_dir():
        return target
    by_hand = [source for source in sources if isinstance(source, ByHand)]
    if by_hand and len(by_hand) == len(sources):
        raise DataError(
            f"{name} is not here. {by_hand[0].instruction(target)}; or name the folder that holds them: "
            f"`dataset: {name}:FOLDER`."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    answers = []
    for source in sources:
        if isinstance(source, ByHand):
            answers.append(source.instruction(target))
            continue
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
        except DiskFullError:
            raise
        except (DataError, OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise DiskFullError(
                    f"the disk of {target.parent} must have room for {name}. Received: a full disk. Make room, or set "
                    "INTARSIA_DATA to a folder on another disk."
                ) from error
            answers.append(f"{source.name}: {error}")
            LOG.info("%s", answers[-1])
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    told = "\n  ".join(answers)
    raise DataError(
        f"{name} could not be fetched:\n  {told}\nFetch its files by other means and name their folder: "
        f"`dataset: {name}:FOLDER`."
    )
