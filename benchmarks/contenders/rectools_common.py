"""What RecTools' contenders share."""

from typing import Any

import numpy as np
from rectools import Columns
from report import Report


def recommend(report: Report, model: Any, dataset: Any) -> None:
    """Recommends to everybody, which is timed, and keeps the lists."""
    num_users, depth = int(np.load(report.data / "size.npy")[0]), report.number("k")
    with report.phase("recommend"):
        answer = model.recommend(users=np.arange(num_users), dataset=dataset, k=depth, filter_viewed=True)
    lists = np.full((num_users, depth), -1)
    lists[answer[Columns.User], answer[Columns.Rank] - 1] = answer[Columns.Item]
    np.save(report.out.parent / "lists.npy", lists)
