"""Pipeline texts that several tests read."""

from __future__ import annotations

from pydantic import BaseModel

from intarsia.config.fields import Extensions
from intarsia.config.load import LoadedConfig, parse_text
from intarsia.config.schema import Backbone
from intarsia.core.errors import ConfigError
from intarsia.core.params import StrictModel

CL4SREC = """
model_config: {
  model_name: 'CL4SRec'
  model_class: 'RankModel'
  feature_groups: {
    group_name: 'item'
    feature_names: 'adgroup_id'
    feature_names: 'cate_id'
    feature_names: 'price'
    wide_deep: DEEP
  }
  feature_groups: {
    group_name: 'user'
    feature_names: 'user_id'
    feature_names: 'age_level'
    wide_deep: DEEP
  }
  feature_groups: {
    group_name: 'user_seq'
    feature_names: "tag_brand_list"
    feature_names: "tag_category_list"
    wide_deep: DEEP
  }
  backbone {
    blocks {
      name: 'user_seq'
      inputs { feature_group_name: 'user_seq' }
      input_layer { output_seq_and_normal_feature: true }
    }
    packages {
      name: 'seq_augment'
      blocks {
        name: 'augment'
        inputs { block_name: 'user_seq' }
        keras_layer {
          class_name: 'SeqAugment'
          seq_aug { mask_rate: 0.6 crop_rate: 0.2 reorder_rate: 0.6 }
        }
      }
    }
    packages {
      name: 'seq_encoder'
      blocks {
        name: 'BST'
        inputs { use_package_input: true }
        keras_layer {
          class_name: 'BST'
          bst {
            hidden_size: 128
            num_attention_heads: 2
            hidden_act: 'gelu'
            attention_probs_dropout_prob: 0
            output_all_token_embeddings: false
          }
        }
      }
    }
    blocks {
      name: 'contrastive'
      inputs { package_name: 'seq_encoder' package_input: 'seq_augment' }
      inputs { package_name: 'seq_encoder' package_input: 'seq_augment' }
      merge_inputs_into_list: true
      keras_layer {
        class_name: 'AuxiliaryLoss'
        st_params {
          fields { key: 'loss_type' value: { string_value: 'nce_loss' } }
          fields { key: 'loss_weight' value: { number_value: 0.1 } }
          fields { key: 'temperature' value: { number_value: 0.15 } }
        }
      }
    }
    blocks {
      name: 'main'
      inputs { package_name: 'seq_encoder' package_input: 'user_seq' }
      inputs { feature_group_name: 'user' }
      inputs { feature_group_name: 'item' }
    }
    concat_blocks: 'main'
    top_mlp { hidden_units: [256, 128] }
  }
  model_params { l2_regularization: 0 }
  embedding_regularization: 0
}
"""

WIDE_AND_DEEP = """
model_config: {
model_name: "WideAndDeep"
model_class: "RankModel"
feature_groups: {
group_name: 'wide'
feature_names: 'user_id'
feature_names: 'movie_id'
wide_deep: WIDE
}
feature_groups: {
group_name: 'deep'
feature_names: 'user_id'
feature_names: 'movie_id'
wide_deep: DEEP
}
backbone {
blocks {
name: 'wide'
inputs {
feature_group_name: 'wide'
}
input_layer {
only_output_feature_list: true
wide_output_dim: 1
}
}
blocks {
name: 'deep_logit'
inputs {
feature_group_name: 'deep'
}
keras_layer {
class_name: 'MLP'
mlp {
hidden_units: [256, 256, 256, 1]
use_final_bn: false
final_activation: 'linear'
}
}
}
blocks {
name: 'final_logit'
inputs {
block_name: 'wide'
input_fn: 'lambda x: tf.add_n(x)'
}
inputs {
block_name: 'deep_logit'
}
merge_inputs_into_list: true
keras_layer {
class_name: 'Add'
}
}
concat_blocks: 'final_logit'
}
model_params {
l2_regularization: 1e-4
}
embedding_regularization: 1e-4
}
"""

