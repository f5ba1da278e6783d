"""Metrics of order: auc, gauc, session_auc and max_f1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from intarsia.config.schema.evaluation import Reduction
from intarsia.core.errors import DataError
from intarsia.evaluation.metrics.base import MetricValue, RowsMetric, Source
from intarsia.evaluation.metrics.counting import Bools, Floats, auc, grouped_auc, max_f1


class Auc(RowsMetric):
    """Area under the ROC curve, exact, ties counting one half.

    With C > 2 classes: the plain mean over the classes of the area of one class against the rest.
    Departure: EasyRec approximates the curve by 200 thresholds.
    """

    def compute(self) -> MetricValue:
        """The area; None if a class has no row, or no weight."""
        state = self.state()
        scores, labels, weights = _arrays(state)
        if not len(labels):
            return MetricValue(self.name, None, "undefined: no rows")
        if scores.ndim == 1:
            value = auc(scores, labels == 1, weights)
            return MetricValue(self.name, value, "" if value is not None else _one_class(labels == 1))
        areas = [auc(scores[:, c], labels == c, weights) for c in range(scores.shape[1])]
        found = [area for area in areas if area is not None]
        if len(found) < len(areas):
            missing = ", ".join(str(c) for c, area in enumerate(areas) if area is None)
            note = f"undefined: {len(labels)} rows, and class {missing} has none of them, all of them, or no weight"
            return MetricValue(self.name, None, note)
        return MetricValue(self.name, float(np.mean(found)))


class GroupedAucMetric(RowsMetric):
    """AUC inside of each user's or session's rows, averaged over those that have both classes.

    Args:
        field: Column that names the group.
        reduction: Weight of a group: `mean` 1, `mean_by_sample_num` its rows, `mean_by_positive_num` its positive rows.
    """

    def __init__(self, name: str, source: Source, *, field: str, reduction: Reduction = "mean") -> None:
        super().__init__(name, source)
        self.field = field
        self.reduction = reduction
        self.id_fields = (field,)

    def _groups(self, ids: Mapping[str, Tensor], rows: int) -> Tensor | None:
        if self.field not in ids:
            raise DataError(
                f"{self.name} groups rows by the column `{self.field}`, which must be among the batch's ids. "
                f"Received: {', '.join(sorted(ids)) or 'no ids'}. Add the column to the input fields, or correct the "
                "metric's field."
            )
        groups = ids[self.field].detach().cpu()
        if groups.shape != (rows,):
            raise DataError(
                f"ids must hold one code a row, {rows} here. Received: `{self.field}` of shape {tuple(groups.shape)}. "
                "Give one code for each row."
            )
        return groups

    def compute(self) -> MetricValue:
        """The mean; None if no group has both classes."""
        state = self.state()
        scores, labels, weights = _arrays(state)
        if not len(labels):
            return MetricValue(self.name, None, "undefined: no rows")
        groups = state["groups"].numpy()
        found = grouped_auc(scores, labels == 1, groups, weights)
        count = len(found.values) + found.skipped
        if not len(found.values):
            note = f"undefined: none of {count} groups of `{self.field}` has both classes ({len(labels)} rows)"
            return MetricValue(self.name, None, note)
        note = f"{len(found.values)} of {count} groups of `{self.field}`; {found.skipped} with one class left out"
        return MetricValue(self.name, found.reduce(self.reduction), note)


class MaxF1(RowsMetric):
    """Highest F1 over all thresholds of the probability, exact.

    Departure: EasyRec sweeps 200 thresholds between 0 and 1 over the logits.
    """

    def compute(self) -> MetricValue:
        """The highest F1, with its threshold in the note; None without positive rows."""
        state = self.state()
        scores, labels, weights = _arrays(state)
        if not len(labels):
            return MetricValue(self.name, None, "undefined: no rows")
        best = max_f1(scores, labels == 1, weights)
        if best is None:
            return MetricValue(self.name, None, _one_class(labels == 1))
        return MetricValue(self.name, best.value, f"at threshold {best.threshold:.6g}")


def _arrays(state: Mapping[str, Tensor]) -> tuple[Floats, Floats, Floats | None]:
    weights = state["weights"].numpy() if len(state["weights"]) else None
    return state["scores"].numpy(), state["labels"].numpy(), weights


def _one_class(positive: Bools) -> str:
    high = int(positive.sum())
    low = len(positive) - high
    if high and low:
        return f"undefined: the weights of a class sum to 0 ({high} positive and {low} negative rows)"
    return f"undefined: {high} positive and {low} negative rows"
