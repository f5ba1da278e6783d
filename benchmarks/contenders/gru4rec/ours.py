"""GRU4Rec with intarsia: one pass reads every user's whole history once and predicts each of its items."""

from ours_ import sequence_model
from report import Report

report = Report("intarsia")
options = {
    "hidden_size": report.number("width"),
    "gru_size": report.number("hidden"),
    "max_history": 2500,  # all of it: no target is left out
    "dropout": 0.2,
}
sequence_model(report, "GRU4Rec", options)
report.notes.append("every target is predicted from its whole history, not from the latest 50 steps")
report.write()
