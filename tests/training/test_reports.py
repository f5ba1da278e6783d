"""Logs, TensorBoard and progress."""

import io
import json
from types import SimpleNamespace

import pytest
import toy
from rich.console import Console

from intarsia.training import progress
from intarsia.training.logs import MetricsLog
from intarsia.training.progress import LineReporter, RichReporter, make_reporter


def drive(reporter):
    reporter.start(step=0, total_steps=20)
    reporter.progress(step=10, epoch=1, losses={"loss": 0.69312}, lr=0.001, rows_per_second=12345.6)
    metrics = {"auc": SimpleNamespace(value=0.70123), "gauc": SimpleNamespace(value=None)}
    reporter.evaluated(step=10, metrics=metrics, best=True)
    reporter.saved(step=10, path="run/checkpoints/step-00000010")
    reporter.message("SIGINT: [bold]stopping")
    reporter.stop()


def test_lines():
    out = io.StringIO()
    drive(LineReporter(out))
    assert out.getvalue().splitlines() == [
        "step 10/20 epoch 1 loss 0.6931 lr 0.001 12,346 rows/s",
        "step 10 evaluation: auc 0.7012  gauc undefined (best)",
        "step 10 saved: run/checkpoints/step-00000010",
        "SIGINT: [bold]stopping",
    ]


def test_the_bar_shows_step_loss_rate_and_speed():
    out = io.StringIO()
    drive(RichReporter(Console(file=out, force_terminal=True, width=120, color_system=None)))
    text = out.getvalue()
    assert "10/20" in text
    assert "loss 0.6931" in text
    assert "12,346 rows/s" in text
    assert "step 10  auc 0.7012  gauc undefined  (best)" in text
    assert "SIGINT: [bold]stopping" in text


def test_a_terminal_gets_the_bar_and_a_pipe_gets_lines(monkeypatch):
    for is_terminal, kind in ((True, RichReporter), (False, LineReporter)):
        monkeypatch.setattr(progress.sys, "stderr", SimpleNamespace(isatty=lambda answer=is_terminal: answer))
        assert type(make_reporter()) is kind


def test_the_reporter_is_told_the_number_of_steps(tmp_path):
    totals = []
    base = LineReporter(io.StringIO())
    base.start = lambda *, step, total_steps: totals.append(total_steps)
    for index, options in enumerate(
        [
            {"num_epochs": 2},
            {"num_epochs": 2, "gradient_accumulation_steps": 2},
            {"num_steps": 5},
            {"num_steps": 5, "num_epochs": 9},
        ]
    ):
        toy.make(tmp_path / str(index), reporter=base, evaluate=False, **options).fit()
    assert totals == [14, 8, 5, 5]


def test_the_log_is_cut_back_and_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"a": 1})
    length = log.settle()
    log.write({"a": 2})
    log.close()
    log = MetricsLog(path, length)
    log.write({"a": "ü"})
    log.close()
    assert [json.loads(line)["a"] for line in path.read_text(encoding="utf-8").splitlines()] == [1, "ü"]


def test_rows_of_the_log(tmp_path):
    toy.make(tmp_path, num_steps=4, log_step_count_steps=2, eval_steps=4).fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["step"]) for row in rows] == [("train", 2), ("train", 4), ("eval", 4)]
    assert list(rows[0]) == ["kind", "step", "epoch", "lr", "loss", "logloss", "l2", "samples_per_second"]
    assert rows[0]["samples_per_second"] > 0
    assert list(rows[2]) == ["kind", "step", "epoch", "accuracy", "logloss", "gauc"]
    assert rows[2]["gauc"] is None


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"log_step_count_steps": 2, "save_summary_steps": 4, "tensorboard": True}
    toy.make(tmp_path, num_steps=8, eval_steps=8, **options).fit()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [row for row in toy.log_rows(tmp_path, "train") if row["step"] % 4 == 0]
    scalars = {event.step: event.value for event in events.Scalars("train/loss")}
    assert scalars == pytest.approx({row["step"]: row["loss"] for row in logged}, rel=1e-6)
    assert [event.step for event in events.Scalars("eval/accuracy")] == [8]
