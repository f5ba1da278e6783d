"""Whether two sets of predictions of the same rows differ by more than chance.

Both tests are paired: they look at differences row by row, so what the rows share (hard ones, easy ones) cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intarsia.core.errors import EvaluationError
from intarsia.evaluation.metrics.counting import placements


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of a and b.

    Attributes:
        a: Value of a.
        b: Value of b.
        difference: a - b.
        low: Lower end of the confidence interval of the difference.
        high: Upper end.
        p_value: Two-sided: probability of a difference at least as large were there none.
        standard_error: Of the difference.
        confidence: Level of the interval.
        num_rows: Rows.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    standard_error: float
    confidence: float
    num_rows: int


def compare_auc(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, confidence: float = 0.95) -> Comparison:
    """DeLong's test of two areas under ROC curves on the same rows.

    With V_p the share of negatives that positive p beats and V_n the share of positives that beat negative n (ties one
    half), for each of the two predictors, and d their differences between a and b:

        var(AUC_a - AUC_b) = var(d_p) / P + var(d_n) / M,     z = (AUC_a - AUC_b) / sqrt(var)

    Rows are taken as independent of each other; where users own many rows each, compare the AUC of each user by
    `compare_means` instead. Source: DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 44, eq. 3 to 6.

    Args:
        labels: (N,) 0 or 1.
        scores_a: (N,) scores of a.
        scores_b: (N,) scores of b.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        EvaluationError: Lengths differ, a value is not finite, a label is neither 0 nor 1, or a class has fewer
            than two rows.
    """
    from scipy.stats import norm

    y, a, b = _paired(labels=labels, scores_a=scores_a, scores_b=scores_b)
    _check_confidence(confidence)
    if not np.isin(y, (0, 1)).all():
        raise EvaluationError(
            f"labels must be 0 or 1. Received: {int((~np.isin(y, (0, 1))).sum())} of {len(y)} that are not. "
            "Compare per-row losses instead."
        )
    positive = y == 1
    high = int(positive.sum())
    if min(high, len(y) - high) < 2:
        raise EvaluationError(
            f"a test of AUC needs two rows of each class. Received: {high} positive and {len(y) - high} negative rows. "
            "Use more data."
        )
    (wins_a, losses_a), (wins_b, losses_b) = placements(a, positive), placements(b, positive)
    variance = _variance(wins_a - wins_b) / high + _variance(losses_a - losses_b) / (len(y) - high)
    value_a, value_b = float(wins_a.mean()), float(wins_b.mean())
    error = math.sqrt(variance)
    return _comparison(
        value_a, value_b, error, norm.ppf(0.5 + confidence / 2), lambda z: 2 * norm.sf(z), confidence, len(y)
    )


def compare_means(
    values_a: ArrayLike,
    values_b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Paired t-test of two means, for instance of the losses of each row or of the AUC of each user.

    With d = a - b: t = mean(d) / (std(d) / sqrt(N)), N - 1 degrees of freedom. With `groups` the rows of a group may
    depend on each other: the standard error is that of the sums over groups,
    sqrt(G / (G - 1) * sum_g (sum_{i in g} (d_i - mean(d)))^2) / N, with G - 1 degrees of freedom.

    Args:
        values_a: (N,) of a.
        values_b: (N,) of b, of the same rows in the same order.
        groups: (N,) ids of groups, such as users, or None: rows are independent.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        EvaluationError: Lengths differ, a value is not finite, fewer than two rows or groups.
    """
    from scipy.stats import t

    a, b = _paired(values_a=values_a, values_b=values_b)
    _check_confidence(confidence)
    difference = a - b
    centred = difference - difference.mean() if len(difference) else difference
    if groups is not None:
        ids = np.asarray(groups)
        if ids.shape != a.shape:
            raise EvaluationError(
                f"`groups` must have one id a row, {len(a)} here. Received: shape {ids.shape}. Give one for each row."
            )
        codes = np.unique(ids, return_inverse=True)[1]
        centred = np.bincount(codes, weights=centred)
    units = len(centred)
    if units < 2:
        what = "rows" if groups is None else "groups"
        raise EvaluationError(f"a paired test needs at least two {what}. Received: {units}. Use more data.")
    error = math.sqrt(units / (units - 1) * float(centred @ centred)) / len(difference)
    return _comparison(
        float(a.mean()),
        float(b.mean()),
        error,
        t.ppf(0.5 + confidence / 2, units - 1),
        lambda x: 2 * t.sf(x, units - 1),
        confidence,
        len(a),
    )


def _paired(**arrays: ArrayLike) -> list[NDArray[np.float64]]:
    """The arrays as float64, checked to be finite and equally long."""
    out = {name: np.asarray(value, dtype=np.float64) for name, value in arrays.items()}
    shapes = {name: value.shape for name, value in out.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise EvaluationError(
            f"a paired test needs one value a row of the same rows. Received shapes: {text}. "
            "Predict the same rows with both models."
        )
    for name, value in out.items():
        wrong = len(value) - int(np.isfinite(value).sum())
        if wrong:
            raise EvaluationError(
                f"values that are compared must be finite. Received: {wrong} of {len(value)} in `{name}` that are not. "
                "Find out why the model predicts them."
            )
    return list(out.values())


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise EvaluationError(
            f"confidence must lie between 0 and 1. Received: {confidence:g}. Use 0.95 for an interval of 95%."
        )


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1))


def _comparison(
    a: float,
    b: float,
    error: float,
    quantile: float,
    tail: Callable[[float], float],
    confidence: float,
    num_rows: int,
) -> Comparison:
    difference = a - b
    if error > 0:
        p_value = float(tail(abs(difference) / error))
    else:
        # No difference varies between rows: equal everywhere, or unequal everywhere by the same amount.
        p_value = 1.0 if difference == 0 else 0.0
    margin = float(quantile) * error
    return Comparison(a, b, difference, difference - margin, difference + margin, p_value, error, confidence, num_rows)
