"""DeepFM with DeepCTR-Torch: `compile` and `fit`, once on the rows that warm up and once on those that are timed."""

import numpy as np
import torch
import torch._dynamo  # which the first optimizer imports
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import DeepFM
from report import Report
from rows import load

report = Report("deepctr-torch")
torch.set_num_threads(report.threads)
ids, width, batch, steps, warm = (report.number(name) for name in ("ids", "width", "batch", "steps", "warm"))
numbers, columns, labels = load(report)
# All inputs become one array: in float32, which holds these ids exactly, it is half as large as from ids in int32.
inputs = {f"n{place}": np.ascontiguousarray(numbers[:, place]) for place in range(numbers.shape[1])}
inputs |= {f"c{place}": columns[:, place].astype(np.float32) for place in range(columns.shape[1])}


def train(begin: int, end: int) -> float:
    """Trains on some of the batches, once; their mean loss."""
    part = slice(begin * batch, end * batch)
    given = {name: values[part] for name, values in inputs.items()}
    history = model.fit(given, labels[part], batch_size=batch, epochs=1, verbose=0)
    return float(history.history["loss"][-1])


with report.phase("build"):
    features = [SparseFeat(f"c{place}", ids, embedding_dim=width) for place in range(columns.shape[1])]
    features += [DenseFeat(f"n{place}", 1) for place in range(numbers.shape[1])]
    model = DeepFM(features, features, dnn_hidden_units=(400, 400, 400), l2_reg_linear=0, l2_reg_embedding=0)
    model.compile(torch.optim.Adam(model.parameters(), lr=0.001), "binary_crossentropy")
train(0, warm)
with report.phase("train"):
    report.figures["loss"] = train(warm, warm + steps)
report.figures["samples/s"] = steps * batch / report.seconds["train"]
report.figures["build"] = report.seconds["build"]
report.notes.append("loss is the mean of the timed batches")
report.notes.append("gradients are of the sum over the batch, which `fit` computes; ids are given as float32")
report.write()
