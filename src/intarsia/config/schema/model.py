# ruff: noqa: RUF012 (pydantic copies the defaults of its fields)
"""`model_config`: feature groups, the backbone's blocks, or a named model's own message."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import AliasChoices, ConfigDict, Field

from intarsia.config.schema.base import cloud, extension
from intarsia.config.schema.evaluation import MetricConfig
from intarsia.core.params import StrictModel


class WideOrDeep(StrEnum):
    """What a feature group is for."""

    DEEP = "DEEP"
    WIDE = "WIDE"


class LossType(StrEnum):
    """Losses."""

    CLASSIFICATION = "CLASSIFICATION"
    L2_LOSS = "L2_LOSS"
    SIGMOID_L2_LOSS = "SIGMOID_L2_LOSS"
    CROSS_ENTROPY_LOSS = "CROSS_ENTROPY_LOSS"
    SOFTMAX_CROSS_ENTROPY = "SOFTMAX_CROSS_ENTROPY"
    CIRCLE_LOSS = "CIRCLE_LOSS"
    MULTI_SIMILARITY_LOSS = "MULTI_SIMILARITY_LOSS"
    SOFTMAX_CROSS_ENTROPY_WITH_NEGATIVE_MINING = "SOFTMAX_CROSS_ENTROPY_WITH_NEGATIVE_MINING"
    PAIR_WISE_LOSS = "PAIR_WISE_LOSS"
    F1_REWEIGHTED_LOSS = "F1_REWEIGHTED_LOSS"
    BINARY_FOCAL_LOSS = "BINARY_FOCAL_LOSS"
    PAIRWISE_FOCAL_LOSS = "PAIRWISE_FOCAL_LOSS"
    PAIRWISE_LOGISTIC_LOSS = "PAIRWISE_LOGISTIC_LOSS"
    JRC_LOSS = "JRC_LOSS"
    ORDER_CALIBRATE_LOSS = "ORDER_CALIBRATE_LOSS"
    BINARY_CROSS_ENTROPY_LOSS = "BINARY_CROSS_ENTROPY_LOSS"
    KL_DIVERGENCE_LOSS = "KL_DIVERGENCE_LOSS"
    PAIRWISE_HINGE_LOSS = "PAIRWISE_HINGE_LOSS"
    LISTWISE_RANK_LOSS = "LISTWISE_RANK_LOSS"
    LISTWISE_DISTILL_LOSS = "LISTWISE_DISTILL_LOSS"
    ZILN_LOSS = "ZILN_LOSS"


class SeqAttentionMap(StrictModel):
    """Keys and histories of one target attention."""

    key: list[str] = []
    """Features of the target item."""
    hist_seq: list[str] = []
    """Sequences that the attention reads, in the order of the keys."""
    aux_hist_seq: list[str] = []
    """Sequences that are pooled with the same scores."""


class SeqAttentionGroup(StrictModel):
    """A target attention (DIN) inside a feature group."""

    group_name: str = ""
    """Name of the attention."""
    seq_att_map: list[SeqAttentionMap] = []
    """Keys and histories."""
    tf_summary: bool | None = cloud("there are no TensorFlow summaries")
    seq_dnn: dict[str, Any] | None = None
    """Layers of the score; default: 128, 64, 32, 1."""
    allow_key_search: bool = False
    """Whether keys outside the group are looked up."""
    need_key_feature: bool = True
    """Whether the key is appended to the output."""
    allow_key_transform: bool = False
    """Whether keys and histories of different widths are brought together."""
    transform_dnn: bool = False
    """Whether that is done by a projection instead of padding."""


class FeatureGroup(StrictModel):
    """Features that a block reads together."""

    group_name: str
    """Name that blocks refer to."""
    feature_names: list[str] = []
    """The features, in the order of their vectors. `name[1-3]` stands for name1, name2, name3."""
    wide_deep: WideOrDeep = WideOrDeep.DEEP
    """WIDE: tables as wide as wide_output_dim (1 for a linear model)."""
    sequence_features: list[SeqAttentionGroup] = []
    """Target attentions whose output joins the group's."""
    negative_sampler: bool | None = cloud("negatives are not sampled")


class Layer(StrictModel):
    """A component: `class_name` and the message of its options, named like the class in snake case, or st_params."""

    model_config = ConfigDict(extra="allow", json_schema_extra=extension("layer"), use_attribute_docstrings=True)

    class_name: str
    """Name in the component catalogue."""
    st_params: dict[str, Any] | None = None
    """Options as a mapping (protobuf: a Struct)."""


