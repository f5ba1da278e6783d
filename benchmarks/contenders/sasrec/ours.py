"""SASRec with intarsia: passes over the log, then recommendations for everybody."""

from ours_ import recommend, sequence_model
from report import Report

report = Report("intarsia")
options = {
    "hidden_size": report.number("width"),
    "num_hidden_layers": report.number("blocks"),
    "num_heads": report.number("heads"),
    "max_history": report.number("length"),
    "dropout": float(report.options["dropout"]),
}
found = sequence_model(report, "SASRec", options)
recommend(report, found)
report.figures["recommend"] = report.seconds["recommend"]
report.write()
