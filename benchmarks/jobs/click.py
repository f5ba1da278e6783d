"""DeepFM on 26 large columns of ids and 13 of numbers, as a click model of advertisements has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import Bar, Contender, Job

BATCH, EXPONENT = 4096, 1.05


def made(ids: int, batches: int) -> Callable[[Path, Path], None]:
    """Makes rows: ids by Zipf's law, the frequent ones scattered over the table; clicks by a planted linear model."""

    def prepare(_: Path, folder: Path) -> None:
        rng = np.random.default_rng(2024)
        rows = BATCH * batches
        mass = np.cumsum(1.0 / np.arange(1, ids + 1) ** EXPONENT)
        numbers = np.empty((rows, 26), dtype=np.int32)
        logits = np.full(rows, -1.0)
        for column in range(26):
            ranks = np.minimum(np.searchsorted(mass, rng.random(rows) * mass[-1]), ids - 1)
            numbers[:, column] = rng.permutation(ids)[ranks]
            logits += rng.normal(0, 0.4, ids)[ranks]
        dense = rng.normal(size=(rows, 13)).astype(np.float32)
        logits += dense @ rng.normal(0, 0.2, 13)
        np.save(folder / "ids.npy", numbers)
        np.save(folder / "dense.npy", dense)
        np.save(folder / "labels.npy", (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.float32))

    return prepare


def job(name: str, ids: int, steps: int, bars: tuple[Bar, ...], rounds: int) -> Job:
    """The job with tables of a size."""
    return Job(
        name=name,
        title=f"DeepFM, 26 tables of {ids:,} ids",
        setting=f"13 numeric and 26 id columns, width 16, MLP 400-400-400, batches of {BATCH:,}, Adam; {steps} steps",
        contenders=(
            Contender("intarsia", "click/ours.py"),
            Contender("plain torch", "click/torch_.py", "deepctr"),
            Contender("Torch-RecHub", "click/rechub_.py", "rechub", rounds=rounds),
            Contender("DeepCTR-Torch", "click/deepctr_.py", "deepctr", rounds=rounds),
        ),
        show={"samples/s": "", "build": "s", "peak MiB": "", "loss": ""},
        bars=bars,
        prepare=made(ids, steps + 2),
        options={"ids": ids, "width": 16, "batch": BATCH, "steps": steps, "warm": 2},
    )


FIELD = ("Torch-RecHub", "DeepCTR-Torch")
MEMORY = Bar("peak MiB", least=2.0, against=FIELD)
JOBS = (
    job(
        "click_100k",
        100_000,
        30,
        (
            Bar("samples/s", least=5.0, against=FIELD, more=True),
            Bar("samples/s", least=1.0, against=("plain torch",), more=True),
            MEMORY,
        ),
        2,
    ),
    job("click_1m", 1_000_000, 10, (Bar("samples/s", least=30.0, against=FIELD, more=True), MEMORY), 1),
)
