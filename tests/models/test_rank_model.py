"""The host of a backbone: head, losses, penalties."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from contract import ModelContract
from hand import SCHEMA, config_of, model_of
from torch import nn

from intarsia.core.batch import Batch, Dense
from intarsia.core.errors import BuildError
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.models.catalogue import build

GROUP = {"group_name": "all", "feature_names": ["*"]}
MLP = {"class_name": "MLP", "mlp": {"hidden_units": [32, 16]}}


class TestRankModel(ModelContract):
    model = {
        "model_class": "RankModel",
        "feature_groups": [GROUP],
        "backbone": {
            "blocks": [{"name": "mlp", "inputs": [{"feature_group_name": "all"}], "layer": MLP}],
            "concat_blocks": ["mlp"],
        },
    }
    num_epochs = 8


class TestWithPackagesAndAuxiliaryLoss(ModelContract):
    """Two noisy views of the group through one encoder, pulled together while the first one is trained."""

    model = {
        "model_class": "RankModel",
        "feature_groups": [GROUP],
        "backbone": {
            "packages": [
                {
                    "name": "encoder",
                    "blocks": [{"name": "mlp", "inputs": [{"use_package_input": True}], "layer": MLP}],
                }
            ],
            "blocks": [
                {
                    "name": "view",
                    "inputs": [{"feature_group_name": "all"}],
                    "layer": {"class_name": "Dropout", "st_params": {"rate": 0.2}},
                },
                {
                    "name": "apart",
                    "inputs": [
                        {"package_name": "encoder", "package_input": "view"},
                        {"package_name": "encoder", "package_input": "all"},
                    ],
                    "merge_inputs_into_list": True,
                    "layer": {
                        "class_name": "AuxiliaryLoss",
                        "st_params": {"loss_type": "l2_loss", "loss_weight": 0.01},
                    },
                },
                {"name": "main", "inputs": [{"package_name": "encoder", "package_input": "all"}]},
            ],
            "concat_blocks": ["main"],
            "top_mlp": {"hidden_units": [8]},
        },
    }
    num_epochs = 8


def ranker(*blocks: dict[str, Any], **more: Any) -> Any:
    return model_of({"model_class": "RankModel", "feature_groups": [GROUP], "backbone": {"blocks": [*blocks]}, **more})


def dense(units: int, name: str = "d", source: str = "feature_group_name", of: str = "all") -> dict[str, Any]:
    return {"name": name, "inputs": [{source: of}], "layer": {"class_name": "Dense", "st_params": {"units": units}}}


# The head


@pytest.mark.parametrize(("units", "num_class", "head"), [(1, 1, False), (3, 3, False), (3, 1, True), (1, 3, True)])
def test_a_head_is_added_where_the_width_is_not_the_number_of_classes(units: int, num_class: int, head: bool) -> None:
    model = ranker(dense(units), num_class=num_class)
    assert isinstance(model.head, nn.Linear) is head
    if head:
        assert model.head.weight.shape == (num_class, units)
        assert model.head.bias.tolist() == [0.0] * num_class


@pytest.mark.parametrize("num_class", [1, 3])
def test_one_number_a_row_without_an_axis_is_a_logit_or_enters_the_head(num_class: int) -> None:
    total = {"expression": "lambda x: tf.reduce_sum(x, axis=1)"}
    model = ranker({"name": "m", "inputs": [{"feature_group_name": "all"}], "lambda": total}, num_class=num_class)
    batch = SCHEMA.batch(5)
    with torch.no_grad():
        logits = model(batch)["logits"]
    assert logits.shape == ((5,) if num_class == 1 else (5, 3))
    if num_class == 1:
        (collection,) = model.tables
        vectors = [collection(batch.features)[f"all/{n}"] for n in ("user", "item")]
        assert torch.allclose(logits, torch.cat(vectors, dim=1).sum(dim=1))


def test_an_output_that_is_no_vector_is_refused() -> None:
    cube = {"only_output_3d_tensor": True}
    with pytest.raises(BuildError, match=r"must give one vector a row, \(B, D\)\. Received: \(B, 2, 2\)"):
        ranker({"name": "m", "inputs": [{"feature_group_name": "all"}], "input_layer": cube})
    with pytest.raises(BuildError, match="the backbone gives a list"):
        ranker(dense(1), backbone={"blocks": [dense(1)], "output_blocks": ["d"]})


# Labels


def test_the_first_label_is_learned_unless_another_is_named() -> None:
    schema = Schema(SCHEMA.features, {"first": 1, "second": 1})
    config = config_of({"model_class": "RankModel", "feature_groups": [GROUP], "backbone": {"blocks": [dense(1)]}})
    assert build(config, schema).label == "first"
    assert build(config.model_copy(update={"label_name": "second"}), schema).label == "second"
    with pytest.raises(BuildError) as caught:
        build(config.model_copy(update={"label_name": "third"}), schema)
    assert str(caught.value) == "model_config.label_name: there is no label `third`. Labels: first, second"
    with pytest.raises(BuildError, match=r"there is no label ``\. Labels: none"):
        build(config, Schema(SCHEMA.features))


def test_a_backbone_is_needed() -> None:
    with pytest.raises(BuildError) as caught:
        model_of({"model_class": "RankModel", "feature_groups": [GROUP]})
    assert str(caught.value) == "model_config: `RankModel` needs a `backbone`"


# Penalties


def test_l2_regularization_is_half_the_sum_of_squares_of_all_kernels_in_training_only() -> None:
    mlp = {"name": "m", "inputs": [{"feature_group_name": "all"}], "layer": MLP}
    model = ranker(mlp, model_params={"l2_regularization": 0.5})
    batch = SCHEMA.batch(8)
    kernels = [w for n, w in model.named_parameters() if n.endswith("linear.weight") or n == "head.weight"]
    assert len(kernels) == 3
    expected = 0.25 * sum(w.square().sum().item() for w in kernels)
    assert model.train().losses(model(batch), batch)["l2_regularization"].item() == pytest.approx(expected, rel=1e-5)
    assert "l2_regularization" not in model.eval().losses(model(batch), batch)
    assert "l2_regularization" not in ranker(mlp).train().losses(model(batch), batch)


def test_kernels_are_found_once_and_stay_right_in_copies_and_after_loading() -> None:
    model = ranker({"name": "m", "inputs": [{"feature_group_name": "all"}], "layer": MLP})
    own = [*model.kernels()]
    looked = []
    original = type(model).modules
    model.modules = lambda: (looked.append(1), original(model))[1]
    assert [*model.kernels()] == own
    assert looked == []
    del model.modules
    twin = copy.deepcopy(model)
    for kernel, other in zip(twin.kernels(), own, strict=True):
        assert kernel is not other
    assert {id(k) for k in twin.kernels()} <= {id(p) for p in twin.parameters()}
    twin.load_state_dict({n: torch.zeros_like(v) for n, v in model.state_dict().items()}, assign=True)
    assert {id(k) for k in twin.kernels()} <= {id(p) for p in twin.parameters()}
    assert all(k.abs().sum() == 0 for k in twin.kernels())


def test_embedding_regularization_counts_looked_up_vectors_once_and_no_plain_numbers() -> None:
    specs = [
        FeatureSpec("user", "id", num_ids=10, embedding_dim=2),
        FeatureSpec("price", "dense"),
        FeatureSpec("age", "dense", embedding_dim=2),
    ]
    schema = Schema({s.name: s for s in specs}, {"label": 1})
    config = config_of({"model_class": "RankModel", "feature_groups": [GROUP], "backbone": {"blocks": [dense(1)]}})
    model = build(config.model_copy(update={"embedding_regularization": 0.1}), schema).train()
    features = {
        "user": Dense(torch.tensor([3, 3, -1])),
        "price": Dense(torch.full((3, 1), 1000.0)),
        "age": Dense(torch.tensor([[1.0], [2.0], [0.0]])),
    }
    batch = Batch(features, {"label": torch.zeros(3)}, size=3)
    (collection,) = model.tables
    projection = model.backbone.embedder.projections["all/age"]
    squares = 2 * collection.weight("all/user")[3].square().sum() + (1 + 4) * projection.square().sum()
    found = model.losses(model(batch), batch)["embedding_regularization"]
    assert found.item() == pytest.approx(0.05 * squares.item(), rel=1e-5)
    found.backward()
    (weight,) = collection.parameters()
    assert weight.grad.to_dense().abs().sum() > 0
    assert "embedding_regularization" not in model.eval().losses(model(batch), batch)


# Auxiliary losses and predictions


def test_auxiliary_losses_join_the_losses_in_training() -> None:
    apart = {
        "name": "apart",
        "inputs": [{"block_name": "d"}],
        "extra_input_fn": "lambda x: [x, x * 0]",
        "layer": {"class_name": "AuxiliaryLoss", "st_params": {"loss_type": "l2_loss", "loss_weight": 2.0}},
    }
    model = ranker(dense(1), apart, backbone={"blocks": [dense(1), apart], "concat_blocks": ["d"]}).train()
    batch = SCHEMA.batch(4)
    predictions = model(batch)
    losses = model.losses(predictions, batch)
    assert set(losses) == {"cross_entropy_loss", "apart_l2_loss"}
    expected = 2 * predictions["logits"].square().mean().item()
    assert losses["apart_l2_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert set(model.eval().losses(model(batch), batch)) == {"cross_entropy_loss"}


def test_a_block_can_add_its_output_to_the_predictions() -> None:
    mlp = {"hidden_units": [1], "add_to_outputs": True, "final_activation": "linear", "use_final_bn": False}
    score = {"name": "score", "inputs": [{"feature_group_name": "all"}], "layer": {"class_name": "MLP", "mlp": mlp}}
    model = ranker(score, dense(1, "out", "block_name", "score"))
    assert model(SCHEMA.batch(4))["score"].shape == (4,)


def test_sample_weights_count() -> None:
    model, batch = ranker(dense(1)), SCHEMA.batch(4)
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0])
    weighted = Batch(batch.features, batch.labels, weights, size=4)
    one = Batch(
        {n: Dense(f.values[:1]) for n, f in batch.features.items()}, {"label": batch.labels["label"][:1]}, size=1
    )
    found, alone = (model.losses(model(b), b)["cross_entropy_loss"].item() for b in (weighted, one))
    assert found == pytest.approx(alone, rel=1e-5)
