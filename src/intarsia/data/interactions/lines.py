"""Logs written as lines of items: a user and the user's items, a session, a test item and its negatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError
from intarsia.data.interactions.blocks import check_utf8, first_lines, text_blocks
from intarsia.data.interactions.ids import plain_integers
from intarsia.data.interactions.interactions import Ints
from intarsia.data.interactions.tables import narrow, stacked

_BLOCK = 8 << 20
_BLANKS = bytes.maketrans(b"\t,;\r", b"    ")
_PAIRS = bytes.maketrans(b"\t,;\r()", b"      ")
_HEADERS = (("prefix", "target"), ("session", "target"), ("history", "target"), ("prefix", "label"))


@dataclass(frozen=True)
class _Words:
    """The words of some lines.

    Attributes:
        line: (W,) number of each word's line, blank lines not counted.
        word: (W,) the words: whole numbers where all are such, else text.
        first: (W,) whether a word is the first of its line.
        lines: Lines that are not blank.
    """

    line: Ints
    word: pl.Series
    first: npt.NDArray[np.bool_]
    lines: int


def read_lines(paths: Sequence[Path], user: str, item: str, encoding: str) -> pl.DataFrame:
    """Interactions of lines `user item item ...`, oldest first. A line with a user alone has none.

    Args:
        paths: Files, packed or not. Words are separated by blanks, tabs, commas or semicolons.
        user: Name that the column of users gets.
        item: Name that the column of items gets.
    """
    frames = []
    for found in _blocks_of_words(paths, encoding):
        of_line = found.word.filter(pl.Series(found.first))
        users = of_line.gather(found.line[~found.first])
        frames.append((users, found.word.filter(pl.Series(~found.first))))
    return _stacked(frames, user, item)


def read_sessions(paths: Sequence[Path], user: str, item: str, encoding: str) -> tuple[pl.DataFrame, int]:
    """Interactions of lines that hold the items of one session each, oldest first, and the number of sessions.

    A session's user is its number, from 1.
    """
    frames, before = [], 0
    for found in _blocks_of_words(paths, encoding):
        frames.append((pl.Series(found.line + before + 1), found.word))
        before += found.lines
    return _stacked(frames, user, item), before


def read_prefixes(
    paths: Sequence[Path], user: str, item: str, encoding: str, before: int
) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Test rows `prefix TAB target`: what is given, what is asked for, and the number of the last row.

    Each row is a user of its own. Items of a prefix are separated by blanks or commas. A first line `prefix TAB target`
    is a header.

    Args:
        paths: Files, packed or not.
        user: Name that the column of users gets.
        item: Name that the column of items gets.
        encoding: Of the text.
        before: Users that have a number already.

    Raises:
        DataError: A line has no tab, or nothing behind it.
    """
    given: list[Any] = []
    asked: list[Any] = []
    for path in paths:
        header = tuple(first_lines(path, encoding, 1)[0].lower().split()) in _HEADERS
        number = 1
        for block in text_blocks(path, encoding, _BLOCK):
            check_utf8(block, path)
            lines = pl.Series([block.decode().rstrip("\n")]).str.split("\n").explode()
            number += len(lines)
            blank = lines.str.strip_chars() == ""
            if header:
                blank[int((~blank).arg_max() or 0)] = True
                header = False
            halves = lines.str.splitn("\t", 2).struct.unnest()
            wrong = ~blank & (halves["field_1"].fill_null("").str.strip_chars() == "")
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                raise DataError(
                    f"{path}, line {number - len(lines) + row}: a test row must be `prefix TAB target`. Received: "
                    f"{lines[row][:200]!r}. Correct the line, or set log.format."
                )
            halves = halves.filter(~blank)
            for name, out in (("field_0", given), ("field_1", asked)):
                text = "\n".join(halves[name].fill_null("").to_list()).encode()
                found = _words(text.translate(_BLANKS), skip_blank=False)
                out.append((pl.Series(found.line + before + 1), found.word))
            before += halves.height
    return _stacked(given, user, item), _stacked(asked, user, item), before


def read_negatives(paths: Sequence[Path], encoding: str) -> pl.DataFrame:
    """Items that test items are ranked against, from lines `(user,item) TAB item TAB item ...` or `user item item ...`.

    Returns:
        One row a line: `user`, `item` (null where the line does not name the test item), `negatives` (list).

    Raises:
        DataError: A line has no negatives.
    """
    named = first_lines(paths[0], encoding, 1)[0].lstrip().startswith("(")
    frames = []
    for found in _blocks_of_words(paths, encoding, _PAIRS):
        place = np.arange(len(found.line)) - np.flatnonzero(found.first)[found.line]
        sizes = np.bincount(found.line, minlength=found.lines)
        head = 2 if named else 1
        if (sizes <= head).any():
            raise DataError(
                f"{paths[0]}: every line must hold {'`(user,item)`' if named else 'a user'} and items to rank against. "
                f"Received: line {int((sizes <= head).argmax()) + 1} without any. Correct the file or name another one "
                "in log.negatives_path."
            )
        words = found.word.cast(pl.String)
        rest = pl.DataFrame({"line": found.line, "negatives": words}).filter(pl.Series(place >= head))
        lists = rest.group_by("line", maintain_order=True).agg("negatives")["negatives"]
        users = words.filter(pl.Series(place == 0))
        items = words.filter(pl.Series(place == 1)) if named else pl.Series([None], dtype=pl.String)
        frames.append(
            pl.DataFrame({"user": users}).with_columns(
                item=items if named else pl.lit(None, pl.String), negatives=lists
            )
        )
    return pl.concat(frames)


def _blocks_of_words(paths: Sequence[Path], encoding: str, blanks: bytes = _BLANKS) -> Iterator[_Words]:
    for path in paths:
        for block in text_blocks(path, encoding, _BLOCK):
            check_utf8(block, path)
            found = _words(block.translate(blanks))
            if found.lines:
                yield found


def _words(block: bytes, *, skip_blank: bool = True) -> _Words:
    """Words between blanks, and their lines."""
    data = np.frombuffer(block, dtype=np.uint8)
    feeds = data == ord("\n")
    inside = ~feeds & (data != ord(" "))
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    at = np.flatnonzero(begins)
    line = np.cumsum(feeds)[at]
    first = np.ones(len(at), dtype=bool)
    first[1:] = line[1:] != line[:-1]
    if skip_blank:
        line = np.cumsum(first) - 1
    words = pl.Series([block.decode().replace("\n", " ")]).str.split(" ").explode()
    words = words.filter(words != "")
    numbers = plain_integers(words)
    return _Words(line, words if numbers is None else numbers, first, int(first.sum()))


def _stacked(frames: list[tuple[pl.Series, pl.Series]], user: str, item: str) -> pl.DataFrame:
    if not frames:
        return pl.DataFrame(schema={user: pl.Int64, item: pl.Int64})
    columns = (stacked([narrow(pair[k]).alias(name) for pair in frames]) for k, name in enumerate((user, item)))
    return pl.DataFrame(list(columns))
