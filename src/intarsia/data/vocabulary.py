"""Vocabularies: the values of a feature in the order of the rows of its table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError

I64 = npt.NDArray[np.int64]


class Vocabulary:
    """Raw values to rows of a table, and back.

    A given vocabulary (a list or a file) has its first value in row 0, which unseen values share with it, as in
    EasyRec. A learned one keeps row 0 for unseen values alone.

    Args:
        values: The values as text, in row order, all different.
        first_row: Row of the first value: 0 for a given vocabulary, 1 for a learned one.
        name: What the vocabulary belongs to, for messages.

    Raises:
        DataError: A value occurs twice.
    """

    def __init__(self, values: Sequence[str] | pl.Series, first_row: int = 0, name: str = "") -> None:
        self.values = pl.Series("value", values, dtype=pl.String)
        self.first_row = first_row
        self.name = name
        doubled = self.values.is_duplicated()
        if doubled.any():
            value = self.values.filter(doubled)[0]
            places = np.flatnonzero((self.values == value).to_numpy())[:2].tolist()
            raise DataError(
                f"Values of a vocabulary must be different. Received {value!r} at positions {places[0]} and "
                f"{places[1]} of {name or 'the vocabulary'}. Remove one of them."
            )
        self._table = pl.DataFrame(
            {"value": self.values, "row": np.arange(first_row, first_row + len(self.values), dtype=np.int64)}
        )

    def __len__(self) -> int:
        return self.num_rows

    @property
    def num_rows(self) -> int:
        """Rows of the table, at least 1."""
        return max(self.first_row + len(self.values), 1)

    @classmethod
    def read(cls, path: str | Path, name: str = "") -> Vocabulary:
        """A vocabulary from a text file with one value a line.

        Raises:
            DataError: The file is missing, is not UTF-8, or holds a value twice.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"A vocab_file must be a readable UTF-8 text with one value a line. Received {path}: {error}. "
                "Check the path; a relative one starts at the working directory."
            ) from error
        lines = text.replace("\r\n", "\n").split("\n")
        return cls(lines[:-1] if lines[-1] == "" else lines, name=name or str(path))

    @classmethod
    def learn(cls, columns: Iterable[pl.Series], min_count: int = 1, name: str = "") -> Vocabulary:
        """A vocabulary of the values that occur, the most frequent first, equally frequent ones in text order.

        Args:
            columns: Text without missing values; one column after another, so that data need not fit in memory.
            min_count: Values that occur less often are left to row 0.
            name: What the vocabulary belongs to, for messages.
        """
        counter = ValueCounter()
        for column in columns:
            counter.add(column)
        return counter.vocabulary(min_count, name)

    def rows(self, texts: pl.Series) -> I64:
        """The row of each text: 0 for unseen ones, and for nulls.

        Args:
            texts: (N,) text.
        """
        frame = pl.DataFrame({"value": texts.cast(pl.String)})
        found = frame.join(self._table, on="value", how="left", maintain_order="left")
        return found["row"].fill_null(0).to_numpy()

    def raw(self, rows: npt.ArrayLike) -> pl.Series:
        """The text of each row: null for a row that is not of one value, such as row 0 of a learned vocabulary.

        Args:
            rows: (N,) rows.
        """
        positions = np.asarray(rows, dtype=np.int64) - self.first_row
        known = (positions >= 0) & (positions < len(self.values))
        picked = pl.Series("row", np.where(known, positions, -1)).replace(-1, None).cast(pl.UInt32)
        return self.values.to_frame().select(pl.col("value").gather(picked))["value"]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"first_row": self.first_row, "values": self.values.to_list()}

    @classmethod
    def from_json(cls, data: dict[str, Any], name: str = "") -> Vocabulary:
        """The inverse of `to_json`."""
        return cls(data["values"], int(data["first_row"]), name)

    def save(self, path: str | Path) -> None:
        """Writes a JSON file, which can hold any text, line breaks included."""
        Path(path).write_text(json.dumps(self.to_json(), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, name: str = "") -> Vocabulary:
        """The inverse of `save`.

        Raises:
            DataError: The file is missing or damaged.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_json(data, name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"A saved vocabulary must be a JSON object with `first_row` and `values`. Received {path}: {error}. "
                "Restore the file, or encode the data again."
            ) from error


class ValueCounter:
    """Counts the values of columns that arrive one after another."""

    def __init__(self) -> None:
        self._counts = pl.DataFrame(schema={"value": pl.String, "count": pl.UInt64})

    def add(self, texts: pl.Series) -> None:
        """Counts the values of one more column of text; nulls are not counted."""
        new = pl.DataFrame({"value": texts.cast(pl.String)}).drop_nulls()
        counted = new.group_by("value").agg(pl.len().cast(pl.UInt64).alias("count"))
        both = pl.concat([self._counts, counted])
        self._counts = both.group_by("value").agg(pl.col("count").sum()) if len(self._counts) else counted

    def vocabulary(self, min_count: int = 1, name: str = "") -> Vocabulary:
        """The vocabulary of everything counted so far."""
        kept = self._counts.filter(pl.col("count") >= min_count)
        ordered = kept.sort(["count", "value"], descending=[True, False])
        return Vocabulary(ordered["value"], first_row=1, name=name)
