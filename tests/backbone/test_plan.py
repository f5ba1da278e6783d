"""How names are resolved, in which order blocks run, and what is refused before anything is built."""

from __future__ import annotations

import random

import pytest
from bones import (
    A_VALUES,
    B_VALUES,
    ab,
    block,
    function,
    group,
    node,
    output,
    package,
    plain,
    plain_problems,
)

from intarsia.backbone.groups import resolve_groups
from intarsia.backbone.plan import MAIN, Planner, is_input
from intarsia.config.schema import Backbone, Block, FeatureGroup
from intarsia.core.errors import BuildError
from intarsia.data.schema import Schema

TIMES_TEN = function("lambda x: x * 10")
INPUT = {"input_layer": {}}


def ten(values: list[list[float]]) -> list[list[float]]:
    return [[10 * x for x in row] for row in values]


# Names


def test_an_own_block_comes_before_a_group_of_the_same_name() -> None:
    """Inside the package `p`, `ga` is a block that reads the group `gb`."""
    inside = [node("ga", group("gb"), **INPUT), node("out", group("ga"))]
    packages = [{"name": "p", "blocks": inside, "concat_blocks": ["out"]}]
    assert output(plain([node("m", package("p"))], packages=packages), ab()) == B_VALUES


def test_an_own_block_comes_before_a_block_of_the_backbone() -> None:
    packages = [{"name": "p", "blocks": [node("x", group("ga")), node("out", block("x"))]}]
    blocks = [node("x", group("gb")), node("m", package("p"))]
    assert output(plain(blocks, packages=packages, concat_blocks=["m"]), ab()) == A_VALUES


def test_a_group_comes_before_a_block_of_the_backbone() -> None:
    packages = [{"name": "p", "blocks": [node("out", group("ga"))]}]
    blocks = [node("ga", group("gb"), **INPUT), node("m", package("p"))]
    assert output(plain(blocks, packages=packages, concat_blocks=["m"]), ab()) == A_VALUES


def test_a_name_declared_as_a_block_is_not_looked_up_among_groups() -> None:
    """`ga` is a group, and a block of the backbone that reads another group: a package sees the block."""
    packages = [{"name": "p", "blocks": [node("out", block("ga"))]}]
    blocks = [node("ga", group("gb"), **INPUT), node("m", package("p"))]
    assert output(plain(blocks, packages=packages, concat_blocks=["m"]), ab()) == B_VALUES


def test_a_group_that_is_read_by_name_gets_an_input_layer_of_its_own() -> None:
    backbone = plain([node("m", group("ga"))])
    assert [n.name for n in backbone.main[0].plan.nodes] == ["ga", "m"]
    assert backbone.main[0].block("ga").reads_group


def test_two_blocks_that_name_a_group_share_its_input_layer() -> None:
    backbone = plain([node("one", group("ga")), node("two", group("ga"), **TIMES_TEN)])
    assert sorted(n.name for n in backbone.main[0].plan.nodes) == ["ga", "one", "two"]


def test_an_input_block_may_be_called_like_its_group() -> None:
    blocks = [node("ga", group("ga"), **INPUT), node("m", block("ga"), **TIMES_TEN)]
    assert output(plain(blocks), ab()) == ten(A_VALUES)


def test_a_feature_group_name_may_mean_an_own_block() -> None:
    blocks = [node("x", group("ga"), **TIMES_TEN), node("m", group("x"))]
    assert output(plain(blocks), ab()) == ten(A_VALUES)


def test_a_package_sees_input_layers_that_came_to_the_backbone_by_themselves() -> None:
    packages = [{"name": "p", "blocks": [node("out", block("ga"), **TIMES_TEN)]}]
    blocks = [node("n", group("ga")), node("m", package("p"))]
    assert output(plain(blocks, packages=packages, concat_blocks=["m"]), ab()) == ten(A_VALUES)


def test_an_input_block_reads_its_group_by_either_key() -> None:
    assert output(plain([node("x", block("ga"), **INPUT)]), ab()) == A_VALUES


def test_what_counts_as_an_input_block() -> None:
    assert is_input(Block.model_validate({"name": "x", "raw_input": {}}))
    assert is_input(Block.model_validate({"name": "x", "embedding_layer": {"embedding_dim": 2}}))
    assert not is_input(Block.model_validate({"name": "x", "input_layer": {}, "layers": [function("lambda x: x")]}))


# Order


