"""A click model on Frappe with intarsia: one pipeline over the files, evaluated after every pass."""

import contextlib
import statistics
import time

from ours_ import Passes
from report import Report

import intarsia.recommender.ranking  # noqa: F401 - others import their models before the clock starts, too
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import pipeline_from

report = Report("intarsia")
FIELDS = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
width, target = report.number("width"), float(report.options["target"])
with (report.data / "train.csv").open("rb") as lines:
    num_rows = sum(1 for _ in lines) - 1
layers = {"hidden_units": [400, 400, 400], "dropout_ratio": [0.2, 0.2, 0.2], "use_bn": True}
MODELS = {
    "deepfm": {
        "model_class": "DeepFM",
        "feature_groups": [
            {"group_name": "wide", "feature_names": FIELDS, "wide_deep": "WIDE"},
            {"group_name": "deep", "feature_names": FIELDS},
        ],
        "deepfm": {"dnn": layers, "l2_regularization": 0},
    },
    "dcnv2": {
        "model_class": "RankModel",
        "feature_groups": [{"group_name": "all", "feature_names": FIELDS}],
        "backbone": {
            "blocks": [
                {
                    "name": "crosses",
                    "inputs": [{"feature_group_name": "all", "input_fn": "lambda x: [x, x]"}],
                    "recurrent": {
                        "num_steps": 3,
                        "fixed_input_index": 0,
                        "layer": {"class_name": "Cross"},
                    },
                },
                {
                    "name": "layers",
                    "inputs": [{"feature_group_name": "all"}],
                    "layer": {"class_name": "DNN", "dnn": layers},
                },
            ],
            "concat_blocks": ["crosses", "layers"],
        },
    },
}
pipeline = {
    **{
        f"{name}_input_path": str(report.data / f"{part}.csv") for name, part in (("train", "train"), ("eval", "valid"))
    },
    "data_config": {
        "with_header": True,
        "input_fields": [{"input_name": "label", "input_type": "FLOAT"}, *({"input_name": name} for name in FIELDS)],
        "label_fields": ["label"],
        "batch_size": report.number("batch"),
        "eval_batch_size": 8192,
        "cache_dir": str(report.out.parent / "cache"),
    },
    "feature_config": {
        "features": [
            {
                "input_names": [name],
                "vocab": "auto",
                "embedding_dim": width,
                "initializer": {"random_normal_initializer": {"stddev": 1e-4}},
            }
            for name in FIELDS
        ]
    },
    "model_config": MODELS[report.options["model"]],
    "train_config": {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "num_epochs": report.number("max_epochs"),
        "eval_epochs": 1,
        "log_step_count_steps": -(-num_rows // report.number("batch")),
        "save_checkpoints_steps": 0,
        "keep_checkpoint_max": 1,
    },
    "eval_config": {"metrics_set": ["auc"]},
}


class Reached(Exception):
    """The AUC is there."""


class Watch(Passes):
    """Notes what a pass and the whole way take and what each pass came to; stops where that is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.aucs: list[float] = []
        self.began = self.ended = 0.0

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Data and model are ready."""
        super().start(step=step, total_steps=total_steps)
        self.began = time.perf_counter()

    def evaluated(self, *, step: int, metrics: dict, best: bool) -> None:
        """After every pass."""
        super().evaluated(step=step, metrics=metrics, best=best)
        self.aucs.append(float(metrics["auc"].value))
        self.ended = time.perf_counter()
        if self.aucs[-1] >= target:
            raise Reached


started = time.perf_counter()
watch = Watch()
with contextlib.suppress(Reached):
    run(pipeline_from(pipeline), run_dir=report.out.parent / "run", reporter=watch)
epochs = len(watch.aucs)
report.figures |= {"prepare": watch.began - started, "epoch": statistics.mean(watch.seconds)}
if watch.aucs[-1] >= target:
    report.figures["total"] = watch.ended - started
report.figures |= {"epochs": epochs, "auc": watch.aucs[-1], "reached": int(watch.aucs[-1] >= target)}
report.write()
