"""What all metrics of sample data share: the interface, reading and checking of rows, two kinds of state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from intarsia.core.errors import DataError, EvaluationError

LabelKind = Literal["binary", "class", "share", "number"]


@dataclass(frozen=True)
class MetricValue:
    """A metric's result.

    Attributes:
        name: As printed, such as `auc`.
        value: None where the metric is undefined.
        note: Why it is undefined, or what a reader of the value should know; may be empty.
    """

    name: str
    value: float | None
    note: str = ""


@dataclass(frozen=True)
class Source:
    """Where a metric finds its scores and what labels it accepts.

    Attributes:
        key: Name of the prediction, such as `probs`.
        labels: `binary`: 0 or 1; `class`: 0 to num_class - 1; `share`: 0 to 1; `number`: any finite number.
        column: Column of a (B, C) prediction that is the score; None: all of it.
        num_class: Columns of the prediction; 1: it is (B,).
    """

    key: str
    labels: LabelKind
    column: int | None = None
    num_class: int = 1

    def read(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """(B,) or (B, C) scores on the CPU, float32 or float64.

        Raises:
            EvaluationError: The prediction is missing, of another shape, or not finite.
        """
        if self.key not in predictions:
            raise EvaluationError(
                f"metrics read the prediction `{self.key}`. Received: {', '.join(sorted(predictions)) or 'none'}. "
                "Check the loss_type and num_class that the metrics were built with."
            )
        scores = predictions[self.key].detach()
        if self.num_class == 1 and scores.dim() == 2 and scores.shape[1] == 1:
            scores = scores.squeeze(1)
        fits = scores.dim() == 1 if self.num_class == 1 else scores.shape[1:] == (self.num_class,)
        if not fits:
            wanted = "(B,)" if self.num_class == 1 else f"(B, {self.num_class})"
            raise EvaluationError(
                f"`{self.key}` must have the shape {wanted}. Received: {tuple(scores.shape)}. "
                "Check the num_class that the metrics were built with."
            )
        scores = (scores if scores.dtype == torch.float64 else scores.float()).cpu()
        finite = torch.isfinite(scores)
        if not bool(finite.all()):
            nans = int(torch.isnan(scores).sum())
            infinite = scores.numel() - int(finite.sum()) - nans
            raise EvaluationError(
                f"predictions must be finite numbers. Received: {nans} NaN and {infinite} infinite among "
                f"{scores.numel()} values of `{self.key}`. The model has diverged, or its features hold such values: "
                "lower the learning rate, or check the features."
            )
        return scores if self.column is None else scores[:, self.column]

    def read_labels(self, labels: Tensor, rows: int) -> Tensor:
        """(B,) checked labels on the CPU.

        Raises:
            DataError: The labels do not fit.
        """
        labels = labels.detach().cpu()
        if labels.dim() == 2 and labels.shape[1] == 1:
            labels = labels.squeeze(1)
        if labels.shape != (rows,):
            raise DataError(
                f"metrics need one label a row, {rows} here. Received: labels of shape {tuple(labels.shape)}. "
                "Name a label column with one value."
            )
        wrong = ~torch.isfinite(labels) if labels.is_floating_point() else torch.zeros_like(labels, dtype=torch.bool)
        if self.labels == "binary":
            wrong |= (labels != 0) & (labels != 1)
            wanted = "0 or 1"
        elif self.labels == "class":
            wrong |= (labels < 0) | (labels >= self.num_class) | (labels != labels.round())
            wanted = f"whole numbers from 0 to {self.num_class - 1}"
        elif self.labels == "share":
            wrong |= (labels < 0) | (labels > 1)
            wanted = "numbers from 0 to 1"
        else:
            wanted = "finite numbers"
        if bool(wrong.any()):
            raise DataError(
                f"labels of this metric must be {wanted}. Received: {int(wrong.sum())} of {rows} labels that are not, "
                f"such as {labels[wrong][0].item():g}. Correct the label column, or choose other metrics."
            )
        return labels


def read_weights(weights: Tensor | None, rows: int) -> Tensor | None:
    """(B,) checked weights on the CPU, or None.

    Raises:
        DataError: Wrong shape, negative or not finite.
    """
    if weights is None:
        return None
    weights = weights.detach().cpu()
    if weights.dim() == 2 and weights.shape[1] == 1:
        weights = weights.squeeze(1)
    if weights.shape != (rows,):
        raise DataError(
            f"metrics need one weight a row, {rows} here. Received: weights of shape {tuple(weights.shape)}. "
            "Name one column as the sample weight."
        )
    wrong = ~torch.isfinite(weights) | (weights < 0)
    if bool(wrong.any()):
        raise DataError(
            f"weights of rows must be finite and at least 0. Received: {int(wrong.sum())} of {rows} that are not, "
            f"such as {weights[wrong][0].item():g}. Correct the weight column."
        )
    return weights


class Metric(ABC):
    """A number that describes predictions of rows, gathered batch by batch.

    The result does not depend on how the rows were cut into batches, nor on their order. States of several processes
    are merged exactly: `a.merge(b.state())` makes `a` what it would be had it seen the rows of `b` too.

    Attributes:
        name: As printed.
        id_fields: Columns whose codes `update` needs in `ids`.
    """

    name: str
    id_fields: tuple[str, ...] = ()

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
        self.reset()

    def update(
        self,
        predictions: Mapping[str, Tensor],
        labels: Tensor,
        ids: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Takes in B rows.

        Args:
            predictions: Named predictions, (B,) or (B, C).
            labels: (B,) or (B, 1).
            ids: (B,) int64 codes by column name.
            weights: (B,) weights of at least 0; None: all rows count alike.

        Raises:
            EvaluationError: Predictions are missing, of the wrong shape, or not finite.
            DataError: Labels, weights or ids do not fit.
        """
        scores = self.source.read(predictions)
        rows = scores.shape[0]
        checked = self.source.read_labels(labels, rows)
        self._add(scores, checked, self._groups(ids or {}, rows), read_weights(weights, rows))

    def _groups(self, ids: Mapping[str, Tensor], rows: int) -> Tensor | None:
        return None

    @abstractmethod
    def _add(self, scores: Tensor, labels: Tensor, groups: Tensor | None, weights: Tensor | None) -> None:
        """Takes in checked rows."""

    @abstractmethod
    def compute(self) -> MetricValue:
        """The value over all rows so far."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that `merge` needs, as tensors on the CPU under names that are always the same."""

    @abstractmethod
    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Takes in the state of a metric that was built alike."""

    @abstractmethod
    def reset(self) -> None:
        """Forgets all rows."""


class RowsMetric(Metric):
    """Base of metrics that need all rows at once. A row costs its score, one or four bytes of label, group, weight."""

    _PARTS = ("scores", "labels", "groups", "weights")

    def reset(self) -> None:
        """Forgets all rows."""
        self._rows: list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]] = []

    def _add(self, scores: Tensor, labels: Tensor, groups: Tensor | None, weights: Tensor | None) -> None:
        if not scores.shape[0]:
            return
        # Copies: a caller may reuse its buffers, and a slice would keep a whole batch alive.
        kept = labels.to(self._label_type, copy=True)
        self._rows.append(
            (
                scores.clone(),
                kept,
                None if groups is None else groups.to(torch.int64, copy=True),
                None if weights is None else weights.clone(),
            )
        )

    def state(self) -> dict[str, Tensor]:
        """Scores (N,) or (N, C), labels (N,), groups (N,) and weights (N,); the last two are empty where unused."""
        if len(self._rows) > 1:
            self._rows = [self._joined()]
        scores, labels, groups, weights = self._rows[0] if self._rows else (None, None, None, None)
        wide = self.source.num_class > 1 and self.source.column is None
        return {
            "scores": torch.empty((0, self.source.num_class) if wide else 0) if scores is None else scores,
            "labels": torch.empty(0, dtype=self._label_type) if labels is None else labels,
            "groups": torch.empty(0, dtype=torch.int64) if groups is None else groups,
            "weights": torch.empty(0) if weights is None else weights,
        }

    @property
    def _label_type(self) -> torch.dtype:
        return torch.uint8 if self.source.labels == "binary" else torch.int32

    def _joined(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        scores, labels, groups, weights = zip(*self._rows, strict=True)
        weighted = any(part is not None for part in weights)
        known = [part for part in groups if part is not None]
        return (
            torch.cat(scores),
            torch.cat(labels),
            torch.cat(known) if known else None,
            torch.cat([torch.ones(len(s)) if w is None else w for s, w in zip(scores, weights, strict=True)])
            if weighted
            else None,
        )

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Takes in the rows of another metric's state."""
        scores, labels, groups, weights = (state[name] for name in self._PARTS)
        self._add(scores, labels, groups if len(groups) else None, weights if len(weights) else None)


