from __future__ import annotations

import pytest
import torch
from contract import ModelContract
from hand import ITEM, SCHEMA, USER, copy_weights, fill, model_of, one_row, set_dense
from torch import nn

from intarsia.core.errors import BuildError

WIDE = {"group_name": "wide", "feature_names": ["*"], "wide_deep": "WIDE"}
DEEP = {"group_name": "deep", "feature_names": ["*"]}
FM = {"group_name": "fm", "feature_names": ["*"]}
PLAIN = {"use_bn": False}


class TestDeepFM(ModelContract):
    model = {"model_class": "DeepFM", "feature_groups": [WIDE, DEEP], "deepfm": {"dnn": {"hidden_units": [16, 8]}}}


class TestWithFinalLayers(ModelContract):
    model = {
        "model_class": "DeepFM",
        "feature_groups": [WIDE, DEEP, FM],
        "deepfm": {"dnn": {"hidden_units": [16]}, "final_dnn": {"hidden_units": [8]}, "wide_output_dim": 2},
    }


def deepfm(*groups: dict[str, object], num_class: int = 1, **options: object) -> nn.Module:
    config = {"model_class": "DeepFM", "feature_groups": [WIDE, DEEP, *groups], "deepfm": options}
    return model_of({**config, "num_class": num_class})


def test_the_logit_is_first_order_plus_products_plus_layers() -> None:
    model = deepfm(dnn={"hidden_units": [2], **PLAIN})
    fill(model, "wide/user", {USER: [0.5]})
    fill(model, "wide/item", {ITEM: [-0.25]})
    fill(model, "deep/user", {USER: [1.0, 2.0]})
    fill(model, "deep/item", {ITEM: [3.0, -1.0]})
    set_dense(model, "deep_dnn", [[1.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]], [0.0, 1.0])
    set_dense(model, "deep_logit", [[2.0, 10.0]], [0.125])
    # Layers: relu(1 + 3) = 4, relu(-2 + 1) = 0; 2 * 4 + 0.125. Products: 1 * 3 + 2 * -1 = 1.
    expected = (0.5 - 0.25) + (3.0 - 2.0) + (8.0 + 0.125)
    assert model(one_row())["logits"].item() == pytest.approx(expected)


def test_products_may_have_embeddings_of_their_own() -> None:
    model = deepfm(FM, dnn={"hidden_units": [2], **PLAIN})
    for name in ("wide/user", "wide/item", "deep/user", "deep/item"):
        fill(model, name, {})
    set_dense(model, "deep_logit", [[0.0, 0.0]], [0.0])
    fill(model, "fm/user", {USER: [2.0, 1.0]})
    fill(model, "fm/item", {ITEM: [3.0, 4.0]})
    assert model(one_row())["logits"].item() == pytest.approx(2 * 3 + 1 * 4)


def test_final_layers_read_wide_products_and_deep_side_by_side() -> None:
    model = deepfm(dnn={"hidden_units": [1], **PLAIN}, final_dnn={"hidden_units": [1], **PLAIN}, wide_output_dim=2)
    fill(model, "wide/user", {USER: [1.0, 2.0]})
    fill(model, "wide/item", {ITEM: [10.0, 20.0]})
    fill(model, "deep/user", {USER: [1.0, 2.0]})
    fill(model, "deep/item", {ITEM: [3.0, 4.0]})
    set_dense(model, "deep_dnn", [[0.0, 0.0, 0.0, 1.0]], [0.0])
    # Wide (11, 22), products as a vector (3, 8), deep (4): five inputs.
    set_dense(model, "final_dnn", [[1.0, 1.0, 1.0, 1.0, 1.0]], [-8.0])
    set_dense(model, "final", [[-0.5]], [1.0])
    assert model(one_row())["logits"].item() == pytest.approx(-0.5 * (33 + 11 + 4 - 8) + 1)


def test_the_last_of_the_final_layers_is_no_logit_even_where_it_is_one_wide() -> None:
    """A ReLU in front of the logit would make every probability at least one half."""
    model = deepfm(dnn={"hidden_units": [4]}, final_dnn={"hidden_units": [1]})
    set_dense(model, "final", [[1.0]], [-3.0])
    assert model(one_row())["logits"].item() < 0


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        (
            {"dnn": {"hidden_units": [3]}},
            [
                {"name": "w", "inputs": [{"feature_group_name": "wide"}], "input_layer": {"wide_output_dim": 1}},
                {
                    "name": "first_order",
                    "inputs": [{"block_name": "w"}],
                    "lambda": {"expression": "lambda x: tf.reduce_sum(x, axis=1, keepdims=True)"},
                },
                {
                    "name": "fields",
                    "inputs": [{"feature_group_name": "deep"}],
                    "input_layer": {"only_output_feature_list": True},
                },
                {"name": "fm", "inputs": [{"block_name": "fields"}], "keras_layer": {"class_name": "FM"}},
                {
                    "name": "deep_part",
                    "inputs": [{"feature_group_name": "deep"}],
                    "layers": [
                        {"layer": {"class_name": "DNN", "st_params": {"hidden_units": [3]}}},
                        {"layer": {"class_name": "Dense", "st_params": {"units": 1}}},
                    ],
                },
                {
                    "name": "sum",
                    "inputs": [{"block_name": n} for n in ("first_order", "fm", "deep_part")],
                    "merge_inputs_into_list": True,
                    "lambda": {"expression": "lambda x: tf.add_n(x)"},
                },
            ],
        ),
    ],
)
def test_equals_the_same_model_written_as_blocks(options: dict[str, object], blocks: list[dict[str, object]]) -> None:
    # A block called like no group reads `deep` twice, as a list and as a concatenation: one set of tables.
    named = deepfm(**options)
    config = {"model_class": "RankModel", "feature_groups": [WIDE, DEEP]}
    written = model_of({**config, "backbone": {"blocks": blocks, "concat_blocks": ["sum"]}}, seed=1)
    copy_weights(named, written)
    for seed in range(3):
        batch = SCHEMA.batch(50, seed)
        assert torch.allclose(named(batch)["logits"], written(batch)["logits"], atol=1e-6)


def test_the_pieces_must_be_there() -> None:
    with pytest.raises(BuildError) as caught:
        model_of({"model_class": "DeepFM", "feature_groups": [DEEP]})
    assert str(caught.value) == (
        "model_config.feature_groups: `DeepFM` needs the feature groups wide, deep. Missing: wide"
    )


def test_a_named_model_has_no_backbone_of_its_own() -> None:
    backbone = {"blocks": [{"name": "m", "inputs": [{"feature_group_name": "deep"}]}]}
    with pytest.raises(BuildError) as caught:
        model_of({"model_class": "DeepFM", "feature_groups": [WIDE, DEEP], "backbone": backbone})
    assert str(caught.value) == (
        "model_config.backbone: `DeepFM` brings its own blocks. Remove the backbone, or set model_class: RankModel"
    )


def test_dense_regularization_is_the_older_name() -> None:
    assert deepfm(l2_regularization=0.5).l2_regularization == 0.5
    assert deepfm(l2_regularization=0.5, dense_regularization=0.25).l2_regularization == 0.25
