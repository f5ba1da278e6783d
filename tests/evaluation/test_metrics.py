import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from intarsia.config.schema.evaluation import MetricConfig
from intarsia.config.schema.model import LossType
from intarsia.core.errors import ConfigError, DataError, EvaluationError
from intarsia.evaluation.metrics import Metric, bigger_is_better, build_metrics
from intarsia.evaluation.metrics.build import KINDS

BINARY = [
    "auc",
    {"gauc": {"uid_field": "user"}},
    {"session_auc": {"session_id_field": "session", "reduction": "mean_by_sample_num"}},
    "logloss",
    "accuracy",
    "precision",
    "recall",
    "max_f1",
    "mae",
    "mse",
    "rmse",
]


def built(words, loss_type=LossType.CLASSIFICATION, **options) -> list[Metric]:
    return build_metrics([MetricConfig.model_validate(word) for word in words], loss_type=loss_type, **options)


def binary_rows(size, seed=0):
    rng = np.random.default_rng(seed)
    probs = torch.tensor(rng.integers(1, 40, size) / 40, dtype=torch.float32)
    labels = torch.tensor(rng.random(size) < 0.3, dtype=torch.float32)
    ids = {"user": torch.tensor(rng.integers(0, 30, size)), "session": torch.tensor(rng.integers(-9, 9, size))}
    return {"probs": probs}, labels, ids, torch.tensor(rng.random(size), dtype=torch.float32)


def feed(metrics, rows, cuts=(), order=None):
    """Updates metrics with rows cut into batches."""
    predictions, labels, ids, weights = rows
    order = torch.arange(len(labels)) if order is None else torch.as_tensor(order)
    for part in torch.tensor_split(order, torch.as_tensor(sorted(cuts), dtype=torch.int64)):
        for metric in metrics:
            metric.update(
                {k: v[part] for k, v in predictions.items()},
                labels[part],
                {k: v[part] for k, v in ids.items()},
                None if weights is None else weights[part],
            )
    return {metric.name: metric.compute() for metric in metrics}


def numbers(results):
    return {name: result.value for name, result in results.items()}


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_metrics_equal_sklearn(weighted):
    predictions, labels, ids, weights = binary_rows(2000)
    found = numbers(feed(built(BINARY), (predictions, labels, ids, weights if weighted else None), [100, 1500]))
    y, p, w = labels.numpy(), predictions["probs"].numpy(), weights.numpy() if weighted else None
    hard = p > 0.5
    expected = {
        "auc": sk.roc_auc_score(y, p, sample_weight=w),
        "logloss": sk.log_loss(y, p.astype(np.float64), sample_weight=w),
        "accuracy": sk.accuracy_score(y, hard, sample_weight=w),
        "precision": sk.precision_score(y, hard, sample_weight=w),
        "recall": sk.recall_score(y, hard, sample_weight=w),
        "mae": sk.mean_absolute_error(y, p, sample_weight=w),
        "mse": sk.mean_squared_error(y, p, sample_weight=w),
        "rmse": sk.root_mean_squared_error(y, p, sample_weight=w),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-7)
    assert list(found) == [kind.name for kind in KINDS.values()]
    assert all(value is not None for value in found.values())


@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_metrics_equal_sklearn(weighted):
    rng = np.random.default_rng(5)
    probs = torch.tensor(rng.integers(1, 6, (1500, 4)), dtype=torch.float64)
    probs /= probs.sum(dim=1, keepdim=True)
    labels = torch.tensor(rng.integers(0, 4, 1500), dtype=torch.float32)
    weights = torch.tensor(rng.random(1500)) if weighted else None
    found = numbers(
        feed(built(["auc", "logloss", "accuracy"], num_class=4), ({"probs": probs}, labels, {}, weights), [7])
    )
    y, p, w = labels.numpy(), probs.numpy(), None if weights is None else weights.numpy()
    assert found == pytest.approx(
        {
            "auc": sk.roc_auc_score(y, p, multi_class="ovr", average="macro", sample_weight=w),
            "logloss": sk.log_loss(y, p, sample_weight=w),
            "accuracy": sk.accuracy_score(y, p.argmax(axis=1), sample_weight=w),
        },
        abs=1e-12,
    )


def test_two_classes_are_measured_by_the_probability_of_class_one():
    predictions, *rest = binary_rows(500)
    two = {"probs": torch.stack([1 - predictions["probs"], predictions["probs"]], dim=1)}
    one_column = numbers(feed(built(BINARY), (predictions, *rest)))
    assert numbers(feed(built(BINARY, num_class=2), (two, *rest))) == pytest.approx(one_column, abs=1e-6)


