"""What does not fit together is told when a backbone is built: block, place in the file, shapes of the inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from bones import (
    block,
    function,
    group,
    ids,
    layer,
    node,
    numbers,
    package,
    plain,
    plain_problems,
    problems,
    sequence,
)

from intarsia.core.errors import BuildError
from intarsia.models.catalogue import build
from intarsia.recommender.pipeline import load_pipeline, located

PLACE = "model_config.backbone.blocks[0]: block `m`: "
LIST = {"only_output_feature_list": True}


@pytest.mark.parametrize(
    ("message", "operation"),
    [
        (
            "no component is called `Dens`. Did you mean `Dense` or `DNN` or `DIN`? Its inputs: (B, 2)",
            layer("Dens", units=1),
        ),
        (
            "Dense.unit: no such option. Did you mean `units`? Its inputs: (B, 2)",
            layer("Dense", units=1, unit=1),
        ),
        ("Dense.units: is required. Its inputs: (B, 2)", layer("Dense")),
        (
            "Dropout.rate: Input should be less than 1. Received: 1.5. Its inputs: (B, 2)",
            layer("Dropout", rate=1.5),
        ),
        ("`DotInteraction` reads one tensor of rank 3. Received: (B, 2). Its inputs: (B, 2)", layer("DotInteraction")),
        (
            "fixed_input_index 0 needs a list of inputs with such an element. Received: (B, 2). Its inputs: (B, 2)",
            {"recurrent": {"fixed_input_index": 0, "layer": {"class_name": "Cross"}}},
        ),
        (
            "a block has one operation. Received: layer, lambda. Its inputs: (B, 2)",
            {**layer("Dense", units=1), **function("lambda x: x")},
        ),
        (
            "a block has one operation. Received: layer, lambda. Its inputs: (B, 2)",
            {"layers": [{**layer("Dense", units=1), **function("lambda x: x")}]},
        ),
    ],
)
def test_components_that_do_not_fit(message: str, operation: dict[str, object]) -> None:
    (found,) = plain_problems([node("m", group("ga"), **operation)])
    assert found == PLACE + message


def test_fields_of_unequal_width() -> None:
    specs = (numbers("a", 2), numbers("c", 3))
    blocks = [node("f", group("g"), input_layer=LIST), node("m", block("f"), **layer("FM"))]
    (found,) = problems(blocks, {"g": ["a", "c"]}, *specs)
    assert str(found) == (
        "model_config.backbone.blocks[1]: block `m`: `FM` reads fields of one width: a list of (B, D), or one (B, F, "
        "D). "
        "Received: [(B, 2), (B, 3)]. Give the features of the group one embedding_dim. Its inputs: [(B, 2), (B, 3)]"
    )


def test_expressions_that_fail_show_text_and_place() -> None:
    (found,) = plain_problems([node("m", group("ga"), **function("lambda x: x[0"))])
    assert found.startswith(PLACE)
    assert "lambda x: x[0" in found
    (found,) = plain_problems([node("m", group("ga", input_slice="[i]"))])
    assert found.startswith(PLACE)
    (found,) = plain_problems([node("m", group("ga", input_fn="lambda x: __import__('os')"))])
    assert found.startswith(PLACE)
    (found,) = plain_problems([node("m", group("ga"), extra_input_fn="lambda x: x + tf.zeros([7, 7])")])
    assert found.startswith(PLACE)


def test_a_failing_package_input_fn_names_the_caller() -> None:
    packages = [{"name": "p", "blocks": [node("x", {"use_package_input": True})]}]
    blocks = [node("m", package("p", "ga", package_input_fn="lambda x: x[5][5][5][5]"))]
    (found,) = plain_problems(blocks, packages=packages)
    assert found.startswith(PLACE)


def test_tensors_that_cannot_be_concatenated() -> None:
    blocks = [
        node("cube", group("g"), input_layer={"only_output_3d_tensor": True}),
        node("m", block("cube"), group("g")),
    ]
    (found,) = plain_problems(blocks, {"g": ["a", "b"]})
    assert found.startswith("model_config.backbone.blocks[1]: block `m`: ")
    assert found.endswith("Its inputs: (B, 2, 2), (B, 4)")


def test_outputs_that_cannot_be_concatenated() -> None:
    blocks = [node("cube", group("g"), input_layer={"only_output_3d_tensor": True}), node("flat", group("g"))]
    (found,) = plain_problems(blocks, {"g": ["a", "b"]}, concat_blocks=["cube", "flat"])
    assert found.startswith("model_config.backbone: the outputs of `backbone` cannot be concatenated: ")
    assert found.endswith("Its concat_blocks: `cube` (B, 2, 2), `flat` (B, 4)")


def test_outputs_of_packages_that_cannot_be_concatenated() -> None:
    loss = layer("AuxiliaryLoss", loss_type="l2_loss")
    inside = [node("value", group("ga")), node("loss", group("ga"), extra_input_fn="lambda x: [x, x]", **loss)]
    packages = [{"name": "p", "blocks": inside, "concat_blocks": ["value", "loss"]}]
    (found,) = plain_problems([node("m", package("p"))], packages=packages)
    assert found.startswith("model_config.backbone.packages[0]: the outputs of `p` cannot be concatenated: ")
    assert found.endswith("Its concat_blocks: `value` (B, 2), `loss` scalar")


def test_a_top_mlp_that_does_not_fit() -> None:
    cube = node("cube", group("g"), input_layer={"only_output_3d_tensor": True})
    (found,) = plain_problems(
        [cube, node("flat", group("g"))],
        {"g": ["a", "b"]},
        output_blocks=["cube", "flat"],
        top_mlp={"hidden_units": [2]},
    )
    assert found.startswith("model_config.backbone.top_mlp: ")
    assert found.endswith("Its input: [(B, 2, 2), (B, 4)]")
    (found,) = plain_problems([node("m", group("ga"))], top_mlp={"hidden_units": []})
    assert found == (
        "model_config.backbone.top_mlp: `MLP` needs at least one layer. Received: hidden_units = []. Name the widths. "
        "Its input: (B, 2)"
    )


def test_what_depends_on_the_length_of_the_example_fails_when_it_is_built() -> None:
    blocks = [
        node("seq", group("g"), input_layer={"output_seq_and_normal_feature": True}),
        node("flat", block("seq", input_slice="[0]"), **layer("Flatten")),
        node("m", block("flat"), **layer("Dense", units=2)),
    ]
    (found,) = problems(blocks, {"g": ["s"]}, sequence("s"))
    assert found.path in ("model_config.backbone.blocks[1]", "model_config.backbone.blocks[2]")
    assert found.message.startswith("block `")


def test_all_groups_that_cannot_be_read_are_told_at_once() -> None:
    found = problems([node("m", group("g"), group("h"))], {"g": ["i"], "h": ["j"]}, ids("i", dim=0), ids("j", dim=0))
    assert [p.path for p in found] == ["model_config.feature_groups[0]", "model_config.feature_groups[1]"]


def test_building_draws_no_random_numbers_for_the_example() -> None:
    """Two blocks that start alike: what flows through them when they are built must not matter."""
    import torch

    one = plain([node("m", group("ga"), **layer("Dense", units=2))], seed=5)
    blocks = [node("d", group("ga"), **layer("Dropout", rate=0.5)), node("m", block("d"), **layer("Dense", units=2))]
    two = plain(blocks, seed=5)
    assert torch.equal(next(one.parameters()), next(two.parameters()))


PIPELINE = """
data_config: {label_fields: [y], input_fields: [{input_name: y, input_type: FLOAT}, {input_name: a}, {input_name: b}]}
feature_config:
  features:
    - {input_names: [a], hash_bucket_size: 10, embedding_dim: 4}
    - {input_names: [b], hash_bucket_size: 10, embedding_dim: 8}