def test_the_order_of_the_file_does_not_matter() -> None:
    blocks = [
        node("one", group("ga")),
        node("two", block("one"), **TIMES_TEN),
        node("three", block("two"), block("one")),
        node("four", block("three"), group("gb")),
    ]
    expected = [[*(10 * x for x in a), *a, *b] for a, b in zip(A_VALUES, B_VALUES, strict=True)]
    for seed in range(12):
        random.Random(seed).shuffle(blocks)
        assert output(plain(blocks), ab()) == expected


def test_independent_blocks_keep_the_order_of_the_file() -> None:
    blocks = [node(name, group("ga")) for name in ("z", "a", "m")]
    assert [n.name for n in plain(blocks).main[0].plan.nodes if n.name != "ga"] == ["z", "a", "m"]


def test_a_caller_waits_for_the_blocks_that_its_packages_read() -> None:
    inner = {"name": "inner", "blocks": [node("out", block("late"))]}
    outer = {"name": "outer", "blocks": [node("out", package("inner"))]}
    blocks = [node("m", package("outer")), node("late", group("ga"), **TIMES_TEN)]
    backbone = plain(blocks, packages=[outer, inner], concat_blocks=["m"])
    assert output(backbone, ab()) == ten(A_VALUES)
    assert backbone.main[0].plan.needs["m"] == {"late"}


def test_blocks_that_only_packages_read_are_no_leaves() -> None:
    packages = [{"name": "p", "blocks": [node("out", block("seen"), **TIMES_TEN)]}]
    blocks = [node("seen", group("ga")), node("m", package("p"))]
    assert output(plain(blocks, packages=packages), ab()) == ten(A_VALUES)


def test_packages_that_nothing_calls_own_no_parameters() -> None:
    from bones import bone, ids

    packages = [{"name": "idle", "blocks": [node("out", group("other"))]}]
    backbone = bone([node("m", group("used"))], {"used": ["x"], "other": ["y"]}, ids("x"), ids("y"), packages=packages)
    assert backbone.embedder.collection is not None
    assert backbone.embedder.collection.table_names == ("used/x",)
    assert list(backbone.graphs) == ["backbone"]


# Refusals: every one of them names the place and what to do


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            [node("m", block("n")), node("n", block("m"))],
            "model_config.backbone.blocks[0]: blocks read each other in a circle: m -> n -> m",
        ),
        ([node("m", block("m"))], "model_config.backbone.blocks[0]: blocks read each other in a circle: m -> m"),
        (
            [node("m", block("gaa"))],
            "model_config.backbone.blocks[0]: `m` reads the block `gaa`, which is not defined. Did you mean `ga`?",
        ),
        (
            [node("m", group("gA"))],
            "model_config.backbone.blocks[0]: `m` reads the feature group `gA`, which is not defined. Did you mean "
            "`ga`?",
        ),
        (
            [node("x", group("gaa"), **INPUT)],
            "model_config.backbone.blocks[0]: there is no feature group `gaa`. Did you mean `ga`?",
        ),
        (
            [node("x", group("ga"), group("gb"), **INPUT)],
            "model_config.backbone.blocks[0]: the input block `x` reads exactly one feature group. Received: "
            "['ga', 'gb']",
        ),
        (
            [node("x", **INPUT)],
            "model_config.backbone.blocks[0]: the input block `x` reads exactly one feature group. Received: []",
        ),
        (
            [node("x", group("ga"), **INPUT, **TIMES_TEN)],
            "model_config.backbone.blocks[0]: the block `x` has one operation. Received: lambda, input_layer",
        ),
        (
            [node("x", group("ga", input_fn="lambda x: x * 2"), **INPUT)],
            "model_config.backbone.blocks[0]: the input block `x` gives its group as it is. Received: input_fn. Set it "
            "where the block is read",
        ),
        (
            [node("m")],
            "model_config.backbone.blocks[0]: the block `m` needs at least one entry in `inputs`",
        ),
        (
            [node("m", {})],
            "model_config.backbone.blocks[0]: an input of `m` must set exactly one of feature_group_name, block_name, "
            "package_name, use_package_input. Received: none of them",
        ),
        (
            [node("m", {"feature_group_name": "ga", "block_name": "n"})],
            "model_config.backbone.blocks[0]: an input of `m` must set exactly one of feature_group_name, block_name, "
            "package_name, use_package_input. Received: ['feature_group_name', 'block_name']",
        ),
        (
            [node("m", group("ga")), node("m", group("gb"))],
            "model_config.backbone.blocks[1]: the name `m` is taken by another block; names of blocks are unique",
        ),
        (
            [node("gb", group("ga"), **TIMES_TEN)],
            "model_config.backbone.blocks[0]: `gb` is the name of a feature group; only a block that reads a group may "
            "have it",
        ),
        (
            [node("m", package("pack"))],
            "model_config.backbone.blocks[0]: `m` calls the package `pack`, which is not defined. Did you mean `pick`?",
        ),
        (
            [node("m", package("pick", "nn"))],
            "model_config.backbone.blocks[0]: package_input of `m` names `nn`, which is no block or package",
        ),
        (
            [node("m", {"use_package_input": True})],
            "model_config.backbone: only a package has a package input; a block of the backbone cannot "
            "use_package_input",
        ),
    ],
)
def test_wrong_blocks(blocks: list[dict[str, object]], message: str) -> None:
    pick = {"name": "pick", "blocks": [node("out", group("ga"))]}
    assert plain_problems(blocks, packages=[pick]) == [message]


