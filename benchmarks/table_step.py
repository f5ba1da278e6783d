"""Time of one training step of embedding tables: lookup, backward pass and update.

    python benchmarks/table_step.py [--json FILE] [--steps 20] [--threads 2] [--rows 10000 1000000] [--used N]

26 features with one id each, D = 16, batches of 4,096 rows, ids drawn by Zipf's law (exponent 1.05, most frequent ids
scattered over the table). The vectors of all features are laid side by side, (B, 26 * 16), as a model's first layer
reads them, and get a given gradient: nothing but tables is measured. Sizes and backends take turns, step by step, so
that a busy moment of the machine hits all of them. A step must not cost more with large tables: the last column is the
ratio of the medians, and the program ends with status 1 where it is above 1.5. A batch reads more different rows of a
large table than of a small one, which is part of the ratio; `--used 10000` takes that part out.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intarsia.core.batch import Dense
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec, concat_vectors
from intarsia.nn.embedding.collection import Backend
from intarsia.nn.embedding.fbgemm import fbgemm_installed
from intarsia.nn.table_optim import TABLE_OPTIMIZERS, make_table_optimizer

NUM_FEATURES, BATCH, DIM, EXPONENT, BAR = 26, 4096, 16, 1.05, 1.5
WARM_UP = 20  # Steps that are not counted: they touch rows and state for the first time.
FBGEMM_KINDS = ("sgd", "adagrad", "rowwise_adagrad")

Features = dict[str, Dense]


def batches(num_rows: int, num_used: int, count: int, seed: int) -> list[Features]:
    """Batches of Zipf ids; only `num_used` rows of each table ever occur."""
    rng = np.random.default_rng(seed)
    mass = np.cumsum(1.0 / np.arange(1, num_used + 1) ** EXPONENT)
    scattered = rng.permutation(num_rows)[:num_used]
    out = []
    for _ in range(count):
        ranks = np.searchsorted(mass, rng.random((BATCH, NUM_FEATURES)) * mass[-1])
        ids = torch.from_numpy(scattered[np.minimum(ranks, num_used - 1)])
        out.append({f"f{place}": Dense(ids[:, place].contiguous()) for place in range(NUM_FEATURES)})
    return out


def distinct(data: list[Features]) -> float:
    """Mean number of different rows that a batch reads."""
    return statistics.fmean(sum(len(f.values.unique()) for f in features.values()) for features in data)


def tables_of(num_rows: int) -> EmbeddingCollection:
    """One table for each feature."""
    tables = [TableSpec(f"t{place}", num_rows, DIM) for place in range(NUM_FEATURES)]
    lookups = [Lookup(f"f{place}", f"f{place}", f"t{place}") for place in range(NUM_FEATURES)]
    return EmbeddingCollection(tables=tables, lookups=lookups)


def stepper(
    collection: EmbeddingCollection, kind: str, backend: Backend, data: list[Features]
) -> Callable[[int], None]:
    """One training step with a fresh optimizer."""
    collection.backend = backend
    optimizer = make_table_optimizer(collection, kind, lr=0.01)
    gradient = torch.randn(BATCH, NUM_FEATURES * DIM) / BATCH

    def step(number: int) -> None:
        vectors = collection(data[number % len(data)])
        concat_vectors([vector for vector in vectors.values() if isinstance(vector, torch.Tensor)]).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(steppers: list[Callable[[int], None]], steps: int, clock: Callable[[], float]) -> list[float]:
    """Median seconds of a step of each, measured in turns."""
    times: list[list[float]] = [[] for _ in steppers]
    for number in range(steps + WARM_UP):
        for place, step in enumerate(steppers):
            start = clock()
            step(number)
            if number >= WARM_UP:
                times[place].append(clock() - start)
    return [statistics.median(series) for series in times]


def main() -> int:
    """Prints the table; 1 when a ratio is above the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--steps", type=int, default=20, help="measured steps of each kind (default 20)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="rows of a table")
    parser.add_argument("--kinds", nargs="+", default=list(TABLE_OPTIMIZERS), choices=list(TABLE_OPTIMIZERS))
    parser.add_argument("--used", type=int, help="rows of each table that ever occur (default: all)")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu counts the processor's time: for busy machines, with one thread",
    )
    args = parser.parse_args()
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    backends: list[Backend] = ["torch", "fbgemm"] if fbgemm_installed() else ["torch"]

    collections = []
    for size in args.rows:
        start = time.perf_counter()
        collections.append(tables_of(size))
        filling = time.perf_counter() - start
    print(f"{NUM_FEATURES} features, batch {BATCH}, dim {DIM}, {args.threads} threads, torch {torch.__version__}")
    print(f"initial values of {NUM_FEATURES} x {args.rows[-1]:,} rows: {filling:.1f} s")
    print(f"{'optimizer':<16} {'backend':<8} " + " ".join(f"{f'{size:,} rows':>16}" for size in args.rows) + "  ratio")
    data = {size: batches(size, min(size, args.used or size), 20, seed=size) for size in args.rows}
    touched = [distinct(data[size]) for size in args.rows]
    print(f"{'distinct rows a step':<25} " + " ".join(f"{count:>16,.0f}" for count in touched))
    rows: list[dict[str, Any]] = []
    for kind in args.kinds:
        for backend in backends if kind in FBGEMM_KINDS else backends[:1]:
            steppers = [stepper(tables, kind, backend, data[size]) for tables, size in zip(collections, args.rows)]
            medians = measure(steppers, args.steps, clock)
            del steppers
            ratio = medians[-1] / medians[0]
            rows.append({"optimizer": kind, "backend": backend, "seconds": medians, "ratio": ratio})
            cells = " ".join(f"{f'{1000 * median:.2f} ms':>16}" for median in medians)
            print(f"{kind:<16} {backend:<8} {cells}  {ratio:.2f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory: {peak:,.0f} MiB")
    if args.json is not None:
        figures = {
            "batch": BATCH,
            "features": NUM_FEATURES,
            "dim": DIM,
            "rows": args.rows,
            "used": args.used,
            "clock": args.clock,
            "distinct_rows_a_step": touched,
            "threads": args.threads,
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "initial_values_seconds": filling,
            "peak_mib": peak,
            "steps": rows,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(row["ratio"] > BAR for row in rows))


if __name__ == "__main__":
    sys.exit(main())
