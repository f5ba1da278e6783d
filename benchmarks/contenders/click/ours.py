"""DeepFM with intarsia: a pipeline over a data frame, the trainer's own loop; steps are timed as they end."""

import time

import numpy as np
import polars as pl
from report import Report

from intarsia.recommender.jobs import open_job
from intarsia.recommender.pipeline import pipeline_from
from intarsia.training.trainer import Trainer

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
        "features": [{"input_names": [name], "num_buckets": ids, "embedding_dim": width} for name in names]
        + [{"input_names": [name], "feature_type": "RawFeature"} for name in dense]
    },
    # One table a column for products and layers alike, as everybody else has it; numbers enter the layers as they are.
    "model_config": {
        "model_class": "RankModel",
        "feature_groups": [
            {"group_name": "wide", "feature_names": names, "wide_deep": "WIDE"},
            {"group_name": "ids", "feature_names": names},
            {"group_name": "numbers", "feature_names": dense},
        ],
        "backbone": {
            "blocks": [
                {
                    "name": "wide",
                    "inputs": [{"feature_group_name": "wide"}],
                    "input_layer": {"only_output_feature_list": True, "wide_output_dim": 1},
                },
                {
                    "name": "ids",
                    "inputs": [{"feature_group_name": "ids"}],
                    "input_layer": {"output_2d_tensor_and_feature_list": True},
                },
                {
                    "name": "products",
                    "inputs": [{"block_name": "ids", "input_slice": "[1]"}],
                    "layer": {"class_name": "FM"},
                },
                {
                    "name": "layers",
                    "inputs": [{"block_name": "ids", "input_slice": "[0]"}, {"feature_group_name": "numbers"}],
                    "layer": {
                        "class_name": "MLP",
                        "mlp": {
                            "hidden_units": [400, 400, 400, 1],
                            "use_bn": False,
                            "use_final_bn": False,
                            "final_activation": "linear",
                        },
                    },
                },
                {
                    "name": "logit",
                    "inputs": [
                        {"block_name": "wide", "input_fn": "lambda x: tf.add_n(x)"},
                        {"block_name": "products"},
                        {"block_name": "layers"},
                    ],
                    "merge_inputs_into_list": True,
                    "layer": {"class_name": "Add"},
                },
            ],
            "concat_blocks": ["logit"],
        },
    },
    "train_config": {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "num_steps": steps + warm,
        "save_checkpoints_steps": 0,
    },
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
    trainer = Trainer(
        model, config.train_config, run_dir=report.out.parent / "run", train=job.training(), on_event=notice
    )
trainer._save = lambda: None
with report.phase("train"):
    trainer.fit()
report.figures["samples/s"] = steps * report.number("batch") / (ended[-1] - ended[warm - 1])
report.figures["build"] = report.seconds["build"]
report.write()
