"""SASRec with RecBole: every prefix of a sequence is a sample of its own with one target."""

from recbole.model.sequential_recommender import SASRec
from recbole_common import sequences
from report import Report

report = Report("recbole")
width, dropout = report.number("width"), float(report.options["dropout"])
settings = {
    "n_layers": report.number("blocks"),
    "n_heads": report.number("heads"),
    "hidden_size": width,
    "inner_size": width,
    "hidden_dropout_prob": dropout,
    "attn_dropout_prob": dropout,
}
sequences(report, SASRec, settings)
