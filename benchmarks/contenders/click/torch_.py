"""DeepFM in plain torch: one table for all columns with sparse gradients and `SparseAdam`, `Adam` for the rest."""

import time

import numpy as np
import torch
import torch._dynamo  # which the first optimizer imports
from report import Report
from torch import Tensor, nn

report = Report("torch")
torch.set_num_threads(report.threads)
ids, width, batch, steps, warm = (report.number(name) for name in ("ids", "width", "batch", "steps", "warm"))
rows = (warm + steps) * batch
numbers = torch.from_numpy(np.load(report.data / "dense.npy", mmap_mode="r")[:rows].copy())
columns = torch.from_numpy(np.load(report.data / "ids.npy", mmap_mode="r")[:rows].copy())
labels = torch.from_numpy(np.load(report.data / "labels.npy")[:rows])


class DeepFM(nn.Module):
    """First order, products of pairs, and layers over vectors and numbers."""

    def __init__(self, num_columns: int, num_numbers: int) -> None:
        super().__init__()
        self.register_buffer("starts", torch.arange(num_columns) * ids)
        self.vectors = nn.Embedding(num_columns * ids, width, sparse=True)
        self.weights = nn.Embedding(num_columns * ids, 1, sparse=True)
        nn.init.normal_(self.vectors.weight, std=0.01)
        nn.init.zeros_(self.weights.weight)
        self.numbers = nn.Linear(num_numbers, 1)
        self.layers = nn.Sequential(
            nn.Linear(num_columns * width + num_numbers, 400),
            nn.ReLU(),
            nn.Linear(400, 400),
            nn.ReLU(),
            nn.Linear(400, 400),
            nn.ReLU(),
            nn.Linear(400, 1, bias=False),
        )

    def forward(self, columns: Tensor, numbers: Tensor) -> Tensor:
        """Logits, (B,)."""
        places = columns + self.starts
        vectors = self.vectors(places)
        first = self.weights(places).sum(dim=(1, 2)) + self.numbers(numbers).squeeze(1)
        products = 0.5 * (vectors.sum(dim=1).square() - vectors.square().sum(dim=1)).sum(dim=1)
        return first + products + self.layers(torch.cat([vectors.flatten(1), numbers], dim=1)).squeeze(1)


with report.phase("build"):
    model = DeepFM(columns.shape[1], numbers.shape[1])
    tables = [model.vectors.weight, model.weights.weight]
    sparse = torch.optim.SparseAdam(tables, lr=0.001)
    others = [*model.numbers.parameters(), *model.layers.parameters()]
    dense = torch.optim.Adam(others, lr=0.001)
losses: list[float] = []
order = torch.cat([torch.randperm(warm * batch), warm * batch + torch.randperm(steps * batch)])
with report.phase("train"):
    for step, chosen in enumerate(order.split(batch)):
        if step == warm:
            started = time.perf_counter()
        logits = model(columns[chosen], numbers[chosen])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[chosen])
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
        losses.append(loss.item())
report.figures["samples/s"] = steps * batch / (time.perf_counter() - started)
report.figures["build"] = report.seconds["build"]
report.figures["loss"] = float(np.mean(losses[warm:]))
report.notes.append("loss is the mean of the timed batches")
report.write()
