"""Bytes of a text file: unpacked, checked to be text, and ready to be cut into cells."""

from __future__ import annotations

import gzip
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from intarsia.config.schema.data import DataConfig, InputType
from intarsia.core.errors import DataError
from intarsia.data.reading.tokens import CR, LF, QUOTE, Block, Bytes, tokenize

BLOCK = 8 << 20
"""Bytes that are cut into cells at a time."""

_RESTART = 1 << 16
"""Bytes in the first block after a stray quote."""

_CHUNK = 1 << 21

_CANDIDATES = "\t,;|\x01\x02\x03\x04\x05\x1d\x1e\x1f: "


@dataclass(frozen=True)
class Text:
    """The bytes of one file.

    Attributes:
        data: The bytes, without a byte order mark.
        file: Named in messages.
        path: The file, where Polars may read it itself; None where `data` differ from what is on disk.
        separator: The byte between two cells.
        spelled: What stands between two cells in the file, where that is more than one byte.
        quoting: Whether double quotes enclose cells.
    """

    data: Bytes
    file: str
    path: Path | None
    separator: int
    spelled: str | None
    quoting: bool

    def as_bytes(self) -> bytes:
        """All of the text, without a copy where it was unpacked into memory."""
        base: object = self.data.base
        return base if isinstance(base, bytes) and len(base) == len(self.data) else self.data.tobytes()

    def excerpt(self, begin: int, stop: int) -> str:
        """Text between two positions as it stands in the file."""
        found = self.data[begin:stop].tobytes().decode("utf-8", "backslashreplace")
        return found.replace(chr(self.separator), self.spelled) if self.spelled else found


def open_text(path: Path, data_config: DataConfig) -> Text:
    """Opens a text file, mapped into memory unless it is packed.

    Raises:
        DataError: The file is missing, empty, not gzip or cut off, or not UTF-8 text.
    """
    file = str(path)
    separator = data_config.separator
    quoting = data_config.input_type is not InputType.CSVInputEx
    if not separator or "\n" in separator or "\r" in separator or (quoting and '"' in separator):
        raise DataError(
            f"data_config.separator must be text without line ends or double quotes. Received: {separator!r}."
        )
    try:
        packed = _is_packed(path, data_config)
        data = np.frombuffer(_unpack(path), dtype=np.uint8) if packed else _map(path)
    except OSError as error:
        raise DataError(f"{file}: the file must be readable. {error.strerror or error}.") from error
    marked = data[:3].tobytes() == b"\xef\xbb\xbf"
    data = data[3:] if marked else data
    if is_blank(data):
        raise DataError(f"{file}: the file must hold rows. It is empty.")
    _check_text(data, file, separator, data_config)
    if len(separator.encode()) == 1:
        return Text(data, file, None if packed or marked else path, ord(separator), None, quoting)
    stand_in = _unused_byte(data, file)
    replaced = data.tobytes().replace(separator.encode(), bytes([stand_in]))
    return Text(np.frombuffer(replaced, dtype=np.uint8), file, None, stand_in, separator, quoting)


def blocks(text: Text, start: int, size: int = BLOCK) -> Iterator[tuple[Block, int, bool]]:
    """The records from byte `start` on, in blocks of bounded size.

    Where a quote stands where none may, the block ends with that record, and reading goes on at the next line.

    Yields:
        A block; the byte of the file where it begins; whether its last record has a stray quote.
    """
    largest = size
    while start < len(text.data):
        final = start + size >= len(text.data)
        block = tokenize(text.data[start : start + size], text.separator, text.quoting, final)
        if not block.consumed:
            size *= 2
            continue
        strays = np.flatnonzero(block.stray_quote)
        if strays.size:
            last = int(strays[0])
            begin = int(block.begins[last])
            feed = np.flatnonzero(block.data[begin:] == LF)[:1]
            line = begin + int(feed[0]) + 1 if feed.size else len(block.data)
            feeds = int(block.lines[last]) + 1
            stops = np.minimum(block.stops, line - feed.size)
            yield (
                replace(block.pick(slice(0, last + 1)), stops=stops[: last + 1], consumed=line, feeds=feeds),
                start,
                True,
            )
            start += line
            size = _RESTART
            continue
        yield block, start, False
        start += block.consumed
        size = max(min(2 * size, largest), 1)


def is_blank(data: Bytes) -> bool:
    """Whether there is nothing but line ends."""
    for begin in range(0, len(data), _CHUNK):
        part = data[begin : begin + _CHUNK]
        if ((part != LF) & (part != CR)).any():
            return False
    return True


