# ruff: noqa: RUF012 (pydantic copies the defaults of its fields)
"""`feature_config`: how raw columns become features."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from intarsia.config.schema.base import cloud
from intarsia.core.params import StrictModel


class FeatureType(StrEnum):
    """Kinds of feature."""

    IdFeature = "IdFeature"
    RawFeature = "RawFeature"
    TagFeature = "TagFeature"
    SequenceFeature = "SequenceFeature"
    ComboFeature = "ComboFeature"
    LookupFeature = "LookupFeature"
    ExprFeature = "ExprFeature"
    PassThroughFeature = "PassThroughFeature"


class NormalInitializer(StrictModel):
    """Normal draws."""

    mean: float = 0.0
    """Mean of the draws."""
    stddev: float = Field(default=1.0, ge=0)
    """Standard deviation of the draws."""


class GlorotInitializer(StrictModel):
    """Normal draws with the Glorot variance."""


class ConstantInitializer(StrictModel):
    """Given values."""

    consts: list[float] = [0.0]
    """One value for all entries, or one for each entry of the table in row order."""


class Initializer(StrictModel):
    """How a table starts; set one of the fields. Default: truncated normal with standard deviation 1/sqrt(D)."""

    truncated_normal_initializer: NormalInitializer | None = None
    """Normal draws, redrawn beyond two standard deviations."""
    random_normal_initializer: NormalInitializer | None = None
    """Normal draws."""
    glorot_normal_initializer: GlorotInitializer | None = None
    """Normal draws with the Glorot variance."""
    constant_initializer: ConstantInitializer | None = None
    """Given values."""


class TextCnnCombiner(StrictModel):
    """Pools a sequence by convolutions and maxima over time."""

    filter_sizes: list[int]
    """Widths of the filters, in steps."""
    num_filters: list[int]
    """Number of filters of each width."""
    pad_sequence_length: int = Field(default=0, ge=0)
    """Length that sequences are padded or cut to; 0: max_seq_len, or the widest filter where that is not set."""
    activation: str = "relu"
    """Activation after the convolution."""
    mlp: dict[str, Any] | None = None
    """MLP after pooling."""


class AttentionCombiner(StrictModel):
    """Pools a sequence by a softmax over a learned linear score of each step."""


class SequenceCombiner(StrictModel):
    """How a sequence in an ordinary feature group becomes one vector; set one of the fields."""

    attention: AttentionCombiner | None = None
    """Softmax of a linear score."""
    text_cnn: TextCnnCombiner | None = None
    """Convolutions over the steps."""
    multi_head_attention: dict[str, Any] | None = None
    """Declared upstream and implemented nowhere: an error."""


class FeatureConfig(StrictModel):
    """One feature."""

    feature_name: str | None = None
    """Name in feature groups. Default: the first of input_names."""
    input_names: list[str] = Field(min_length=1)
    """Raw columns that the feature reads."""
    feature_type: FeatureType = FeatureType.IdFeature
    """Kind of feature."""
    sub_feature_type: FeatureType = FeatureType.IdFeature
    """SequenceFeature: kind of one step, IdFeature or RawFeature."""
    embedding_name: str = ""
    """Features with the same embedding_name share one table."""
    embedding_dim: int = Field(default=0, ge=0)
    """Width of the embedding."""
    hash_bucket_size: int = Field(default=0, ge=0)
    """Rows of the table; ids are the hash of the value's text modulo this."""
    vocab_list: list[str] = []
    """The values, in row order."""
    vocab_file: str = ""
    """File with one value a line, in row order."""
    vocab: Literal["auto"] | None = None
    """`auto`: learned from the training part; row 0 is for unseen values. Not in EasyRec."""
    min_count: int = Field(default=1, ge=1)
    """vocab: auto: values seen less often share row 0. Not in EasyRec."""
    num_buckets: int = Field(default=0, ge=0)
    """Rows of the table; the value is the row. Raw features with min_val and max_val: equally wide buckets."""
    boundaries: list[float] = []
    """Sorted borders; bucket k holds values with k borders at or below them."""
    separator: str = "|"
    """What stands between the values of a cell."""
    kv_separator: str = ""
    """What stands between a tag and its weight, or a key and its value."""
    seq_multi_sep: str = ""
    """What stands between the values of one step of a sequence."""
    max_seq_len: int = Field(default=0, ge=0)
    """First steps of a sequence that are kept; 0: all."""
    keep: Literal["first", "last"] = "first"
    """Which end of a sequence longer than max_seq_len is kept. Not in EasyRec, which keeps the first."""
    shared_names: list[str] = []
    """Further columns that get a copy of this configuration (not of the weights: see embedding_name)."""
    lookup_max_sel_elem_num: int = Field(default=10, ge=1)
    """LookupFeature: values of one key that are kept."""
    max_partitions: int | None = cloud("a hint for splitting tables over parameter servers")
    combiner: Literal["sum", "mean", "sqrtn", "min", "max"] = "sum"
    """How several values become one vector."""
    initializer: Initializer | None = None
    """How the table starts."""
    precision: int = -1
    """Digits after the point when a float becomes text; -1: floats must not be used as ids."""
    min_val: float = 0.0
    """Raw: becomes 0."""
    max_val: float = 0.0
    """Raw: becomes 1; nothing is scaled unless max_val is above min_val."""
    normalizer_fn: str | None = None
    """Raw: function of the numbers, such as `tf.math.log1p` or `lambda x: tf.math.log(x + 1)`."""
    raw_input_dim: int = Field(default=1, ge=1)
    """Raw: numbers in one cell (or one step)."""
    sequence_combiner: SequenceCombiner | None = None
    """How a sequence in an ordinary group becomes one vector."""
    sequence_length: int | None = Field(default=None, ge=1)
    """Raw sequences without max_seq_len: steps that are kept. Default: all."""
    expression: str = ""
    """ExprFeature: expression over the inputs."""
    combo_join_sep: str = ""
    """ComboFeature: what stands between the joined texts; empty: a hash of all inputs."""
    combo_input_seps: list[str] = []
    """ComboFeature: separator inside each multi-valued input."""
    ev_params: dict[str, Any] | None = cloud("embedding variables of a TensorFlow fork")

    @property
    def name(self) -> str:
        """Name in feature groups."""
        return self.feature_name or self.input_names[0]


class FeatureConfigs(StrictModel):
    """All features."""

    features: list[FeatureConfig] = []
    """The features."""
    embedding_on_cpu: bool | None = cloud("tables live where the model lives")
