"""SASRec with intarsia until the lists of everybody have the NDCG that the job asks for: seconds of training alone."""

import contextlib

import numpy as np
import polars as pl
from ours_ import Passes
from report import Report

from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import pipeline_from

report = Report("intarsia")
here, batch, until = report.out.parent, report.number("batch"), float(report.options["until"])
for part in ("train", "test"):
    columns = {name: np.load(report.data / f"{part}_{name}s.npy") for name in ("user", "item")}
    pl.DataFrame(columns).write_parquet(here / f"{part}.parquet")
pipeline = {
    "train_input_path": str(here / "train.parquet"),
    "test_input_path": str(here / "test.parquet"),
    "data_config": {"log": {"user_field": "user", "item_field": "item"}, "split": "files", "batch_size": batch},
    "model_config": {
        "model_class": "SASRec",
        "sasrec": {
            "hidden_size": report.number("width"),
            "num_hidden_layers": report.number("blocks"),
            "num_heads": report.number("heads"),
            "max_history": report.number("length"),
            "dropout": float(report.options["dropout"]),
        },
        "objective": "softmax",
    },
    "train_config": {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "num_epochs": report.number("most"),
        "save_checkpoints_steps": 0,
        "keep_checkpoint_max": 1,
        "log_step_count_steps": -(-int(np.load(report.data / "size.npy")[0]) // batch),
    },
    "eval_config": {"metrics": ["ndcg@10"]},
}


class Reached(Exception):
    """The lists are good enough."""


class Watch(Passes):
    """Stops where the lists are good enough."""

    def __init__(self) -> None:
        super().__init__()
        self.ndcg = 0.0

    def evaluated(self, *, step: int, metrics: dict, best: bool) -> None:
        """After every pass."""
        super().evaluated(step=step, metrics=metrics, best=best)
        self.ndcg = float(metrics["ndcg@10"].value)
        if self.ndcg >= until:
            raise Reached


watch = Watch()
with contextlib.suppress(Reached):
    run(pipeline_from(pipeline), run_dir=here / "run", reporter=watch)
report.figures |= {"passes": len(watch.seconds), "ndcg@10": watch.ndcg, "training": sum(watch.seconds)}
if watch.ndcg < until:
    raise SystemExit(f"an NDCG@10 of {until} was not reached in {len(watch.seconds)} passes: {watch.ndcg:.4f}")
report.write()
