"""Configurations written out again."""

from __future__ import annotations

from typing import Any

import pytest
from config_samples import CL4SREC, EXTENSIONS, FULL_PBTEXT, FULL_YAML, MINIMAL, WIDE_AND_DEEP, pbtext, same, yaml
from config_trees import pipelines
from hypothesis import given
from yaml import safe_load

from intarsia.config.load import from_mapping
from intarsia.config.resolve import dump_yaml, resolved


@pytest.mark.parametrize("text", [CL4SREC, WIDE_AND_DEEP, FULL_PBTEXT], ids=["cl4srec", "wide_and_deep", "full"])
def test_a_saved_configuration_loads_to_an_equal_one(text: str) -> None:
    config = pbtext(text).config
    saved = dump_yaml(config)
    again = yaml(saved).config
    assert same(again, config)
    assert dump_yaml(again) == saved


def test_with_messages_of_later_pieces() -> None:
    loaded = pbtext(FULL_PBTEXT, extensions=EXTENSIONS)
    saved = dump_yaml(loaded.config)
    assert "activation: relu" in saved  # their defaults are written out too
    assert same(yaml(saved, extensions=EXTENSIONS).config, loaded.config)


def test_defaults_are_written_and_what_is_not_set_is_not() -> None:
    data = resolved(yaml(MINIMAL + "train_config: {sync_replicas: true}\n").config)
    assert data["train_config"]["keep_checkpoint_max"] == 10
    assert data["model_config"]["loss_type"] == "CLASSIFICATION"
    assert "sync_replicas" not in data["train_config"]
    assert "early_stop" not in data["train_config"]
    assert list(data)[:2] == ["train_config", "eval_config"]


def test_the_text_is_tidy() -> None:
    saved = dump_yaml(yaml(FULL_YAML).config)
    assert '\n  separator: "\\x02"\n' in saved
    assert "\n  label_fields: [clk]\n" in saved
    assert "\n    - name: mlp\n      inputs:\n      - feature_group_name: all\n" in saved
    assert "&id" not in saved
    # Another YAML reader, with the older rules for words, sees the same texts.
    assert safe_load(saved)["data_config"]["separator"] == "\x02"


@pytest.mark.parametrize(
    "text",
    [
        "1e-3",
        "no",
        "1_0",
        "12:30",
        "2024-01-01",
        "",
        " ",
        "a\nb",
        "\x02",
        "\x85",
        "\u2028",
        "😀",
        "- x",
        "#",
        "null",
        "~",
        "0o7",
        "1.",
        ".5",
        "=",
        "<<",
        "x" * 300,
        "a  b " * 60,
    ],
)
def test_texts_survive(text: str) -> None:
    config = from_mapping({"model_config": {"model_class": text}, "data_config": {"label_fields": [text]}}).config
    assert config.model.model_class == text
    again = yaml(dump_yaml(config)).config
    assert again.model.model_class == text
    assert again.data_config.label_fields == [text]


@pytest.mark.parametrize("number", [1e-7, 5e-324, 1e22, 0.1, 123456789.123, float("inf"), 0.0, 1e16])
def test_numbers_survive(number: float) -> None:
    config = from_mapping({"model_config": {"model_class": "x"}, "train_config": {"gradient_clipping_by_norm": number}})
    assert yaml(dump_yaml(config.config)).config.train_config.gradient_clipping_by_norm == number


@given(pipelines())
def test_any_configuration_survives(data: dict[str, Any]) -> None:
    config = from_mapping(data).config
    again = yaml(dump_yaml(config)).config
    assert same(again, config)
