"""One pass of a model over labelled batches, measured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch
from intarsia.core.errors import DataError
from intarsia.evaluation.metrics.base import Metric, MetricValue


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        values: Results by metric name, in the order of the metrics.
        num_rows: Rows that were measured.
        seconds: Wall time of the whole pass.
    """

    values: dict[str, MetricValue]
    num_rows: int
    seconds: float


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and inference mode inside of the block; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        # One by one: a part that was frozen in evaluation mode stays so.
        for module in training:
            module.training = True


def accumulate(
    model: nn.Module,
    batches: Iterable[Batch],
    metrics: Sequence[Metric],
    *,
    label: str,
    device: torch.device | str = "cpu",
    num_examples: int = 0,
    weighted: bool = False,
) -> int:
    """Feeds predictions into metrics without computing them, so that states of several processes can be merged first.

    Args:
        model: Maps a `Batch` to named predictions; it must be on `device`.
        batches: Labelled batches.
        metrics: Are updated; not reset.
        label: Name of the label in the batches.
        device: Where the model is.
        num_examples: Measure at most this many rows, the first ones; 0: all.
        weighted: Whether sample weights of the batches count. EasyRec's metrics ignore them, and so is the default.

    Returns:
        Number of rows.

    Raises:
        DataError: A batch lacks the label.
        EvaluationError: Predictions are not finite.
    """
    rows = 0
    with evaluating(model):
        for batch in batches:
            if label not in batch.labels:
                raise DataError(
                    f"evaluation needs the label `{label}` in every batch. Received: labels "
                    f"{', '.join(sorted(batch.labels)) or 'none'}. Add the column to label_fields, or name another."
                )
            here = batch.to(device)
            labels = here.labels[label]
            size = labels.shape[0]
            predictions: dict[str, Tensor] = model(here)
            keep = min(size, num_examples - rows) if num_examples else size
            weights = here.weights if weighted else None
            if keep < size:
                # Predictions that are not one a row (a vector of the whole batch, say) are left alone.
                predictions = {k: v[:keep] if v.dim() and v.shape[0] == size else v for k, v in predictions.items()}
            ids = {k: v[:keep] for k, v in here.ids.items()}
            for metric in metrics:
                metric.update(predictions, labels[:keep], ids, None if weights is None else weights[:keep])
            rows += keep
            if num_examples and rows >= num_examples:
                break
    return rows


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    metrics: Sequence[Metric],
    *,
    label: str,
    device: torch.device | str = "cpu",
    num_examples: int = 0,
    weighted: bool = False,
) -> Evaluation:
    """Measures a model: resets the metrics, runs over the batches, computes. Arguments as for `accumulate`."""
    start = time.perf_counter()
    for metric in metrics:
        metric.reset()
    rows = accumulate(model, batches, metrics, label=label, device=device, num_examples=num_examples, weighted=weighted)
    values = {metric.name: metric.compute() for metric in metrics}
    return Evaluation(values, rows, time.perf_counter() - start)