def test_regression_metrics_by_hand():
    rows = ({"y": torch.tensor([1.0, 2.0, -3.0])}, torch.tensor([1.0, 4.0, -2.0]), {}, None)
    found = numbers(feed(built(["mae", "mse", "rmse"], LossType.L2_LOSS), rows))
    assert found == pytest.approx({"mae": 1.0, "mse": 5 / 3, "rmse": math.sqrt(5 / 3)})


def test_gauc_by_hand_with_its_note():
    rows = (
        {"probs": torch.tensor([0.9, 0.1, 0.2, 0.8, 0.8, 0.7])},
        torch.tensor([1.0, 0, 1, 0, 0, 1]),
        {"user": torch.tensor([5, 5, 7, 7, 7, 9])},
        None,
    )
    result = feed(built([{"gauc": {"uid_field": "user"}}]), rows)["gauc"]
    assert result.value == (1 + 0) / 2
    assert result.note == "2 of 3 groups of `user`; 1 with one class left out"
    by_rows = built([{"gauc": {"uid_field": "user", "reduction": "mean_by_sample_num"}}])
    assert feed(by_rows, rows)["gauc"].value == 2 / 5


def test_max_f1_names_its_threshold():
    rows = ({"probs": torch.tensor([0.75, 0.25])}, torch.tensor([1.0, 0.0]), {}, None)
    result = feed(built(["max_f1"]), rows)["max_f1"]
    assert (result.value, result.note) == (1.0, "at threshold 0.75")


@pytest.mark.parametrize(
    ("word", "probs", "labels", "note"),
    [
        ("auc", [0.1, 0.2], [1, 1], "undefined: 2 positive and 0 negative rows"),
        ("auc", [0.1, 0.2, 0.3], [0, 0, 0], "undefined: 0 positive and 3 negative rows"),
        ("max_f1", [0.1, 0.2], [0, 0], "undefined: 0 positive and 2 negative rows"),
        (
            {"gauc": {"uid_field": "user"}},
            [0.1, 0.2],
            [0, 1],
            "undefined: none of 2 groups of `user` has both classes (2 rows)",
        ),
        ("precision", [0.1, 0.2], [0, 1], "undefined: none of 2 rows has a probability above 0.5"),
        ("recall", [0.1, 0.9], [0, 0], "undefined: none of 2 rows is positive"),
    ],
)
def test_undefined_values_say_why(word, probs, labels, note):
    rows = (
        {"probs": torch.tensor(probs)},
        torch.tensor(labels, dtype=torch.float32),
        {"user": torch.arange(len(labels))},
        None,
    )
    (result,) = feed(built([word]), rows).values()
    assert result.value is None
    assert result.note == note


def test_a_missing_class_is_named():
    rows = ({"probs": torch.full((2, 3), 1 / 3)}, torch.tensor([0.0, 1.0]), {}, None)
    (result,) = feed(built(["auc"], num_class=3), rows).values()
    assert result.value is None
    assert result.note == "undefined: 2 rows, and class 2 has none of them, all of them, or no weight"


def test_no_rows_and_no_weight():
    for metric in built(BINARY):
        assert (metric.compute().value, metric.compute().note) == (None, "undefined: no rows")
        predictions, labels, ids, _ = binary_rows(50)
        metric.update({"probs": predictions["probs"][:0]}, labels[:0], {k: v[:0] for k, v in ids.items()})
        assert metric.compute().note == "undefined: no rows"
        metric.update(predictions, labels, ids, torch.zeros(50))
        result = metric.compute()
        assert result.value is None
        assert result.note.startswith("undefined: ")


def test_order_and_batches_do_not_matter():
    rows = binary_rows(600, seed=3)
    unweighted = (*rows[:3], None)
    rng = np.random.default_rng(0)
    for data in (rows, unweighted):
        whole = numbers(feed(built(BINARY), data))
        for size in (1, 7, 256):
            found = numbers(feed(built(BINARY), data, range(size, 600, size), rng.permutation(600)))
            assert found == pytest.approx(whole, abs=1e-12, rel=1e-12)
            if data is unweighted:
                for name in ("auc", "gauc", "session_auc", "max_f1", "accuracy", "precision", "recall"):
                    assert found[name] == whole[name]


