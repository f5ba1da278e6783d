"""Ranks a whole catalogue for every user: gowalla's 30,000 users and 41,000 items, vectors of width 64, k = 20.

    python benchmarks/full_ranking.py [--data FOLDER] [--chunks 0,4096,100,7] [--batches 1024,250] [--json FILE]

Each width of the blocks of items, and each number of users at a time, has a process of its own, which

1. makes the data: with `--data`, the lists of gowalla in `FOLDER/gowalla` (default `../shared/data`, where it exists)
   and vectors that are random numbers, sent twice along the interactions; else lists and vectors drawn at random with
   gowalla's numbers of users, items and interactions;
2. resets the peak of the resident memory (`/proc/self/clear_refs`) and remembers what is held: the data;
3. ranks with `evaluate_ranking`, scores computed as retrievers do, in double precision and rounded to single;
4. tells the times, the peak above the data, and a hash of every list and of every metric of every user.

Bars: the peak above the data is below 1 GB, and the hashes are the same for all widths and numbers.

`--float32` measures the alternative too: products in single precision, once as they come and once in blocks of a fixed
shape (queries and items filled up to it), hashed for the same widths and numbers.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.evaluation.ranking import RankingMetrics, RankingQueries, build_ranking_metrics, evaluate_ranking
from intarsia.models.retriever import interest_scores

MB = 1_000_000
BAR = 1000 * MB
USERS, ITEMS, TRAIN, TEST, DIM, K = 29_858, 40_981, 810_128, 217_242, 64, 20
METRICS = ("recall@20", "ndcg@20", "hit_rate@20", "mrr@20", "coverage@20")
FIXED_ROWS, FIXED_ITEMS = 1024, 4096
"""The shape that products in single precision are filled up to."""
Scores = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """What is ranked.

    Attributes:
        name: Where it is from.
        users: (U, D) vectors.
        items: (N, D) vectors.
        train: Items of the history of each user, which are not ranked.
        test: Items to find.
    """

    name: str
    users: Tensor
    items: Tensor
    train: Jagged
    test: Jagged

    @property
    def num_bytes(self) -> int:
        """Size of all tensors."""
        tensors = (self.users, self.items, self.train.values, self.train.offsets, self.test.values, self.test.offsets)
        return sum(tensor.nbytes for tensor in tensors)


def drawn() -> Data:
    """Lists and vectors at random, with gowalla's numbers; popular items are taken more often, and found more often."""
    rng = np.random.default_rng(0)
    weight = 1.0 / (np.arange(ITEMS) + 50.0) ** 0.8
    weight /= weight.sum()
    share = rng.lognormal(0, 1, USERS)
    test_share = TEST / (TRAIN + TEST)
    lengths = np.maximum(2, share / share.sum() * (TRAIN + TEST)).astype(np.int64)
    rows = np.repeat(np.arange(USERS), lengths)
    keys = np.unique(rows * ITEMS + rng.choice(ITEMS, size=len(rows), p=weight))
    tested = rng.random(len(keys)) < test_share
    tested[np.unique(keys // ITEMS, return_index=True)[1]] = True  # everybody has a target
    users = torch.from_numpy(rng.normal(size=(USERS, DIM)).astype(np.float32))
    items = torch.from_numpy((rng.normal(size=(ITEMS, DIM)) + weight[:, None] * 1000).astype(np.float32))
    return Data("drawn at random", users, items, _jagged(keys[~tested]), _jagged(keys[tested]))


def gowalla(folder: Path) -> Data:
    """The lists of gowalla; vectors: random numbers, sent twice from items to users and back."""
    from scipy.sparse import csr_array, diags_array

    train, test = (_read(folder / f"{part}.txt.gz") for part in ("train", "test"))
    ones = np.ones(len(train), dtype=np.float32)
    taken = csr_array((ones, (train // ITEMS, train % ITEMS)), shape=(USERS, ITEMS))
    by_user = diags_array(1 / np.sqrt(np.maximum(taken.sum(axis=1), 1)))
    by_item = diags_array(1 / np.sqrt(np.maximum(taken.sum(axis=0), 1)))
    spread = (by_user @ taken @ by_item).astype(np.float32)
    items = np.random.default_rng(0).normal(size=(ITEMS, DIM)).astype(np.float32)
    for _ in range(2):
        items = spread.T @ (spread @ items)
    users = torch.from_numpy(spread @ items)
    return Data("gowalla", users, torch.from_numpy(items), _jagged(train), _jagged(test))


def _read(path: Path) -> np.ndarray:
    """(S,) sorted user * N + item of a file of lines `user item item ...`."""
    with gzip.open(path, "rt", encoding="ascii") as lines:
        rows = [np.array(line.split(), dtype=np.int64) for line in lines]
    return np.unique(np.concatenate([row[0] * ITEMS + row[1:] for row in rows if len(row) > 1]))


def _jagged(keys: np.ndarray) -> Jagged:
    offsets = np.searchsorted(keys, np.arange(USERS + 1) * ITEMS)
    return Jagged(torch.from_numpy(keys % ITEMS), torch.from_numpy(offsets))


def _rows(lists: Jagged, start: int, stop: int) -> Jagged:
    low, high = int(lists.offsets[start]), int(lists.offsets[stop])
    return Jagged(lists.values[low:high], lists.offsets[start : stop + 1] - low)


def plain_products(queries: Tensor, items: Tensor) -> Tensor:
    """(B, C) products in single precision."""
    return queries @ items.t()


def batches(
    data: Data, size: int, scores: Callable[[Tensor], Callable[[int, int], Tensor]]
) -> Iterator[RankingQueries]:
    """All users with targets, `size` at a time."""
    for start in range(0, USERS, size):
        stop = min(start + size, USERS)
        yield RankingQueries(
            users=torch.arange(start, stop),
            targets=_rows(data.test, start, stop),
            excluded=_rows(data.train, start, stop),
            candidates=None,
            scores=scores(data.users[start:stop]),
            pair_scores=lambda items: torch.zeros(items.shape),
        )


def in_double(data: Data) -> Callable[[Tensor], Callable[[int, int], Tensor]]:
    """Products in double precision, rounded: what retrievers do."""
    items = data.items.double()

    def of(users: Tensor) -> Callable[[int, int], Tensor]:
        own = users.double()
        return lambda start, stop: interest_scores(own, items[start:stop])

    return of


def in_single(data: Data) -> Callable[[Tensor], Callable[[int, int], Tensor]]:
    """Products in single precision, as they come."""
    return lambda users: lambda start, stop: plain_products(users, data.items[start:stop])


def in_fixed_blocks(data: Data) -> Callable[[Tensor], Callable[[int, int], Tensor]]:
    """Products in single precision, always of the same shape; what was not asked for is kept for the next call."""
    items = torch.nn.functional.pad(data.items, (0, 0, 0, -ITEMS % FIXED_ITEMS))

    def of(users: Tensor) -> Callable[[int, int], Tensor]:
        own = torch.nn.functional.pad(users, (0, 0, 0, FIXED_ROWS - len(users)))
        held: dict[int, Tensor] = {}

        def block(number: int) -> Tensor:
            if number not in held:
                held.clear()
                begin = number * FIXED_ITEMS
                held[number] = plain_products(own, items[begin : begin + FIXED_ITEMS])[: len(users)]
            return held[number]

        def between(start: int, stop: int) -> Tensor:
            parts = []
            for number in range(start // FIXED_ITEMS, (stop - 1) // FIXED_ITEMS + 1):
                begin = number * FIXED_ITEMS
                parts.append(block(number)[:, max(start - begin, 0) : min(stop - begin, FIXED_ITEMS)])
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

        return between

    return of


WAYS = {"double": in_double, "single": in_single, "single, fixed blocks": in_fixed_blocks}


def rank(folder: Path | None, way: str, chunk: int, batch: int) -> dict[str, object]:
    """What one process measures."""
    data = drawn() if folder is None else gowalla(folder)
    metrics: RankingMetrics = build_ranking_metrics(METRICS)
    warm = torch.rand(8, DIM) @ torch.rand(DIM, 8)  # the libraries' own threads and buffers are not the evaluation's
    assert warm.shape == (8, 8)
    Path("/proc/self/clear_refs").write_text("5")
    held = _status("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    found = evaluate_ranking(
        batches(data, batch, WAYS[way](data)), metrics, num_items=ITEMS, item_chunk=chunk or None, keep_lists=K
    )
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = _status("VmHWM") - held
    assert found.lists is not None
    everything = hashlib.sha256(found.lists.tobytes())
    for values in found.per_user.values():
        everything.update(values.tobytes())
    return {
        "data": data.name,
        "data_bytes": data.num_bytes,
        "way": way,
        "chunk": chunk,
        "batch": batch,
        "users": found.num_queries,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "peak_bytes": peak,
        "hash": everything.hexdigest()[:16],
        "metrics": {name: value.value for name, value in found.values.items()},
    }


def _status(name: str) -> int:
    """Bytes that the kernel tells of this process: `VmRSS` now, `VmHWM` at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024


def child(folder: Path | None, way: str, chunk: int, batch: int) -> dict[str, object]:
    """`rank` in a process of its own."""
    command = [sys.executable, __file__, "--rank", str(folder or ""), way, str(chunk), str(batch)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"ranking failed ({process.returncode}):\n{process.stderr[-2000:]}")
    return dict(json.loads(process.stdout.splitlines()[-1]))


def show(found: dict[str, object]) -> None:
    """One line of the table."""
    peak = int(str(found["peak_bytes"])) / MB
    chunk = found["chunk"] or "default"
    print(
        f"{found['data']:<16}{found['way']:<22}{chunk!s:>8}{found['batch']:>7}{found['seconds']:>9.1f} s"
        f"{found['cpu_seconds']:>9.1f} s"
        f"{peak:>9,.0f} MB  {found['hash']}",
        flush=True,
    )


def main() -> None:
    """Reads the options, prints the table, checks what is promised."""
    if sys.argv[1:2] == ["--rank"]:
        folder, way, chunk, batch = sys.argv[2:6]
        print(json.dumps(rank(Path(folder) if folder else None, way, int(chunk), int(batch))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with gowalla/train.txt.gz")
    parser.add_argument("--chunks", default="0,4096,100,7", help="widths of the blocks; 0: the default")
    parser.add_argument("--batches", default="1024,250", help="users at a time; after the first at the default width")
    parser.add_argument("--float32", action="store_true", help="measure products in single precision too")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    real = options.data / "gowalla"
    sources = [None, *([real] if (real / "train.txt.gz").exists() else [])]
    ways = list(WAYS) if options.float32 else ["double"]
    chunks = [int(word) for word in options.chunks.split(",")]
    sizes = [int(word) for word in options.batches.split(",")]
    shapes = [*((width, sizes[0]) for width in chunks), *((0, size) for size in sizes[1:])]
    head = f"{'data':<16}{'products':<22}{'chunk':>8}{'batch':>7}{'wall time':>11}{'CPU time':>11}{'above data':>12}"
    print(f"{head}  hash of all results")
    all_found = []
    for source in sources:
        for way in ways:
            for width, size in shapes:
                all_found.append(child(source, way, width, size))
                show(all_found[-1])
    if options.json:
        told = {"threads": os.environ.get("OMP_NUM_THREADS", ""), "runs": all_found}
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    mine = [found for found in all_found if found["way"] == "double"]
    missed = [found for found in mine if int(str(found["peak_bytes"])) >= BAR]
    hashes = {(found["data"], found["hash"]) for found in mine}
    if missed or len(hashes) != len(sources):
        sys.exit("MISSED: peaks below 1 GB above the data, and the same result for every width and number of users")


if __name__ == "__main__":
    main()
