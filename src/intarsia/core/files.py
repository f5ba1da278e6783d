"""Files that are whole or not there: write aside, flush to disk, then rename."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    A full disk or a crash in the block leaves the previous file as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.chmod(0o644)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def filling(folder: str | Path, last: str) -> Iterator[Path]:
    """A temporary folder whose entries move into `folder` when the block ends well.

    Entries of the same names are replaced, others stay. A full disk or an error in the block leaves `folder` as it was.
    A crash while the entries move leaves it without the file `last`, which goes first and comes last.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target, prefix=".", suffix=".part"))
    try:
        yield aside
        for path in aside.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        (target / last).unlink(missing_ok=True)
        for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
            if (target / path.name).is_dir():
                shutil.rmtree(target / path.name)
            os.replace(path, target / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text so that `path` holds either the old or the new text, never a part."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON as `write_text` does, indented and in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def exclusive(folder: str | Path) -> Iterator[bool]:
    """Keeps a folder to this process: False where another one that is alive has it.

    The lock is the operating system's, so it ends with the process, however that ends. Where there is no such lock
    (Windows), the folder is not guarded. A folder that was made for the lock and stayed empty is removed.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    path = place / ".lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                place.rmdir()