def check_shards(seed, size, cuts, weighted):
    predictions, labels, ids, weights = binary_rows(size, seed)
    whole = numbers(feed(built(BINARY), (predictions, labels, ids, weights if weighted else None)))
    merged = built(BINARY)
    for part in torch.tensor_split(torch.arange(size), torch.tensor(cuts, dtype=torch.int64)):
        shard = built(BINARY)
        kept = (
            {k: v[part] for k, v in predictions.items()},
            labels[part],
            {k: v[part] for k, v in ids.items()},
            weights[part] if weighted else None,
        )
        feed(shard, kept, [len(part) // 2])
        for metric, other in zip(merged, shard, strict=True):
            metric.merge({name: tensor.clone() for name, tensor in other.state().items()})
    found = {metric.name: metric.compute().value for metric in merged}
    assert found == {
        name: value if value is None else pytest.approx(value, abs=1e-12, rel=1e-12) for name, value in whole.items()
    }


shards = st.integers(0, 60).flatmap(
    lambda size: st.tuples(
        st.integers(0, 1000), st.just(size), st.lists(st.integers(0, size), max_size=4).map(sorted), st.booleans()
    )
)


@settings(max_examples=100, deadline=None)
@given(shards)
def test_merged_shards_are_the_whole(case):
    check_shards(*case)


@pytest.mark.fuzz
@settings(max_examples=10_000, deadline=None)
@given(shards)
def test_merged_shards_are_the_whole_long(case):
    check_shards(*case)


def test_merging_goes_on_after_computing_and_weights_default_to_one():
    predictions, labels, ids, _ = binary_rows(83)
    for left, right in zip(built(BINARY), built(BINARY), strict=True):
        left.update(predictions, labels, ids)
        alone = left.compute().value
        right.update(predictions, labels, ids, torch.full((83,), 2.0))
        left.merge(right.state())
        left.merge(right.state())
        # five copies of the same rows
        assert left.compute().value == pytest.approx(alone, abs=1e-12)
        left.update(predictions, 1 - labels, ids)
        assert left.compute().value != pytest.approx(alone, abs=1e-6)
        left.reset()
        left.update(predictions, labels, ids)
        assert left.compute().value == alone


def test_an_empty_state_has_the_types_of_a_full_one():
    empty, full = built(BINARY), built(BINARY)
    feed(full, binary_rows(5))
    for a, b in zip(empty, full, strict=True):
        assert {k: v.dtype for k, v in a.state().items()} == {k: v.dtype for k, v in b.state().items()}


def test_rows_are_copied():
    (metric,) = built(["auc"])
    probs, labels = torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])
    metric.update({"probs": probs}, labels)
    probs.zero_()
    labels.fill_(1)
    assert metric.compute().value == 1


def test_inference_mode_states_can_be_merged_outside_of_it():
    metrics = built(BINARY)
    with torch.inference_mode():
        for metric in metrics:
            metric.reset()
        feed(metrics, binary_rows(30))
    for metric in metrics:
        metric.merge(metric.state())
        assert metric.compute().value is not None


def test_sure_mistakes_cost_a_bounded_logloss():
    rows = ({"probs": torch.tensor([0.0])}, torch.tensor([1.0]), {}, None)
    (result,) = feed(built(["logloss"]), rows).values()
    assert result.value == pytest.approx(-math.log(1.1920929e-07))
    assert feed(built(["logloss"]), ({"probs": torch.tensor([1.0])}, torch.tensor([1.0]), {}, None))[
        "logloss"
    ].value == pytest.approx(0, abs=2e-7)


def test_soft_labels_have_a_logloss_and_no_auc():
    rows = ({"probs": torch.tensor([0.5, 0.5])}, torch.tensor([0.5, 0.0]), {}, None)
    assert feed(built(["logloss"]), rows)["logloss"].value == pytest.approx(math.log(2))
    with pytest.raises(DataError, match=r"must be 0 or 1. Received: 1 of 2 labels that are not, such as 0.5"):
        feed(built(["auc"]), rows)


