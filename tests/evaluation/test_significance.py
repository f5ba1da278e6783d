import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from intarsia.core.errors import EvaluationError
from intarsia.evaluation import compare_auc, compare_means
from intarsia.evaluation.metrics import auc


def sample(seed, rows, gain_a=1.0, gain_b=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.4
    shared = rng.normal(size=rows)
    scores = [gain * labels + shared + rng.normal(size=rows) for gain in (gain_a, gain_b)]
    return labels, *scores


def test_values_are_the_areas():
    labels, a, b = sample(0, 300)
    a, b = a.round(), b.round()
    found = compare_auc(labels, a, b)
    assert found.a == pytest.approx(roc_auc_score(labels, a), abs=1e-12)
    assert found.b == pytest.approx(roc_auc_score(labels, b), abs=1e-12)
    assert found.difference == found.a - found.b
    assert found.low < found.difference < found.high
    assert found.num_rows == 300


def test_delong_by_hand():
    # Positives a b, negatives c d. First predictor: wins a: 2/2, b: 1/2; negatives beaten by: c 2/2, d 1/2.
    # Second predictor: all pairs right. Differences of positives 0, -1/2, of negatives 0, -1/2: variance 1/8 each.
    found = compare_auc([1, 1, 0, 0], [4, 2, 1, 3], [4, 3, 1, 2])
    assert (found.a, found.b) == (0.75, 1.0)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 8 / 2 + 1 / 8 / 2))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.25 / found.standard_error))


def test_standard_error_agrees_with_the_bootstrap():
    labels, a, b = sample(1, 400, 1.2, 0.8)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(1500):
        rows = rng.integers(0, 400, 400)
        differences.append(auc(a[rows], labels[rows]) - auc(b[rows], labels[rows]))
    assert compare_auc(labels, a, b).standard_error == pytest.approx(np.std(differences), rel=0.1)


def test_equal_predictors_are_rejected_as_often_as_announced():
    rejected = [compare_auc(*sample(seed, 150)).p_value < 0.1 for seed in range(400)]
    assert 0.06 < np.mean(rejected) < 0.14  # 0.1 plus or minus 2.7 standard errors
    found = [compare_auc(*sample(seed, 150), confidence=0.9) for seed in range(400)]
    assert [c.low > 0 or c.high < 0 for c in found] == rejected


def test_a_real_difference_is_found():
    found = compare_auc(*sample(2, 3000, 1.3, 1.0))
    assert found.p_value < 1e-4
    assert found.low > 0
    assert compare_auc(*sample(2, 3000, 1.0, 1.3)).high < 0


def test_same_predictions():
    labels, a, _ = sample(3, 50)
    found = compare_auc(labels, a, a * 2)
    assert (found.difference, found.p_value, found.low, found.high) == (0, 1, 0, 0)
    assert compare_means(a, a).p_value == 1
    assert compare_means([1.0, 1, 1], [0.0, 0, 0]).p_value == 0


def test_means_equal_scipys_paired_test():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=60), rng.normal(0.2, size=60)
    found, expected = compare_means(a, b, confidence=0.9), stats.ttest_rel(a, b)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_groups_of_one_row_are_no_groups_and_copies_add_no_evidence():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=40), rng.normal(0.3, size=40)
    alone = compare_means(a, b)
    assert compare_means(a, b, groups=rng.permutation(40) * 10**17).p_value == pytest.approx(alone.p_value)
    copies = compare_means(np.repeat(a, 9), np.repeat(b, 9), groups=np.repeat(np.arange(40), 9))
    assert copies.standard_error == pytest.approx(alone.standard_error)
    assert copies.p_value == pytest.approx(alone.p_value)
    assert compare_means(np.repeat(a, 9), np.repeat(b, 9)).p_value < alone.p_value / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_auc([0, 1], [1.0], [1.0, 2.0]), r"labels \(2,\), scores_a \(1,\), scores_b \(2,\)"),
        (lambda: compare_auc([0, 1, 2], [1, 2, 3], [1, 2, 3]), "must be 0 or 1. Received: 1 of 3"),
        (lambda: compare_auc([0, 1, 1], [1, 2, 3], [1, 2, 3]), "two rows of each class. Received: 2 positive and 1"),
        (lambda: compare_means([1.0, math.nan], [1.0, 1.0]), "finite. Received: 1 of 2 in `values_a`"),
        (lambda: compare_means([1.0], [1.0]), "at least two rows. Received: 1"),
        (lambda: compare_means([], []), "at least two rows. Received: 0"),
        (lambda: compare_means([1.0, 2], [1.0, 1], groups=[3, 3]), "at least two groups. Received: 1"),
        (lambda: compare_means([1.0, 2], [1.0, 1], groups=[3]), r"one id a row, 2 here. Received: shape \(1,\)"),
        (lambda: compare_means([1.0, 2], [1.0, 1], confidence=95), "between 0 and 1. Received: 95"),
    ],
)
def test_what_cannot_be_compared(call, message):
    with pytest.raises(EvaluationError, match=message):
        call()