def test_all_problems_are_told_at_once() -> None:
    found = plain_problems([node("m", block("x1")), node("n", block("x2")), node("o")], concat_blocks=["p"])
    assert len(found) == 4
    assert found[-1].startswith("model_config.backbone: concat_blocks names `p`, which is no block")


def test_output_names_are_checked_in_packages_too() -> None:
    packages = [{"name": "p", "blocks": [node("inner", group("ga"))], "output_blocks": ["iner"]}]
    assert plain_problems([node("m", package("p"))], packages=packages) == [
        "model_config.backbone.packages[0]: output_blocks names `iner`, which is no block. Did you mean `inner`?"
    ]


def test_packages_that_call_each_other_in_a_circle() -> None:
    packages = [
        {"name": "p", "blocks": [node("out", package("q"))]},
        {"name": "q", "blocks": [node("out", package("p"))]},
    ]
    assert plain_problems([node("m", package("p"))], packages=packages) == [
        "model_config.backbone.packages[0]: packages call each other in a circle: p -> q -> p"
    ]


def test_a_package_that_reads_its_caller() -> None:
    packages = [{"name": "p", "blocks": [node("out", block("m"))]}]
    assert plain_problems([node("m", package("p"))], packages=packages) == [
        "model_config.backbone.blocks[0]: blocks read each other in a circle: m -> m"
    ]


def test_a_circle_inside_a_package_names_its_block() -> None:
    packages = [{"name": "p", "blocks": [node("x", block("y")), node("y", block("x"))], "concat_blocks": ["y"]}]
    assert plain_problems([node("m", package("p"))], packages=packages) == [
        "model_config.backbone.packages[0].blocks[0]: blocks read each other in a circle: x -> y -> x"
    ]


def test_a_package_that_needs_an_input_gets_one_at_every_call() -> None:
    packages = [{"name": "p", "blocks": [node("out", {"use_package_input": True})]}]
    blocks = [node("n", package("p", "ga")), node("m", package("p"))]
    assert plain_problems(blocks, packages=packages) == [
        "model_config.backbone.blocks[1]: `m` calls the package `p`, whose blocks use_package_input, without a "
        "package_input. Name the block or package that it receives"
    ]


def test_names_of_packages_are_unique() -> None:
    packages = [{"name": name, "blocks": [node("out", group("ga"))]} for name in ("p", "p", "backbone")]
    assert plain_problems([node("m", package("p"))], packages=packages) == [
        "model_config.backbone.packages[1]: the name `p` is taken by another package; names are unique",
        "model_config.backbone.packages[2]: the name `backbone` is taken by the backbone itself; names are unique",
    ]


def test_a_backbone_needs_blocks() -> None:
    assert plain_problems([]) == ["model_config.backbone: a backbone needs at least one entry in `blocks`"]


def test_a_plan_needs_no_tensors() -> None:
    groups = resolve_groups([FeatureGroup(group_name="g")], Schema({}), 1)
    config = Backbone.model_validate({"blocks": [node("m", group("g"))]})
    (plan,) = Planner(config, groups).plan().values()
    assert (plan.name, plan.concat, plan.needs["m"]) == (MAIN, ("m",), {"g"})
    with pytest.raises(BuildError):
        Planner(Backbone.model_validate({"blocks": [node("m", group("h"))]}), groups).plan()


def test_groups_are_resolved_by_name() -> None:
    assert plain_problems([node("m", group("ga"))], {"ga": ["a", "c"]}) == [
        "model_config.feature_groups[0]: group `ga` names the feature `c`, which is not defined"
    ]
