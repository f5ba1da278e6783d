"""From a file of interactions to the first training batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from harness import Bar, Contender, Job


def made(rows: int, users: int, items: int, kind: str) -> Callable[[Path, Path], None]:
    """Writes a log whose rows are in the order of time, users and items by Zipf's law."""

    def prepare(_: Path, folder: Path) -> None:
        rng = np.random.default_rng(2024)
        columns = {}
        for name, count, exponent in (("user_id", users, 0.7), ("item_id", items, 1.0)):
            mass = np.cumsum(1.0 / np.arange(1, count + 1) ** exponent)
            ranks = np.minimum(np.searchsorted(mass, rng.random(rows) * mass[-1]), count - 1)
            columns[name] = rng.permutation(count)[ranks] + 1
        columns["timestamp"] = 1_600_000_000 + np.sort(rng.integers(0, 10**8, rows))
        frame = pl.DataFrame(columns)
        if kind == "csv":
            frame.write_csv(folder / "log.csv")
        else:
            frame.write_parquet(folder / "log.parquet")

    return prepare


def job(
    name: str, rows: int, users: int, items: int, kind: str, peers: tuple[Contender, ...], bars: tuple[Bar, ...]
) -> Job:
    """The job with a file."""
    return Job(
        name=name,
        title=f"Loading a log of {rows // 1_000_000} million rows ({kind})",
        setting=f"{users:,} users, {items:,} items; to the first batch of 128 histories of the latest 50 items",
        contenders=(
            Contender("intarsia", "loading/ours.py"),
            Contender("Polars and NumPy", "loading/polars_.py"),
            *peers,
        ),
        show={"first batch": "s", "rows/s": "", "second start": "s", "peak MiB": ""},
        bars=(
            Bar("first batch", least=1 / 1.3, against=("Polars and NumPy",)),
            Bar("peak MiB", least=1 / 1.3, against=("Polars and NumPy",)),
            Bar("second start", limit=1.0),
            *bars,
        ),
        prepare=made(rows, users, items, kind),
        options={"rows": rows, "format": kind},
    )


SLOW = (
    Contender("FuxiCTR", "loading/fuxictr_.py", "fuxictr", rounds=1),
    Contender("RecBole", "loading/recbole_.py", "recbole", rounds=1),
)
JOBS = (
    job(
        "loading_5m",
        5_000_000,
        200_000,
        50_000,
        "csv",
        SLOW,
        (Bar("first batch", least=10.0, against=("FuxiCTR",)), Bar("first batch", least=20.0, against=("RecBole",))),
    ),
    job("loading_5m_parquet", 5_000_000, 200_000, 50_000, "parquet", (), ()),
    job("loading_20m", 20_000_000, 800_000, 200_000, "csv", (), ()),
)
