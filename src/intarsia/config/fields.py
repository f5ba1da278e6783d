"""What the schema's models say of their keys: types, other spellings, groups of which one may be set.

The readers of a tree (`regroup`, `check`) ask here instead of looking into pydantic.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from intarsia.config.schema.data import DataConfig, FieldType, InputType, SplitConfig
from intarsia.config.schema.evaluation import METRIC_SHORTHANDS, MetricConfig, RankingProtocol
from intarsia.config.schema.features import FeatureType, Initializer, SequenceCombiner
from intarsia.config.schema.model import (
    Block,
    BlockInput,
    LayerStep,
    LossType,
    ObjectiveConfig,
    SamplerConfig,
    WideOrDeep,
)
from intarsia.config.schema.pipeline import PipelineConfig
from intarsia.config.schema.retrieval import IndexConfig
from intarsia.config.schema.training import OPTIMIZER_WORDS, LearningRate, OptimizerConfig, TrainConfig

Model = type[BaseModel]


@dataclass(frozen=True)
class Extensions:
    """Messages that later pieces add to the schema.

    Attributes:
        messages: By kind (`layer`, `model`, `loss`), the messages that may stand beside the schema's own keys, by key.
        classes: By kind, the options of each `class_name`; `st_params` of a layer is checked against them.
        fields: The message of a field that the schema knows only as a mapping, such as `(Backbone, "top_mlp")`.
    """

    messages: Mapping[str, Mapping[str, Model]] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, Model]] = field(default_factory=dict)
    fields: Mapping[tuple[Model, str], Model] = field(default_factory=dict)

    def of_field(self, model: Model, name: str) -> Model | None:
        """The message of a field that is a plain mapping in the schema."""
        return next((self.fields[base, name] for base in model.__mro__ if (base, name) in self.fields), None)


@dataclass(frozen=True)
class Shape:
    """What a value should look like.

    Attributes:
        kind: `mapping` is free-form, `any` is anything.
        optional: Whether nothing will do.
        model: kind `message`.
        inner: kind `list`: the elements.
        options: kind `choice`: values that are right. kind `union`: -.
        members: kind `union`.
        numbers: kind `choice`: numeric spellings.
    """

    kind: Literal["message", "list", "choice", "bool", "int", "float", "text", "union", "mapping", "any"]
    optional: bool = False
    model: Model | None = None
    inner: Shape | None = None
    options: tuple[Any, ...] = ()
    members: tuple[Shape, ...] = ()
    numbers: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        if self.kind == "message":
            return "a message { ... }"
        if self.kind == "list":
            return f"a list of {self.inner}"
        if self.kind == "choice":
            return "one of " + ", ".join(str(option) for option in self.options)
        if self.kind == "union":
            return " or ".join(str(member) for member in self.members)
        words = {"bool": "true or false", "int": "a whole number", "float": "a number", "text": "text"}
        return words.get(self.kind, "a mapping" if self.kind == "mapping" else "a value")


@dataclass(frozen=True)
class Field:
    """One key of a message.

    Attributes:
        name: Attribute of the pydantic model.
        key: Key of validated data, of messages and of saved files.
        no_effect: Why the field is accepted and ignored, or None.
    """

    name: str
    key: str
    spellings: tuple[str, ...]
    shape: Shape
    required: bool
    no_effect: str | None


@cache
def fields_of(model: Model) -> dict[str, Field]:
    """The fields of a message by the key that saved files use."""
    # A message's own fields before those that it shares with others: a block is headed by its name.
    owners: dict[str, int] = {}
    for distance, base in enumerate(model.__mro__):
        for name in inspect.get_annotations(base):
            owners.setdefault(name, distance)
    infos = sorted(model.model_fields.items(), key=lambda pair: owners.get(pair[0], 0))
    return {item.key: item for item in (_field(name, info) for name, info in infos)}


@cache
def spellings_of(model: Model) -> dict[str, str]:
    """Every accepted key of a message, with the key that saved files use."""
    out = {spelling: item.key for item in fields_of(model).values() for spelling in item.spellings}
    return {**{word: key for word, key in SHORT_KEYS.get(model, {}).items() if key in out}, **out}


def camel_to_snake(key: str) -> str:
    """`trainInputPath` as `train_input_path`, as in proto JSON."""
    return re.sub(r"(?<=[a-z0-9])[A-Z]|(?<!^)[A-Z](?=[a-z])", lambda match: "_" + match.group().lower(), key).lower()


def extension_kind(model: Model) -> str | None:
    """Name of the catalogue that extends a message, or None."""
    extra = model.model_config.get("json_schema_extra")
    kind = extra.get("extension") if isinstance(extra, dict) else None
    return kind if isinstance(kind, str) else None


def _field(name: str, info: FieldInfo) -> Field:
    alias = info.validation_alias
    spellings: tuple[str, ...] = (name,)
    if isinstance(alias, AliasChoices):
        spellings = tuple(str(choice) for choice in alias.choices)
    elif isinstance(alias, str):
        spellings = (alias,)
    key = info.serialization_alias or (name if name in spellings else spellings[0])
    extra = info.json_schema_extra
    no_effect = extra.get("no_effect") if isinstance(extra, dict) else None
    why = str(no_effect) if no_effect is not None else None
    return Field(name, key, spellings, shape_of(typing.cast(Any, info.annotation)), info.is_required(), why)


@cache
def shape_of(annotation: Any) -> Shape:
    """The shape that a type annotation asks for."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return shape_of(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = tuple(shape_of(arg) for arg in get_args(annotation) if arg is not type(None))
        optional = type(None) in get_args(annotation)
        if len(members) == 1:
            return _replace_optional(members[0], optional)
        return Shape("union", optional, members=members)
    if origin is Literal:
        return Shape("choice", options=get_args(annotation), numbers=_literal_numbers(get_args(annotation)))
    if annotation is list or origin in (list, tuple, set, frozenset) or _is_sequence(origin):
        arguments = [arg for arg in get_args(annotation) if arg is not Ellipsis]
        inner = shape_of(arguments[0]) if arguments else Shape("any")
        return Shape("list", inner=inner)
    if isinstance(annotation, type):
        return _shape_of_class(annotation)
    return Shape("mapping") if origin is dict or _is_mapping(origin) else Shape("any")


