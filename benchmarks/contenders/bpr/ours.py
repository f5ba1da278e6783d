"""MF with BPR with intarsia: passes over the log, then the ranking of all items for everybody in the test part."""

import numpy as np
from ours_ import Passes, parts
from report import Report

from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import pipeline_from

report = Report("intarsia")
pipeline = {
    **parts(report, eval_batch_size=1024),
    "model_config": {
        "model_class": "MF",
        "mf": {"hidden_size": report.number("factors")},
        "objective": "bpr",
        "negatives": "uniform",
    },
    "train_config": {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "num_epochs": report.number("epochs"),
        "eval_epochs": report.number("epochs"),
        "log_step_count_steps": -(-len(np.load(report.data / "train_users.npy")) // report.number("batch")),
    },
    "eval_config": {"metrics": ["recall@20", "ndcg@20"]},
}
passes = Passes()
with report.phase("fit"):
    found = run(pipeline_from(pipeline), run_dir=report.out.parent / "run", reporter=passes)
assert len(passes.seconds) == report.number("epochs")
report.figures |= {
    "prepare": found.seconds["data"],
    "epoch": passes.usual,
    "evaluate": found.seconds["evaluate"],
    "recall@20": found.evaluations["test"].values["recall@20"].value,
}
report.write()
