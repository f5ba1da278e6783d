"""What reading gives: a frame, where its rows came from, and the rows that were left out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError

logger = logging.getLogger("intarsia.data")

Rows = npt.NDArray[np.int64]

LINE_LENGTH = 200
"""Characters of a bad line that a message quotes."""

MAX_EXAMPLES = 5
"""Bad rows that are kept to be shown."""


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be read.

    Attributes:
        file: File it stands in.
        row: 1-based: the line of a text file (the first one of the row), the row of a Parquet file or data frame.
        column: Column at fault, or None where the whole row is.
        value: The cell's text; None where the whole row is at fault.
        reason: The rule, and what was received.
        text: The line as read, cut to 200 characters; empty where there are no lines.
    """

    file: str
    row: int
    column: str | None
    value: str | None
    reason: str
    text: str = ""
    unit: str = "line"

    def __str__(self) -> str:
        place = f"{self.file}, {self.unit} {self.row}" if self.file else f"{self.unit} {self.row}"
        column = "" if self.column is None else f", column `{self.column}`"
        text = f" The line reads: {self.text!r}" if self.text else ""
        return f"{place}{column}: {self.reason}{text}"


@dataclass
class BadRows:
    """Collects bad rows, or raises at the first one where none is tolerated."""

    skip: bool
    count: int = 0
    examples: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Counts one bad row.

        Raises:
            DataError: Bad rows are not skipped.
        """
        if not self.skip:
            raise DataError(f"{row}\nCorrect the data, or set data_config.on_bad_rows: skip to leave such rows out.")
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(row)

    @property
    def full(self) -> bool:
        """Whether further rows are only counted."""
        return self.skip and len(self.examples) >= MAX_EXAMPLES


@dataclass(frozen=True)
class Part:
    """The rows of one file (or of a piece of it) in a frame.

    Attributes:
        first: 1-based place of the first row.
        places: Place of each row, where they do not simply count up from `first`.
        unit: What a place counts: lines or rows.
    """

    file: str
    rows: int
    first: int = 1
    places: Rows | None = None
    unit: str = "line"

    def place(self, row: int) -> int:
        """1-based place of the part's `row`-th row."""
        return self.first + row if self.places is None else int(self.places[row])


@dataclass(frozen=True)
class ReadResult:
    """Rows that were read.

    Attributes:
        frame: The columns, typed; an empty cell is null.
        skipped: Bad rows that were left out (`on_bad_rows: skip`).
        examples: The first of them.
        parts: Which files the rows came from, in order.
    """

    frame: pl.DataFrame
    skipped: int = 0
    examples: tuple[BadRow, ...] = ()
    parts: tuple[Part, ...] = ()

    def locate(self, row: int) -> tuple[Part, int]:
        """The part that holds the frame's `row`-th row (from 0), and the row's 1-based place in the file."""
        for part in self.parts:
            if row < part.rows:
                return part, part.place(row)
            row -= part.rows
        raise IndexError(f"The frame has {self.frame.height} rows.")

    def origin(self, row: int) -> str:
        """Where the frame's `row`-th row (from 0) came from: `file, line 12`."""
        part, place = self.locate(row)
        return f"{part.file}, {part.unit} {place}" if part.file else f"{part.unit} {place}"

    def keep(self, mask: npt.NDArray[np.bool_]) -> ReadResult:
        """The rows where `mask` is true."""
        parts = []
        start = 0
        for part in self.parts:
            kept = np.flatnonzero(mask[start : start + part.rows])
            places = kept + part.first if part.places is None else part.places[kept]
            parts.append(Part(part.file, len(kept), part.first, places, part.unit))
            start += part.rows
        return ReadResult(self.frame.filter(pl.Series(mask)), self.skipped, self.examples, tuple(parts))

    def report(self) -> str:
        """How many rows were left out and the first of them; empty where none was."""
        if not self.skipped:
            return ""
        shown = "".join(f"\n  {row}" for row in self.examples)
        return f"Left out {self.skipped} of {self.skipped + self.frame.height} rows that cannot be read:{shown}"


def finish(frame: pl.DataFrame, parts: list[Part], bad: BadRows) -> ReadResult:
    """The result; reports skipped rows.

    Raises:
        DataError: All rows were bad.
    """
    result = ReadResult(frame, bad.count, tuple(bad.examples), tuple(part for part in parts if part.rows))
    if bad.count:
        if not frame.height:
            raise DataError(f"At least one row must be readable; all {bad.count} are bad, first: {bad.examples[0]}")
        logger.warning(result.report())
    return result


def quote(value: Any) -> str:
    """A value as it appears in a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= LINE_LENGTH else text[:LINE_LENGTH] + "..."
