"""MF with BPR with intarsia, set as in reproduce/gowalla_mf_bpr.yaml, until the recall that the job asks for."""

import numpy as np
from ours_ import parts, refuse_unreached, trained_until
from report import Report

report = Report("intarsia")
steps = -(-len(np.load(report.data / "train_users.npy")) // report.number("batch"))
falling = {"initial_learning_rate": 0.003, "schedule": [{"step": 50 * steps, "learning_rate": 0.001}]}
pipeline = {
    **parts(report, eval_batch_size=1024),
    "model_config": {
        "model_class": "MF",
        "mf": {"hidden_size": report.number("factors"), "init_std": 0.1, "l2": 0.02},
        "objective": "bpr",
        "negatives": {"dynamic": {"candidates": 8, "source": "unseen"}},
    },
    "train_config": {
        "optimizer": {"adam_optimizer": {"learning_rate": {"manual_step_learning_rate": falling}}},
        "num_epochs": report.number("most"),
        "eval_epochs": report.number("every"),
        "save_checkpoints_steps": 0,
        "keep_checkpoint_max": 1,
        "log_step_count_steps": steps,
    },
    "eval_config": {"metrics": ["recall@20"]},
}
with report.phase("fit"):
    watch = trained_until(report, pipeline, "recall@20", float(report.options["until"]))
refuse_unreached(watch)
report.figures |= {"fit": report.seconds["fit"], "passes": len(watch.seconds), "recall@20": watch.values[-1]}
report.notes.append("the seconds are those of everything, data and evaluations included")
report.write()
