"""Public interaction logs as arrays for contenders, and one judge of recommended lists."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def movielens_1m(data_dir: Path) -> tuple[Ints, Ints]:
    """Users and items, numbered from 0, users one after another, oldest first; items with 5 interactions at least."""
    with gzip.open(data_dir / "ml-1m" / "interactions_time_ordered.tsv.gz", "rt") as lines:
        rows = np.loadtxt(lines, dtype=np.int64, skiprows=1)
    users, items = rows[:, 0], rows[:, 1]
    kept = np.bincount(items)[items] >= 5
    return (np.unique(values[kept], return_inverse=True)[1] for values in (users, items))  # type: ignore[return-value]


def gowalla(data_dir: Path, part: str) -> tuple[Ints, Ints]:
    """Users and items of `train` or `test`."""
    users, items = [], []
    for user, row in _lines(data_dir / "gowalla" / f"{part}.txt.gz"):
        users.append(np.full(len(row), user))
        items.append(row)
    return np.concatenate(users), np.concatenate(items)


def _lines(path: Path) -> Iterator[tuple[int, Ints]]:
    with gzip.open(path, "rt") as lines:
        for line in lines:
            numbers = np.array(line.split(), dtype=np.int64)
            yield int(numbers[0]), numbers[1:]


def leave_one_out(users: Ints) -> npt.NDArray[np.bool_]:
    """True at each user's last interaction."""
    last = np.ones(len(users), dtype=bool)
    last[:-1] = users[1:] != users[:-1]
    return last


def save(folder: Path, train: tuple[Ints, Ints], test: tuple[Ints, Ints], num_items: int) -> None:
    """Writes what contenders read: `train_users.npy`, `train_items.npy` and the same of `test`, and `size.npy`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (users, items) in (("train", train), ("test", test)):
        np.save(folder / f"{name}_users.npy", users)
        np.save(folder / f"{name}_items.npy", items)
    np.save(folder / "size.npy", np.array([int(max(train[0].max(), test[0].max())) + 1, num_items]))


def judge_lists(scratch: Path, folder: Path) -> dict[str, float]:
    """Recall and NDCG of `lists.npy`, (U, k) items, best first, -1 where there is none, at k.

    NDCG's ideal list has min(k, number of targets) hits. Users without targets do not count.
    """
    found = scratch / "lists.npy"
    if not found.exists():
        return {}
    lists = np.load(found)
    users, items = (np.load(folder / f"test_{name}.npy") for name in ("users", "items"))
    num_users, num_items = np.load(folder / "size.npy").tolist()
    depth = lists.shape[1]
    wanted = np.unique(users * num_items + items)
    keys = np.arange(num_users)[:, None] * num_items + lists
    hits = np.isin(keys, wanted) & (lists >= 0)
    targets = np.bincount(wanted // num_items, minlength=num_users)
    gains = 1 / np.log2(np.arange(2, depth + 2))
    ideal = np.concatenate([[0], np.cumsum(gains)])[np.minimum(targets, depth)]
    some = targets > 0
    recall = hits.sum(axis=1)[some] / targets[some]
    ndcg = (hits * gains).sum(axis=1)[some] / ideal[some]
    return {f"recall@{depth}": float(recall.mean()), f"ndcg@{depth}": float(ndcg.mean())}
