"""Writes the table of reproduce/README.md from reproduce/results/*.json and reproduce/published.json.

    python reproduce/collect.py [--check]

With --check nothing is written, and the exit status tells whether the table is up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
START, END = "<!-- table: python reproduce/collect.py -->", "<!-- end of table -->"
TITLES = ("protocol", "model", "pipeline", "seed", "metric", "test", "published", "bar", "valid")
COSTS = ("epochs", "seconds", "threads", "peak MiB")
SMALLER = {"logloss", "rmse", "mae"}
"""Metrics of which less is better."""


def rows(note: dict[str, Any], published: dict[str, Any]) -> list[list[str]]:
    """The lines of one result: one for each published metric, what is the same for all in the first alone."""
    test, valid = note["metrics"]["test"], note["metrics"].get("valid", {})
    out = []
    for metric, number in published["metrics"].items():
        bar = published.get("bars", {}).get(metric)
        shown = [number_of(test[metric]), number_of(number), number_of(bar), number_of(valid.get(metric))]
        value = round(test[metric], 4)  # as published numbers are
        if bar is not None and (value > bar if metric in SMALLER else value < bar):
            shown[2] += " (missed)"
        out.append(["", "", "", "", metric, *shown, "", "", "", ""])
    first = [published["protocol"], published["model"], f"`{note['pipeline']}`", str(note["seed"])]
    costs = [str(note["epochs"]), f"{note['seconds']:.0f}", str(note["threads"]), str(note["peak_mib"] or "")]
    out[0] = [*first, *out[0][4:9], *costs]
    return out


def number_of(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4f}"


def table(results: Path, published: dict[str, Any]) -> str:
    """The table of all results, sorted by pipeline and seed."""
    notes = [json.loads(path.read_text()) for path in results.glob("*.json")]
    notes.sort(key=lambda note: (note["pipeline"], note["seed"]))
    titles = [*TITLES, *COSTS]
    lines = [titles, ["---"] * len(titles)]
    for note in notes:
        lines += rows(note, published[note["pipeline"]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str, new: str) -> str:
    """The text with its table replaced."""
    if START not in text or END not in text:
        raise SystemExit(f"README.md must hold the lines `{START}` and `{END}`")
    before, rest = text.split(START)
    return f"{before}{START}\n{new}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Fills in the table, or checks it."""
    readme = HERE / "README.md"
    old = readme.read_text()
    new = filled(old, table(HERE / "results", json.loads((HERE / "published.json").read_text())))
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if new == old else "reproduce/README.md is out of date: run python reproduce/collect.py")
    readme.write_text(new)


if __name__ == "__main__":
    main()
