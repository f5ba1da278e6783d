"""Matrix factorisation: alternating least squares and BPR."""

from __future__ import annotations

from pathlib import Path

from harness import Bar, Contender, Job

from jobs import ease
from jobs.logs import gowalla, judge_lists, save


def prepare(data_dir: Path, folder: Path) -> None:
    """Gowalla's published split."""
    save(folder, gowalla(data_dir, "train"), gowalla(data_dir, "test"), 40_981)


JOBS = (
    Job(
        name="als_gowalla",
        title="Implicit ALS on Gowalla",
        setting="64 factors, 15 iterations, the same weights; twenty recommendations for each of 29,858 users",
        contenders=(
            Contender("intarsia", "als/ours.py"),
            Contender("implicit", "als/implicit_.py", "implicit"),
        ),
        show={"fit": "s", "recommend": "s", "peak MiB": "", "recall@20": "", "ndcg@20": ""},
        bars=(Bar("fit", least=1.0), Bar("recommend", least=2.0)),
        prepare=prepare,
        judge=judge_lists,
        options={"factors": 64, "iterations": 15, "unobserved": "0.02", "regularization": "0.005", "k": 20},
    ),
    Job(
        name="bpr_ml1m",
        title="MF with BPR on MovieLens-1M",
        setting="64 factors, batches of 2,048, one uniform negative; two passes, then all items ranked for 6,040 users",
        contenders=(
            Contender("intarsia", "bpr/ours.py"),
            Contender("RecBole", "bpr/recbole_.py", "recbole", {"at_once": 1}),
            Contender("RecBole, 1,024 users at a time", "bpr/recbole_.py", "recbole", {"at_once": 1024}),
        ),
        show={"prepare": "s", "epoch": "s", "evaluate": "s", "peak MiB": ""},
        bars=(Bar("epoch", least=5.0), Bar("evaluate", least=10.0, against=("RecBole",))),
        prepare=ease.prepare,
        options={"factors": 64, "batch": 2048, "epochs": 2, "k": 20},
    ),
    Job(
        name="bpr_gowalla",
        title="MF with BPR on Gowalla",
        setting="64 factors, ten passes, one uniform negative (implicit: by popularity); all items ranked for all",
        contenders=(
            Contender("intarsia", "bpr/ours.py"),
            Contender("implicit", "bpr/implicit_.py", "implicit"),
        ),
        show={"epoch": "s", "evaluate": "s", "recommend": "s", "peak MiB": "", "recall@20": ""},
        bars=(),
        prepare=prepare,
        judge=judge_lists,
        options={"factors": 64, "batch": 2048, "epochs": 10, "k": 20},
    ),
    Job(
        name="bpr_gowalla_until",
        title="MF with BPR on Gowalla until its lists are good",
        setting="64 factors; intarsia: the hardest of 8 negatives, l2, evaluated every 8 passes until a Recall@20 of "
        "0.16; implicit: a thousand passes, which is as far as it gets",
        contenders=(
            Contender("intarsia", "bpr/ours_until.py", options={"until": "0.16", "most": 96, "every": 8}, rounds=1),
            Contender("implicit", "bpr/implicit_.py", "implicit", {"epochs": 1000}, 1),
        ),
        show={"fit": "s", "passes": "", "recall@20": "", "peak MiB": ""},
        bars=(),
        prepare=prepare,
        judge=judge_lists,
        options={"factors": 64, "batch": 2048, "k": 20},
    ),
)
