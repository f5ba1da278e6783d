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
TITLES = ("protocol", "model", "command", "seed", "test AUC", "published", "test logloss", "published", "valid AUC")
COSTS = ("epochs", "seconds", "threads", "peak MiB")


def row(note: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """One line of the table."""
    test, valid = note["metrics"]["test"], note["metrics"]["valid"]
    return [
        published["protocol"],
        published["model"],
        f"`intarsia train reproduce/{note['pipeline']}.yaml train_config.seed={note['seed']}`",
        str(note["seed"]),
        f"{test['auc']:.4f}",
        f"{published['auc']:.4f}",
        f"{test['logloss']:.4f}",
        f"{published['logloss']:.4f}",
        f"{valid['auc']:.4f}",
        str(note["epochs"]),
        f"{note['seconds']:.0f}",
        str(note["threads"]),
        str(note["peak_mib"]),
    ]


def table(results: Path, published: dict[str, Any]) -> str:
    """The table of all results, sorted by pipeline and seed."""
    notes = [json.loads(path.read_text()) for path in results.glob("*.json")]
    notes.sort(key=lambda note: (note["pipeline"], note["seed"]))
    titles = [*TITLES, *COSTS]
    lines = [titles, ["---"] * len(titles), *(row(note, published[note["pipeline"]]) for note in notes)]
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
