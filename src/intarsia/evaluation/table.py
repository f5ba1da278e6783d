"""Results as plain rows, for whoever prints them."""

from __future__ import annotations

from intarsia.evaluation.evaluate import Evaluation


def rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(metric, value, note) for each metric, as text. An undefined value is written `-`."""
    return [(value.name, number(value.value), value.note) for value in evaluation.values.values()]


def number(value: float | None) -> str:
    """Six decimals where those say something, otherwise six significant digits; `-` for None."""
    if value is None:
        return "-"
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e4:
        return f"{value:.6f}"
    return f"{value:.6g}"
