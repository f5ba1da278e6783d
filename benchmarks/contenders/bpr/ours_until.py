"""MF with BPR with intarsia, set as in reproduce/gowalla_mf_bpr.yaml, until the recall that the job asks for."""

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
steps = -(-len(np.load(report.data / "train_users.npy")) // batch)
falling = {"initial_learning_rate": 0.003, "schedule": [{"step": 50 * steps, "learning_rate": 0.001}]}
pipeline = {
    "train_input_path": str(here / "train.parquet"),
    "test_input_path": str(here / "test.parquet"),
    "data_config": {
        "log": {"user_field": "user", "item_field": "item"},
        "split": "files",
        "batch_size": batch,
        "eval_batch_size": 1024,
    },
    "model_config": {
        "model_class": "MF",
        "mf": {"hidden_size": report.number("factors"), "init_std": 0.1, "l2": 0.02},
        "objective": "bpr",
        "negatives": {"dynamic": {"candidates": 8, "source": "unseen"}},
    },
    "train_config": {
        "optimizer": {"adam_optimizer": {"learning_rate": {"manual_step_learning_rate": falling}}},
        "num_epochs": report.number("most"),
        "eval_epochs": report.number("every"),
        "save_checkpoints_steps": 0,
        "keep_checkpoint_max": 1,
        "log_step_count_steps": steps,
    },
    "eval_config": {"metrics": ["recall@20"]},
}


class Reached(Exception):
    """The lists are good enough."""


class Watch(Passes):
    """Stops where the lists are good enough."""

    def __init__(self) -> None:
        super().__init__()
        self.recall = 0.0

    def evaluated(self, *, step: int, metrics: dict, best: bool) -> None:
        """Every few passes."""
        super().evaluated(step=step, metrics=metrics, best=best)
        self.recall = float(metrics["recall@20"].value)
        if self.recall >= until:
            raise Reached


watch = Watch()
with report.phase("fit"), contextlib.suppress(Reached):
    run(pipeline_from(pipeline), run_dir=here / "run", reporter=watch)
report.figures |= {"fit": report.seconds["fit"], "passes": len(watch.seconds), "recall@20": watch.recall}
if watch.recall < until:
    raise SystemExit(f"a Recall@20 of {until} was not reached in {len(watch.seconds)} passes: {watch.recall:.4f}")
report.notes.append("the seconds are those of everything, data and evaluations included")
report.write()
