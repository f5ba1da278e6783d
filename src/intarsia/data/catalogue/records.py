"""Files with one record a line, JSON or Python's way of writing dictionaries, read column by column.

Some publishers wrote their records with Python's `repr`. Nothing of it is evaluated: wanted fields are cut out of the
text by patterns, all lines of a block at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.interactions.blocks import check_utf8, first_lines, text_blocks

_SINGLE = r"'((?:[^'\\]|\\.)*)'"
_DOUBLE = r'"((?:[^"\\]|\\.)*)"'
_QUOTED = rf"{_SINGLE}|{_DOUBLE}"
_ESCAPES = r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[\\'\"ntr])"


def read_records(
    path: Path, fields: Sequence[str], *, each: Callable[[pl.DataFrame], pl.DataFrame] | None = None
) -> pl.DataFrame:
    """Fields of the records as text, null where a record lacks one. The members of a list are joined by `|`.

    Args:
        path: The file, gzipped or not.
        fields: Names of the wanted fields, at the top of a record.
        each: Is applied to each block, to keep only what is needed. Default: nothing.

    Raises:
        DataError: A line is no record, or the file cannot be read.
    """
    json_lines = _is_json(first_lines(path, count=1)[0])
    read = _json_block if json_lines else _literal_block
    frames, before = [], 0
    for block in text_blocks(path):
        check_utf8(block, path)
        frame = read(block, fields, path, before)
        before += block.count(b"\n")
        frames.append(frame if each is None else each(frame))
    return pl.concat(frames)


def lines_of(block: bytes) -> pl.Series:
    """The lines of a block."""
    return pl.Series("line", [block.decode().rstrip("\n")]).str.split("\n").explode()


def literal_field(lines: pl.Series, name: str) -> pl.Series:
    """A field of records that Python wrote; see `read_records`. Of a list of lists the first one is taken."""
    key = rf"(?:^\s*\{{|, )u?['\"]{name}['\"]: "
    value = rf"(?:u?{_SINGLE}|u?{_DOUBLE}|\[+([^\]]*)\]|([^,\[\]{{}}'\"]+))"
    found = lines.str.extract_groups(key + value).struct.unnest().to_dict(as_series=True)
    single, double, listed, bare = found.values()
    members = listed.str.extract_all(rf"u?(?:{_QUOTED})").list.eval(pl.element().str.replace("^u", "").str.slice(1))
    joined = members.list.eval(pl.element().str.head(-1)).list.join("|")
    bare = bare.set(bare.is_in(["None"]), None)
    text = single.fill_null(double).fill_null(joined.zip_with(listed.is_not_null(), bare)).fill_null(bare)
    return _unescaped(text).alias(name)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _json_block(block: bytes, fields: Sequence[str], path: Path, before: int) -> pl.DataFrame:
    kinds = dict.fromkeys(fields, pl.String())
    try:
        frame = pl.read_ndjson(block, schema=kinds)
    except pl.exceptions.PolarsError as error:
        for number, line in enumerate(block.split(b"\n")):
            if line.strip() and not _is_json(line.decode()):
                raise DataError(
                    f"{path}, line {before + number + 1}: every line must hold one JSON record. Received: "
                    f"{line.decode()[:200]!r}. Correct the line, or download the file again."
                ) from error
        raise DataError(f"{path}: the records cannot be read: {error}. Download the file again.") from error
    # Lists arrive as their JSON text.
    listed = pl.all().str.starts_with("[")
    members = pl.all().str.extract_all(_DOUBLE).list.eval(pl.element().str.slice(1).str.head(-1)).list.join("|")
    return frame.with_columns(pl.when(listed).then(members).otherwise(pl.all()))


def _literal_block(block: bytes, fields: Sequence[str], path: Path, before: int) -> pl.DataFrame:
    lines = lines_of(block)
    whole = lines.str.contains(r"^\s*\{.*\}\s*$") | (lines.str.strip_chars() == "")
    if not whole.all():
        row = int((~whole).arg_max() or 0)
        raise DataError(
            f"{path}, line {before + row + 1}: every line must hold one record. Received: {lines[row][:200]!r}. Mend "
            "the line, or download the file again."
        )
    lines = lines.filter(lines.str.strip_chars() != "")
    return pl.DataFrame([literal_field(lines, name) for name in fields])


def _unescaped(text: pl.Series) -> pl.Series:
    """Text in which `\\'`, `\\n`, `\\xe9` and the like are the characters that they stand for."""
    wanted = text.str.contains("\\", literal=True).fill_null(False)
    if not wanted.any():
        return text
    # Few values have such characters, and of those few are different.
    different = text.filter(wanted).unique()
    return text.replace(different.to_list(), [_plain(value) for value in different.to_list()])


def _plain(value: str) -> str:
    import re

    def character(match: re.Match[str]) -> str:
        mark = match.group()[1]
        return chr(int(match.group()[2:], 16)) if mark in "xuU" else {"n": "\n", "t": "\t", "r": "\r"}.get(mark, mark)

    return re.sub(_ESCAPES, character, value)
