"""Writes the measured tables of docs/performance.md from the records of `results/`.

    python benchmarks/collect.py [--check]

`--check` writes nothing and ends with status 1 where the page is not what the records say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness import HERE, OURS, number, table, verdict

PAGE = HERE.parent / "docs" / "performance.md"
RESULTS = HERE / "results"
BEGIN, END = "<!-- measured: python benchmarks/collect.py -->", "<!-- end of measured -->"


@dataclass(frozen=True)
class Work:
    """What a job cannot do without, however it is done.

    Attributes:
        figure: The figure that tells its speed.
        amount: Operations (GFLOP) or bytes (GB) of one unit of it, or in all where the figure is seconds.
        of: What bounds it: a key of the roofline's record.
        how: How the amount comes about.
    """

    figure: str
    amount: float
    of: str
    how: str


MLP = 6e-9 * (429 * 400 + 400 * 400 * 2 + 400)
FRAPPE = 202_027 * 6e-9 * (100 * 400 + 400 * 400 * 2 + 400)
SASREC = 652_000 * 3e-9 * (2 * (6 * 64 * 64 * 2 + 4 * 64 * 70) + 2 * 64 * 3416)
GRU4REC = 994_000 * 3e-9 * (2 * 3 * (64 + 128) * 128 + 2 * 128 * 64 + 2 * 64 * 3416)
WORK = {
    "click_100k": Work("samples/s", MLP, "fast_layer_gflops", "products of the layers, forwards and backwards"),
    "click_1m": Work("samples/s", MLP, "fast_layer_gflops", "the same; tables of ten times the size add no arithmetic"),
    "frappe_deepfm": Work("epoch", FRAPPE, "fast_layer_gflops", "products of the layers; evaluation is not counted"),
    "sasrec_ml1m": Work(
        "epoch", SASREC, "fast_gflops", "652,000 real steps: blocks, attention, softmax over 3,416 items"
    ),
    "gru4rec_ml1m": Work("epoch", GRU4REC, "fast_gflops", "994,000 steps: gates, projection, softmax over 3,416 items"),
    "als_gowalla": Work(
        "fit", 15 * 2 * 810_128 * 256e-9 * 5, "copy_gb_s", "vectors of all pairs, five times for each side and turn"
    ),
    "bpr_ml1m": Work(
        "epoch", 480 * 4200 * 256e-9 * 12, "copy_gb_s", "4,200 rows a step: weights and two moments, read and written"
    ),
    "ease_ml1m": Work(
        "fit", 3416**3 * 8e-9 / 3, "fast_gflops", "the inverse by halves; reading, counting and saving are not counted"
    ),
}


def reached(name: str, record: Mapping[str, Any], roofline: Mapping[str, Any]) -> str | None:
    """A row of the table of bounds."""
    work = WORK.get(name)
    ours = record["contenders"].get(OURS)
    if work is None or ours is None or record["threads"] not in roofline["threads"]:
        return None
    most = roofline[work.of][roofline["threads"].index(record["threads"])]
    values = [value for value in ours["figures"].get(work.figure, []) if value is not None]
    if not values:
        return None
    found = median(values)
    rate = work.amount * found if work.figure.endswith("/s") else work.amount / found
    unit = "GB/s" if work.of.endswith("gb_s") else "GFLOP/s"
    bound = "memory" if unit == "GB/s" else "arithmetic"
    return (
        f"| {record['title']} | {bound}: {work.how} | {number(rate)} {unit} | {number(most)} {unit} "
        f"| {100 * rate / most:.0f} % |"
    )


def page() -> str:
    """All that was measured, as Markdown."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    growth, roofline = records.pop("growth", None), records.pop("roofline", None)
    order = [name for name in _order() if name in records]
    out = ["", *_bars({name: records[name] for name in order})]
    if roofline is not None:
        out += ["### What bounds it", "", *_roofline(roofline), ""]
        out += ["| job | bound by | reached | at most | share |", "|---|---|---|---|---|"]
        out += [row for name in order if (row := reached(name, records[name], roofline)) is not None] + [""]
    if growth is not None:
        out += ["### How cost grows", "", *_growth(growth), ""]
    out += ["### Every job", ""]
    for name in order:
        out += _job(records[name])
    return "\n".join(out) + "\n"


