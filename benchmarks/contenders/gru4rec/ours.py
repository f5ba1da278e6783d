"""GRU4Rec with intarsia: one pass reads every user's whole history once and predicts each of its items."""

from ours_ import fitted, training_log
from report import Report

import intarsia.models.gru4rec  # noqa: F401 - others import their models before the clock starts, too

report = Report("intarsia")
frame = training_log(report)
epochs = report.number("epochs")
pipeline = {
    "data_config": {"batch_size": report.number("batch")},
    "model_config": {
        "model_class": "GRU4Rec",
        "gru4rec": {
            "hidden_size": report.number("width"),
            "gru_size": report.number("hidden"),
            "max_history": 2500,  # all of it: no target is left out
            "dropout": 0.2,
        },
        "objective": "softmax",
    },
    "train_config": {"optimizer": "adam", "learning_rate": 0.001, "num_epochs": epochs},
}
with report.phase("fit"):
    found = fitted(report, pipeline, frame)
report.figures |= {"epoch": found.seconds["train"] / epochs, "prepare": found.seconds["data"]}
report.notes.append("every target is predicted from its whole history, not from the latest 50 steps")
report.write()