class InputLayer(StrictModel):
    """What comes out of a feature group. Where several are set: seq_and_normal, list, 3d, 2d and list, 2d."""

    do_batch_norm: bool = False
    """Whether the output is batch normalised."""
    do_layer_norm: bool = False
    """Whether the output is layer normalised."""
    dropout_rate: float = Field(default=0.0, ge=0, lt=1)
    """Share of elements dropped in training."""
    feature_dropout_rate: float = Field(default=0.0, ge=0, lt=1)
    """Probability, drawn once a batch, that a whole feature is dropped in training."""
    only_output_feature_list: bool = False
    """A list of (B, D), one a feature."""
    only_output_3d_tensor: bool = False
    """(B, F, D); all features equally wide."""
    output_2d_tensor_and_feature_list: bool = False
    """A pair: the concatenation and the list."""
    output_seq_and_normal_feature: bool = False
    """A triple: sequences (B, L, D), their lengths (B,), the other features (B, D) or None."""
    concat_seq_feature: bool = True
    """Whether several sequences are concatenated; otherwise a list."""
    wide_output_dim: int | None = Field(default=None, ge=1)
    """Width of wide tables; one value in the whole model."""


class BlockInput(StrictModel):
    """One input of a block; set one of the first four."""

    feature_group_name: str | None = None
    """A feature group."""
    block_name: str | None = None
    """Another block."""
    package_name: str | None = None
    """A package, called with package_input."""
    use_package_input: bool | None = None
    """The input that this package was called with."""
    input_slice: str | None = None
    """Python indexing, such as `[1]`, applied first."""
    input_fn: str | None = None
    """One-argument lambda, applied after the slice."""
    ignore_input: bool = False
    """Whether only the order matters and the value is left out."""
    reset_input: InputLayer | None = None
    """Input layer options that the called package uses from now on."""
    package_input: str | None = None
    """Block, package or feature group whose output the called package receives."""
    package_input_fn: str | None = None
    """One-argument lambda of package_input."""


class Recurrent(StrictModel):
    """Distinct copies of a component, each fed with the output of the one before."""

    num_steps: int = Field(default=1, ge=1)
    """Number of copies."""
    fixed_input_index: int | None = None
    """Element of the input list that stays the same at every step."""
    layer: Layer = Field(validation_alias=AliasChoices("keras_layer", "layer"))
    """The component."""


class Repeat(StrictModel):
    """Distinct copies of a component side by side."""

    num_repeat: int = Field(default=1, ge=1)
    """Number of copies."""
    output_concat_axis: int | None = None
    """Axis on which outputs are concatenated; default: a list."""
    layer: Layer = Field(validation_alias=AliasChoices("keras_layer", "layer"))
    """The component."""
    input_slice: str | None = None
    """Python indexing with `i` for the copy's number, such as `[i]`."""
    input_fn: str | None = None
    """Lambda of the input and the copy's number."""


class LambdaLayer(StrictModel):
    """A function of the merged input."""

    expression: str
    """One-argument lambda."""


class RawInput(StrictModel):
    """The group's raw tensors, in order."""


class EmbeddingLayerConfig(StrictModel):
    """One fused table over all features of a group."""

    embedding_dim: int = Field(ge=1)
    """Width."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Rows; filled in from the features."""
    combiner: Literal["mean", "sum", "max", "min", "weight"] = "weight"
    """How several values become one vector; weight: normalised weighted mean."""
    concat: bool = True
    """Whether fields are concatenated; otherwise a list."""


_KINDS = ("layer", "lambda_", "input_layer", "recurrent", "repeat", "raw_input", "embedding_layer")


class _Operation(StrictModel):
    layer: Layer | None = Field(default=None, validation_alias=AliasChoices("keras_layer", "layer"))
    """A component. `keras_layer` is the same."""
    lambda_: LambdaLayer | None = Field(default=None, alias="lambda")
    """A function of the input."""
    recurrent: Recurrent | None = None
    """Copies of a component in a row."""
    repeat: Repeat | None = None
    """Copies of a component side by side."""

    @property
    def kinds(self) -> list[str]:
        """Names of the operations that are set (one at most is right)."""
        return [kind for kind in _KINDS if getattr(self, kind, None) is not None]


class LayerStep(_Operation):
    """One step of a block's `layers`."""


class Block(_Operation):
    """A node of the graph."""

    name: str
    """Unique name."""
    inputs: list[BlockInput] = []
    """What it reads."""
    input_concat_axis: int = -1
    """Axis on which several tensors are concatenated."""
    merge_inputs_into_list: bool = False
    """Whether the inputs stay a list, one element each."""
    extra_input_fn: str | None = None
    """One-argument lambda of the merged input."""
    layers: list[LayerStep] = []
    """Operations one after another; takes the place of the single operation."""
    input_layer: InputLayer | None = None
    """Reads a feature group."""
    raw_input: RawInput | None = None
    """Reads a group's raw tensors."""
    embedding_layer: EmbeddingLayerConfig | None = None
    """Reads a group through one fused table."""


class Package(StrictModel):
    """A graph that can be called many times with the same parameters."""

    name: str
    """Unique name."""
    blocks: list[Block] = []
    """The nodes."""
    concat_blocks: list[str] = []
    """Blocks whose concatenation is the output. Default: all leaves."""
    output_blocks: list[str] = []
    """Blocks whose list is the output."""


class Backbone(StrictModel):
    """The model's graph."""

    blocks: list[Block] = []
    """The nodes."""
    packages: list[Package] = []
    """Reusable graphs."""
    concat_blocks: list[str] = []
    """Blocks whose concatenation is the output. Default: all leaves."""
    output_blocks: list[str] = []
    """Blocks whose list is the output."""
    top_mlp: dict[str, Any] | None = None
    """Options of an MLP on the output."""