def _order() -> list[str]:
    from jobs import JOBS

    return list(JOBS)


def _bars(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| job | aim | reached (median, range over rounds) | |"
    yield "|---|---|---|---|"
    for record in records.values():
        for bar in record["bars"]:
            aim, _, found = verdict(bar).partition(": ")
            met = {True: "met", False: "missed", None: ""}[bar["met"]]
            found = found.removeprefix("met, ").removeprefix("MISSED, ")
            yield f"| {record['title']} | {aim} | {found} | {met} |"
    yield ""


def _roofline(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"{record['machine']}, by `python benchmarks/roofline.py`:"
    yield ""
    names = {
        "gflops": "product of two matrices of 2,048 x 2,048 (GFLOP/s)",
        "layer_gflops": "product of a batch with a layer of 400 (GFLOP/s)",
        "fast_gflops": "the same by other kernels, which intarsia takes where shapes are steady (GFLOP/s)",
        "fast_layer_gflops": "the product with a layer by these (GFLOP/s)",
        "copy_gb_s": "copy (GB/s)",
        "gather_gb_s": "random rows of 64 bytes (GB/s)",
    }
    threads = [f"{count} thread{'s' if count > 1 else ''}" for count in record["threads"]]
    yield "| | " + " | ".join(threads) + " |"
    yield "|---" * (len(threads) + 1) + "|"
    for key, text in names.items():
        yield f"| {text} | " + " | ".join(number(value) for value in record[key]) + " |"


def _growth(record: Mapping[str, Any]) -> Iterator[str]:
    yield "![cost against size](images/growth.svg)"
    yield ""
    yield "| what grows | sizes | seconds | exponent | memory above the start (MiB) |"
    yield "|---|---|---|---|---|"
    what = {
        "tables": "ids of each of 26 tables: a step of DeepFM",
        "rows": "rows of a CSV log: opening it",
        "users": "users: ranking 20,000 items, metrics included",
        "items": "items: ranking for 5,000 users, metrics included",
        "length": "length of histories: SASRec over 400,000 steps",
    }
    for name, text in what.items():
        if name not in record:
            continue
        rows = record[name]["values"]
        sizes = ", ".join(f"{size:,}" for size in record[name]["sizes"])
        seconds = ", ".join(number(row["seconds"]) for row in rows)
        memory = ", ".join(number(row["memory"]) for row in rows if "memory" in row) or "-"
        yield f"| {text} | {sizes} | {seconds} | {record[name]['exponent']:.2f} | {memory} |"
    yield ""
    if "padding" in record:
        row = record["padding"]["values"][0]
        more = row["seconds"] / row["of one length"]
        yield (
            f"Histories of mixed lengths, whose steps fill {100 * row['real steps']:.0f} % of a padded table, take "
            f"{more:.2f} times as long as as many steps in histories of one length; padded they would take "
            f"{1 / row['real steps']:.2f} times."
        )
    if "processes" in record:
        one, two = (row["rows a second"] for row in record["processes"]["values"])
        yield (
            f"Two processes with a thread each train DeepFM with {number(two)} rows a second, one process with "
            f"{number(one)}: {two / one:.2f} times."
        )
    if "threads" in record:
        one, two = (row["rows a second"] for row in record["threads"]["values"])
        yield f"One process with two threads: {number(two)} rows a second, {two / one:.2f} times as many as with one."


def _job(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"#### {record['title']}"
    yield ""
    text = record["setting"]
    yield f"{text[:1].upper()}{text[1:]}. {record['machine']}, {record['threads']} threads. `{record['command']}`"
    yield ""
    yield table(record)
    yield ""
    notes = [(name, note) for name, told in record["contenders"].items() for note in told["notes"]]
    for name, note in notes:
        yield f"- {name}: {note}"
    missing = [*record["missing"], *record["failed"]]
    if missing:
        yield f"- not measured: {', '.join(missing)}"
    if notes or missing:
        yield ""


def main() -> int:
    """Writes or checks."""
    before = PAGE.read_text(encoding="utf-8")
    head, _, rest = before.partition(BEGIN)
    after = f"{head}{BEGIN}\n{page()}{END}{rest.partition(END)[2]}"
    if "--check" in sys.argv[1:]:
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
