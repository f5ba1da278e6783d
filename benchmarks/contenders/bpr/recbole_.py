"""MF with BPR with RecBole: passes by its trainer, then its full ranking of the test part."""

import numpy as np
from recbole.model.general_recommender import BPR
from recbole_common import Bench, clocked
from report import Report

report = Report("recbole")
depth = report.number("k")
num_items = int(np.load(report.data / "size.npy")[1])
settings = {
    "embedding_size": report.number("factors"),
    "epochs": report.number("epochs"),
    "train_batch_size": report.number("batch"),
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
    # Counted in scores, not in users; as shipped, it makes the trainer rank one user at a time.
    "eval_batch_size": report.number("at_once") * (num_items + 1),
    "metrics": ["Recall", "NDCG"],
    "topk": [depth],
    "valid_metric": f"Recall@{depth}",
}
bench = Bench(report, BPR, settings)
with clocked(bench.trainer) as seconds:
    bench.trainer.fit(bench.train, saved=False, verbose=False)
with report.phase("evaluate"):
    found = bench.trainer.evaluate(bench.test, load_best_model=False)
report.figures |= {name: float(value) for name, value in found.items()}
report.figures |= {"epoch": float(np.mean(seconds[1:] or seconds)), "evaluate": report.seconds["evaluate"]}
report.notes.append(f"{report.number('at_once'):,} users are ranked at a time; as shipped it is one")
report.write()
