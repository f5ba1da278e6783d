"""SASRec with RecTools: its own Lightning module under a trainer without logs, checkpoints and bars."""

import time

import numpy as np
import rectools.models  # noqa: F401 - imported before the clock starts
import torch
from pytorch_lightning import Callback, Trainer
from rectools_common import recommend, sasrec, training_set
from report import Report

report = Report("rectools")
torch.set_num_threads(report.threads)
steps, epochs = report.number("steps"), report.number("epochs")
seconds: list[float] = []
batches: list[int] = []


class Clock(Callback):
    """Notes how long each pass takes and how many batches a whole one has."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: object) -> None:
        """Starts the clock."""
        batches.append(len(trainer.train_dataloader))
        seconds.append(-time.perf_counter())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:
        """Stops it."""
        seconds[-1] += time.perf_counter()


def make_trainer() -> Trainer:
    """A trainer that does nothing but train."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        min_epochs=epochs,
        max_epochs=epochs,
        limit_train_batches=steps or 1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )


with report.phase("fit"):
    dataset = training_set(report)
    model = sasrec(report, make_trainer)
    model.fit(dataset)
recommend(report, model, dataset)
epoch = float(np.mean(seconds[1:] or seconds))
if steps:
    report.notes.append(f"{steps} of the {batches[0]} batches of a pass were trained; its time is scaled from them")
    epoch *= batches[0] / min(steps, batches[0])
report.figures |= {
    "epoch": epoch,
    "loss": model.fit_trainer.callback_metrics["train_loss"].item(),
    "recommend": report.seconds["recommend"],
    "total fit": report.seconds["fit"],
}
report.write()
