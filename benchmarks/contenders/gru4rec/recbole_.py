"""GRU4Rec with RecBole: every prefix of a sequence is a sample of its own with one target."""

from recbole.model.sequential_recommender import GRU4Rec
from recbole_common import sequences
from report import Report

report = Report("recbole")
settings = {
    "embedding_size": report.number("width"),
    "hidden_size": report.number("hidden"),
    "num_layers": 1,
    "dropout_prob": 0.2,
}
sequences(report, GRU4Rec, settings)
