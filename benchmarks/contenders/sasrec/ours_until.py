"""SASRec with intarsia until the lists of everybody have the NDCG that the job asks for: seconds of training alone."""

import numpy as np
from ours_ import parts, refuse_unreached, trained_until
from report import Report

report = Report("intarsia")
pipeline = {
    **parts(report),
    "model_config": {
        "model_class": "SASRec",
        "sasrec": {
            "hidden_size": report.number("width"),
            "num_hidden_layers": report.number("blocks"),
            "num_heads": report.number("heads"),
            "max_history": report.number("length"),
            "dropout": float(report.options["dropout"]),
        },
        "objective": "softmax",
    },
    "train_config": {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "num_epochs": report.number("most"),
        "save_checkpoints_steps": 0,
        "keep_checkpoint_max": 1,
        "log_step_count_steps": -(-int(np.load(report.data / "size.npy")[0]) // report.number("batch")),
    },
    "eval_config": {"metrics": ["ndcg@10"]},
}
watch = trained_until(report, pipeline, "ndcg@10", float(report.options["until"]))
refuse_unreached(watch)
report.figures |= {"passes": len(watch.seconds), "ndcg@10": watch.values[-1], "training": sum(watch.seconds)}
report.write()