FULL_PBTEXT = (
    r"""
train_input_path: "data/train.csv"   # a comment
eval_input_path: 'data/' 'valid.csv'
model_dir: "runs/x";
train_config {
  optimizer_config: {
    adam_optimizer: {
      learning_rate: <
        exponential_decay_learning_rate { initial_learning_rate: 1e-3, decay_steps: 1000 decay_factor: 0.5f
                                          min_learning_rate: .00001 }
      >
    }
    use_moving_average: False
  }
  log_step_count_steps: 100
  num_steps: 10
}
eval_config { metrics_set { auc {} } metrics_set: { gauc { uid_field: 'user_id' } } }
data_config {
  input_fields { input_name: 'clk' input_type: INT32 }
  input_fields { input_name: 'user_id' default_val: '0' }
  input_fields: [{ input_name: 'hour', input_type: DOUBLE }, { input_name: 'tags' }]
  label_fields: 'clk'
  separator: '\002'
  batch_size: 64
  input_type: CSVInput
}
feature_config {
  features { input_names: 'user_id' feature_type: IdFeature embedding_dim: 16 hash_bucket_size: 100 }
  features { input_names: 'hour' feature_type: RawFeature boundaries: [0, 1.5] boundaries: 2 embedding_dim: 8 }
  features { input_names: 'tags' feature_type: TagFeature separator: '"""
    + "\x03"
    + r"""' hash_bucket_size: 10
             embedding_dim: 8 }
}
model_config {
  model_class: 'RankModel'
  feature_groups { group_name: 'all' feature_names: ['user_id', 'hour'] feature_names: 'tags' wide_deep: DEEP }
  backbone {
    blocks {
      name: 'mlp'
      inputs { feature_group_name: 'all' }
      keras_layer { class_name: 'MLP' mlp { hidden_units: 64 hidden_units: 32 use_bn: true } }
    }
  }
  embedding_regularization: 1e-05
}
"""
)

FULL_YAML = r"""
train_input_path: data/train.csv
eval_input_path: data/valid.csv
model_dir: runs/x
train_config:
  optimizer_config:
    adam:
      learning_rate:
        exponential_decay_learning_rate:
          {initial_learning_rate: 1e-3, decay_steps: 1000, decay_factor: 0.5, min_learning_rate: 1e-5}
    use_moving_average: false
  log_step_count_steps: 100
  num_steps: 10
eval_config:
  metrics_set: [auc, gauc: {uid_field: user_id}]
data_config:
  input_fields:
  - {input_name: clk, input_type: INT32}
  - {input_name: user_id, default_val: '0'}
  - {input_name: hour, input_type: DOUBLE}
  - input_name: tags
  label_fields: clk
  separator: "\x02"
  batch_size: 64
feature_config:
  features:
  - {input_names: user_id, embedding_dim: 16, hash_bucket_size: 100}
  - {input_names: [hour], feature_type: RawFeature, boundaries: [0, 1.5, 2], embedding_dim: 8}
  - {input_names: [tags], feature_type: TagFeature, separator: "\x03", hash_bucket_size: 10, embedding_dim: 8}
model_config:
  model_class: RankModel
  feature_groups:
  - {group_name: all, feature_names: [user_id, hour, tags]}
  backbone:
    blocks:
    - name: mlp
      inputs: {feature_group_name: all}
      layer: {class_name: MLP, mlp: {hidden_units: [64, 32], use_bn: true}}
  embedding_regularization: 0.00001
"""

MINIMAL = "model_config: {model_class: RankModel}\n"


class Mlp(StrictModel):
    """A stack of layers."""

    hidden_units: list[int]
    """Widths."""
    use_bn: bool = True
    """Whether to normalise."""
    activation: str = "relu"
    """Activation."""


class Gate(StrictModel):
    """A message with a message and a scalar or list."""

    mlp: Mlp | None = None
    """Inner."""
    dims: int | list[int] = 4
    """One or several."""
    rate: float | None = 0.5
    """May be nothing."""


class DeepFm(StrictModel):
    """A model with a raw mapping in it."""

    dnn: Mlp
    """Layers."""
    wide_output_dim: int = 1
    """Width."""


class AuxiliaryLoss(StrictModel):
    """Options of a layer given as a Struct."""

    loss_type: str
    """Name."""
    loss_weight: float = 1.0
    """Factor."""
    steps: int = 1
    """A whole number."""


EXTENSIONS = Extensions(
    messages={"layer": {"mlp": Mlp, "gate": Gate}, "model": {"deepfm": DeepFm}},
    classes={"layer": {"MLP": Mlp, "Gate": Gate, "AuxiliaryLoss": AuxiliaryLoss}},
    fields={(Backbone, "top_mlp"): Mlp},
)


def yaml(text: str, **options: object) -> LoadedConfig:
    return parse_text(text, "yaml", "f.yaml", **options)  # type: ignore[arg-type]


def pbtext(text: str, **options: object) -> LoadedConfig:
    return parse_text(text, "pbtext", "f.config", **options)  # type: ignore[arg-type]


def errors(text: str, kind: str = "yaml", **options: object) -> list[str]:
    """The problems of a text, one line each; no problems is an empty list."""
    name = {"yaml": "f.yaml", "pbtext": "f.config", "json": "f.json"}[kind]
    try:
        parse_text(text, kind, name, **options)  # type: ignore[arg-type]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def same(one: BaseModel, two: BaseModel) -> bool:
    """Equal, and equal in what each value's type is."""
    return one == two and repr(one) == repr(two)
