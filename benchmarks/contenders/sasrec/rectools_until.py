"""SASRec with RecTools, pass by pass, until its lists have the NDCG that the job asks for or the time is up."""

import numpy as np
import rectools.models  # noqa: F401 - imported before the clock starts
import torch
from pytorch_lightning import Trainer
from rectools_common import lists_of, sasrec, training_set
from report import Report

report = Report("rectools")
torch.set_num_threads(report.threads)
until, limit = float(report.options["until"]), report.number("limit")
wanted = np.load(report.data / "test_items.npy")[np.argsort(np.load(report.data / "test_users.npy"))]


def make_trainer() -> Trainer:
    """A trainer that does nothing but train."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


dataset = training_set(report)
model = sasrec(report, make_trainer)
passes, ndcg = 0, 0.0
while ndcg < until and report.seconds.get("training", 0.0) < limit:
    with report.phase("training"):
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)
    passes += 1
    hits = lists_of(report, model, dataset) == wanted[:, None]
    ndcg = float((hits / np.log2(np.arange(2, hits.shape[1] + 2))).sum(axis=1).mean())
report.figures |= {"passes": passes, "ndcg@10": ndcg, "training": report.seconds["training"]}
if ndcg < until:
    report.notes.append(f"stopped after {limit:,} seconds: the NDCG@10 of {until} would have taken longer")
report.write()
