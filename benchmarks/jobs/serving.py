"""Answers of a fitted bundle, in process."""

from __future__ import annotations

from pathlib import Path

from harness import Bar, Contender, Job


def nothing(data_dir: Path, folder: Path) -> None:
    """The contender makes its own data."""


def job(items: int, index: str, bars: tuple[Bar, ...]) -> Job:
    """The job with a catalogue and a way to search it."""
    how = {
        "exact": "every item scored",
        "ivf": "an inverted file (FAISS) of which 400 lists are searched",
        "hnsw": "a graph (FAISS)",
    }[index]
    short = f"{items // 1000}k" if items < 10**6 else f"{items // 10**6}m"
    return Job(
        name=f"serving_{short}_{index}",
        title=f"Serving SASRec, {items:,} items, {how}",
        setting="histories of fifty items of strangers, ten recommendations, what they know left out; one request at a "
        "time (milliseconds), and batches of 256",
        contenders=(Contender("intarsia", "serving/ours.py"),),
        show={
            "p50": "ms",
            "p99": "ms",
            "requests/s in batches": "",
            "index recall": "",
            "load": "s",
            "peak MiB": "",
        },
        bars=bars,
        prepare=nothing,
        options={"items": items, "index": index, "steps": 200, "requests": 500, "nprobe": 400},
    )


RECALL = Bar("index recall", limit=0.95, more=True)
JOBS = (
    job(50_000, "exact", (Bar("p99", limit=10.0),)),
    job(50_000, "hnsw", (Bar("p99", limit=10.0), RECALL)),
    job(1_000_000, "exact", ()),
    job(1_000_000, "ivf", (Bar("p99", limit=15.0), RECALL)),
)
