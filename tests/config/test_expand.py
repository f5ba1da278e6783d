"""Shorthands that need more than one message."""

from __future__ import annotations

import pytest
from config_samples import MINIMAL, errors, pbtext, yaml


def test_the_older_feature_list_moves() -> None:
    text = """feature_configs { input_names: 'a' hash_bucket_size: 5 } feature_configs: { input_names: 'b' }
      model_config { model_class: 'x' }"""
    config = pbtext(text).config
    assert config.feature_config is not None
    assert [f.name for f in config.feature_config.features] == ["a", "b"]
    assert config.feature_configs == []


def test_both_feature_lists_are_an_error() -> None:
    text = MINIMAL + "feature_config: {features: [{input_names: a}]}\nfeature_configs: [{input_names: b}]\n"
    assert errors(text) == [
        "f.yaml:3: feature_configs: both `feature_config` and `feature_configs` are given; keep "
        "`feature_config.features` (line 2)"
    ]


def test_errors_in_the_older_list_have_their_lines() -> None:
    text = "feature_configs {\n input_names: 'a'\n hash_bucket_size: 'x'\n}\nmodel_config { model_class: 'x' }"
    (found,) = errors(text, "pbtext")
    assert found == (
        "f.config:3: feature_config.features[0].hash_bucket_size: wants a whole number, received the text 'x'"
    )


def test_shared_names_copy_the_configuration_not_the_name() -> None:
    text = (
        MINIMAL
        + """feature_config:
  features:
  - {input_names: a, feature_name: first, shared_names: [b, c], embedding_dim: 7, combiner: mean}
  - {input_names: z}
"""
    )
    config = yaml(text).config
    assert config.feature_config is not None
    features = config.feature_config.features
    assert [f.name for f in features] == ["first", "b", "c", "z"]
    assert [f.input_names for f in features] == [["a"], ["b"], ["c"], ["z"]]
    assert [(f.embedding_dim, f.combiner, f.embedding_name, f.shared_names) for f in features[:3]] == [
        (7, "mean", "", [])
    ] * 3


RANGES = """data_config:
  auto_expand_input_fields: true
  input_fields: [{input_name: 'f[1-3]', input_type: INT32}, {input_name: g}]
feature_config:
  features: [{input_names: f1, shared_names: 'f[2-3]'}, {input_names: g}]
model_config: {model_class: x, feature_groups: {group_name: a, feature_names: ['f[1-3]', g]}}
"""


def test_ranges() -> None:
    config = yaml(RANGES).config
    assert [(f.input_name, f.input_type.value) for f in config.data_config.input_fields] == [
        ("f1", "INT32"),
        ("f2", "INT32"),
        ("f3", "INT32"),
        ("g", "STRING"),
    ]
    assert config.feature_config is not None
    assert [f.name for f in config.feature_config.features] == ["f1", "f2", "f3", "g"]
    assert config.model.feature_groups[0].feature_names == ["f1", "f2", "f3", "g"]


def test_ranges_in_input_fields_only_where_asked() -> None:
    found = errors(RANGES.replace("auto_expand_input_fields: true", "auto_expand_input_fields: false"))
    assert any("`f1` is no input_name of data_config.input_fields" in line for line in found)


def test_names_of_a_range_are_checked() -> None:
    found = errors(RANGES.replace("['f[1-3]', g]", "['f[2-4]', g]"))
    assert found == [
        "f.yaml:6: model_config.feature_groups[0].feature_names[2]: `f4` is no feature. The features: f1, f2, f3, g."
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f[3-1]", "the range in `f[3-1]` runs from 3 down to 1; it must not fall"),
        ("f[a-b]", "the range in `f[a-b]` wants two whole numbers, as in `name[1-21]`"),
        ("f[1-99999999]", "the range in `f[1-99999999]` stands for more than 100000 names"),
    ],
)
def test_wrong_ranges(name: str, message: str) -> None:
    text = f"model_config: {{model_class: x, feature_groups: {{group_name: a, feature_names: ['{name}']}}}}\n"
    assert errors(text) == [f"f.yaml:1: model_config.feature_groups[0].feature_names[0]: {message}"]
