"""SASRec with intarsia: passes over the log, then recommendations for everybody."""

import numpy as np
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
num_users = int(np.load(report.data / "size.npy")[0])
found = sequence_model(report, "SASRec", options, log_step_count_steps=-(-num_users // report.number("batch")))
recommend(report, found)
report.figures["recommend"] = report.seconds["recommend"]
report.write()
