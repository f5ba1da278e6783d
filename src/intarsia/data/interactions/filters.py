"""Which interactions of a log are kept, and an account of what was lost at each step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from intarsia.config.schema import FilterConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.ids import Codes

LOG = logging.getLogger("intarsia")


@dataclass
class Account:
    """What was left after each step.

    Attributes:
        lines: One a step.
        started_with: Interactions that the first step had.
        enough: Whether the last step left two users and two items.
    """

    lines: list[str] = field(default_factory=list)
    started_with: int = 0
    enough: bool = True

    def note(self, step: str, users: Codes, items: Codes) -> None:
        """Counts what is left after a step."""
        self.count(step, _distinct(users), _distinct(items), len(users))

    def count(self, step: str, num_users: int, num_items: int, num_interactions: int) -> None:
        """Notes what is left after a step where it was counted already."""
        if not self.lines:
            self.started_with = num_interactions
        self.lines.append(f"{step}: {num_users:,} users, {num_items:,} items, {num_interactions:,} interactions")
        self.enough = num_users >= 2 and num_items >= 2

    def check(self) -> None:
        """Refuses a log that is too small to learn from.

        Raises:
            DataError: There are not two users and two items; says what each step left.
        """
        if not self.lines:
            return
        if self.enough:
            if len(self.lines) > 1:
                LOG.info("filter of the log\n  %s", "\n  ".join(self.lines))
            return
        steps = "\n  ".join(self.lines)
        if len(self.lines) == 1:
            raise DataError(
                f"a log needs at least two users and two items. Received: {steps}. Check log.user_field and "
                "log.item_field."
            )
        raise DataError(
            f"the filter must leave at least two users and two items. Received, step by step:\n  {steps}\nLower the "
            "bounds of data_config.filter."
        )


def _distinct(codes: Codes) -> int:
    return int(np.count_nonzero(np.bincount(codes))) if len(codes) else 0


def frequent(users: Codes, items: Codes, config: FilterConfig, account: Account) -> npt.NDArray[np.int64] | None:
    """Row numbers of the interactions of frequent items and users, or None where all are kept.

    Items are counted first, users after the rare items are gone. With `iterative` or `k_core` both steps are repeated
    until nothing changes; what is left is then the largest set in which every user and item has enough (a k-core).

    Args:
        users: (S,) user numbers.
        items: (S,) item numbers.
        config: Bounds.
        account: Takes what each step left.
    """
    low_item = config.k_core or config.min_item_interactions
    low_user = config.k_core or config.min_user_interactions
    if low_item <= 1 and low_user <= 1:
        return None
    again = config.iterative or config.k_core is not None
    rows: npt.NDArray[np.int64] | None = None
    turn = 0
    while len(users):
        turn += 1
        before = len(users)
        for codes, low, what in ((0, low_item, "items"), (1, low_user, "users")):
            column = (items, users)[codes]
            if low <= 1 or not len(column):
                continue
            keep = (np.bincount(column) >= low)[column]
            if not keep.all():
                users, items = users[keep], items[keep]
                rows = np.flatnonzero(keep) if rows is None else rows[keep]
            step = f"round {turn}, {what}" if again else what
            account.note(f"{step} with at least {low} interactions", users, items)
        if not again or len(users) == before:
            break
    return rows
