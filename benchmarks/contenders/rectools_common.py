"""What RecTools' contenders share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from report import Report


def training_set(report: Report) -> Dataset:
    """The training part in the order in which it is stored."""
    users, items = (np.load(report.data / f"train_{name}s.npy") for name in ("user", "item"))
    frame = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.to_datetime(np.arange(len(frame)), unit="s")
    return Dataset.construct(frame)


def sasrec(report: Report, make_trainer: Callable[[], Any]) -> Any:
    """SASRec with the settings of the job, under a trainer of Lightning."""
    from rectools.models import SASRecModel

    return SASRecModel(
        session_max_len=report.number("length"),
        n_factors=report.number("width"),
        n_blocks=report.number("blocks"),
        n_heads=report.number("heads"),
        dropout_rate=float(report.options["dropout"]),
        batch_size=report.number("batch"),
        loss="softmax",
        lr=0.001,
        get_trainer_func=make_trainer,
    )


def lists_of(report: Report, model: Any, dataset: Dataset) -> npt.NDArray[np.int64]:
    """(U, k) recommendations for everybody, -1 where there is none."""
    num_users, depth = int(np.load(report.data / "size.npy")[0]), report.number("k")
    answer = model.recommend(users=np.arange(num_users), dataset=dataset, k=depth, filter_viewed=True)
    lists = np.full((num_users, depth), -1)
    lists[answer[Columns.User], answer[Columns.Rank] - 1] = answer[Columns.Item]
    return lists


def recommend(report: Report, model: Any, dataset: Dataset) -> None:
    """Recommends to everybody, which is timed, and keeps the lists."""
    with report.phase("recommend"):
        lists = lists_of(report, model, dataset)
    np.save(report.out.parent / "lists.npy", lists)
