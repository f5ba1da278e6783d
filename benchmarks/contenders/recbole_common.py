"""What RecBole's contenders share: the log as its text file, its own split of it, and timed passes."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from report import Report

FIELDS = ("user_id", "item_id", "timestamp")


class Bench:
    """Data, model and trainer of RecBole, made the way its quick start makes them.

    Attributes:
        train: Its loader of the training part.
        test: Its loader of the test part.
        trainer: Its trainer.
    """

    def __init__(self, report: Report, model_class: type, settings: dict[str, Any]) -> None:
        torch.set_num_threads(report.threads)
        _write_log(report, Path("dataset") / "log")
        given = {
            "data_path": "dataset",
            "load_col": {"inter": list(FIELDS)},
            "eval_args": {"split": {"LS": "test_only"}, "order": "TO", "mode": "full", "group_by": "user"},
            "use_gpu": False,
            "show_progress": False,
            "learning_rate": 0.001,
        }
        config = Config(model=model_class.__name__, dataset="log", config_dict=given | settings)
        init_seed(config["seed"], config["reproducibility"])
        with report.phase("prepare"):
            self.train, _, self.test = data_preparation(config, create_dataset(config))
        model = model_class(config, self.train.dataset).to(config["device"])
        self.trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        report.figures["prepare"] = report.seconds["prepare"]


def _write_log(report: Report, folder: Path) -> None:
    columns = [
        np.concatenate([np.load(report.data / f"{part}_{name}s.npy") for part in ("train", "test")])
        for name in ("user", "item")
    ]
    folder.mkdir(parents=True)
    head = "user_id:token\titem_id:token\ttimestamp:float"
    rows = np.column_stack([*columns, np.arange(len(columns[0]))])
    np.savetxt(folder / f"{folder.name}.inter", rows, fmt="%d", delimiter="\t", header=head, comments="")


@contextmanager
def clocked(trainer: Any) -> Iterator[list[float]]:
    """Gives the seconds of each pass that the trainer makes inside."""
    seconds: list[float] = []
    train_epoch: Callable[..., Any] = trainer._train_epoch

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        loss = train_epoch(*args, **kwargs)
        seconds.append(time.perf_counter() - started)
        return loss

    trainer._train_epoch = timed
    yield seconds
    trainer._train_epoch = train_epoch


def sequences(report: Report, model_class: type, settings: dict[str, Any]) -> None:
    """Prepares prefixes of sequences, trains `steps` batches of them (0: a whole pass) and writes the report."""
    anomaly = report.options["anomaly"] == "on"
    torch.autograd.set_detect_anomaly(anomaly)
    report.notes.append(
        "autograd's anomaly detection on, as importing RecBole's sequential models leaves it"
        if anomaly
        else "autograd's anomaly detection, which importing RecBole's sequential models turns on, switched off"
    )
    common = {
        "MAX_ITEM_LIST_LENGTH": report.number("length"),
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": 2048,
    }
    bench = Bench(report, model_class, common | settings)
    batches = len(bench.train)
    steps = min(report.number("steps") or batches, batches)
    with clocked(bench.trainer) as seconds:
        loss = bench.trainer._train_epoch(itertools.islice(bench.train, steps), 0)
    report.figures |= {"epoch": seconds[0] * batches / steps, "loss": loss / steps}
    if steps < batches:
        report.notes.append(f"{steps} of the {batches} batches of a pass were trained; its time is scaled from them")
    report.write()
