"""A small model with dense parameters, tables and dropout, small data, and ways to train it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from intarsia.config.schema.evaluation import ExportConfig
from intarsia.config.schema.training import TrainConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.data.loader import Loader
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec
from intarsia.training.trainer import Trainer

USERS, ITEMS, WIDTH = 12, 20, 4


class Rows:
    """Rows whose label depends on a user's and two items' hidden signs and on a number."""

    def __init__(self, num_rows=50, seed=3):
        draw = np.random.default_rng(seed)
        self.num_rows = num_rows
        self.user = draw.integers(-1, USERS, num_rows)
        self.items = draw.integers(0, ITEMS, (num_rows, 3))
        self.lengths = draw.integers(0, 4, num_rows)
        self.x = draw.normal(size=(num_rows, 2)).astype(np.float32)
        signs = draw.choice([-1.0, 1.0], ITEMS)
        score = signs[self.items[:, 0]] * (self.lengths > 0) + self.x[:, 0]
        self.y = (score > 0).astype(np.float32)

    def take(self, rows):
        rows = np.arange(self.num_rows)[rows]
        kept = np.arange(3) < self.lengths[rows][:, None]
        return Batch(
            features={
                "user": Dense(torch.from_numpy(self.user[rows])),
                "items": Jagged(
                    torch.from_numpy(self.items[rows][kept]),
                    torch.from_numpy(np.concatenate([[0], self.lengths[rows].cumsum()])),
                ),
                "x": Dense(torch.from_numpy(self.x[rows])),
            },
            labels={"y": torch.from_numpy(self.y[rows])},
            size=len(rows),
        )


class ToyModel(nn.Module):
    def __init__(self, seed=0, dropout=0.3, wide=False, backend="torch"):
        super().__init__()
        torch.manual_seed(seed)
        self.embeddings = EmbeddingCollection(
            tables=[
                TableSpec("user", USERS, WIDTH),
                TableSpec("item", ITEMS, WIDTH, group="wide" if wide else "deep"),
            ],
            lookups=[Lookup("user", "user", "user"), Lookup("items", "items", "item", pooling="mean")],
            backend=backend,
        )
        self.hidden = nn.Linear(2 * WIDTH + 2, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(8, 1)

    def forward(self, batch):
        found = self.embeddings(batch.features)
        x = torch.cat([found["user"], found["items"], batch.features["x"].values], 1)
        logits = self.out(self.drop(self.norm(self.hidden(x)).relu())).squeeze(1)
        return {"logits": logits, "probs": logits.sigmoid()}

    def losses(self, predictions, batch):
        loss = nn.functional.binary_cross_entropy_with_logits(predictions["logits"].float(), batch.labels["y"])
        return {"logloss": loss, "l2": 0.001 * self.out.weight.square().sum()}


def evaluator(model, rows=None):
    """Metrics over all rows; it draws random numbers, which must not disturb training."""
    batch = (rows or Rows(40, seed=4)).take(slice(None))

    def evaluate():
        assert not model.training
        torch.rand(3), np.random.rand(3)  # noqa: NPY002
        predictions = model(batch)
        loss = model.losses(predictions, batch)["logloss"].item()
        accuracy = ((predictions["logits"] > 0) == (batch.labels["y"] > 0.5)).double().mean().item()
        return {
            "accuracy": SimpleNamespace(value=accuracy),
            "logloss": SimpleNamespace(value=loss),
            "gauc": SimpleNamespace(value=None),
        }

    return evaluate


def train_config(**options):
    return TrainConfig.model_validate({"device": "cpu", "learning_rate": 0.01, **options})


def make(
    run_dir, model=None, *, rows=50, batch_size=8, evaluate=True, num_epochs=0, export=None, source=None, **options
):
    model = model if model is not None else ToyModel()
    extra = {k: options.pop(k) for k in ("world", "on_event", "reporter", "schema_hash", "tensorboard") if k in options}
    return Trainer(
        model,
        train_config(**options),
        run_dir=run_dir,
        train=source or Loader(Rows(rows), batch_size, shuffle=True, seed=1, prefetch=2),
        evaluate=evaluator(model) if evaluate is True else evaluate or None,
        num_epochs=num_epochs,
        export=ExportConfig.model_validate(export or {}),
        **extra,
    )


def log_rows(run_dir, kind=None):
    """Rows of metrics.jsonl without what time decides."""
    lines = (Path(run_dir) / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row.pop("samples_per_second", None)
    return [row for row in rows if kind in (None, row["kind"])]