def _shape_of_class(annotation: type) -> Shape:
    if issubclass(annotation, BaseModel):
        return Shape("message", model=annotation)
    if issubclass(annotation, Enum):
        options = tuple(member.value for member in annotation)
        return Shape("choice", options=options, numbers=tuple(ENUM_NUMBERS.get(annotation, {}).items()))
    for kind, known in (("bool", bool), ("int", int), ("float", float), ("text", str), ("mapping", dict)):
        if annotation is known:
            return Shape(typing.cast(Any, kind))
    return Shape("any")


def _replace_optional(shape: Shape, optional: bool) -> Shape:
    return Shape(shape.kind, optional, shape.model, shape.inner, shape.options, shape.members, shape.numbers)


def _is_sequence(origin: Any) -> bool:
    return isinstance(origin, type) and getattr(origin, "__name__", "") == "Sequence"


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and getattr(origin, "__name__", "") in ("Mapping", "MutableMapping")


def _literal_numbers(options: tuple[Any, ...]) -> tuple[tuple[int, str], ...]:
    # Enums of protobuf that the schema has as literals are numbered in their order there.
    numbered = (("Fixed", "Uncertainty", "Random"), ("COSINE", "INNER_PRODUCT", "EUCLID"))
    return tuple(enumerate(options)) if options in numbered else ()


