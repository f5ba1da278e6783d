"""Which tables a group owns, and how features become vectors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bones import batch_of, bone, dense, fill, group, ids, jagged, node, numbers, problems, sequence, table

from intarsia.core.batch import Jagged

LIST = {"input_layer": {"only_output_feature_list": True}}
WIDE = {"wide_deep": "WIDE"}


def tables(backbone) -> dict[str, tuple[int, int]]:
    collection = backbone.embedder.collection
    return {name: tuple(collection.weight(name).shape) for name in collection.table_names}


def test_a_feature_in_two_groups_has_two_tables() -> None:
    backbone = bone([node("m", group("g"), group("h"))], {"g": ["i"], "h": ["i"]}, ids("i"))
    assert tables(backbone) == {"g/i": (10, 4), "h/i": (10, 4)}
    fill(backbone, "g/i", torch.ones(10, 4))
    fill(backbone, "h/i", -torch.ones(10, 4))
    assert backbone(batch_of({"i": dense([3])}))[0].tolist() == [[1.0] * 4 + [-1.0] * 4]


def test_two_input_layers_over_one_group_share_its_tables() -> None:
    blocks = [node("one", group("g"), **LIST), node("two", group("g"), input_layer={})]
    assert tables(bone(blocks, {"g": ["i"]}, ids("i"), output_blocks=["one", "two"])) == {"g/i": (10, 4)}


def test_features_with_one_embedding_name_share_a_table_across_groups_and_kinds() -> None:
    specs = (ids("item", table="item"), sequence("hist", table="item", sequence_combiner={"attention": {}}))
    backbone = bone([node("m", group("g"), group("h"))], {"g": ["item"], "h": ["hist"]}, *specs)
    assert tables(backbone) == {"shared/item": (10, 4)}
    found = backbone(batch_of({"item": dense([7]), "hist": jagged([[7]])}))[0]
    assert torch.equal(found[:, :4], found[:, 4:])
    found.sum().backward()
    (weight,) = backbone.embedder.collection.parameters()
    gradient = weight.grad.to_dense()
    assert gradient[7].tolist() == [2.0] * 4  # once as an item, once in the history
    assert gradient.abs().sum() == 8


def test_a_shared_table_has_one_size() -> None:
    specs = (ids("i", rows=10, table="t"), ids("j", rows=11, table="t"))
    (found,) = problems([node("m", group("g"))], {"g": ["i", "j"]}, *specs)
    assert found.path == "model_config.feature_groups[0]"
    assert found.message == (
        "`j` shares the table `t` and must have its size. Received: 11 rows x 4 here, 10 rows x 4 elsewhere"
    )


def test_a_wide_group_shares_among_wide_groups_only() -> None:
    groups = {"deep": ["i", "j"], "wide": {"feature_names": ["i", "j"], **WIDE}}
    specs = (ids("i", table="t"), ids("j", table="t"))
    assert tables(bone([node("m", group("deep"), group("wide"))], groups, *specs)) == {
        "shared/t": (10, 4),
        "shared/wide/t": (10, 1),
    }


def test_groups_that_no_block_reads_have_no_tables() -> None:
    assert tables(bone([node("m", group("g"))], {"g": ["i"], "h": ["i"]}, ids("i"))) == {"g/i": (10, 4)}


def test_missing_ids_are_zeros() -> None:
    backbone = bone([node("m", group("g"))], {"g": ["i", "t"]}, ids("i"), ids("t", multi=True))
    found = backbone(batch_of({"i": dense([-1, 2]), "t": jagged([[], [1]])}))[0]
    assert found[0].tolist() == [0.0] * 8
    assert found[1].abs().min() > 0


@pytest.mark.parametrize(
    ("combiner", "expected"), [("sum", 6.0), ("mean", 2.0), ("sqrtn", 6 / 3**0.5), ("min", 1.0), ("max", 3.0)]
)
def test_tags_are_pooled_by_their_combiner(combiner: str, expected: float) -> None:
    backbone = bone([node("m", group("g"))], {"g": ["t"]}, ids("t", dim=1, multi=True, combiner=combiner))
    fill(backbone, "g/t", [[float(i)] for i in range(10)])
    assert backbone(batch_of({"t": jagged([[1, 2, 3]])}))[0].item() == pytest.approx(expected)


def test_weights_of_tags_count() -> None:
    backbone = bone([node("m", group("g"))], {"g": ["t"]}, ids("t", dim=1, multi=True, weighted=True, combiner="mean"))
    fill(backbone, "g/t", [[float(i)] for i in range(10)])
    assert backbone(batch_of({"t": jagged([[1, 3]], weights=[3.0, 1.0])}))[0].item() == pytest.approx(1.5)


def test_steps_of_several_ids_are_combined_step_by_step() -> None:
    spec = sequence("s", dim=1, step_multi=True, combiner="mean")
    blocks = [node("m", group("g"), input_layer={"output_seq_and_normal_feature": True})]
    backbone = bone(blocks, {"g": ["s"]}, spec, output_blocks=["m"])
    fill(backbone, "g/s", [[float(i)] for i in range(10)])
    feature = Jagged(torch.tensor([2, 4, 9]), torch.tensor([0, 2]), inner_offsets=torch.tensor([0, 2, 3]))
    steps, lengths, _ = backbone(batch_of({"s": feature}))[0][0]
    assert steps.tolist() == [[[3.0], [9.0]]]
    assert lengths.tolist() == [2]


# Numbers


def test_plain_numbers_pass_and_embedded_ones_are_projected() -> None:
    specs = (numbers("a", 2), numbers("b", 2, dim=3))
    backbone = bone([node("m", group("g"))], {"g": ["a", "b"]}, *specs)
    weight = backbone.embedder.projections["g/b"]
    assert weight.shape == (2, 3)
    found = backbone(batch_of({"a": dense([[1.0, 2.0]]), "b": dense([[3.0, -1.0]])}))[0]
    assert torch.allclose(found, torch.cat([torch.tensor([[1.0, 2.0]]), 3 * weight[:1] - weight[1:]], dim=-1))


def test_a_projection_starts_as_its_initializer_says() -> None:
    constant = {"constant_initializer": {"consts": [0.25]}}
    backbone = bone([node("m", group("g"))], {"g": ["b"]}, numbers("b", 2, dim=3, initializer=constant))
    assert backbone.embedder.projections["g/b"].unique().tolist() == [0.25]
    backbone = bone([node("m", group("g"))], {"g": ["b"]}, numbers("b", 200, dim=64))
    assert backbone.embedder.projections["g/b"].abs().max() <= 2 / 8 / 0.879  # cut at two standard deviations


def test_several_vectors_of_numbers_are_pooled() -> None:
    backbone = bone([node("m", group("g"))], {"g": ["v"]}, numbers("v", 2, multi=True, combiner="mean"))
    found = backbone(batch_of({"v": jagged([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]])}))[0]
    assert found.tolist() == [[2.0, 3.0], [5.0, 6.0]]


# Wide groups


def wide(width: int | None, *specs, names: list[str]):
    layer = {"only_output_feature_list": True, **({"wide_output_dim": width} if width else {})}
    return bone([node("w", group("w"), input_layer=layer)], {"w": {"feature_names": names, **WIDE}}, *specs)


@pytest.mark.parametrize("width", [None, 1, 3])
def test_wide_tables_are_as_wide_as_the_model_says(width: int | None) -> None:
    backbone = wide(width, ids("i"), ids("j", dim=8), names=["i", "j"])
    assert tables(backbone) == {"w/i": (10, width or 1), "w/j": (10, width or 1)}
    assert {backbone.embedder.collection.spec(name).group for name in tables(backbone)} == {"wide"}


def test_wide_ids_need_no_width_of_their_own() -> None:
    assert tables(wide(None, ids("i", dim=0), names=["i"])) == {"w/i": (10, 1)}


def test_deep_ids_do() -> None:
    (found,) = problems([node("m", group("g"))], {"g": ["i"]}, ids("i", dim=0))
    assert str(found) == (
        "model_config.feature_groups[0]: the feature `i` of the group `g` is embedded. Set its embedding_dim"
    )


def test_wide_groups_add_up_several_values_whatever_the_combiner() -> None:
    specs = (ids("t", multi=True, combiner="mean"), sequence("s", combiner="max"))
    backbone = wide(None, *specs, names=["t", "s"])
    for name in ("w/t", "w/s"):
        fill(backbone, name, [[float(i)] for i in range(10)])
    found = backbone(batch_of({"t": jagged([[1, 2]]), "s": jagged([[3, 4, 5]])}))[0]
    assert [part.tolist() for part in found] == [[[3.0]], [[12.0]]]


def test_wide_numbers_are_projected() -> None:
    backbone = wide(2, numbers("a", 3), numbers("v", 1, sequence=True), names=["a", "v"])
    first, second = backbone(batch_of({"a": dense([[1.0, 2.0, 3.0]]), "v": jagged([[[1.0], [2.0]]])}))[0]
    projections = backbone.embedder.projections
    assert torch.allclose(first, torch.tensor([[1.0, 2.0, 3.0]]) @ projections["w/a"])
    assert torch.allclose(second, 3 * projections["w/v"])


def test_wide_output_dim_has_one_value_in_the_whole_model() -> None:
    groups = {"v": {"feature_names": ["i"], **WIDE}, "w": {"feature_names": ["i"], **WIDE}}
    blocks = [node(n, group(n), input_layer={"wide_output_dim": d}) for n, d in (("v", 1), ("w", 2))]
    (found,) = problems(blocks, groups, ids("i"))
    assert str(found) == (
        "model_config.backbone: wide_output_dim has one value in the whole model. Received: 1 in `v`, 2 in `w`"
    )


def test_wide_output_dim_counts_for_wide_groups_that_other_blocks_read() -> None:
    groups = {"v": {"feature_names": ["i"], **WIDE}, "w": {"feature_names": ["i"], **WIDE}}
    blocks = [node("v", group("v"), input_layer={"wide_output_dim": 3}), node("m", group("w"))]
    assert tables(bone(blocks, groups, ids("i"))) == {"v/i": (10, 3), "w/i": (10, 3)}


# Names


def test_a_star_stands_for_the_features_that_the_group_does_not_name() -> None:
    specs = [numbers(name) for name in ("a", "b", "c")]
    backbone = bone([node("m", group("g"))], {"g": ["c", "*"]}, *specs)
    batch = batch_of({name: dense([[float(i)]]) for i, name in enumerate("abc")})
    assert backbone(batch)[0].tolist() == [[2.0, 0.0, 1.0]]


def test_unknown_features_and_doubled_groups() -> None:
    from intarsia.backbone.groups import resolve_groups
    from intarsia.config.schema import FeatureGroup
    from intarsia.core.errors import BuildError
    from intarsia.data.schema import Schema

    configs = [
        FeatureGroup(group_name="g", feature_names=["user_idd", "zzz"]),
        FeatureGroup(group_name="g"),
        FeatureGroup(group_name="shared"),
    ]
    with pytest.raises(BuildError) as caught:
        resolve_groups(configs, Schema({"user_id": ids("user_id")}), 1)
    assert [str(p) for p in caught.value.problems] == [
        "model_config.feature_groups[0]: group `g` names the feature `user_idd`, which is not defined. Did you mean "
        "`user_id`?",
        "model_config.feature_groups[0]: group `g` names the feature `zzz`, which is not defined",
        "model_config.feature_groups[1]: the name `g` is taken by another group",
        "model_config.feature_groups[2]: no group may be called `shared`, which tables with an embedding_name are",
    ]


def test_what_is_learned_and_what_is_data() -> None:
    specs = (ids("i"), numbers("a"), numbers("b", dim=2))
    backbone = bone([node("m", group("g"))], {"g": ["i", "a", "b"]}, *specs)
    assert backbone.embedder.learned == ("g/i", "g/b")


# The fused embedding layer of a block


def embedding(*specs, names: list[str], **options):
    blocks = [node("e", group("g"), embedding_layer={"embedding_dim": 2, **options})]
    return bone(blocks, {"g": names}, *specs)


@pytest.mark.parametrize(
    ("combiner", "expected"),
    [("mean", 2.0), ("sum", 6.0), ("max", 3.0), ("min", 1.0), ("weight", 2.0)],
)
def test_an_embedding_layer_combines_several_ids(combiner: str, expected: float) -> None:
    backbone = embedding(ids("t", dim=0, multi=True), names=["t"], combiner=combiner)
    fill(backbone, "e:embedding_layer/t", [[float(i), -float(i)] for i in range(10)])
    found = backbone(batch_of({"t": jagged([[1, 2, 3]])}))[0]
    low = {"max": -1.0, "min": -3.0}.get(combiner, -expected)
    assert found.tolist() == [[pytest.approx(expected), pytest.approx(low)]]


def test_an_embedding_layer_takes_the_weights_of_tags() -> None:
    backbone = embedding(ids("t", dim=0, multi=True, weighted=True), names=["t"])
    fill(backbone, "e:embedding_layer/t", [[float(i), 0.0] for i in range(10)])
    assert backbone(batch_of({"t": jagged([[1, 3]], weights=[3.0, 1.0])}))[0].tolist() == [[1.5, 0.0]]


def test_an_embedding_layer_is_as_wide_as_it_says_whatever_the_features_say() -> None:
    specs = (ids("i", dim=16), ids("j", dim=0), ids("t", rows=5, multi=True), sequence("s"))
    backbone = embedding(*specs, names=["i", "j", "t", "s"])
    assert set(tables(backbone).values()) == {(10, 2), (5, 2)}
    batch = batch_of({"i": dense([1]), "j": dense([2]), "t": jagged([[1]]), "s": jagged([[1, 2]])})
    assert backbone(batch)[0].shape == (1, 8)
    several = embedding(*specs, names=["i", "j", "t", "s"], concat=False)
    assert [part.shape for part in several(batch)[0]] == [(1, 2)] * 4


def test_an_embedding_layer_has_tables_of_its_own_also_where_it_is_called_like_its_group() -> None:
    blocks = [node("g", group("g"), embedding_layer={"embedding_dim": 4}), node("x", group("g"), input_layer={})]
    backbone = bone(blocks, {"g": ["i"]}, ids("i"))
    assert tables(backbone) == {"g/i": (10, 4), "g:embedding_layer/i": (10, 4)}
    assert not torch.equal(table(backbone, "g/i"), table(backbone, "g:embedding_layer/i"))
    assert backbone(batch_of({"i": dense([1])}))[0].shape == (1, 8)


def test_an_embedding_layer_reads_ids() -> None:
    found = problems(
        [node("e", group("g"), embedding_layer={"embedding_dim": 2})], {"g": ["a", "b"]}, numbers("a"), numbers("b")
    )
    assert [str(p) for p in found] == [
        f"model_config.backbone.blocks[0]: block `e`: `embedding_layer` reads ids, and the feature `{name}` is a "
        f"number. "
        "Give it boundaries or num_buckets"
        for name in ("a", "b")
    ]


def test_group_widths() -> None:
    from intarsia.backbone.groups import Group

    spec = ids("i", dim=4)
    deep = Group("g", 0, (spec,))
    assert (deep.width(spec), deep.width(numbers("a", 3)), deep.key(spec), deep.table(spec)) == (4, 3, "g/i", "g/i")
    assert replace(deep, wide=2).width(spec) == 2