class LossConfig(StrictModel):
    """One of several losses."""

    model_config = ConfigDict(extra="allow", json_schema_extra=extension("loss"), use_attribute_docstrings=True)

    loss_type: LossType
    """The loss."""
    weight: float = 1.0
    """Factor."""
    loss_name: str = ""
    """Name in logs."""
    learn_loss_weight: bool = False
    """Whether the factor is learned."""


class TaskTower(StrictModel):
    """Head of one task."""

    tower_name: str
    """Name, a suffix of prediction names."""
    label_name: str | None = None
    """Label. Default: the label at the tower's position."""
    metrics_set: list[MetricConfig] = []
    """Metrics of the task."""
    loss_type: LossType = LossType.CLASSIFICATION
    """Loss of the task."""
    num_class: int = Field(default=1, ge=1)
    """Classes."""
    dnn: dict[str, Any] | None = None
    """Layers of the tower."""
    relation_tower_names: list[str] = []
    """Earlier towers whose features this one reads."""
    relation_dnn: dict[str, Any] | None = None
    """Layers over those features."""
    weight: float = 1.0
    """Factor of the loss."""
    task_space_indicator_label: str | None = None
    """Label that says which rows belong to the task."""
    task_space_indicator_name: str | None = None
    """Column that says which rows belong to the task."""
    task_space_indicator_value: str | None = None
    """Its value for those rows."""
    in_task_space_weight: float = 1.0
    """Weight of rows of the task."""
    out_task_space_weight: float = 1.0
    """Weight of the other rows."""
    losses: list[LossConfig] = []
    """Several losses."""
    use_sample_weight: bool = True
    """Whether sample weights apply."""


class ModelParams(StrictModel):
    """Options of the models that host a backbone."""

    l2_regularization: float = Field(default=0.0, ge=0)
    """L2 strength on the kernels of layers: strength * sum(w^2) / 2."""
    outputs: list[str] | None = cloud("all predictions are written; `add_to_outputs` of a block adds one")
    task_towers: list[TaskTower] = []
    """Heads of a multi-task model."""
    user_tower_idx_in_output: int | None = cloud("an option of match models, which are not built in")
    item_tower_idx_in_output: int | None = cloud("an option of match models, which are not built in")
    simi_func: Literal["COSINE", "INNER_PRODUCT", "EUCLID"] | None = cloud(
        "an option of match models, which are not built in"
    )
    temperature: float | None = cloud("an option of match models, which are not built in")
    scale_simi: bool | None = cloud("an option of match models, which are not built in")
    item_id: str | None = cloud("an option of match models, which are not built in")
    ignore_in_batch_neg_sam: bool | None = cloud("an option of match models, which are not built in")


class ObjectiveConfig(StrictModel):
    """What a retriever minimises: one objective with its options. A bare word such as `softmax` will do."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra=extension("objective"), use_attribute_docstrings=True, frozen=False
    )


class SamplerConfig(StrictModel):
    """Where negatives come from: one sampler with its options. A bare word such as `uniform` will do."""

    model_config = ConfigDict(extra="allow", json_schema_extra=extension("sampler"), use_attribute_docstrings=True)


class ModelConfig(StrictModel):
    """The model: a class with a backbone, or a class with its own message, named like the class in snake case."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra=extension("model"), use_attribute_docstrings=True, protected_namespaces=()
    )

    model_class: str
    """Name in the model catalogue."""
    model_name: str | None = None
    """A comment."""
    feature_groups: list[FeatureGroup] = []
    """Groups of features."""
    backbone: Backbone | None = None
    """The graph."""
    model_params: ModelParams = Field(default_factory=ModelParams)
    """Options of the host of a backbone."""
    seq_att_groups: list[SeqAttentionGroup] = []
    """Target attentions of older models."""
    embedding_regularization: float = Field(default=0.0, ge=0)
    """strength * sum(x^2) / 2 over the vectors that the batch looked up."""
    loss_type: LossType = LossType.CLASSIFICATION
    """The loss."""
    num_class: int = Field(default=1, ge=1)
    """Classes; 1: one logit."""
    label_name: str | None = None
    """Label. Default: the first of label_fields."""
    objective: ObjectiveConfig | None = None
    """What a retriever minimises. Default: the model's own. Not in EasyRec."""
    negatives: SamplerConfig | None = None
    """Where the negatives of the objective come from. Default: uniform. Not in EasyRec."""
    losses: list[LossConfig] = []
    """Several losses instead of loss_type."""
    loss_weight_strategy: Literal["Fixed", "Uncertainty", "Random"] = "Fixed"
    """How several losses are weighted."""
    kd: list[dict[str, Any]] = []
    """Distillation from columns."""
    restore_filters: list[str] = []
    """Regular expressions of parameters that are not restored when fine-tuning."""
    variational_dropout: dict[str, Any] | None = None
    """Feature selection by dropout."""
    ev_params: dict[str, Any] | None = cloud("embedding variables of a TensorFlow fork")