ENUM_NUMBERS: dict[type, dict[int, str]] = {
    FieldType: {0: "INT32", 1: "INT64", 2: "STRING", 4: "FLOAT", 5: "DOUBLE", 6: "BOOL"},
    InputType: {
        2: "OdpsInput",
        3: "OdpsInputV2",
        4: "RTPInput",
        5: "RTPInputV2",
        7: "TFRecordInput",
        8: "DummyInput",
        9: "OdpsInputV3",
        10: "CSVInput",
        11: "CSVInputV2",
        12: "CSVInputEx",
        13: "KafkaInput",
        14: "BatchTFRecordInput",
        15: "DataHubInput",
        16: "HiveInput",
        17: "HiveRTPInput",
        18: "HiveParquetInput",
        19: "ParquetInput",
        20: "ParquetInputV2",
        21: "ParquetInputV3",
        601: "OdpsRTPInput",
        602: "OdpsRTPInputV2",
        1001: "CriteoInput",
    },
    FeatureType: {
        0: "IdFeature",
        1: "RawFeature",
        2: "TagFeature",
        3: "ComboFeature",
        4: "LookupFeature",
        5: "SequenceFeature",
        6: "ExprFeature",
    },
    WideOrDeep: {0: "DEEP", 1: "WIDE"},
    LossType: {number: member.value for number, member in enumerate(LossType)},
}
"""Numbers that stand for names in protobuf."""

SHORT_KEYS: dict[Model, dict[str, str]] = {
    OptimizerConfig: OPTIMIZER_WORDS,
    MetricConfig: {**METRIC_SHORTHANDS, **{name: name for name in MetricConfig.model_fields}},
    ObjectiveConfig: {},
    SamplerConfig: {},
}
"""Messages that a bare word stands for, with the key that each word sets (where it is not the word itself)."""

WORD_FIELDS: dict[Model, str] = {SplitConfig: "by", RankingProtocol: "candidates", IndexConfig: "kind"}
"""Messages that a bare word stands for, with the field whose value the word is."""

NUMBER_KEYS: dict[Model, tuple[str, str]] = {LearningRate: ("constant_learning_rate", "learning_rate")}
"""Messages that a bare number stands for."""

_OPERATIONS = ("layer", "lambda", "recurrent", "repeat")


@dataclass(frozen=True)
class OneOf:
    """Keys of a message of which at most one (exactly one, where `needed`) is set."""

    keys: tuple[str, ...]
    needed: bool = False


def one_ofs(model: Model) -> tuple[OneOf, ...]:
    """The groups of a message."""
    return _ONE_OFS.get(model, ())


def _optimizers() -> tuple[str, ...]:
    return tuple(name for name in OptimizerConfig.model_fields if name.endswith("_optimizer"))


_SOURCES = (
    "{}_input_path",
    "parquet_{}_input",
    "binary_{}_input",
    "kafka_{}_input",
    "datahub_{}_input",
    "hive_{}_input",
)
_ONE_OFS: dict[Model, tuple[OneOf, ...]] = {
    PipelineConfig: tuple(OneOf(tuple(s.format(part) for s in _SOURCES)) for part in ("train", "eval")),
    BlockInput: (OneOf(("feature_group_name", "block_name", "package_name", "use_package_input"), needed=True),),
    TrainConfig: (OneOf(("optimizer_config", "optimizer")),),
    OptimizerConfig: (OneOf(_optimizers()),),
    LearningRate: (OneOf(tuple(LearningRate.model_fields)),),
    MetricConfig: (OneOf(tuple(MetricConfig.model_fields), needed=True),),
    Initializer: (OneOf(tuple(Initializer.model_fields)),),
    SequenceCombiner: (OneOf(tuple(SequenceCombiner.model_fields)),),
    Block: (OneOf((*_OPERATIONS, "input_layer", "raw_input", "embedding_layer")),),
    LayerStep: (OneOf(_OPERATIONS),),
    DataConfig: (OneOf(tuple(name for name in DataConfig.model_fields if "negative_sampler" in name)),),
}
