"""EASE on MovieLens-1M: one linear system of 3,416 unknowns, then ten recommendations for everybody."""

from __future__ import annotations

from pathlib import Path

from harness import Bar, Contender, Job

from jobs.logs import judge_lists, leave_one_out, movielens_1m, save


def prepare(data_dir: Path, folder: Path) -> None:
    """The last interaction of each user is kept for the test."""
    users, items = movielens_1m(data_dir)
    last = leave_one_out(users)
    save(folder, (users[~last], items[~last]), (users[last], items[last]), int(items.max()) + 1)


JOBS = (
    Job(
        name="ease_ml1m",
        title="EASE on MovieLens-1M",
        setting="3,416 items, l2 of 500; ten recommendations for each of 6,040 users, what they know left out",
        contenders=(
            Contender("intarsia", "ease/ours.py"),
            Contender("RecTools", "ease/rectools_.py", "rectools"),
            Contender("Cornac", "ease/cornac_.py", "cornac"),
            Contender("LensKit", "ease/lenskit_.py", "lenskit", rounds=1),
        ),
        show={"fit": "s", "recommend": "s", "total": "s", "peak MiB": "", "ndcg@10": ""},
        bars=(Bar("total", least=3.0),),
        prepare=prepare,
        judge=judge_lists,
        options={"l2": 500, "k": 10},
    ),
)
