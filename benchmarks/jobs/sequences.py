"""Models of sequences on MovieLens-1M."""

from __future__ import annotations

from harness import Bar, Contender, Job

from jobs.ease import prepare
from jobs.logs import judge_lists

RECBOLE_STEPS = 8
SASREC = {"length": 200, "width": 64, "blocks": 2, "heads": 1, "dropout": 0.2, "batch": 128, "k": 10}
JOBS = (
    Job(
        name="sasrec_ml1m",
        title="SASRec on MovieLens-1M",
        setting="latest 200 steps, width 64, 2 blocks, 1 head, softmax over 3,416 items, batches of 128; 2 passes, "
        "then ten recommendations for each of 6,040 users (RecBole: latest 50 steps, its batches of 2,048 prefixes)",
        contenders=(
            Contender("intarsia", "sasrec/ours.py"),
            Contender("RecTools", "sasrec/rectools_.py", "rectools", rounds=1),
            Contender(
                "RecBole", "sasrec/recbole_.py", "recbole", {"length": 50, "steps": RECBOLE_STEPS, "anomaly": "on"}, 1
            ),
            Contender(
                "RecBole, no anomaly detection",
                "sasrec/recbole_.py",
                "recbole",
                {"length": 50, "steps": RECBOLE_STEPS, "anomaly": "off"},
                1,
            ),
        ),
        show={"prepare": "s", "epoch": "s", "recommend": "s", "peak MiB": "", "loss": "", "ndcg@10": ""},
        bars=(
            Bar("epoch", least=6.0, against=("RecTools",)),
            Bar("peak MiB", limit=1200),
        ),
        prepare=prepare,
        judge=judge_lists,
        options={**SASREC, "epochs": 2, "steps": 0},
    ),
    Job(
        name="sasrec_ml1m_until",
        title="SASRec on MovieLens-1M until its lists are good",
        setting="as above; passes until the NDCG@10 of the last item of each user, among all items, is 0.15; the "
        "seconds are those of training alone",
        contenders=(
            Contender("intarsia", "sasrec/ours_until.py", options={"most": 60}, rounds=1),
            Contender("RecTools", "sasrec/rectools_until.py", "rectools", {"limit": 1000}, 1),
        ),
        show={"training": "s", "passes": "", "ndcg@10": "", "peak MiB": ""},
        bars=(Bar("training", least=6.0),),
        prepare=prepare,
        options={**SASREC, "until": "0.15"},
    ),
    Job(
        name="gru4rec_ml1m",
        title="GRU4Rec on MovieLens-1M",
        setting="latest 50 steps, width 64, 128 hidden units, softmax over 3,416 items; a pass over all targets",
        contenders=(
            Contender("intarsia", "gru4rec/ours.py"),
            Contender("RecBole", "gru4rec/recbole_.py", "recbole", {"steps": RECBOLE_STEPS, "anomaly": "on"}, 1),
            Contender(
                "RecBole, no anomaly detection",
                "gru4rec/recbole_.py",
                "recbole",
                {"steps": RECBOLE_STEPS, "anomaly": "off"},
                1,
            ),
        ),
        show={"prepare": "s", "epoch": "s", "peak MiB": ""},
        bars=(Bar("epoch", least=20.0),),
        prepare=prepare,
        options={"length": 50, "width": 64, "hidden": 128, "batch": 128, "epochs": 1},
    ),
)