@dataclass(frozen=True)
class Survey:
    """Counts that tell whether text is plain enough for the fast reader."""

    quotes: int
    feeds: int
    separators: int
    bare_return: bool


def survey(text: Text) -> Survey:
    """Counts of the bytes that matter, in one pass over the file."""
    quotes = feeds = separators = 0
    bare = False
    for begin in range(0, len(text.data), _CHUNK):
        part = text.data[begin : begin + _CHUNK]
        feeds += int(np.count_nonzero(part == LF))
        separators += int(np.count_nonzero(part == text.separator))
        quotes += int(np.count_nonzero(part == QUOTE)) if text.quoting else 0
        returns = part == CR
        if not bare and returns.any():
            follower = np.flatnonzero(returns) + begin + 1
            bare = bool(follower[-1] >= len(text.data) or (text.data[follower] != LF).any())
    return Survey(quotes, feeds, separators, bare)


def is_utf8(data: Bytes) -> bool:
    """Whether all bytes are well-formed UTF-8."""
    import pyarrow as pa

    offsets = np.array([0, len(data)], dtype=np.int64)
    try:
        pa.LargeStringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def guess_separator(text: Text, width: int) -> str:
    """A hint at the separator that the first lines seem to use; empty if none stands out."""
    lines = text.data[:65536].tobytes().decode("utf-8", "replace").splitlines()[:20]
    lines = [line for line in lines if line]
    own = text.spelled or chr(text.separator)
    if width > 1 and 2 * sum(line.count(own) == width - 1 for line in lines) > len(lines):
        return ""  # most lines are as they should be
    best, found = 0, ""
    for candidate in _CANDIDATES:
        counts = {line.count(candidate) for line in lines}
        if len(counts) != 1 or (count := counts.pop()) == 0:
            continue
        if count + 1 == width:
            return _hint(candidate)
        if count > best:
            best, found = count, candidate
    return _hint(found) if found else ""


def _hint(separator: str) -> str:
    return f" The lines seem to be separated by {separator!r}: set data_config.separator."


def _map(path: Path) -> Bytes:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=np.uint8)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def _is_packed(path: Path, data_config: DataConfig) -> bool:
    kind = data_config.data_compression_type.upper()
    if kind not in ("", "GZIP"):
        raise DataError(
            f"data_config.data_compression_type must be GZIP or empty. Received: {data_config.data_compression_type!r}."
        )
    if path.name.endswith((".tar.gz", ".tgz")):
        raise DataError(f"{path}: archives cannot be read; unpack it, or pack each file with gzip alone.")
    return kind == "GZIP" or path.suffix.lower() == ".gz"


def _unpack(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read()
    except EOFError as error:
        raise DataError(f"{path}: the gzip file is cut off before its end. Copy or download it again.") from error
    except gzip.BadGzipFile as error:
        raise DataError(
            f"{path}: the file must be gzip, for its name or data_config.data_compression_type says so. "
            f"It is not: {error}."
        ) from error
    except zlib.error as error:
        raise DataError(f"{path}: the gzip file is damaged ({error}). Copy or download it again.") from error


def _check_text(data: Bytes, file: str, separator: str, data_config: DataConfig) -> None:
    head = data[:4096].tobytes()
    known = {
        b"\x1f\x8b": "gzip; set data_config.data_compression_type: GZIP or name it .gz",
        b"PAR1": "Parquet; set data_config.input_type: ParquetInput",
        b"PK\x03\x04": "a zip archive; unpack it",
        b"\xff\xfe": "UTF-16; convert it to UTF-8",
        b"\xfe\xff": "UTF-16; convert it to UTF-8",
    }
    for magic, what in known.items():
        if head.startswith(magic):
            raise DataError(f"{file}: the file must be UTF-8 text, read as {data_config.input_type}. It is {what}.")
    if b"\x00" in head and "\x00" not in separator:
        place = head.index(b"\x00")
        raise DataError(
            f"{file}: the file must be UTF-8 text, read as {data_config.input_type}. It is binary: "
            f"byte {place} is 0. First bytes: {head[:16]!r}."
        )


def _unused_byte(data: Bytes, file: str) -> int:
    present = np.zeros(256, dtype=np.bool_)
    for begin in range(0, len(data), _CHUNK):
        present[np.unique(data[begin : begin + _CHUNK])] = True
    for byte in (*range(0x1F, 0x0D, -1), *range(1, 9), 0x0B, 0x0C, 0x7F):
        if not present[byte]:
            return int(byte)
    raise DataError(f"{file}: with a separator of several characters one control character must be unused; none is.")