class SumsMetric(Metric):
    """Base of metrics that are made of weighted sums over rows, kept in float64."""

    SUMS: tuple[str, ...] = ()

    def reset(self) -> None:
        """Forgets all rows."""
        self.sums = torch.zeros(len(self.SUMS) + 2, dtype=torch.float64)

    def _add(self, scores: Tensor, labels: Tensor, groups: Tensor | None, weights: Tensor | None) -> None:
        terms = self.terms(scores, labels).double()
        each = torch.ones(len(labels), dtype=torch.float64) if weights is None else weights.double()
        added = torch.cat([terms @ each, each.sum().view(1), torch.tensor([len(labels)], dtype=torch.float64)])
        # Not in place: a tensor made in inference mode may not be changed outside of it.
        self.sums = self.sums + added

    @abstractmethod
    def terms(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(number of SUMS, B) what a row adds to each sum."""

    def state(self) -> dict[str, Tensor]:
        """The sums, then the sum of the weights, then the number of rows."""
        return {"sums": self.sums.clone()}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Adds the sums of another metric's state."""
        self.sums = self.sums + state["sums"]

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return float(self.sums[-2])

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.sums[-1])

    def undefined(self) -> MetricValue | None:
        """The result where there is nothing to average; None where there is."""
        if not self.num_rows:
            return MetricValue(self.name, None, "undefined: no rows")
        if self.weight == 0:
            return MetricValue(self.name, None, f"undefined: the weights of all {self.num_rows} rows are 0")
        return None
