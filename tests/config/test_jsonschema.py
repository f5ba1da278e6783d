"""The schema for editors accepts what the reader accepts, and refuses what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from config_samples import CL4SREC, EXTENSIONS, FULL_PBTEXT, FULL_YAML, WIDE_AND_DEEP, pbtext
from config_trees import pipelines
from hypothesis import given

from intarsia.config import yamltext
from intarsia.config.jsonschema import json_schema
from intarsia.config.nodes import plain
from intarsia.config.resolve import resolved

OPEN = json_schema()
CLOSED = json_schema(EXTENSIONS)


def valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """A small validator of the keywords that the schema uses."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if not valid(value, root["$defs"][name], root):
            return False
    if "anyOf" in schema and not any(valid(value, option, root) for option in schema["anyOf"]):
        return False
    if "allOf" in schema and not all(valid(value, option, root) for option in schema["allOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        bounds = (
            schema.get("minimum", value) <= value <= schema.get("maximum", value),
            schema.get("exclusiveMinimum", float("-inf")) < value < schema.get("exclusiveMaximum", float("inf"))
            or value == float("inf"),
        )
        if not all(bounds):
            return False
    if isinstance(value, list) and len(value) < schema.get("minItems", 0):
        return False
    if isinstance(value, dict) and any(key not in value for key in schema.get("required", [])):
        return False
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind in types and not isinstance(value, types[kind]):
        return False
    if kind == "integer" and (isinstance(value, bool) or not isinstance(value, int)):
        return False
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    if kind == "object" and isinstance(value, dict):
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False and any(key not in known for key in value):
            return False
        return all(valid(child, known[key], root) for key, child in value.items() if key in known)
    if kind == "array" and "items" in schema:
        return all(valid(child, schema["items"], root) for child in value)
    return True


def accepts(text: str, schema: dict[str, Any]) -> bool:
    return valid(plain(yamltext.parse(text)), schema, schema)


def test_it_is_json_and_every_reference_is_defined() -> None:
    for schema in (OPEN, CLOSED):
        text = json.dumps(schema)
        names = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
        assert names <= set(schema["$defs"])
        assert "sync_replicas" in text


def test_files_are_accepted() -> None:
    assert accepts(FULL_YAML, OPEN)
    assert accepts(FULL_YAML, CLOSED)
    for text in (CL4SREC, WIDE_AND_DEEP, FULL_PBTEXT):
        assert valid(resolved(pbtext(text).config), OPEN, OPEN)


@given(pipelines())
def test_right_configurations_are_accepted(data: dict[str, Any]) -> None:
    assert valid(data, OPEN, OPEN)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("{model_config: {model_class: x, deepfm: {dnn: {hidden_units: 4}}}}", True),
        ("{model_config: {model_class: x, deepfm: {dnn: {hiden_units: 4}}}}", False),
        ("{model_config: {model_class: x, deepfn: {}}}", False),
        ("{model_config: {model_class: x, backbone: {top_mlp: {hidden_units: [1]}}}}", True),
        ("{model_config: {model_class: x, backbone: {top_mlp: {hidden_units: [a]}}}}", False),
        ("{model_config: {model_class: x, backbone: {blocks: {name: a, keras_layer: {class_name: MLP}}}}}", True),
        ("{model_config: {model_class: x, backbone: {blocks: {name: a, repeat: {num_repeat: 2}}}}}", False),
        ("{model_config: {model_class: x, backbone: {blocks: {name: a, lambda: {expression: y}}}}}", True),
        ("{model_config: {model_class: x}, train_config: {optimizer: adam, learning_rate: 0.1}}", True),
        ("{model_config: {model_class: x}, train_config: {optimizer: {adamw: {beta1: 0.5}}}}", True),
        ("{model_config: {model_class: x}, train_config: {optimizer: adan}}", False),
        ("{model_config: {model_class: x}, train_config: {num_step: 1}}", False),
        ("{model_config: {model_class: x}, data_config: {batch_size: 0}}", False),
        ("{model_config: {model_class: x}, eval_config: {metrics_set: [auc, mae, {gauc: {uid_field: u}}]}}", True),
        ("{train_config: {}}", False),
    ],
)
def test_with_extensions(text: str, right: bool) -> None:
    assert accepts(text, CLOSED) is right


def test_help_texts_are_there() -> None:
    train = CLOSED["$defs"]["TrainConfig"]["properties"]
    assert "Updates; 0" in train["num_steps"]["description"]
    assert train["sync_replicas"]["deprecated"] is True
