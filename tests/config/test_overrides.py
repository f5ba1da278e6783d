"""Values set from the command line."""

from __future__ import annotations

import pytest
from config_samples import FULL_PBTEXT, MINIMAL, errors, pbtext

from intarsia.config.schema import PipelineConfig


def read(*overrides: str) -> PipelineConfig:
    return pbtext(FULL_PBTEXT, overrides=overrides).config


def wrong(*overrides: str) -> list[str]:
    return errors(FULL_PBTEXT, "pbtext", overrides=overrides)


def test_values() -> None:
    config = read(
        "train_config.num_steps=99", 'data_config.separator="\\x05"', "model_dir=a=b", "data_config.shuffle=false"
    )
    assert config.train_config.num_steps == 99
    assert config.data_config.separator == "\x05"
    assert config.model_dir == "a=b"
    assert config.data_config.shuffle is False


def test_elements_slices_and_selectors() -> None:
    config = read(
        "model_config.feature_groups[0].feature_names[-1]=hour",
        "feature_config.features[:].embedding_dim=32",
        "feature_config.features[input_names[0]=user_id].hash_bucket_size=7",
        "feature_config.features[feature_type=TagFeature].separator=;",
        "model_config.feature_groups[group_name=all].wide_deep=WIDE",
    )
    assert config.model.feature_groups[0].feature_names == ["user_id", "hour", "hour"]
    assert config.model.feature_groups[0].wide_deep == "WIDE"
    assert config.feature_config is not None
    features = config.feature_config.features
    assert [f.embedding_dim for f in features] == [32, 32, 32]
    assert [f.hash_bucket_size for f in features] == [7, 0, 10]
    assert [f.separator for f in features] == ["|", "|", ";"]
    two = read("feature_config.features[1:].embedding_dim=3").feature_config
    assert two is not None
    assert [f.embedding_dim for f in two.features] == [16, 3, 3]


def test_new_keys_messages_and_lists() -> None:
    config = read(
        "train_config.early_stop.patience=9",
        "export_config={exporter_type: best}",
        "eval_config.metrics_set=[auc, mae]",
        "train_config.optimizer_config[0].use_moving_average=true",
    )
    assert config.train_config.early_stop is not None
    assert config.train_config.early_stop.patience == 9
    assert config.export_config.exporter_type == "best"
    assert len(config.eval_config.metrics_set) == 2
    assert config.eval_config.metrics_set[1].mean_absolute_error is not None
    assert config.train_config.optimizer_config[0].use_moving_average


def test_other_spellings_name_the_same_place() -> None:
    block = "model_config.backbone.blocks[name=mlp]"
    config = read(f"{block}.layer.class_name=Dense", "train_config.optimizer_config[0].adam.beta1=0.5")
    assert config.model.backbone is not None
    layer = config.model.backbone.blocks[0].layer
    assert layer is not None
    assert layer.class_name == "Dense"
    assert layer.model_extra == {"mlp": {"hidden_units": [64, 32], "use_bn": True}}
    adam = config.train_config.optimizer_config[0].adam_optimizer
    assert adam is not None
    assert adam.beta1 == 0.5
    assert adam.learning_rate.exponential_decay_learning_rate is not None


def test_a_shorthand_in_the_file_can_be_set_in_its_long_form() -> None:
    text = "train_config { learning_rate: 0.1 } model_config { model_class: 'x' }"
    config = pbtext(text, overrides=["train_config.learning_rate.constant_learning_rate.learning_rate=0.2"]).config
    assert config.train_config.learning_rate is not None
    assert config.train_config.learning_rate.constant_learning_rate is not None
    assert config.train_config.learning_rate.constant_learning_rate.learning_rate == 0.2


def test_null_is_the_default_and_later_overrides_win() -> None:
    assert read("data_config.batch_size=null").data_config.batch_size == 32
    assert read("data_config.batch_size=1", "data_config.batch_size=2").data_config.batch_size == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train_config.num_steps",
            "--set train_config.num_steps: wants `path=value`, as in `train_config.num_steps=100`",
        ),
        ("=5", "--set : found '' in the path; wants keys and indices, as in `a.b[0].c`"),
        ("a..b=5", "--set a..b: found '..b' in the path; wants keys and indices, as in `a.b[0].c`"),
        ("a[x]=5", "--set a[x]: found '[x]' in the path; wants keys and indices, as in `a.b[0].c`"),
        ("a[=5", "--set a[=5: wants `path=value`, as in `train_config.num_steps=100`"),
        (
            "train_config.nm_steps=5",
            "--set train_config.nm_steps: train_config.nm_steps: unknown key. Did you mean `num_steps`?",
        ),
        (
            "train_confg.num_steps=5",
            "--set train_confg.num_steps: train_confg: unknown key. Did you mean `train_config`?",
        ),
        (
            "data_config.batch_size=0",
            "--set data_config.batch_size: data_config.batch_size: must be at least 1, received 0",
        ),
        (
            "data_config.batch_size=x",
            "--set data_config.batch_size: data_config.batch_size: wants a whole number, received the text 'x'",
        ),
        (
            "model_config.feature_groups[3].group_name=x",
            "--set model_config.feature_groups[3].group_name: model_config.feature_groups: has no element 3; it has 1",
        ),
        (
            "export_config.exporter_type.a=x",
            "--set export_config.exporter_type.a: export_config.exporter_type: wants one of "
            "final, latest, best, none, received a message { ... }",
        ),
        (
            "data_config.batch_size.a=x",
            "--set data_config.batch_size.a: data_config.batch_size: has no key `a`: it is a single value",
        ),
        (
            "data_config.batch_size[0]=1",
            "--set data_config.batch_size[0]: data_config.batch_size: has no elements: it is no list",
        ),
        (
            "model_config.seq_att_groups[0].group_name=x",
            "--set model_config.seq_att_groups[0].group_name: "
            "model_config.seq_att_groups: has no elements: it is not set",
        ),
        (
            "feature_config.features.embedding_dim=1",
            "--set feature_config.features.embedding_dim: feature_config.features: "
            "has no key `embedding_dim`: it is a list",
        ),
        (
            "feature_config.features[input_names[0]=usr_id].embedding_dim=1",
            "--set "
            "feature_config.features[input_names[0]=usr_id].embedding_dim: feature_config.features: no element matches "
            "'usr_id'. Did you mean `user_id`?",
        ),
        ("model_dir=[1", "--set model_dir: this is not YAML: "),
        (
            "model_config.feature_groups[0].feature_names[0]=usr",
            "--set model_config.feature_groups[0].feature_names[0]: "
            "model_config.feature_groups[0].feature_names[0]: `usr` is no feature. Did you mean `user_id`?",
        ),
    ],
)
def test_errors(override: str, message: str) -> None:
    (found,) = wrong(override)
    assert found.startswith(message)


def test_problems_of_overrides_are_told_with_those_of_the_file() -> None:
    found = errors(MINIMAL + "train_config: {num_steps: x}\n", overrides=["foo", "data_config.batch_size=0"])
    assert [line.split(": ")[0] for line in found] == ["--set data_config.batch_size", "--set foo", "f.yaml:2"]
