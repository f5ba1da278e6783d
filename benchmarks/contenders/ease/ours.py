"""EASE with intarsia."""

from ours_ import fitted, recommend, training_log
from report import Report

import intarsia.models.ease  # noqa: F401 - others import their models before the clock starts, too

report = Report("intarsia")
frame = training_log(report)
with report.phase("fit"):
    found = fitted(report, {"model_config": {"model_class": "EASE", "ease": {"l2": report.number("l2")}}}, frame)
recommend(report, found)
report.figures |= {name: report.seconds[name] for name in ("fit", "recommend")}
report.figures["total"] = sum(report.seconds.values())
report.write()
