"""Exact counts against pair-by-pair loops and an independent library."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_auc_score

from intarsia.evaluation.metrics.counting import auc, grouped_auc, max_f1


def pairwise(scores, positive, weights):
    """All pairs, one by one."""
    wins = total = 0.0
    rows = list(zip(scores.tolist(), positive.tolist(), weights.tolist(), strict=True))
    for (s, p, v), (r, q, w) in itertools.product(rows, rows):
        if p and not q:
            total += v * w
            wins += v * w * ((s > r) + 0.5 * (s == r))
    return wins / total if total else None


def rows_of(seed, size, ties, dtype=np.float32):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(-ties, ties + 1, size) / ties).astype(dtype)
    return (
        scores,
        rng.random(size) < 0.3,
        rng.integers(0, 4, size).astype(np.float32),
        rng.integers(0, 5, size) * 10**12,
    )


def test_auc_by_hand():
    scores = np.array([0.1, 0.4, 0.35, 0.8], dtype=np.float32)
    assert auc(scores, np.array([False, False, True, True])) == 0.75
    assert auc(np.zeros(4, dtype=np.float32), np.array([False, False, True, True])) == 0.5
    # pairs: (.8, .8) one half, (.8, .1) one; the positive of weight 3 loses and draws
    tied = np.array([0.8, 0.1, 0.8, 0.1], dtype=np.float32)
    positive = np.array([True, True, False, False])
    assert auc(tied, positive) == (0.5 + 1 + 0 + 0.5) / 4
    assert auc(tied, positive, np.array([1, 3, 1, 1])) == (0.5 + 1 + 0 + 1.5) / 8


def test_auc_needs_both_classes():
    scores = np.array([0.1, 0.2], dtype=np.float32)
    assert auc(scores, np.array([True, True])) is None
    assert auc(scores, np.array([False, False])) is None
    assert auc(scores, np.array([False, True]), np.array([0.0, 1.0])) is None
    assert auc(scores[:0], np.zeros(0, dtype=bool)) is None


def test_negative_zero_ties_with_zero():
    scores = np.array([0.0, -0.0], dtype=np.float32)
    positive, groups = np.array([True, False]), np.zeros(2, dtype=np.int64)
    assert auc(scores, positive) == 0.5
    assert grouped_auc(scores, positive, groups).values.tolist() == [0.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [2, 50, 10**6])
@pytest.mark.parametrize("rate", [0.05, 0.95])
def test_auc_equals_sklearn(dtype, ties, rate):
    rng = np.random.default_rng(ties)
    scores = (rng.integers(0, ties, 5000) / ties).astype(dtype)
    positive = rng.random(5000) < rate
    weights = rng.random(5000)
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    expected = roc_auc_score(positive, scores, sample_weight=weights)
    assert auc(scores, positive, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_grouped_auc_equals_a_loop_over_groups(dtype, weighted):
    rng = np.random.default_rng(7)
    scores = (rng.integers(-20, 20, 4000) / 7).astype(dtype)
    positive = rng.random(4000) < 0.2
    groups = rng.integers(-200, 200, 4000) * 10**15
    weights = rng.random(4000) if weighted else None
    found = grouped_auc(scores, positive, groups, weights)
    expected, skipped = {}, 0
    for group in np.unique(groups):
        here = groups == group
        if positive[here].all() or not positive[here].any():
            skipped += 1
            continue
        w = None if weights is None else weights[here]
        expected[group] = (
            roc_auc_score(positive[here], scores[here], sample_weight=w),
            here.sum() if w is None else w.sum(),
            positive[here].sum() if w is None else w[positive[here]].sum(),
        )
    assert found.groups.tolist() == list(expected)
    assert skipped == found.skipped > 0
    areas, rows, positives = (np.array(column, dtype=float) for column in zip(*expected.values(), strict=True))
    np.testing.assert_allclose(found.values, areas, atol=1e-12, rtol=0)
    np.testing.assert_allclose(found.rows, rows)
    assert found.reduce("mean") == pytest.approx(areas.mean(), abs=1e-12)
    assert found.reduce("mean_by_sample_num") == pytest.approx((areas * rows).sum() / rows.sum(), abs=1e-12)
    assert found.reduce("mean_by_positive_num") == pytest.approx((areas * positives).sum() / positives.sum(), abs=1e-12)


def test_one_group_is_the_whole():
    scores, positive, weights, _ = rows_of(3, 500, 9)
    groups = np.full(500, -1)
    assert grouped_auc(scores, positive, groups).values.tolist() == [auc(scores, positive)]
    found = grouped_auc(scores, positive, groups, weights).values
    assert found.tolist() == pytest.approx([auc(scores, positive, weights)], abs=1e-14)


def test_grouped_auc_of_no_rows():
    found = grouped_auc(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.int64))
    assert found.reduce("mean") is None
    assert found.skipped == 0


def test_scores_in_other_groups_do_not_matter():
    scores, positive, _, groups = rows_of(5, 300, 30)
    before = grouped_auc(scores, positive, groups)
    shifted = scores + np.where(groups == groups[0], np.float32(50), np.float32(0))
    after = grouped_auc(shifted, positive, groups)
    assert before.values.tolist() == after.values.tolist()
    assert auc(scores, positive) != auc(shifted, positive)


def test_max_f1_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.1], dtype=np.float32)
    positive = np.array([True, False, True, False])
    best = max_f1(scores, positive)
    assert best.value == pytest.approx(2 * 2 / (3 + 2))  # everything from 0.7 up
    assert best.threshold == pytest.approx(0.7)
    # the negative ties with the second positive: both or neither
    tied = max_f1(np.array([0.9, 0.5, 0.5], dtype=np.float32), np.array([True, False, True]))
    assert tied.value == pytest.approx(2 * 2 / (3 + 2))
    heavy = max_f1(scores, positive, np.array([1.0, 10.0, 1.0, 1.0]))
    assert heavy.value == pytest.approx(2 / (1 + 2))  # only the first
    assert max_f1(scores, np.zeros(4, dtype=bool)) is None
    assert max_f1(scores, np.ones(4, dtype=bool)).value == 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [3, 1000])
def test_max_f1_equals_the_best_of_sklearns_curve(ties, weighted):
    rng = np.random.default_rng(11)
    scores = (rng.integers(0, ties, 3000) / ties).astype(np.float32)
    positive = rng.random(3000) < 0.1 + 0.4 * scores
    weights = rng.random(3000) if weighted else None
    precision, recall, _ = precision_recall_curve(positive, scores, sample_weight=weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
    assert max_f1(scores, positive, weights).value == pytest.approx(f1.max(), abs=1e-12)


tables = st.lists(
    st.tuples(
        st.sampled_from([-1.5, -0.0, 0.0, 1e-30, 0.25, 0.5, 3.0]),
        st.booleans(),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=30,
)


def check_table(table):
    scores = np.array([row[0] for row in table], dtype=np.float32)
    positive = np.array([row[1] for row in table], dtype=bool)
    groups = np.array([row[2] for row in table], dtype=np.int64)
    weights = np.array([row[3] for row in table], dtype=np.float64)
    for w in (None, weights):
        each = np.ones(len(table)) if w is None else w
        expected = pairwise(scores, positive, each)
        found = auc(scores, positive, w)
        assert found == (expected if expected is None else pytest.approx(expected, abs=1e-12))
        by_group = {g: pairwise(scores[groups == g], positive[groups == g], each[groups == g]) for g in set(groups)}
        by_group = {g: area for g, area in sorted(by_group.items()) if area is not None}
        grouped = grouped_auc(scores, positive, groups, w)
        assert grouped.groups.tolist() == list(by_group)
        assert grouped.values.tolist() == pytest.approx(list(by_group.values()), abs=1e-12)
        assert grouped.skipped == len(set(groups)) - len(by_group)
        best = max_f1(scores, positive, w)
        f1 = [2 * each[(scores >= t) & positive].sum() / max(each[scores >= t].sum() + each[positive].sum(), 1e-9)
              for t in scores]  # fmt: skip
        if each[positive].sum() == 0:
            assert best is None
        else:
            assert best.value == pytest.approx(max(f1), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_any_table_equals_pair_by_pair(table):
    check_table(table)


@pytest.mark.fuzz
@settings(max_examples=10_000, deadline=None)
@given(tables)
def test_any_table_equals_pair_by_pair_long(table):
    check_table(table)
