"""MF with BPR with intarsia: passes over the log, then the ranking of all items for everybody in the test part."""

import numpy as np
import polars as pl
from report import Report

import intarsia.models.mf  # noqa: F401 - others import their models before the clock starts, too
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import pipeline_from

report = Report("intarsia")
here = report.out.parent
for part in ("train", "test"):
    columns = {name: np.load(report.data / f"{part}_{name}s.npy") for name in ("user", "item")}
    pl.DataFrame(columns).write_parquet(here / f"{part}.parquet")
epochs = report.number("epochs")
pipeline = {
    "train_input_path": str(here / "train.parquet"),
    "test_input_path": str(here / "test.parquet"),
    "data_config": {
        "log": {"user_field": "user", "item_field": "item"},
        "split": "files",
        "batch_size": report.number("batch"),
        "eval_batch_size": 1024,
    },
    "model_config": {
        "model_class": "MF",
        "mf": {"hidden_size": report.number("factors")},
        "objective": "bpr",
        "negatives": "uniform",
    },
    "train_config": {"optimizer": "adam", "learning_rate": 0.001, "num_epochs": epochs},
    "eval_config": {"metrics": ["recall@20", "ndcg@20"]},
}
with report.phase("fit"):
    found = run(pipeline_from(pipeline), run_dir=here / "run")
report.figures |= {
    "prepare": found.seconds["data"],
    "epoch": found.seconds["train"] / epochs,
    "evaluate": found.seconds["evaluate"],
    "recall@20": found.evaluations["test"].values["recall@20"].value,
}
report.write()
