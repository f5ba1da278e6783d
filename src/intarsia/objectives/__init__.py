"""What a model is trained towards: losses, and the predictions that go with each of them."""

from intarsia.objectives.base import LabelRule, LossInputs, RankLoss, Task, weighted_mean
from intarsia.objectives.catalogue import LOSSES, log_loss, predict, rank_loss, task_of
from intarsia.objectives.rank import RankLosses, WeightStrategy

__all__ = [
    "LOSSES",
    "LabelRule",
    "LossInputs",
    "RankLoss",
    "RankLosses",
    "Task",
    "WeightStrategy",
    "log_loss",
    "predict",
    "rank_loss",
    "task_of",
    "weighted_mean",
]
