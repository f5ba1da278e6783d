"""How the command line talks: tables for people, JSON for machines, errors without a traceback."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def speaks() -> bool:
    """Whether this process is the one that prints, where `torchrun` has started several."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "", *, style: str = "") -> None:
    """Lines on standard output, never wrapped; `style` is seen at a terminal only."""
    _console(sys.stdout).print(text, style=style or None, markup=False)


def note(text: str) -> None:
    """A remark on standard error."""
    _console(sys.stderr).print(f"note: {text}", style="dim", markup=False)


def complain(message: str) -> None:
    """An error on standard error."""
    from rich.text import Text

    _console(sys.stderr).print(Text.assemble(("error: ", "bold red"), message))


def print_json(value: Any) -> None:
    """One JSON document on standard output; NaN and infinity become null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str) + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on standard output; the columns named in `right` are aligned to the right."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in columns:
        made.add_column(escape(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(_text(cell)) for cell in row))
    console = _console(sys.stdout, wrap=True)
    if sys.stdout.isatty():
        console.print(made)
        return
    with console.capture() as captured:
        console.print(made)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def metrics_table(parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Metrics of several parts side by side, with the notes of those that are undefined."""
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    rows = [[name, *(_metric(part.get(name)) for part in parts.values())] for name in names]
    table("", ["metric", *parts], rows, right=list(parts))
    for part, values in parts.items():
        for name, value in values.items():
            if value.note:
                say(f"{part} {name}: {value.note}", style="dim")


def size(number: float) -> str:
    """A number of bytes as a person would say it."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def percent(share: float) -> str:
    """A share in percent, never rounded to nothing."""
    return "0%" if share == 0 else "<0.1%" if share < 0.001 else f"{share:.1%}"


def _console(file: Any, wrap: bool = False) -> Any:
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    # Files and pipes get whole lines, whatever width a terminal would have.
    width = None if file.isatty() else 10_000
    return Plain(file=file, highlight=False, soft_wrap=not wrap, width=width)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _metric(value: Any) -> str:
    return "-" if value is None or value.value is None else f"{value.value:.5f}"


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
