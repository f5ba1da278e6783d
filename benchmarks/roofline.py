"""Measures what this machine can do at most: products of matrices, copies, and reads of rows here and there.

    python benchmarks/roofline.py [--threads 1 2] [--runs 7] [--json FILE]

With each number of threads, in single precision, the median of the runs after one that does not count:

- products: GFLOP/s of `torch.mm`, two operations a multiplication, of two matrices of 2,048 x 2,048, and of a batch of
  4,096 rows of width 448 with a layer of 400;
- fast products: the same by the kernels that `intarsia.nn.fast_products` chooses, where it chooses others;
- copy: GB/s of `copy_` of 1 GB, what is read and what is written both counted;
- gather: GB/s of `index_select` of 4 million random rows of 64 bytes out of a table of 1.6 GB, each row counted once.

A step of training cannot be faster than its operations and bytes divided by these. Needs 4 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from harness import HERE, machine

from intarsia.nn.fast_products import fast_products

SQUARE = (2048, 2048, 2048)
LAYER = (4096, 448, 400)
COPIED = 250_000_000
TABLE_ROWS, ROWS, WIDTH = 25_000_000, 4_000_000, 16
SHOWN = {
    "gflops": "mm 2048, GFLOP/s",
    "layer_gflops": "mm layer, GFLOP/s",
    "fast_gflops": "fast mm 2048, GFLOP/s",
    "fast_layer_gflops": "fast mm layer, GFLOP/s",
    "copy_gb_s": "copy, GB/s",
    "gather_gb_s": "gather, GB/s",
}


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """Median wall time of some work, the first time left out."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def product(shape: tuple[int, int, int], runs: int) -> float:
    """GFLOP/s of a product, ten times a run."""
    rows, inner, columns = shape
    left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    repeats = 10

    def work() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=out)

    return repeats * 2 * rows * inner * columns / median_seconds(work, runs) / 1e9


def copy(runs: int) -> float:
    """GB/s of a long copy."""
    source, target = torch.ones(COPIED), torch.ones(COPIED)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), runs) / 1e9


def gather(runs: int) -> float:
    """GB/s of rows read at random places."""
    table, out = torch.ones(TABLE_ROWS, WIDTH), torch.ones(ROWS, WIDTH)
    places = torch.randint(TABLE_ROWS, (ROWS,))
    return out.nbytes / median_seconds(lambda: torch.index_select(table, 0, places, out=out), runs) / 1e9


def main() -> None:
    """Measures, prints and writes."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores}), help="default: 1 and all cores")
    parser.add_argument("--runs", type=int, default=7, help="measured runs of each (default 7)")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "roofline.json", help="file of the figures")
    given = parser.parse_args()
    figures: dict[str, list[float]] = {name: [] for name in SHOWN}
    print(machine())
    print(f"{'threads':>7}" + "".join(f"{title:>24}" for title in SHOWN.values()))
    for threads in given.threads:
        torch.set_num_threads(threads)
        products = [product(SQUARE, given.runs), product(LAYER, given.runs)]
        with fast_products(torch.device("cpu")):
            products += [product(SQUARE, given.runs), product(LAYER, given.runs)]
        found = (*products, copy(given.runs), gather(given.runs))
        for name, value in zip(SHOWN, found):
            figures[name].append(value)
        print(f"{threads:>7}" + "".join(f"{value:>24.1f}" for value in found), flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine(), "torch": torch.__version__, "threads": given.threads, "runs": given.runs, **figures}
    given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
