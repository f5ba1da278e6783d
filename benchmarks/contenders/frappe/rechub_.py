"""A click model on Frappe with Torch-RecHub: its trainer's epoch and evaluation, until the AUC is reached."""

import numpy as np
import pandas as pd
import torch
import torch._dynamo  # which the first optimizer imports
from report import Report
from sklearn.preprocessing import OrdinalEncoder
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.ranking import DCNv2, DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

report = Report("torch-rechub")
torch.set_num_threads(report.threads)
layers = {"dims": [400, 400, 400], "activation": "relu", "dropout": 0.2}
with report.phase("prepare"):
    parts = {name: pd.read_csv(report.data / f"{name}.csv") for name in ("train", "valid", "test")}
    names = [name for name in parts["train"].columns if name != "label"]
    encoder = OrdinalEncoder(dtype=np.int64, handle_unknown="use_encoded_value", unknown_value=-1)
    encoder.fit(parts["train"][names])
    given = []
    for part in parts.values():
        # 0 is for ids that the training part lacks.
        columns = np.ascontiguousarray((encoder.transform(part[names]) + 1).T)
        given += [dict(zip(names, columns)), part["label"].to_numpy(np.float32)]
    train, valid, _ = DataGenerator(*given[:2]).generate_dataloader(*given[2:], batch_size=report.number("batch"))
with report.phase("build"):
    sizes = [len(known) + 1 for known in encoder.categories_]
    features = [SparseFeature(name, size, report.number("width")) for name, size in zip(names, sizes)]
    if report.options["model"] == "deepfm":
        model = DeepFM(features, features, layers)
    else:
        model = DCNv2(features, n_cross_layers=3, mlp_params=layers, use_low_rank_mixture=False)
    trainer = CTRTrainer(model, optimizer_params={"lr": 0.001})
report.train_until(
    lambda: trainer.train_one_epoch(train),
    lambda: float(trainer.evaluate(trainer.model, valid)),
)
report.notes.append("layers have batch normalization, which cannot be left out")
report.write()
