"""DeepFM with intarsia: a pipeline over a data frame, the trainer's own loop; steps are timed as they end."""

import time

import numpy as np
import polars as pl
from intarsia.config.schema import TrainConfig
from intarsia.recommender.jobs import open_job
from intarsia.recommender.pipeline import pipeline_from
from intarsia.training.trainer import Trainer
from report import Report

report = Report("intarsia")
ids, width, steps, warm = (report.number(name) for name in ("ids", "width", "steps", "warm"))
rows = (steps + warm) * report.number("batch")
columns = np.load(report.data / "ids.npy", mmap_mode="r")[:rows]
frame = pl.DataFrame({f"c{place}": columns[:, place] for place in range(columns.shape[1])})
numbers = np.load(report.data / "dense.npy", mmap_mode="r")[:rows]
frame = frame.with_columns(pl.Series(f"n{place}", numbers[:, place]) for place in range(numbers.shape[1]))
frame = frame.with_columns(click=np.load(report.data / "labels.npy")[:rows])
names = [name for name in frame.columns if name.startswith("c") and name != "click"]
dense = [name for name in frame.columns if name.startswith("n")]
pipeline = {
    "data_config": {"label_fields": ["click"], "batch_size": report.number("batch")},
    "feature_config": {
        "features": [{"input_names": [name], "num_buckets": ids, "embedding_dim": width, "embedding_name": name} for name in names]
        + [{"input_names": [name], "feature_type": "RawFeature"} for name in dense]
    },
    "model_config": {
        "model_class": "DeepFM",
        "feature_groups": [
            {"group_name": "wide", "feature_names": names, "wide_deep": "WIDE"},
            {"group_name": "fm", "feature_names": names},
            {"group_name": "deep", "feature_names": names + dense},
        ],
        "deepfm": {"dnn": {"hidden_units": [400, 400, 400], "use_bn": False}, "l2_regularization": 0},
    },
    "train_config": {"optimizer": "adam", "learning_rate": 0.001, "num_steps": steps + warm, "save_checkpoints_steps": 0},
}
ended: list[float] = []
losses: list[float] = []


def notice(name: str, values: dict) -> None:
    """Notes when an update was done."""
    if name == "update":
        ended.append(time.perf_counter())


with report.phase("data"):
    config = pipeline_from(pipeline).config
    job = open_job(config, frames={"train": frame})
with report.phase("build"):
    model = job.build()
    trainer = Trainer(model, config.train_config, run_dir=report.out.parent / "run", train=job.training(), on_event=notice)
trainer._save = lambda: None
with report.phase("train"):
    trainer.fit()
report.figures["samples/s"] = steps * report.number("batch") / (ended[-1] - ended[warm - 1])
report.figures["build"] = report.seconds["build"]
report.write()
