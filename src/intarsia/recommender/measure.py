"""Evaluating a bundle on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.core.errors import DataError
from intarsia.data.labels import drop_unlabelled, label_columns
from intarsia.data.loader import Loader
from intarsia.data.reading import from_frame, read_table, resolve_paths
from intarsia.evaluation.evaluate import Evaluation, evaluate
from intarsia.evaluation.metrics import build_metrics
from intarsia.recommender.options import data_options, label_name, metric_columns
from intarsia.recommender.parts import encode
from intarsia.recommender.prepare import EvaluationSource, prepare

if TYPE_CHECKING:
    from intarsia.recommender.recommender import Recommender


def open_part(recommender: Recommender, data: Any | None) -> EvaluationSource:
    """Labelled rows for the evaluation of a bundle; see `Recommender.evaluate`."""
    config = recommender.config
    opener_data = data_options(config)
    if data is None:
        spec = config.test_input_path or config.eval_input_path or config.parquet_eval_input
        if spec is None:
            has_data = config.train_input_path or config.parquet_train_input or config.data_config.dataset
            parts = prepare(config, encoder=recommender.encoder).parts if has_data else {}
            part = parts.get("test") or parts.get("valid")
            if part is None:
                raise DataError(
                    "the pipeline names no test or validation data. Give `evaluate` some files or a data frame."
                )
            return part
        data = spec
    label, ids = label_name(config), metric_columns(config)
    weight = [opener_data.sample_weight] if opener_data.sample_weight else []
    columns = [*recommender.encoder.input_columns, *label_columns(opener_data, [label]), *weight, *ids]
    columns = list(dict.fromkeys(columns))
    if isinstance(data, str | Path):
        read = read_table(resolve_paths(str(data)), opener_data, columns=columns)
    else:
        read = from_frame(data, opener_data, columns=columns)
    read = drop_unlabelled(read, opener_data, [label])
    dataset = encode(recommender.encoder, read, opener_data, recommender.schema, label, ids, config)
    return Loader(dataset, config.data_config.eval_batch_size)


def evaluate_on(recommender: Recommender, loader: EvaluationSource) -> Evaluation:
    """The pipeline's metrics of a bundle on labelled batches."""
    config = recommender.config
    metrics = build_metrics(
        config.eval_config.metrics_set, loss_type=config.model.loss_type, num_class=config.model.num_class
    )
    device = next(recommender.model.parameters()).device
    return evaluate(
        recommender.model,
        loader.epoch(0),
        metrics,
        label=label_name(config),
        device=device,
        num_examples=config.eval_config.num_examples,
    )
