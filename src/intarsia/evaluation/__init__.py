"""How good a model is: metrics, evaluation runs, and whether a difference is more than chance."""

from intarsia.evaluation.evaluate import Evaluation, accumulate, evaluate
from intarsia.evaluation.metrics import Metric, MetricValue, bigger_is_better, build_metrics
from intarsia.evaluation.significance import Comparison, compare_auc, compare_means

__all__ = [
    "Comparison",
    "Evaluation",
    "Metric",
    "MetricValue",
    "accumulate",
    "bigger_is_better",
    "build_metrics",
    "compare_auc",
    "compare_means",
    "evaluate",
]
