"""How the command line talks: tables for people, JSON for machines, errors without a traceback."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output; NaN and infinity become null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table; the columns named in `right` are aligned to the right."""
    made = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False, box=None, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_text(cell) for cell in row))
    out.print(made)


def metrics_table(parts: dict[str, Any]) -> None:
    """Metrics of several parts side by side, with the notes of those that are undefined."""
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    rows = [[name, *(_metric(part.get(name)) for part in parts.values())] for name in names]
    table("", ["metric", *parts], rows, right=list(parts))
    for part, values in parts.items():
        for name, value in values.items():
            if value.note:
                out.print(f"[dim]{part} {name}: {value.note}[/dim]")


def _metric(value: Any) -> str:
    return "-" if value is None or value.value is None else f"{value.value:.5f}"


def _text(cell: object) -> str:
    from rich.markup import escape

    return escape(f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell))


def complain(message: str) -> None:
    """An error on standard error."""
    from rich.markup import escape

    err.print(f"[bold red]error:[/bold red] {escape(message)}")