model_config:
  model_class: RankModel
  feature_groups:
    - {group_name: g, feature_names: [a, b]}
  backbone:
    blocks:
      - name: fields
        inputs: [{feature_group_name: g}]
        input_layer: {only_output_feature_list: true}
      - name: products
        inputs: [{block_name: fields}]
        layer: {class_name: FM}
"""


def test_a_problem_of_a_file_names_file_and_line(tmp_path: Path) -> None:
    from intarsia.data.features import FeatureEncoder
    from intarsia.data.schema import Schema

    path = tmp_path / "model.yaml"
    path.write_text(PIPELINE)
    loaded = load_pipeline(path)
    features = FeatureEncoder(loaded.config.feature_config.features, loaded.config.data_config)
    schema = Schema(features.schema_features, {"y": 1})
    with pytest.raises(BuildError) as caught, located(loaded.source):
        build(loaded.config.model, schema)
    (found,) = caught.value.problems
    line = PIPELINE[: PIPELINE.index("- name: products")].count("\n") + 1
    assert found.where == f"{path}:{line}"
    assert str(found).startswith(f"{path}:{line}: model_config.backbone.blocks[1]: block `products`: `FM` reads fields")


def test_a_problem_without_a_place_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(
        PIPELINE.replace("layer: {class_name: FM}", "").replace(
            "RankModel", "RankModel\n  num_class: 2\n  loss_type: L2_LOSS"
        )
    )
    loaded = load_pipeline(path)
    specs = {name: ids(name, dim=4) for name in "ab"}
    from intarsia.core.errors import ConfigError
    from intarsia.data.schema import Schema

    with pytest.raises(ConfigError, match="L2_LOSS predicts one number") as caught, located(loaded.source):
        build(loaded.config.model, Schema(specs, {"y": 1}))
    assert caught.value.problems[0].where.startswith(str(path))
