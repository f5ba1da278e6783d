"""Loading a log with RecBole: `create_dataset` and `data_preparation`, to the first training batch of SASRec."""

import time
from pathlib import Path

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec  # noqa: F401 - `Config` looks the model up
from recbole.utils import init_seed
from report import Report

report = Report("recbole")
torch.set_num_threads(report.threads)
folder = Path("dataset") / "log"
folder.mkdir(parents=True)
with (report.data / "log.csv").open("rb") as source, (folder / "log.inter").open("wb") as target:
    source.readline()
    target.write(b"user_id:token,item_id:token,timestamp:float\n")
    while block := source.read(1 << 24):
        target.write(block)
given = {
    "data_path": "dataset",
    "field_separator": ",",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "MAX_ITEM_LIST_LENGTH": 50,
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "train_batch_size": 128,
    "use_gpu": False,
    "show_progress": False,
}
started = time.perf_counter()
config = Config(model="SASRec", dataset="log", config_dict=given)
init_seed(config["seed"], config["reproducibility"])
train, _, _ = data_preparation(config, create_dataset(config))
batch = next(iter(train))
report.figures["first batch"] = time.perf_counter() - started
report.figures["rows/s"] = report.number("rows") / report.figures["first batch"]
report.notes.append("every prefix of a history is a sample of its own; histories are cut to the latest 50 items")
report.write()
