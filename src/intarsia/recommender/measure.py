"""Evaluating a model on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn import Module

from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import DataError
from intarsia.data.labels import drop_unlabelled
from intarsia.data.loader import Loader
from intarsia.data.reading import from_frame, read_table, resolve_paths
from intarsia.data.rows import row_columns
from intarsia.evaluation.evaluate import Evaluation, evaluate
from intarsia.evaluation.metrics import build_metrics
from intarsia.recommender.options import data_options, label_name, metric_columns
from intarsia.recommender.parts import encode
from intarsia.recommender.prepare import EvaluationSource, prepare

if TYPE_CHECKING:
    from intarsia.recommender.row_recommender import RowRecommender


def open_part(recommender: RowRecommender, data: Any | None) -> EvaluationSource:
    """Labelled rows for the evaluation of a bundle; see `Recommender.evaluate`."""
    config = recommender.config
    opener_data = data_options(config)
    if data is None:
        spec = config.test_input_path or config.eval_input_path or config.parquet_eval_input
        if spec is None:
            sources = (config.train_input_path, config.parquet_train_input, config.binary_train_input)
            has_data = any(sources) or config.data_config.dataset
            parts = prepare(config, encoder=recommender.encoder).parts if has_data else {}
            part = parts.get("test") or parts.get("valid")
            if part is None:
                raise DataError(
                    "the pipeline names no test or validation data. Give `evaluate` some files or a data frame."
                )
            return part
        data = spec
    label, ids = label_name(config), metric_columns(config)
    columns = row_columns(recommender.encoder, opener_data, label, ids)
    if isinstance(data, str | Path):
        read = read_table(resolve_paths(str(data)), opener_data, columns=columns)
    else:
        read = from_frame(data, opener_data, columns=columns)
    read = drop_unlabelled(read, opener_data, [label])
    dataset = encode(recommender.encoder, read, opener_data, recommender.schema, label, ids, config)
    return Loader(dataset, config.data_config.eval_batch_size)


def evaluate_part(model: Module, config: PipelineConfig, loader: EvaluationSource) -> Evaluation:
    """The pipeline's metrics of a model on labelled batches."""
    metrics = build_metrics(
        config.eval_config.metrics_set, loss_type=config.model.loss_type, num_class=config.model.num_class
    )
    return evaluate(
        model,
        loader.epoch(0),
        metrics,
        label=label_name(config),
        device=next(model.parameters()).device,
        num_examples=config.eval_config.num_examples,
    )