@pytest.mark.parametrize("word", BINARY)
def test_predictions_that_are_not_numbers(word):
    predictions, labels, ids, _ = binary_rows(20)
    predictions["probs"][3:5] = math.nan
    predictions["probs"][7] = math.inf
    with pytest.raises(EvaluationError, match="Received: 2 NaN and 1 infinite among 20 values of `probs`") as caught:
        feed(built([word]), (predictions, labels, ids, None))
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"predictions": {"y": torch.zeros(3)}}, EvaluationError, "read the prediction `probs`. Received: y"),
        (
            {"predictions": {"probs": torch.zeros(3, 2)}},
            EvaluationError,
            r"`probs` must have the shape \(B,\). Received: \(3, 2\)",
        ),
        ({"labels": torch.zeros(2)}, DataError, r"one label a row, 3 here. Received: labels of shape \(2,\)"),
        (
            {"labels": torch.tensor([0, 1, math.nan])},
            DataError,
            "0 or 1. Received: 1 of 3 labels that are not, such as nan",
        ),
        ({"weights": torch.ones(4)}, DataError, r"one weight a row, 3 here. Received: weights of shape \(4,\)"),
        ({"weights": torch.tensor([1.0, -2, 1])}, DataError, "at least 0. Received: 1 of 3 that are not, such as -2"),
        ({"ids": {"item": torch.zeros(3)}}, DataError, "gauc groups rows by the column `user`.* Received: item"),
        ({"ids": {"user": torch.zeros(2)}}, DataError, r"one code a row, 3 here. Received: `user` of shape \(2,\)"),
    ],
)
def test_rows_that_do_not_fit(change, error, message):
    (metric,) = built([{"gauc": {"uid_field": "user"}}])
    rows = {
        "predictions": {"probs": torch.tensor([0.1, 0.2, 0.3])},
        "labels": torch.tensor([0.0, 1.0, 0.0]),
        "ids": {"user": torch.zeros(3, dtype=torch.int64)},
        "weights": None,
    }
    metric.update(**rows)
    with pytest.raises(error, match=message):
        metric.update(**{**rows, **change})


def test_class_numbers_out_of_range():
    (metric,) = built(["accuracy"], num_class=3)
    with pytest.raises(DataError, match=r"whole numbers from 0 to 2. Received: 1 of 2 labels that are not, such as 3"):
        metric.update({"probs": torch.ones(2, 3) / 3}, torch.tensor([0.0, 3.0]))


@pytest.mark.parametrize(
    ("loss_type", "num_class", "names"),
    [
        (LossType.CLASSIFICATION, 1, ["auc", "logloss"]),
        (LossType.CROSS_ENTROPY_LOSS, 1, ["auc", "logloss"]),
        (LossType.CLASSIFICATION, 5, ["accuracy", "logloss"]),
        (LossType.L2_LOSS, 1, ["rmse", "mae"]),
        (LossType.SIGMOID_L2_LOSS, 1, ["rmse", "mae"]),
    ],
)
def test_defaults(loss_type, num_class, names):
    assert [metric.name for metric in built([], loss_type, num_class=num_class)] == names


def test_all_mismatches_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        built(["auc", "rmse", {"recall_at_topk": {"topk": 5}}, "rmse", {"auc": {}, "mae": {}}], LossType.L2_LOSS)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["metrics_set[0]", "metrics_set[2]", "metrics_set[3]", "metrics_set[4]"]
    text = str(caught.value)
    assert "auc does not apply to the predictions of L2_LOSS with num_class 1 (regression). Choose from: " in text
    assert "Choose from: mean_absolute_error, mean_squared_error, root_mean_squared_error." in text
    assert "recall_at_topk, which is for match models" in text
    assert "Received: root_mean_squared_error again" in text
    assert "exactly one metric. Received: auc, mean_absolute_error" in text


@pytest.mark.parametrize("word", ["max_f1", "precision", {"gauc": {"uid_field": "u"}}, "mae"])
def test_metrics_of_one_score_cannot_do_three_classes(word):
    with pytest.raises(ConfigError, match=r"with num_class 3 \(multiclass\). Choose from: auc, logloss, accuracy."):
        built([word], num_class=3)


def test_unknown_loss():
    with pytest.raises(ConfigError, match=r"must be one of: CLASSIFICATION, .* Received: JRC_LOSS"):
        built(["auc"], LossType.JRC_LOSS)


def test_two_gaucs_are_told_apart_and_say_what_ids_they_need():
    metrics = built([{"gauc": {"uid_field": "user"}}, {"gauc": {"uid_field": "device"}}])
    assert [(metric.name, metric.id_fields) for metric in metrics] == [
        ("gauc", ("user",)),
        ("gauc_device", ("device",)),
    ]


def test_suffix_of_a_task():
    (metric,) = built(["auc"], suffix="_buy")
    metric.update({"probs": torch.tensor([0.9, 0.1]), "probs_buy": torch.tensor([0.1, 0.9])}, torch.tensor([0.0, 1]))
    assert metric.compute().name == "auc_buy"
    assert metric.compute().value == 1


def test_direction():
    better = {name: bigger_is_better(name) for name in ("auc", "gauc_device", "max_f1_buy", "logloss", "rmse", "mae")}
    assert better == {
        "auc": True,
        "gauc_device": True,
        "max_f1_buy": True,
        "logloss": False,
        "rmse": False,
        "mae": False,
    }
    with pytest.raises(ConfigError, match=r"must start with one of: accuracy, auc, .* Received: speed"):
        bigger_is_better("speed")
