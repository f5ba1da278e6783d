"""Metrics of sample data: exact, streaming, with states that merge."""

from intarsia.evaluation.metrics.base import Metric, MetricValue, RowsMetric, Source, SumsMetric
from intarsia.evaluation.metrics.build import bigger_is_better, build_metrics
from intarsia.evaluation.metrics.counting import BestF1, GroupedAuc, auc, grouped_auc, max_f1
from intarsia.evaluation.metrics.pointwise import log_losses

__all__ = [
    "BestF1",
    "GroupedAuc",
    "Metric",
    "MetricValue",
    "RowsMetric",
    "Source",
    "SumsMetric",
    "auc",
    "bigger_is_better",
    "build_metrics",
    "grouped_auc",
    "log_losses",
    "max_f1",
]
