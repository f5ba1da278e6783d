"""Text files in blocks of whole lines, so that a log never stands in memory as text."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from intarsia.config.schema import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.reading.text import open_text

BLOCK = 8 << 20
"""Bytes that are read at a time."""

_MARK = b"\xef\xbb\xbf"
_NO_TEXT = (b"\x1f\x8b", b"PAR1", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff")


def ending(path: Path) -> str:
    """The file's ending in small letters, that of a packed file the one before `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def text_blocks(path: Path, encoding: str = "utf-8", size: int = BLOCK) -> Iterator[bytes]:
    """The lines of a file in UTF-8, packed or not, each ended by a line feed. Carriage returns before those are gone.

    Raises:
        DataError: The file cannot be read, is empty, cut off, or no text.
    """
    rest, first = b"", True
    try:
        with _opened(path) as file:
            while part := file.read(size):
                if first:
                    part, first = part.removeprefix(_MARK), False
                    if part.startswith(_NO_TEXT) or b"\x00" in part[:4096]:
                        _refuse(path, "the file must be text")
                end = part.rfind(b"\n") + 1
                if end:
                    whole, part = rest + part[:end], part[end:]
                    rest = part
                    yield _recoded(whole, encoding)
                else:
                    rest += part
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        _refuse(path, str(error))
    except OSError as error:
        raise DataError(f"{path}: the file must be readable. {error.strerror or error}.") from error
    if rest:
        yield _recoded(rest + b"\n", encoding)
    elif first:
        raise DataError(f"{path}: the file must hold rows. It is empty.")


def first_lines(path: Path, encoding: str = "utf-8", count: int = 20) -> list[str]:
    """The first lines that are not blank.

    Raises:
        DataError: As `text_blocks`; also where all lines are blank.
    """
    found: list[str] = []
    for block in text_blocks(path, encoding, 1 << 16):
        found += [line for line in block.decode("utf-8", "replace").split("\n") if line.strip()]
        if len(found) >= count:
            break
    if not found:
        raise DataError(f"{path}: the file must hold rows. It is empty.")
    return found[:count]


def check_utf8(block: bytes, path: Path) -> None:
    """Refuses bytes that are no UTF-8.

    Raises:
        DataError: Shows the first such line.
    """
    try:
        block.decode()
    except UnicodeDecodeError as error:
        begin = block.rfind(b"\n", 0, error.start) + 1
        line = block[begin : block.find(b"\n", error.start)].decode("utf-8", "backslashreplace")
        raise DataError(
            f"{path}: text must be UTF-8 as log.encoding says. Received: {line[:200]!r}. Set log.encoding: latin-1, or "
            "convert the file."
        ) from error


def _opened(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def _recoded(block: bytes, encoding: str) -> bytes:
    if encoding != "utf-8":
        block = block.decode(encoding).encode()
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _refuse(path: Path, reason: str) -> None:
    """Raises what the reader of samples says of the file, which looks closer."""
    open_text(path, DataConfig())
    raise DataError(f"{path}: the file cannot be read as text ({reason}). Convert it, or copy it again.")
