"""The nearest right names for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_KEYS = 16
"""Lists of right names up to this length are shown whole."""

_BUDGET = 20_000
_LONGEST = 80
_WORSE = 0.15


class Suggester:
    """Finds near names, up to a budget: a file with a thousand wrong names gets its errors without delay."""

    def __init__(self) -> None:
        self.left = _BUDGET

    def near(self, name: object, known: Iterable[str]) -> list[str]:
        """Up to three names like `name`, best first, none much worse than the best."""
        word = str(name)
        candidates = list(known)
        self.left -= len(candidates)
        if self.left < 0 or len(word) > _LONGEST:
            return []
        by_lower = {candidate.lower(): candidate for candidate in reversed(candidates)}
        found = difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=0.6)
        scores = [difflib.SequenceMatcher(None, lower, word.lower()).ratio() for lower in found]
        return [by_lower[lower] for lower, score in zip(found, scores, strict=True) if score > scores[0] - _WORSE]

    def hint(self, name: object, known: Iterable[str], what: str) -> str:
        """A sentence to end a message: the nearest names, or all where there are few; may be empty."""
        candidates = list(dict.fromkeys(known))
        if not candidates:
            return f" There are no {what}."
        near = self.near(name, candidates)
        if near:
            return f" Did you mean {' or '.join(f'`{n}`' for n in near)}?"
        if len(candidates) <= MAX_KEYS:
            return f" The {what}: {', '.join(candidates)}."
        return ""
