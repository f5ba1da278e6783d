"""Loading a log with nothing but Polars and NumPy, to the first batch of histories."""

import time

import numpy as np
import polars as pl
from report import Report

BATCH, LENGTH = 128, 50

report = Report("polars")
path = report.data / f"log.{report.options['format']}"
started = time.perf_counter()
read = pl.read_csv if report.options["format"] == "csv" else pl.read_parquet
log = read(path, columns=["user_id", "item_id", "timestamp"])
item_ids = log["item_id"].unique().sort()
numbers = pl.int_range(1, len(item_ids) + 1, dtype=pl.UInt32, eager=True)  # 0 fills up short histories
log = log.with_columns(pl.col("item_id").replace_strict(item_ids, numbers))
if not log["timestamp"].is_sorted():
    log = log.sort("timestamp", maintain_order=True)
histories = log.select("user_id", "item_id").group_by("user_id").agg("item_id").sort("user_id")
del log
user_ids = histories["user_id"]
offsets = np.zeros(len(histories) + 1, dtype=np.int64)
np.cumsum(histories["item_id"].list.len().to_numpy(), out=offsets[1:])
items = histories["item_id"].explode().to_numpy()
users = np.random.default_rng(0).permutation(len(user_ids))[:BATCH]
places = offsets[users + 1, None] - np.arange(LENGTH, 0, -1)
inside = places >= offsets[users, None]
batch = np.where(inside, items[np.where(inside, places, 0)], 0)
report.figures["first batch"] = time.perf_counter() - started
report.figures["rows/s"] = report.number("rows") / report.figures["first batch"]
report.write()
