"""DeepFM with Torch-RecHub: the loop of its `CTRTrainer`, first on rows that warm up, then on those that are timed."""

import numpy as np
import torch
import torch._dynamo  # which the first optimizer imports
from report import Report
from rows import load
from torch_rechub.basic.features import DenseFeature, SparseFeature
from torch_rechub.models.ranking import DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

report = Report("torch-rechub")
torch.set_num_threads(report.threads)
ids, width, batch, steps, warm = (report.number(name) for name in ("ids", "width", "batch", "steps", "warm"))
numbers, columns, labels = load(report)
inputs = {f"n{place}": np.ascontiguousarray(numbers[:, place]) for place in range(numbers.shape[1])}
inputs |= {f"c{place}": np.ascontiguousarray(columns[:, place]) for place in range(columns.shape[1])}


def train(begin: int, end: int) -> float:
    """Trains on some of the batches, once; their mean loss."""
    part = slice(begin * batch, end * batch)
    empty = {name: values[:0] for name, values in inputs.items()}
    generator = DataGenerator({name: values[part] for name, values in inputs.items()}, labels[part])
    loader, _, _ = generator.generate_dataloader(empty, labels[:0], empty, labels[:0], batch_size=batch)
    return trainer.train_one_epoch(loader)


with report.phase("build"):
    sparse = [SparseFeature(f"c{place}", ids, embed_dim=width) for place in range(columns.shape[1])]
    dense = [DenseFeature(f"n{place}") for place in range(numbers.shape[1])]
    model = DeepFM(sparse + dense, sparse, mlp_params={"dims": [400, 400, 400], "activation": "relu", "dropout": 0})
    trainer = CTRTrainer(model, optimizer_params={"lr": 0.001}, n_epoch=1)
train(0, warm)
with report.phase("train"):
    report.figures["loss"] = train(warm, warm + steps)
report.figures["samples/s"] = steps * batch / report.seconds["train"]
report.figures["build"] = report.seconds["build"]
report.notes.append("loss is the mean of the timed batches")
report.notes.append(
    "layers have batch normalization, which cannot be left out; first order from the vectors, not from weights"
)
report.write()
