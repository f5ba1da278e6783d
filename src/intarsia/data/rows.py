"""Rows that were read as an encoded data set: features, labels, weights, codes of groups."""

from __future__ import annotations

from collections.abc import Sequence

from intarsia.config.schema import DataConfig, ModelConfig
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.labels import check_labels, group_ids, label_columns, labels_from, weights_from
from intarsia.data.reading.report import ReadResult
from intarsia.data.schema import Schema


def row_columns(encoder: FeatureEncoder, data: DataConfig, label: str, ids: Sequence[str]) -> list[str]:
    """Raw columns that labelled rows are made of: those of the features, the label, the weight and the ids."""
    weight = [data.sample_weight] if data.sample_weight else []
    return list(dict.fromkeys([*encoder.input_columns, *label_columns(data, [label]), *weight, *ids]))


def encode_rows(
    encoder: FeatureEncoder,
    read: ReadResult,
    data: DataConfig,
    schema: Schema,
    label: str,
    ids: Sequence[str],
    model: ModelConfig,
) -> SampleDataset:
    """Encodes labelled rows.

    Args:
        encoder: Fitted; counts in `skipped` the values that it replaces.
        read: The rows.
        data: Where labels and weights are.
        schema: Features and labels.
        label: The label that the model learns.
        ids: Columns that metrics group by.
        model: Loss and number of classes, which say what labels may be.

    Raises:
        DataError: A label, weight or value breaks a rule; names file and row.
    """
    labels = labels_from(read.frame, data, [label], origin=read.origin)
    check_labels(labels[label], model.num_class, model.loss_type, name=label, origin=read.origin)
    return SampleDataset(
        schema,
        encoder.transform(read.frame, locate=read.origin),
        labels,
        weights_from(read.frame, data, origin=read.origin),
        group_ids(read.frame, ids),
        read.frame.height,
    )
