"""How cost grows with the size of the work, on one machine: figures, fitted exponents, pictures.

    python benchmarks/growth.py [--only NAME ...] [--threads 1] [--json FILE] [--images FOLDER]

Each size runs in a process of its own, once; an exponent is the slope of the least squares line through the logarithms
of all sizes but the smallest: 0 means that the cost does not grow, 1 that it grows in proportion.

- tables:    a step of DeepFM (26 tables, width 16, batches of 4,096) against the ids of each table
- rows:      opening a CSV log against its rows: seconds, and memory above that of the imports
- users:     ranking 20,000 items of width 64 for more and more users, metrics included
- items:     the same for 5,000 users and more and more items, and memory
- length:    a pass of SASRec over a fixed number of steps, in histories of one length after another
- padding:   the same pass where lengths are mixed, as in a real log, against what it would be without padding
- threads:   rows a second of DeepFM in one process with one and two threads
- processes: the same in one process and in two that train together, with one thread each
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE / "contenders"))
from report import peak  # noqa: E402

SIZES: dict[str, list[int]] = {
    "tables": [10_000, 100_000, 1_000_000],
    "rows": [100_000, 1_000_000, 5_000_000, 20_000_000],
    "users": [1_000, 5_000, 20_000, 80_000],
    "items": [10_000, 40_000, 160_000, 640_000],
    "length": [25, 50, 100, 200, 400],
    "threads": [1, 2],
    "processes": [1, 2],
}
EXPECTED = {
    "tables": "flat",
    "rows": "linear",
    "users": "at most linear",
    "items": "at most linear",
    "length": "flat but for attention, which grows with the length",
}
AXES = {
    "tables": ("ids of each table", "seconds a step"),
    "rows": ("rows", "seconds"),
    "users": ("users", "seconds"),
    "items": ("items", "seconds"),
    "length": ("length of the histories", "seconds for 400,000 steps"),
}


def tables(size: int, folder: Path) -> dict[str, float]:
    """Median seconds of a step."""
    import torch
    from model_step import trainer

    torch.manual_seed(0)
    step = trainer(size, np.random.default_rng(17))
    times = []
    for number in range(16):
        start = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - start)
    return {"seconds": float(np.median(times[4:]))}


def rows(size: int, folder: Path) -> dict[str, float]:
    """Seconds to open a CSV log."""
    from jobs.loading import made

    from intarsia.recommender.logs import open_interactions
    from intarsia.recommender.pipeline import pipeline_from

    # By another process, whose memory is not counted.
    child = os.fork()
    if not child:
        made(size, size // 25, max(100, size // 100), "csv")(folder, folder)
        os._exit(0)
    os.waitpid(child, 0)
    pipeline = {
        "train_input_path": str(folder / "log.csv"),
        "data_config": {
            "log": {"user_field": "user_id", "item_field": "item_id", "time_field": "timestamp"},
            "use_cache": False,
        },
        "model_config": {"model_class": "Pop"},
    }
    config = pipeline_from(pipeline).config
    before, start = peak(), time.perf_counter()
    open_interactions(config)
    return {"seconds": time.perf_counter() - start, "memory": peak() - before}


def ranking(num_users: int, num_items: int) -> dict[str, float]:
    """Seconds to rank and measure, and memory above that of the vectors."""
    import torch

    from intarsia.core.batch import Jagged
    from intarsia.evaluation.ranking import RankingQueries, build_ranking_metrics, evaluate_ranking
    from intarsia.retrieval.exhaustive import exhaustive_top_k

    generator = torch.Generator().manual_seed(0)
    users = torch.randn(num_users, 64, generator=generator)
    items = torch.randn(num_items, 64, generator=generator)
    seen = torch.randint(0, num_items, (num_users, 30), generator=generator)
    targets = torch.randint(0, num_items, (num_users, 1), generator=generator)
    longest = float(items.square().sum(dim=1).amax().sqrt())

    def lists(values: torch.Tensor) -> Jagged:
        return Jagged(values.reshape(-1), torch.arange(len(values) + 1) * values.shape[1])

    def batches() -> Any:
        for start in range(0, num_users, 1024):
            part = slice(start, min(start + 1024, num_users))
            mine = users[part]
            yield RankingQueries(
                users=torch.arange(part.start, part.stop),
                targets=lists(targets[part]),
                excluded=lists(seen[part]),
                candidates=None,
                scores=lambda first, last, mine=mine: mine.double() @ items[first:last].double().t(),
                pair_scores=lambda own, mine=mine: torch.einsum(
                    "bd,bmd->bm", mine.double(), items[own.clamp(min=0)].double()
                ).float(),
                best=lambda k, barred, mine=mine: exhaustive_top_k(
                    mine.unsqueeze(1),
                    lambda first, last: items[first:last],
                    num_items,
                    k,
                    metric="inner_product",
                    excluded=barred,
                    take=lambda places: items[places],
                    largest=longest,
                ),
            )

    metrics = build_ranking_metrics(["recall@20", "ndcg@20"])
    before, start = peak(), time.perf_counter()
    evaluate_ranking(batches(), metrics, num_items=num_items)
    return {"seconds": time.perf_counter() - start, "memory": peak() - before}


def length(size: int, folder: Path) -> dict[str, float]:
    """Seconds of a pass over 400,000 steps."""
    return {"seconds": passed([size] * (400_000 // size), size, folder)}


def passed(lengths: Sequence[int], longest: int, folder: Path) -> float:
    """Seconds of SASRec's second pass over histories of these lengths."""
    import polars as pl

    from intarsia.recommender.fit import run
    from intarsia.recommender.pipeline import pipeline_from
    from intarsia.training.progress import SilentReporter

    users = np.repeat(np.arange(len(lengths)), np.asarray(lengths) + 1)
    frame = pl.DataFrame({"user": users, "item": np.random.default_rng(0).integers(0, 2000, len(users))})
    ends: list[float] = []

    class Watch(SilentReporter):
        def progress(self, **_: Any) -> None:
            ends.append(time.perf_counter())

    batch = max(1, 12_800 // int(np.mean(lengths)))
    pipeline = {
        "data_config": {
            "log": {"user_field": "user", "item_field": "item"},
            "split": {"by": "random", "valid": 0, "test": 0},
            "batch_size": batch,
        },
        "model_config": {"model_class": "SASRec", "sasrec": {"hidden_size": 64, "max_history": longest}},
        "train_config": {"num_epochs": 2, "log_step_count_steps": -(-len(lengths) // batch), "optimizer": "adam"},
    }
    run(pipeline_from(pipeline), frames={"train": frame}, run_dir=folder / "run", reporter=Watch())
    return ends[1] - ends[0]


def padding(size: int, folder: Path) -> dict[str, float]:
    """Seconds of a pass over mixed lengths, and of as many steps in histories of one length."""
    rng = np.random.default_rng(0)
    mixed = np.minimum(200, np.maximum(5, rng.lognormal(4.3, 1.0, 5000).astype(int)))
    share = float(mixed.mean() / mixed.max())
    return {
        "seconds": passed(mixed.tolist(), 200, folder),
        "of one length": passed([int(mixed.mean())] * len(mixed), 200, folder / "one"),
        "real steps": share,
    }


def threads(size: int, folder: Path) -> dict[str, float]:
    """Rows a second of DeepFM in one process with some threads."""
    return processes(1, folder, threads=size)


def processes(size: int, folder: Path, threads: int = 1) -> dict[str, float]:
    """Rows a second of DeepFM in some processes, with so many threads in each."""
    program = folder / "step.py"
    program.write_text(PROGRAM.replace("HERE", str(HERE)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(size), str(program)]
    if size == 1:
        command = [sys.executable, str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return {"rows a second": float(done.stdout.split()[-1])}


PROGRAM = """
import sys, time
sys.path.insert(0, "HERE")
import numpy as np, polars as pl
from pathlib import Path
import tempfile
from intarsia.config.schema import TrainConfig
from intarsia.recommender.jobs import open_job
from intarsia.recommender.pipeline import pipeline_from
from intarsia.training.distributed import join_world
from intarsia.training.trainer import Trainer

names = [f"c{place}" for place in range(26)]
rng = np.random.default_rng(0)
rows, batch = 4096 * 24, 4096
frame = pl.DataFrame(
    {name: (100_000 ** rng.random(rows)).astype(np.int64) for name in names} | {"click": rng.integers(0, 2, rows)}
)
pipeline = {
    "data_config": {"label_fields": ["click"], "batch_size": batch},
    "feature_config": {"features": [{"input_names": [n], "num_buckets": 100_000, "embedding_dim": 16} for n in names]},
    "model_config": {
        "model_class": "DeepFM",
        "feature_groups": [
            {"group_name": "wide", "feature_names": names, "wide_deep": "WIDE"},
            {"group_name": "deep", "feature_names": names},
        ],
        "deepfm": {"dnn": {"hidden_units": [400, 400, 400], "use_bn": False}, "l2_regularization": 0},
    },
    "train_config": {"optimizer": "adam", "num_steps": 22, "save_checkpoints_steps": 0},
}
world = join_world("cpu")
config = pipeline_from(pipeline).config
job = open_job(config, frames={"train": frame}, rank=world.rank, world_size=world.size)
ends = []
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        job.build(),
        config.train_config,
        run_dir=folder if world.size == 1 else Path(tempfile.gettempdir()) / "intarsia-growth",
        train=job.training(),
        world=world,
        on_event=lambda name, _: ends.append(time.perf_counter()) if name == "update" else None,
    )
    trainer._save = lambda: None
    trainer.fit()
if world.writes:
    print(20 * batch / (ends[21] - ends[1]))
"""

MEASURES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "tables": tables,
    "rows": rows,
    "users": lambda size, folder: ranking(size, 20_000),
    "items": lambda size, folder: ranking(5_000, size),
    "length": length,
    "padding": padding,
    "threads": threads,
    "processes": processes,
}


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the line through the logarithms."""
    return float(np.polyfit(np.log(sizes[1:]), np.log(values[1:]), 1)[0])


def draw(found: dict[str, Any], folder: Path) -> None:
    """One picture of all."""
    from intarsia.core.pictures import drawing, save_picture

    shown = [name for name in AXES if name in found]
    with drawing("Drawing how cost grows", 8) as figure_class:
        figure = figure_class(figsize=(9, 5.4), layout="constrained")
        axes = figure.subplots(2, math.ceil(len(shown) / 2), squeeze=False).ravel()
        for axis, name in zip(axes, shown, strict=False):
            sizes, values = found[name]["sizes"], [row["seconds"] for row in found[name]["values"]]
            axis.loglog(sizes, values, marker="o", color="#1f5a7a")
            axis.set_xlabel(AXES[name][0])
            axis.set_ylabel(AXES[name][1])
            axis.set_title(f"{name}: exponent {found[name]['exponent']:.2f}", fontsize=9)
            middle = float(np.exp(np.mean(np.log(values))))
            axis.set_ylim(min(min(values) / 2, middle / 8), max(max(values) * 2, middle * 8))
            axis.tick_params(which="minor", labelbottom=False, labelleft=False)
            axis.grid(which="major", color="#dddddd")
        for axis in axes[len(shown) :]:
            axis.axis("off")
        save_picture(figure, folder / "growth.svg")


def main() -> None:
    """Runs each size in a process of its own, fits, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "growth.json")
    parser.add_argument("--images", type=Path, default=HERE.parent / "docs" / "images")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(MEASURES[given.one[0]](int(given.one[1]), Path(folder))))
        return
    found: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}
    for name in given.only:
        sizes, values = SIZES.get(name, [0]), []
        for size in sizes:
            command = [sys.executable, __file__, "--one", name, str(size)]
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": str(given.threads),
                "POLARS_MAX_THREADS": str(given.threads),
            }
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            values.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name:<10}{size:>12,}  {values[-1]}", flush=True)
        found[name] = {"sizes": sizes, "values": values}
        if name in AXES:
            found[name]["exponent"] = exponent(sizes, [row["seconds"] for row in values])
            print(f"{name:<10}    exponent {found[name]['exponent']:.2f} (expected: {EXPECTED[name]})", flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, given.images)


if __name__ == "__main__":
    main()
