from __future__ import annotations

from typing import Any

import pytest
import torch
from contract import ModelContract
from hand import ITEM, SCHEMA, USER, copy_weights, fill, model_of, one_row, set_dense

WIDE = {"group_name": "wide", "feature_names": ["*"], "wide_deep": "WIDE"}
DEEP = {"group_name": "deep", "feature_names": ["*"]}
GROUPS = {"feature_groups": [WIDE, DEEP]}
PLAIN = {"use_bn": False}


class TestWideAndDeep(ModelContract):
    model = {"model_class": "WideAndDeep", **GROUPS, "wide_and_deep": {"dnn": {"hidden_units": [32, 16]}}}
    num_epochs = 8


class TestWithFinalLayers(ModelContract):
    model = {
        "model_class": "WideAndDeep",
        **GROUPS,
        "wide_and_deep": {"dnn": {"hidden_units": [32]}, "final_dnn": {"hidden_units": [8]}, "wide_output_dim": 3},
    }
    num_epochs = 8


def wide_and_deep(num_class: int = 1, **options: Any) -> Any:
    return model_of({"model_class": "WideAndDeep", **GROUPS, "wide_and_deep": options, "num_class": num_class})


def test_the_logit_is_the_sum_of_wide_weights_and_layers() -> None:
    model = wide_and_deep(dnn={"hidden_units": [2], **PLAIN})
    fill(model, "wide/user", {USER: [0.5]})
    fill(model, "wide/item", {ITEM: [-0.25]})
    fill(model, "deep/user", {USER: [1.0, 2.0]})
    fill(model, "deep/item", {ITEM: [3.0, -1.0]})
    set_dense(model, "deep_dnn", [[1.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]], [0.0, 1.0])
    set_dense(model, "deep_logit", [[2.0, 10.0]], [0.125])
    # relu(1 + 3) = 4 and relu(-2 + 1) = 0.
    assert model(one_row())["logits"].item() == pytest.approx(0.5 - 0.25 + 2 * 4 + 0.125)


def test_several_classes_have_wide_weights_each() -> None:
    model = wide_and_deep(num_class=3, dnn={"hidden_units": [2], **PLAIN})
    fill(model, "wide/user", {USER: [1.0, 2.0, 3.0]})
    fill(model, "wide/item", {ITEM: [0.5, 0.0, -4.0]})
    set_dense(model, "deep_logit", [[0.0, 0.0]] * 3, [0.0, 0.25, 0.0])
    assert model(one_row())["logits"].tolist() == [[1.5, 2.25, -1.0]]


def test_final_layers_read_both_side_by_side() -> None:
    options = {"dnn": {"hidden_units": [1], **PLAIN}, "final_dnn": {"hidden_units": [1], **PLAIN}}
    model = wide_and_deep(**options, wide_output_dim=2)
    fill(model, "wide/user", {USER: [1.0, 2.0]})
    fill(model, "wide/item", {ITEM: [10.0, 20.0]})
    fill(model, "deep/user", {})
    fill(model, "deep/item", {ITEM: [3.0, 4.0]})
    set_dense(model, "deep_dnn", [[0.0, 0.0, 0.0, 1.0]], [0.0])
    set_dense(model, "final_dnn", [[1.0, 0.5, 2.0]], [0.0])
    set_dense(model, "final", [[-1.0]], [0.5])
    assert model(one_row())["logits"].item() == pytest.approx(-(11 + 11 + 8) + 0.5)


BLOCKS = [
    {
        "name": "wide",
        "inputs": [{"feature_group_name": "wide"}],
        "input_layer": {"only_output_feature_list": True, "wide_output_dim": 1},
    },
    {
        "name": "deep_logit",
        "inputs": [{"feature_group_name": "deep"}],
        "layers": [
            {"keras_layer": {"class_name": "DNN", "st_params": {"hidden_units": [4]}}},
            {"keras_layer": {"class_name": "Dense", "st_params": {"units": 1}}},
        ],
    },
    {
        "name": "final_logit",
        "inputs": [{"block_name": "wide", "input_fn": "lambda x: tf.add_n(x)"}, {"block_name": "deep_logit"}],
        "merge_inputs_into_list": True,
        "keras_layer": {"class_name": "Add"},
    },
]


def test_equals_the_same_model_written_as_blocks() -> None:
    named = wide_and_deep(dnn={"hidden_units": [4]})
    backbone = {"blocks": BLOCKS, "concat_blocks": ["final_logit"]}
    written = model_of({"model_class": "RankModel", **GROUPS, "backbone": backbone}, seed=1)
    copy_weights(named, written)
    batch = SCHEMA.batch(50)
    assert torch.allclose(named(batch)["logits"], written(batch)["logits"], atol=1e-6)
    one, two = (total(model.train(), batch) for model in (named, written))
    assert one == pytest.approx(two + l2(named), rel=1e-5)


def total(model: Any, batch: Any) -> float:
    torch.manual_seed(0)
    return sum(value.item() for value in model.losses(model(batch), batch).values())


def l2(model: Any) -> float:
    return sum(1e-4 * w.square().sum().item() / 2 for w in model.kernels())
