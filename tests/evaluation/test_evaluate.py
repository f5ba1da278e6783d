import pytest
import torch
from torch import nn

from intarsia.config.schema.evaluation import MetricConfig
from intarsia.config.schema.model import LossType
from intarsia.core.batch import Batch, Dense
from intarsia.core.errors import DataError
from intarsia.evaluation import accumulate, build_metrics, evaluate
from intarsia.evaluation.table import number, rows


class Echo(nn.Module):
    """Predicts its only feature; counts calls and remembers the mode it was called in."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.9)
        self.frozen = nn.BatchNorm1d(1)
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        self.modes = (self.training, torch.is_inference_mode_enabled())
        probs = self.drop(batch.features["x"].values[:, 0])
        return {"probs": probs, "mean": probs.mean(), "other": torch.zeros(3)}


def batches(size, rows=90):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(rows, 1, generator=generator), (torch.rand(rows, generator=generator) < 0.5).float()
    users, weights = torch.arange(rows) % 7, torch.rand(rows, generator=generator)
    for i in range(0, rows, size):
        part = slice(i, i + size)
        yield Batch({"x": Dense(x[part])}, {"click": y[part]}, weights[part], {"user": users[part]}, size=len(y[part]))


def metrics():
    words = ["auc", {"gauc": {"uid_field": "user"}}, "logloss"]
    return build_metrics([MetricConfig.model_validate(w) for w in words], loss_type=LossType.CLASSIFICATION)


def values(evaluation):
    return {name: result.value for name, result in evaluation.values.items()}


def test_batch_size_does_not_matter():
    whole = evaluate(Echo(), batches(90), metrics(), label="click")
    assert whole.num_rows == 90
    assert whole.seconds > 0
    for size in (1, 13, 64):
        assert values(evaluate(Echo(), batches(size), metrics(), label="click")) == pytest.approx(
            values(whole), abs=1e-12
        )


def test_the_model_is_evaluated_without_noise_and_left_as_it_was():
    model = Echo().train()
    model.frozen.eval()
    evaluate(model, batches(30), metrics(), label="click")
    assert model.modes == (False, True)
    assert (model.training, model.drop.training, model.frozen.training) == (True, True, False)
    model.eval()
    evaluate(model, batches(30), metrics(), label="click")
    assert not model.training


def test_the_mode_is_restored_after_an_error():
    model = Echo().train()
    with pytest.raises(DataError, match=r"needs the label `buy` in every batch. Received: labels click"):
        evaluate(model, batches(30), metrics(), label="buy")
    assert model.training
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("size", [1, 7, 50, 90])
def test_num_examples_takes_the_first_rows_and_no_batch_more(size):
    model = Echo()
    limited = evaluate(model, batches(size), metrics(), label="click", num_examples=50)
    assert limited.num_rows == 50
    assert model.calls == -(-50 // size)
    assert values(limited) == pytest.approx(
        values(evaluate(Echo(), [next(batches(50))], metrics(), label="click")), abs=1e-12
    )


def test_more_examples_than_rows():
    assert evaluate(Echo(), batches(40), metrics(), label="click", num_examples=1000).num_rows == 90


def test_weights_count_only_when_asked():
    plain = values(evaluate(Echo(), batches(40), metrics(), label="click"))
    unweighted = (Batch(b.features, b.labels, None, b.ids, b.size) for b in batches(40))
    assert values(evaluate(Echo(), unweighted, metrics(), label="click")) == plain
    weighted = values(evaluate(Echo(), batches(40), metrics(), label="click", weighted=True))
    assert all(weighted[name] != pytest.approx(plain[name], abs=1e-6) for name in plain)


def test_metrics_start_afresh_and_shards_merge():
    measured = metrics()
    first = values(evaluate(Echo(), batches(40), measured, label="click"))
    assert values(evaluate(Echo(), batches(40), measured, label="click")) == first
    halves = [metrics(), metrics()]
    all_batches = list(batches(10))
    assert [accumulate(Echo(), all_batches[i::2], halves[i], label="click") for i in range(2)] == [50, 40]
    for a, b in zip(*halves, strict=True):
        a.merge(b.state())
    assert {metric.name: metric.compute().value for metric in halves[0]} == pytest.approx(first, abs=1e-12)


def test_no_batches():
    nothing = evaluate(Echo(), [], metrics(), label="click")
    assert nothing.num_rows == 0
    assert rows(nothing) == [(name, "-", "undefined: no rows") for name in ("auc", "gauc", "logloss")]


def test_table():
    result = evaluate(Echo(), batches(90), metrics(), label="click")
    table = rows(result)
    assert [row[0] for row in table] == ["auc", "gauc", "logloss"]
    assert [float(row[1]) for row in table] == pytest.approx(list(values(result).values()), abs=1e-6)
    assert table[1][2] == "7 of 7 groups of `user`; 0 with one class left out"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.000000"),
        (0.7654321, "0.765432"),
        (-0.5, "-0.500000"),
        (1.5e-7, "1.5e-07"),
        (123456.789, "123457"),
    ],
)
def test_numbers_as_text(value, text):
    assert number(value) == text
