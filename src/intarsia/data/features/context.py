"""Where a feature is being encoded, and what happens to values that break its rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from intarsia.core.errors import DataError
from intarsia.data.reading.report import quote

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """One feature over one frame.

    Attributes:
        feature: Name of the feature, for messages.
        skip: Whether values that break a rule are counted and replaced instead of being an error.
        locate: Where the frame's row came from, such as `train.csv, line 12`.
        counts: Broken rules and how often, over all frames.
    """

    feature: str
    skip: bool = False
    locate: Callable[[int], str] | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def place(self, row: int) -> str:
        """Where a row of the frame came from."""
        return self.locate(row) if self.locate is not None else f"row {row + 1}"

    def reject(self, rows: Positions, value: object, rule: str, instead: str, cure: str) -> None:
        """Reports values that break a rule.

        Args:
            rows: Rows of the frame in which they stand, at least one.
            value: The first of them.
            rule: What must hold.
            instead: What the values become where bad values are skipped.
            cure: What to do.

        Raises:
            DataError: Bad values are not skipped.
        """
        if self.skip:
            self.counts[f"feature `{self.feature}`: {rule}; {instead}"] += len(rows)
            return
        raise DataError(
            f"{self.place(int(rows[0]))}: feature `{self.feature}`: {rule}. Received: {quote(value)}. "
            f"{cure}, or set data_config.on_bad_rows: skip ({instead})."
        )

    def refuse(self, rule: str, received: object, cure: str) -> DataError:
        """The error for a whole column that a feature cannot read."""
        return DataError(f"Feature `{self.feature}`: {rule}. Received: {received}. {cure}.")
