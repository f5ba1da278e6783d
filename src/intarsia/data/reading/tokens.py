"""Finds the records and cells of delimited text, vectorised, and tells well-formed from malformed ones.

The rules are those of RFC 4180: a cell that starts with a double quote ends at the next single one, and two double
quotes inside it stand for one. A quote anywhere else, or a carriage return that no line feed follows, is a fault: it
has no agreed meaning, and guessing one can swallow many rows unseen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LF, CR, QUOTE = 10, 13, 34


@dataclass(frozen=True)
class Block:
    """The records of a stretch of text, as positions in `data`. Blank lines are no records.

    Attributes:
        data: The text.
        starts: (C,) first byte of each cell, its opening quote included.
        ends: (C,) one past the last byte of each cell.
        first: (R,) first cell of each record.
        widths: (R,) number of cells.
        begins: (R,) first byte of each record.
        stops: (R,) one past its last byte, without the line's end.
        lines: (R,) line feeds before each record.
        stray_quote: (R,) whether a quote stands where none may; what follows such a record cannot be trusted.
        bare_return: (R,) whether a carriage return stands alone outside quotes.
        consumed: Bytes up to the end of the last record.
        feeds: Line feeds among them.
        quoted: Whether there is any quote that counts.
    """

    data: Bytes
    starts: Positions
    ends: Positions
    first: Positions
    widths: Positions
    begins: Positions
    stops: Positions
    lines: Positions
    stray_quote: Flags
    bare_return: Flags
    consumed: int
    feeds: int
    quoted: bool

    def __len__(self) -> int:
        return len(self.begins)

    def pick(self, records: npt.NDArray[Any] | slice) -> Block:
        """The given records only."""
        return replace(
            self,
            first=self.first[records],
            widths=self.widths[records],
            begins=self.begins[records],
            stops=self.stops[records],
            lines=self.lines[records],
            stray_quote=self.stray_quote[records],
            bare_return=self.bare_return[records],
        )


def tokenize(data: Bytes, separator: int, quoting: bool, final: bool) -> Block:
    """Finds records and cells.

    Args:
        data: (n,) text that starts at the start of a record.
        separator: The byte between two cells.
        quoting: Whether double quotes enclose cells.
        final: Whether the data end here; otherwise a record that is cut off at the end is left for the next call.
    """
    marks = np.flatnonzero((data == separator) | (data == LF))
    quotes = np.flatnonzero(data == QUOTE) if quoting else marks[:0]
    if quotes.size:
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    is_feed = data[marks] == LF
    closed = int(marks[is_feed][-1]) + 1 if is_feed.any() else 0
    consumed = len(data) if final else closed
    marks, is_feed = marks[marks < consumed], is_feed[marks < consumed]
    if final and closed < len(data):
        marks, is_feed = np.append(marks, len(data)), np.append(is_feed, True)
    quotes = quotes[quotes < consumed]

    starts = np.concatenate([[0], marks[:-1] + 1])[: len(marks)]
    ends = marks.copy()
    last = np.flatnonzero(is_feed)
    first = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    begins, stops, feeds_at = starts[first], ends[last], ends[last]
    has_return = (stops > begins) & (feeds_at < len(data))
    has_return[has_return] = data[stops[has_return] - 1] == CR
    stops = stops - has_return
    ends[last] = stops
    widths = last - first + 1

    returns = np.flatnonzero(data[:consumed] == CR)
    bare = np.zeros(len(begins), dtype=np.bool_)
    if returns.size:
        outside = returns[np.searchsorted(quotes, returns) % 2 == 0]
        follower = np.minimum(outside + 1, len(data) - 1)
        alone = outside[(outside + 1 >= len(data)) | (data[follower] != LF)]
        bare[np.searchsorted(feeds_at, alone)] = True
    stray = np.zeros(len(begins), dtype=np.bool_)
    lines = np.arange(len(begins), dtype=np.int64)
    feeds = int(np.count_nonzero(data[:consumed] == LF))
    if quotes.size:
        stray[np.searchsorted(feeds_at, _misplaced(data, quotes, separator))] = True
        lines = np.searchsorted(np.flatnonzero(data[:consumed] == LF), begins)
    block = Block(
        data, starts, ends, first, widths, begins, stops, lines, stray, bare, consumed, feeds, bool(quotes.size)
    )
    blank = begins == stops
    return block.pick(~blank) if blank.any() else block


def _misplaced(data: Bytes, quotes: Positions, separator: int) -> Positions:
    """Quotes that neither open nor close a cell nor belong to a pair inside one."""
    opening, closing = quotes[0::2], quotes[1::2]
    pairs = min(len(closing), max(len(opening) - 1, 0))
    escape = np.zeros(len(opening), dtype=np.bool_)
    escape[1 : pairs + 1] = opening[1 : pairs + 1] == closing[:pairs] + 1
    before = data[np.maximum(opening - 1, 0)]
    opens = (opening == 0) | (before == separator) | (before == LF) | escape
    after_at = closing + 1
    at_end = after_at >= len(data)
    after = data[np.minimum(after_at, len(data) - 1)]
    second = data[np.minimum(after_at + 1, len(data) - 1)]
    closes = at_end | (after == separator) | (after == LF) | ((after == CR) & (second == LF))
    closes[:pairs] |= escape[1 : pairs + 1]
    unclosed = opening[-1:] if len(opening) > len(closing) else opening[:0]
    return np.concatenate([opening[~opens], closing[~closes], unclosed])
