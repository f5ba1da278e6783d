"""A SASRec bundle in process: requests one at a time, and in batches; every item scored, or an index searched."""

import time
from statistics import quantiles

import numpy as np
import polars as pl
from report import Report

import intarsia
from intarsia.config.schema.retrieval import IndexConfig
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import pipeline_from

report = Report("intarsia")
items, kind = report.number("items"), report.options["index"]
rng = np.random.default_rng(2024)
# Every item occurs; what the model has learned does not matter for its speed, but vectors that have learned nothing
# would: so items come in clusters, and a user stays in one.
users, length, clusters = max(2000, items // 50), 60, max(20, items // 2000)
centre = rng.integers(0, clusters, users)
taken = (centre[:, None] + clusters * rng.integers(0, items // clusters, (users, length))).reshape(-1)
log = pl.DataFrame({"user": np.repeat(np.arange(users), length), "item": taken})
rest = np.setdiff1d(np.arange(items), taken)
log = pl.concat([log, pl.DataFrame({"user": rng.integers(0, users, len(rest)), "item": rest})])
pipeline = {
    "data_config": {
        "log": {"user_field": "user", "item_field": "item"},
        "split": {"by": "random", "valid": 0, "test": 0},
        "batch_size": 256,
    },
    "model_config": {
        "model_class": "SASRec",
        "sasrec": {"hidden_size": 64, "max_history": 50},
        "objective": {"sampled_softmax": {"num_negatives": 512, "shared": True}},
    },
    "train_config": {"optimizer": "adam", "learning_rate": 0.003, "num_steps": report.number("steps")},
}
run(pipeline_from(pipeline), frames={"train": log}, run_dir=report.out.parent / "run")
with report.phase("load"):
    loaded = intarsia.Recommender.load(report.out.parent / "run")
if kind != "exact":
    with report.phase("index"):
        settings = {"nprobe": report.number("nprobe")} if kind == "ivf" else {}
        loaded.build_index(IndexConfig(kind=kind, **settings))
    index = loaded.index
    assert index is not None
    assert index.measured is not None
    report.figures["index recall"] = index.measured.recall[10]
ids = [str(number) for number in taken]


def asked(count: int) -> list[list[str]]:
    """Histories of fifty items of people that nobody has seen."""
    starts = rng.integers(0, users, count) * length
    return [ids[start : start + 50] for start in starts]


def seconds(histories: list[list[str]]) -> float:
    """How long an answer takes."""
    started = time.perf_counter()
    loaded.recommend(history=histories, k=10)
    return time.perf_counter() - started


for _ in range(20):
    seconds(asked(1))
single = [1000 * seconds(asked(1)) for _ in range(report.number("requests"))]
cuts = quantiles(single, n=100)
batches = [seconds(asked(256)) for _ in range(10)]
report.figures |= {"p50": cuts[49], "p99": cuts[98], "requests/s in batches": 256 / sorted(batches)[5]}
report.figures["load"] = report.seconds["load"]
report.write()
