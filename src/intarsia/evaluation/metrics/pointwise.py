"""Metrics that are sums over rows: logloss, accuracy, precision, recall, mae, mse and rmse.

With weights w a mean over rows is sum(w * x) / sum(w).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from intarsia.evaluation.metrics.base import MetricValue, SumsMetric

THRESHOLD = 0.5


def log_losses(probs: Tensor, labels: Tensor) -> Tensor:
    """Negative log likelihood of each row, in float64.

    Probabilities are kept away from 0 and 1 by the machine epsilon of their own type (1.2e-7 for float32), so a sure
    and wrong prediction costs about 16, not infinity.

    Args:
        probs: (B,) probability of class 1, or (B, C) of each class; float32 or float64.
        labels: (B,) in [0, 1], or class numbers.

    Returns:
        (B,) losses.
    """
    epsilon = torch.finfo(probs.dtype).eps
    clipped = probs.double().clamp(epsilon, 1 - epsilon)
    if probs.dim() == 2:
        return -clipped.gather(1, labels.long().unsqueeze(1)).squeeze(1).log()
    y = labels.double()
    return -(y * clipped.log() + (1 - y) * torch.log1p(-clipped))


class MeanMetric(SumsMetric):
    """Base of means of one number a row."""

    SUMS = ("value",)

    def compute(self) -> MetricValue:
        """The mean; None for no rows."""
        return self.undefined() or MetricValue(self.name, self.finish(float(self.sums[0]) / self.weight))

    def finish(self, mean: float) -> float:
        """What is reported of the mean."""
        return mean

    def terms(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(1, B) each row's number."""
        return self.values(scores, labels).unsqueeze(0)

    @abstractmethod
    def values(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B,) each row's number."""


class LogLoss(MeanMetric):
    """Mean negative log likelihood, see `log_losses`."""

    def values(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses."""
        return log_losses(scores, labels)


class Accuracy(MeanMetric):
    """Share of rows whose class is predicted right: probability above 0.5, or the most probable class."""

    def values(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B,) 1 where right."""
        predicted = scores > THRESHOLD if scores.dim() == 1 else scores.argmax(dim=1)
        return predicted == labels.to(predicted.dtype)


class MeanAbsoluteError(MeanMetric):
    """Mean of |y - label|."""

    def values(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B,) absolute errors."""
        return (scores.double() - labels.double()).abs()


class MeanSquaredError(MeanMetric):
    """Mean of (y - label)^2. Of a probability it is the Brier score."""

    def values(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B,) squared errors."""
        return (scores.double() - labels.double()).square()


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean squared error."""

    def finish(self, mean: float) -> float:
        """The root."""
        return math.sqrt(mean)


class _Share(SumsMetric):
    """Base of precision and recall: true positives among a larger set."""

    SUMS = ("true_positives", "set")
    SET = ""

    def compute(self) -> MetricValue:
        """The share; None if the set is empty."""
        undefined = self.undefined()
        if undefined:
            return undefined
        if self.sums[1] == 0:
            return MetricValue(self.name, None, f"undefined: none of {self.num_rows} rows {self.SET}")
        return MetricValue(self.name, float(self.sums[0] / self.sums[1]))


class Precision(_Share):
    """True positives among the rows with a probability above 0.5."""

    SET = "has a probability above 0.5"

    def terms(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(2, B)."""
        predicted = scores > THRESHOLD
        return torch.stack([predicted & (labels == 1), predicted])


class Recall(_Share):
    """Rows with a probability above 0.5 among the positive rows."""

    SET = "is positive"

    def terms(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(2, B)."""
        positive = labels == 1
        return torch.stack([(scores > THRESHOLD) & positive, positive])
