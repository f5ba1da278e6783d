"""Short ways to encode a column and to read what came out."""

from itertools import pairwise

import polars as pl
import xxhash

from intarsia.config.schema.data import DataConfig
from intarsia.config.schema.features import FeatureConfig
from intarsia.data.features import FeatureEncoder


def encoder_of(*features, fields=None, base_dir=None, **data):
    configs = [FeatureConfig.model_validate(feature) for feature in features]
    if fields is not None:
        data["input_fields"] = fields
    return FeatureEncoder(configs, DataConfig.model_validate(data), base_dir=base_dir)


def encode(frame, fields=None, base_dir=None, fit=None, on_bad_rows=None, **feature):
    """One feature over one frame (a mapping of columns will do)."""
    data = {} if on_bad_rows is None else {"on_bad_rows": on_bad_rows}
    encoder = encoder_of(feature, fields=fields, base_dir=base_dir, **data)
    frame = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(frame)
    encoder.fit(frame if fit is None else pl.DataFrame(fit))
    (column,) = encoder.transform(frame).values()
    (spec,) = encoder.schema_features.values()
    return column, spec


def ids(column):
    return column.values.tolist()


def rows(column):
    """A jagged column as lists, of lists where steps hold several values."""
    values = column.values.tolist()
    if column.inner_offsets is not None:
        values = [values[a:b] for a, b in pairwise(column.inner_offsets.tolist())]
    return [values[a:b] for a, b in zip(column.starts.tolist(), column.ends.tolist(), strict=True)]


def weights(column):
    values = column.weights.tolist()
    return [values[a:b] for a, b in zip(column.starts.tolist(), column.ends.tolist(), strict=True)]


def bucket(text, size):
    return xxhash.xxh64_intdigest(text.encode()) % size
