"""A click model on Frappe with intarsia: one pipeline over the files, evaluated after every pass."""

import statistics
import time

from ours_ import trained_until
from report import Report

import intarsia.recommender.ranking  # noqa: F401 - others import their models before the clock starts, too

report = Report("intarsia")
FIELDS = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
width = report.number("width")
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
started = time.perf_counter()
watch = trained_until(report, pipeline, "auc", float(report.options["target"]))
report.figures |= {"prepare": watch.began - started, "epoch": statistics.mean(watch.seconds)}
if watch.reached:
    report.figures["total"] = watch.ended - started
report.figures |= {"epochs": len(watch.values), "auc": watch.values[-1], "reached": int(watch.reached)}
report.write()
