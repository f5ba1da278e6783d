"""Messages that later pieces add."""

from __future__ import annotations

import pytest
from config_samples import EXTENSIONS, AuxiliaryLoss, DeepFm, Gate, Mlp, errors, pbtext, yaml


def layer(text: str, kind: str = "yaml") -> str:
    if kind == "yaml":
        return f"model_config:\n  model_class: x\n  backbone:\n    blocks:\n    - name: a\n      layer: {text}\n"
    return f"model_config {{ model_class: 'x' backbone {{ blocks {{ name: 'a' keras_layer {{ {text} }} }} }} }}"


def test_typed_objects_take_the_place_of_mappings() -> None:
    text = """model_config {
      model_class: 'DeepFM'
      backbone {
        blocks { name: 'a' keras_layer { class_name: 'MLP' mlp { hidden_units: 64 hidden_units: 32 } } }
        top_mlp { hidden_units: [8] use_bn: false }
      }
      deepfm { dnn { hidden_units: 4 } dnn { use_bn: false } wide_output_dim: 2 wide_output_dim: 3 }
    }"""
    loaded = pbtext(text, extensions=EXTENSIONS)
    model = loaded.config.model
    assert model.backbone is not None
    assert model.backbone.blocks[0].layer is not None
    assert model.backbone.blocks[0].layer.model_extra == {"mlp": Mlp(hidden_units=[64, 32])}
    top: object = model.backbone.top_mlp
    assert top == Mlp(hidden_units=[8], use_bn=False)
    assert model.model_extra == {"deepfm": DeepFm(dnn=Mlp(hidden_units=[4], use_bn=False), wide_output_dim=3)}
    assert loaded.notices == [
        "f.config:7: model_config.deepfm.wide_output_dim: is set 2 times; the last value, 3, counts"
    ]


def test_without_extensions_messages_are_kept_as_written() -> None:
    config = yaml("model_config: {model_class: DeepFM, deepfm: {dnn: {a: 1}}}").config
    assert config.model.model_extra == {"deepfm": {"dnn": {"a": 1}}}


def test_struct_is_checked_against_the_class() -> None:
    text = """class_name: 'AuxiliaryLoss' st_params {
      fields { key: 'loss_type' value { string_value: 'info' } }
      fields { key: 'steps' value { number_value: 3.0 } } }"""
    config = pbtext(layer(text, "pbtext"), extensions=EXTENSIONS).config
    assert config.model.backbone is not None
    block = config.model.backbone.blocks[0]
    assert block.layer is not None
    params: object = block.layer.st_params
    assert params == AuxiliaryLoss(loss_type="info", steps=3)
    assert isinstance(params, AuxiliaryLoss)
    assert isinstance(params.steps, int)


def test_a_class_that_is_not_known_keeps_its_struct() -> None:
    config = yaml(layer("{class_name: Mine, st_params: {a: 1}}"), extensions=EXTENSIONS).config
    assert config.model.backbone is not None
    assert config.model.backbone.blocks[0].layer is not None
    assert config.model.backbone.blocks[0].layer.st_params == {"a": 1}


@pytest.mark.parametrize(("written", "value"), [("3", [3]), ("[3, 4]", [3, 4]), ("2.0", [2])])
def test_a_number_or_a_list(written: str, value: object) -> None:
    config = yaml(layer(f"{{class_name: Gate, gate: {{dims: {written}, rate: ~}}}}"), extensions=EXTENSIONS).config
    assert config.model.backbone is not None
    assert config.model.backbone.blocks[0].layer is not None
    gate = (config.model.backbone.blocks[0].layer.model_extra or {})["gate"]
    assert isinstance(gate, Gate)
    assert gate.dims == value
    assert gate.rate is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{class_name: MLP, mpl: {hidden_units: [1]}}", "layer.mpl: unknown key. Did you mean `mlp`?"),
        (
            "{class_name: MLP, mlp: {hiden_units: [1], hidden_units: 1}}",
            "layer.mlp.hiden_units: unknown key. Did you mean `hidden_units`?",
        ),
        ("{class_name: MLP, mlp: {}}", "layer.mlp.hidden_units: `hidden_units` is required and missing"),
        (
            "{class_name: MLP, mlp: {hidden_units: [1, x]}}",
            "layer.mlp.hidden_units[1]: wants a whole number, received the text 'x'",
        ),
        ("{class_name: MLP, mlp: 5}", "layer.mlp: wants a message { ... }, received the number 5"),
        (
            "{class_name: MLP, mlp: {hidden_units: 1}, gate: {}}",
            "layer.gate: only one of these may be set, received `mlp` (line 6) and `gate` (line 6)",
        ),
        (
            "{class_name: AuxiliaryLoss, st_params: {loss_tpe: x, loss_type: y}}",
            "layer.st_params.loss_tpe: unknown key. Did you mean `loss_type`?",
        ),
        (
            "{class_name: AuxiliaryLoss, st_params: {loss_type: y, steps: 1.5}}",
            "layer.st_params.steps: wants a whole number, received the number 1.5",
        ),
        (
            "{class_name: Gate, gate: {dims: x}}",
            "layer.gate.dims: wants a whole number or a list of a whole number, received the text 'x'",
        ),
        (
            "{class_name: Gate, gate: {mlp: {hidden_units: true}}}",
            "layer.gate.mlp.hidden_units[0]: wants a whole number, received true",
        ),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert errors(layer(text), extensions=EXTENSIONS) == [f"f.yaml:6: model_config.backbone.blocks[0].{message}"]


def test_a_typed_mapping_of_the_schema() -> None:
    text = "model_config:\n  model_class: x\n  backbone:\n    top_mlp:\n      hidden_unit: [1]\n"
    assert errors(text, extensions=EXTENSIONS) == [
        "f.yaml:4: model_config.backbone.top_mlp.hidden_units: `hidden_units` is required and missing",
        "f.yaml:5: model_config.backbone.top_mlp.hidden_unit: unknown key. Did you mean `hidden_units`?",
    ]


def test_keys_of_a_model() -> None:
    found = errors("model_config: {model_class: x, deepfn: {}}", extensions=EXTENSIONS)
    assert found == ["f.yaml:1: model_config.deepfn: unknown key. Did you mean `deepfm`?"]
