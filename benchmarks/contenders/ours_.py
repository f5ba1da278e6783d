"""What intarsia's contenders share: the log as a data frame, timed passes, and recommended lists as an array."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from report import Report

import intarsia.recommender.retrieval_job  # noqa: F401 - what a fit needs, scipy among it, which others import as well
from intarsia.models.catalogue import messages
from intarsia.recommender.fit import Fitted, run
from intarsia.recommender.pipeline import pipeline_from
from intarsia.training.progress import SilentReporter
from intarsia.training.protocols import Metric

messages()  # imports all models, as a user of another framework does before the clock starts

LOG = {"log": {"user_field": "user", "item_field": "item"}, "split": {"by": "random", "valid": 0, "test": 0}}


class Passes(SilentReporter):
    """Notes what each pass over the data takes, without evaluations and checkpoints, as for everybody.

    `log_step_count_steps` has to be the number of steps of a pass.

    Attributes:
        seconds: Of each pass.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since = 0.0

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Data and model are ready."""
        self._since = time.perf_counter()

    def progress(
        self, *, step: int, epoch: int, losses: Mapping[str, float], lr: float, rows_per_second: float
    ) -> None:
        """The end of a pass."""
        self.seconds.append(time.perf_counter() - self._since)
        self._since = time.perf_counter()

    def evaluated(self, *, step: int, metrics: Mapping[str, Metric], best: bool) -> None:
        """What it took belongs to no pass."""
        self._since = time.perf_counter()

    def saved(self, *, step: int, path: str) -> None:
        """Neither does this."""
        self._since = time.perf_counter()

    @property
    def usual(self) -> float:
        """The mean of the passes after the first, in which everything happens for the first time."""
        return statistics.mean(self.seconds[1:] or self.seconds)


class Reached(Exception):
    """The model is good enough."""


class Until(Passes):
    """Notes, too, what each evaluation came to and when; ends the run where that is enough.

    Args:
        metric: What is looked at.
        enough: Its value from which on the model is good enough.

    Attributes:
        values: Of the evaluations.
        began: When data and model were ready.
        ended: When the last evaluation was done.
    """

    def __init__(self, metric: str, enough: float) -> None:
        super().__init__()
        self.metric, self.enough = metric, enough
        self.values: list[float] = []
        self.began = self.ended = 0.0

    def start(self, *, step: int, total_steps: int | None) -> None:
        """Data and model are ready."""
        super().start(step=step, total_steps=total_steps)
        self.began = time.perf_counter()

    def evaluated(self, *, step: int, metrics: Mapping[str, Metric], best: bool) -> None:
        """Raises Reached where the model is good enough."""
        super().evaluated(step=step, metrics=metrics, best=best)
        self.ended = time.perf_counter()
        value = metrics[self.metric].value
        assert value is not None
        self.values.append(value)
        if self.reached:
            raise Reached

    @property
    def reached(self) -> bool:
        """Whether the model is good enough."""
        return self.values[-1] >= self.enough


def trained_until(report: Report, pipeline: dict[str, Any], metric: str, enough: float) -> Until:
    """Trains until a metric is good enough or the pipeline ends."""
    watch = Until(metric, enough)
    with contextlib.suppress(Reached):
        run(pipeline_from(pipeline), run_dir=report.out.parent / "run", reporter=watch)
    return watch


def refuse_unreached(watch: Until) -> None:
    """Ends the program where the metric is not good enough."""
    if not watch.reached:
        passes = len(watch.seconds)
        raise SystemExit(
            f"a {watch.metric} of {watch.enough} was not reached in {passes} passes: {watch.values[-1]:.4f}"
        )


def parts(report: Report, **data_config: Any) -> dict[str, Any]:
    """What a pipeline says of the data where the parts for training and testing are given; writes both as files."""
    for part in ("train", "test"):
        columns = {name: np.load(report.data / f"{part}_{name}s.npy") for name in ("user", "item")}
        pl.DataFrame(columns).write_parquet(report.out.parent / f"{part}.parquet")
    return {
        **{f"{part}_input_path": str(report.out.parent / f"{part}.parquet") for part in ("train", "test")},
        "data_config": {"log": LOG["log"], "split": "files", "batch_size": report.number("batch"), **data_config},
    }


def training_log(report: Report) -> pl.DataFrame:
    """The training part."""
    return pl.DataFrame({name: np.load(report.data / f"train_{name}s.npy") for name in ("user", "item")})


def fitted(
    report: Report, pipeline: dict[str, Any], frame: pl.DataFrame, reporter: SilentReporter | None = None
) -> Fitted:
    """Trains on the whole log."""
    given = {"data_config": LOG | pipeline.pop("data_config", {}), **pipeline}
    return run(pipeline_from(given), frames={"train": frame}, run_dir=report.out.parent / "run", reporter=reporter)


def sequence_model(report: Report, name: str, options: dict[str, Any]) -> Fitted:
    """Trains a model of sequences for the passes of the job, and notes what a pass takes."""
    frame, batch, passes = training_log(report), report.number("batch"), Passes()
    pipeline = {
        "data_config": {"batch_size": batch},
        "model_config": {"model_class": name, name.lower(): options, "objective": "softmax"},
        "train_config": {
            "optimizer": "adam",
            "learning_rate": 0.001,
            "num_epochs": report.number("epochs"),
            "log_step_count_steps": -(-frame["user"].n_unique() // batch),
        },
    }
    with report.phase("fit"):
        found = fitted(report, pipeline, frame, passes)
    assert len(passes.seconds) == report.number("epochs")
    report.figures |= {"epoch": passes.usual, "prepare": found.seconds["data"]}
    return found


def recommend(report: Report, found: Fitted) -> None:
    """Recommends to everybody, which is timed, and keeps the lists."""
    num_users = int(np.load(report.data / "size.npy")[0])
    depth = report.number("k")
    with report.phase("recommend"):
        answer = found.recommender.recommend(users=np.arange(num_users), k=depth)
    np.save(report.out.parent / "lists.npy", as_array(answer, num_users, depth))


def as_array(answer: pl.DataFrame, num_users: int, depth: int) -> npt.NDArray[np.int64]:
    """(U, k) items; -1 where a list is shorter."""
    lists = np.full((num_users, depth), -1)
    lists[answer["user"].cast(pl.Int64).to_numpy(), answer["rank"].to_numpy() - 1] = answer["item"].cast(pl.Int64)
    return lists
