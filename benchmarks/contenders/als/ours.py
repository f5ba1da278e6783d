"""ALS with intarsia."""

from ours_ import fitted, recommend, training_log
from report import Report

import intarsia.models.als  # noqa: F401 - others import their models before the clock starts, too

report = Report("intarsia")
frame = training_log(report)
pipeline = {
    "model_config": {
        "model_class": "ALS",
        "als": {
            "hidden_size": report.number("factors"),
            "iterations": report.number("iterations"),
            "unobserved_weight": float(report.options["unobserved"]),
            "regularization": float(report.options["regularization"]),
        },
    }
}
with report.phase("fit"):
    found = fitted(report, pipeline, frame)
recommend(report, found)
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.write()
