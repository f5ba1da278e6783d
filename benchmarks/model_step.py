"""Time of one training step of DeepFM by the size of its tables.

    python benchmarks/model_step.py [--json FILE] [--steps 24] [--threads 2] [--rows 10000 1000000]

26 id features, embedding size 16, layers 400-400-400, batches of 4,096 rows, Adam (lazy on tables), ids drawn by Zipf's
law with exponent 1. Sizes take turns, step by step, so that a busy moment of the machine hits all of them. The last
column is the ratio to the smallest size; the program ends with status 1 where it is above 1.5. `table_step.py` measures
the tables alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from intarsia.config.schema import ModelConfig, TrainConfig
from intarsia.core.batch import Batch, Dense
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.models.catalogue import build
from intarsia.training.optimizers import build_optimizers

FEATURES = [f"c{i}" for i in range(26)]
BATCH = 4096
LIMIT = 1.5


def trainer(rows: int, rng: np.random.Generator) -> Callable[[int], None]:
    """One update of a model whose tables have that many rows."""
    start = {"truncated_normal_initializer": {"mean": 0.0, "stddev": 0.01}}
    specs = {name: FeatureSpec(name, "id", num_ids=rows, embedding_dim=16, initializer=start) for name in FEATURES}
    config = ModelConfig.model_validate(
        {
            "model_class": "DeepFM",
            "feature_groups": [
                {"group_name": "wide", "feature_names": FEATURES, "wide_deep": "WIDE"},
                {"group_name": "deep", "feature_names": FEATURES},
            ],
            "deepfm": {"dnn": {"hidden_units": [400, 400, 400]}, "l2_regularization": 0},
        }
    )
    model = build(config, Schema(specs, {"label": 1})).train()
    optimizers = build_optimizers(model, TrainConfig.model_validate({"optimizer": "adam", "learning_rate": 0.001}))
    batches = []
    for _ in range(6):
        ids = torch.from_numpy((rows ** rng.random((len(FEATURES), BATCH))).astype(np.int64) % rows)
        labels = torch.from_numpy(rng.integers(0, 2, BATCH).astype(np.float32))
        batches.append(Batch({name: Dense(ids[i]) for i, name in enumerate(FEATURES)}, {"label": labels}, size=BATCH))

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        optimizers.zero_grad()
        losses = model.losses(model(batch), batch)
        torch.stack(list(losses.values())).sum().backward()
        optimizers.step()

    return step


def main() -> int:
    """Measures and prints; 1 where a ratio is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--steps", type=int, default=24, help="measured steps of each size (default 24)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="rows of each table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(17)
    steps = {rows: trainer(rows, rng) for rows in arguments.rows}
    seconds: dict[int, list[float]] = {rows: [] for rows in steps}
    for number in range(arguments.steps + 4):
        for rows, step in steps.items():
            start = time.perf_counter()
            step(number)
            if number >= 4:
                seconds[rows].append(time.perf_counter() - start)
    medians = {rows: statistics.median(times) for rows, times in seconds.items()}
    first = medians[min(medians)]
    print(f"DeepFM, 26 tables x 16, layers 400-400-400, batch {BATCH}, Adam, {arguments.threads} threads")
    print(f"{'rows a table':>14}{'step':>12}{'rows/s':>12}{'ratio':>8}")
    for rows, median in medians.items():
        print(f"{rows:>14,}{median * 1000:>9.1f} ms{BATCH / median:>12,.0f}{median / first:>8.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory: {peak:,.0f} MiB")
    if arguments.json:
        figures = {"seconds": medians, "ratio": {r: m / first for r, m in medians.items()}, "peak_mib": peak}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(any(median / first > LIMIT for median in medians.values()))


if __name__ == "__main__":
    sys.exit(main())
