"""The messages of a pipeline file, one pydantic model each.

Names and defaults are EasyRec's; what has no counterpart there says so in its help text.
"""

from intarsia.config.schema.data import (
    DataConfig,
    ExtraLabelFunc,
    FieldType,
    FilterConfig,
    InputField,
    InputType,
    LogConfig,
    SplitConfig,
)
from intarsia.config.schema.evaluation import EvalConfig, ExportConfig, MetricConfig
from intarsia.config.schema.features import FeatureConfig, FeatureConfigs, FeatureType, Initializer, SequenceCombiner
from intarsia.config.schema.model import (
    Backbone,
    Block,
    BlockInput,
    FeatureGroup,
    InputLayer,
    Layer,
    LossConfig,
    LossType,
    ModelConfig,
    ModelParams,
    ObjectiveConfig,
    Package,
    Recurrent,
    Repeat,
    SamplerConfig,
    TaskTower,
    WideOrDeep,
)
from intarsia.config.schema.pipeline import PipelineConfig
from intarsia.config.schema.training import LearningRate, OptimizerConfig, TrainConfig

__all__ = [
    "Backbone",
    "Block",
    "BlockInput",
    "DataConfig",
    "EvalConfig",
    "ExportConfig",
    "ExtraLabelFunc",
    "FeatureConfig",
    "FeatureConfigs",
    "FeatureGroup",
    "FeatureType",
    "FieldType",
    "FilterConfig",
    "Initializer",
    "InputField",
    "InputLayer",
    "InputType",
    "Layer",
    "LearningRate",
    "LogConfig",
    "LossConfig",
    "LossType",
    "MetricConfig",
    "ModelConfig",
    "ModelParams",
    "ObjectiveConfig",
    "OptimizerConfig",
    "Package",
    "PipelineConfig",
    "Recurrent",
    "Repeat",
    "SamplerConfig",
    "SequenceCombiner",
    "SplitConfig",
    "TaskTower",
    "TrainConfig",
    "WideOrDeep",
]
