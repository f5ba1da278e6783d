"""SASRec with intarsia: passes over the log, then recommendations for everybody."""

import numpy as np
from ours_ import fitted, recommend, training_log
from report import Report

import intarsia.models.sasrec  # noqa: F401 - others import their models before the clock starts, too

report = Report("intarsia")
frame = training_log(report)
epochs = report.number("epochs")
pipeline = {
    "data_config": {"batch_size": report.number("batch")},
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
        "num_epochs": epochs,
        "log_step_count_steps": int(np.ceil(int(np.load(report.data / "size.npy")[0]) / report.number("batch"))),
    },
}
with report.phase("fit"):
    found = fitted(report, pipeline, frame)
recommend(report, found)
report.figures |= {
    "epoch": found.seconds["train"] / epochs,
    "prepare": found.seconds["data"],
    "recommend": report.seconds["recommend"],
}
report.write()
