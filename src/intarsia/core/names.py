"""Names that a wrong one may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def close_names(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """At most three of the known names, the most similar first, whatever their case.

    Args:
        name: The wrong name.
        known: The right ones.
        cutoff: Least similarity, from 0 to 1.
    """
    lowered = {k.lower(): k for k in known}
    return [lowered[found] for found in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=cutoff)]


def did_you_mean(close: Iterable[str]) -> str:
    """`Did you mean ...?` with the names, or an empty text where there are none."""
    told = " or ".join(f"`{name}`" for name in close)
    return f"Did you mean {told}?" if told else ""
