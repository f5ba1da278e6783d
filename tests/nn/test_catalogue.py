"""The catalogue of components."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import torch
from pydantic import ValidationError

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.nn import catalogue
from intarsia.nn.bst import BST
from intarsia.nn.catalogue import COMPONENTS, ComponentEntry, config_of, register, resolve
from intarsia.nn.component import Component, HasKernels, options
from intarsia.nn.mlp import MLP
from intarsia.nn.seq_augment import SeqAugment
from intarsia.nn.shapes import ShapeTree


class Twice(Component):
    """Its input times a factor."""

    def __init__(self, *, factor: Annotated[float, Param("The factor.", ge=0)] = 2.0) -> None:
        super().__init__()
        self.factor = factor

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        return {}

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.factor


@pytest.fixture
def empty_slot(monkeypatch):
    monkeypatch.setattr(catalogue, "_entries", dict(catalogue._entries))


def test_names_and_fields():
    assert resolve("BST") == ComponentEntry("BST", BST, "bst")
    assert resolve("SeqAugmentOps") is resolve("SeqAugment")
    assert resolve("SeqAugmentOps").cls is SeqAugment
    assert {e.name: e.field for e in COMPONENTS.values() if e.field} == {
        "MLP": "mlp",
        "DNN": "dnn",
        "FM": "fm",
        "Cross": "cross",
        "DotInteraction": "dot_interaction",
        "DIN": "din",
        "BST": "bst",
        "TextCNN": "text_cnn",
        "SeqAugment": "seq_aug",
    }


@pytest.mark.parametrize("entry", COMPONENTS.values(), ids=lambda e: e.name)
def test_every_entry_declares_its_options_and_documents_them(entry):
    schema = config_of(entry)
    assert entry.cls.__doc__
    assert all(field.description for field in schema.model_fields.values())
    assert issubclass(entry.cls, HasKernels)
    with pytest.raises(ValidationError, match="Extra inputs"):
        schema.model_validate({"no_such_option": 1, **dict.fromkeys(schema.model_fields, 1)})


def test_typed_defaults_of_mlp():
    schema = config_of(resolve("MLP"))
    assert schema(hidden_units=[8]).model_dump() == {
        "hidden_units": [8],
        "dropout_ratio": None,
        "activation": "relu",
        "use_bn": True,
        "use_final_bn": True,
        "final_activation": "relu",
        "use_bias": False,
        "use_final_bias": False,
        "initializer": "he_uniform",
        "use_bn_after_activation": False,
        "add_to_outputs": False,
    }
    assert schema(hidden_units=8, dropout_ratio=0.5).dropout_ratio == [0.5]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("MLP", {"hidden_units": [0]}),
        ("MLP", {"hidden_units": [4], "dropout_ratio": [1.0]}),
        ("SeqAugment", {"mask_rate": 1.5}),
        ("BST", {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}),
        ("DIN", {"attention_dnn": {"hidden_units": [1], "use_bnn": True}}),
        ("DIN", {"attention_dnn": {"hidden_units": [1]}, "attention_normalizer": "max"}),
        ("AuxiliaryLoss", {"loss_type": "mse"}),
        ("Cross", {"projection_dim": 0}),
    ],
)
def test_ranges_and_types_are_checked(name, values):
    with pytest.raises(ValidationError):
        config_of(resolve(name)).model_validate(values)


def test_whole_floats_of_a_protobuf_struct_are_integers():
    values = {"hidden_size": 8.0, "num_hidden_layers": 1.0, "num_attention_heads": 2.0, "intermediate_size": 4.0}
    assert config_of(resolve("BST")).model_validate(values).hidden_size == 8


def test_schema_builds_the_component_with_nested_messages():
    entry = resolve("DIN")
    config = config_of(entry).model_validate({"attention_dnn": {"hidden_units": [5, 1]}})
    shapes = ((None, None, 4), (None,), (None, 4))
    as_objects = entry.cls.from_inputs(shapes, **dict(config))
    as_mappings = entry.cls.from_inputs(shapes, **config.model_dump())
    assert [p.shape for p in as_objects.parameters()] == [p.shape for p in as_mappings.parameters()]


def test_unknown_name_names_the_nearest():
    with pytest.raises(BuildError, match=r"no component is called `Dens`\. Did you mean `Dense`"):
        resolve("Dens")


def test_register(empty_slot):
    entry = register("Twice", Twice, field="twice")
    assert resolve("Twice") is entry
    module = entry.cls.from_inputs((None, 2), **config_of(entry)(factor=3).model_dump())
    assert module(torch.ones(1)).item() == 3
    with pytest.raises(BuildError, match=r"`Twice` is taken by .*Twice\. Register Twice under another name"):
        register("Twice", Twice)
    with pytest.raises(BuildError, match=r"`SeqAugmentOps` is taken by intarsia\.nn\.seq_augment\.SeqAugment"):
        register("Mine", Twice, aliases=("SeqAugmentOps",))
    with pytest.raises(BuildError, match=r"subclass of intarsia\.nn\.component\.Component\. Received: <class 'int'>"):
        register("Other", int)  # type: ignore[arg-type]


def test_catalogue_is_read_only():
    with pytest.raises(TypeError):
        COMPONENTS["MLP"] = COMPONENTS["FM"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"hidden_units": [1], "use_bnn": True}, r"mlp\.use_bnn: no such option\. Did you mean `use_bn`"),
        ({}, r"mlp\.hidden_units: is required"),
        ({"hidden_units": ["a"]}, r"mlp\.hidden_units\.0: Input should be a valid integer.*Received: 'a'"),
    ],
)
def test_nested_options_are_strict(value, message):
    with pytest.raises(BuildError, match=message):
        options(MLP, value, "mlp")
