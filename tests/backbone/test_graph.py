"""What flows through a graph: inputs merged and transformed, operations applied, outputs chosen."""

from __future__ import annotations

import pytest
import torch
from bones import (
    A_VALUES,
    AB,
    B_VALUES,
    A,
    B,
    ab,
    block,
    bone,
    function,
    group,
    layer,
    lists,
    node,
    numbers,
    output,
    plain,
    plain_problems,
)
from torch import nn

from intarsia.backbone.graph import merge

BOTH = [[*a, *b] for a, b in zip(A_VALUES, B_VALUES, strict=True)]
LIST = {"input_layer": {"only_output_feature_list": True}}
PAIR = {"input_layer": {"output_2d_tensor_and_feature_list": True}}
GROUP_OF_TWO = {"gab": ["a", "b"]}


# Merging


def test_a_block_without_operation_concatenates_its_inputs() -> None:
    assert output(plain([node("m", group("ga"), group("gb"))]), ab()) == BOTH


def test_several_tensors_are_concatenated_on_the_asked_axis() -> None:
    found = output(plain([node("m", group("ga"), group("gb"), input_concat_axis=0)]), ab())
    assert found == [*A_VALUES, *B_VALUES]


def test_a_single_input_passes_through_unchanged_also_a_tuple() -> None:
    blocks = [node("pair", group("gab"), **PAIR), node("same", block("pair"))]
    found = output(plain([*blocks], GROUP_OF_TWO, output_blocks=["same"]), ab())
    assert found == [(BOTH, [A_VALUES, B_VALUES])]


def test_lists_are_joined_to_one_list() -> None:
    blocks = [node("one", group("gab"), **LIST), node("two", block("one"), block("one"))]
    assert output(plain(blocks, GROUP_OF_TWO, concat_blocks=["two"]), ab()) == [A_VALUES, B_VALUES] * 2


def test_a_mix_of_lists_and_tensors_becomes_a_flat_list_in_order() -> None:
    blocks = [
        node("list", group("gab"), **LIST),
        node("mix", block("list"), group("ga"), block("list", input_slice="[1]")),
    ]
    found = output(plain(blocks, {**GROUP_OF_TWO, **AB}, concat_blocks=["mix"]), ab())
    assert found == [A_VALUES, B_VALUES, A_VALUES, B_VALUES]


def test_merge_inputs_into_list_keeps_one_element_an_input_and_nests_lists() -> None:
    blocks = [
        node("list", group("gab"), **LIST),
        node("nest", block("list"), group("ga"), merge_inputs_into_list=True),
        node("alone", group("ga"), merge_inputs_into_list=True),
    ]
    found = output(plain(blocks, {**GROUP_OF_TWO, **AB}, output_blocks=["nest", "alone"]), ab())
    assert found == [[[A_VALUES, B_VALUES], A_VALUES], [A_VALUES]]


def test_a_tuple_among_several_inputs_is_refused_with_a_cure() -> None:
    blocks = [node("pair", group("gab"), **PAIR), node("bad", block("pair"), block("pair"))]
    (found,) = plain_problems(blocks, GROUP_OF_TWO)
    assert found.startswith("model_config.backbone.blocks[1]: block `bad`: several inputs are concatenated")
    assert "Received: tuple, tuple. Pick one element with `input_slice`, or set `merge_inputs_into_list: true`" in found
    assert found.endswith("Its inputs: ((B, 4), [(B, 2), (B, 2)]), ((B, 4), [(B, 2), (B, 2)])")


def test_merge_is_the_rule_of_blocks() -> None:
    x = torch.zeros(1, 1)
    assert merge([(x, x)], -1) == (x, x)
    assert len(merge([[x], [x, x]], -1)) == 3
    assert merge([x, x, x], -1).shape == (1, 3)
    assert merge([x, x], 0).shape == (2, 1)


# Transforms of inputs


def test_the_slice_comes_before_the_function() -> None:
    blocks = [
        node("pair", group("gab"), **PAIR),
        node("m", block("pair", input_slice="[1][0]", input_fn="lambda x: x * 2 + 1")),
    ]
    assert output(plain(blocks, GROUP_OF_TWO), ab()) == [[3.0, 5.0], [7.0, 9.0], [11.0, 13.0]]


def test_the_extra_function_sees_the_merged_inputs() -> None:
    blocks = [node("m", group("ga"), group("gb"), extra_input_fn="lambda x: tf.reduce_sum(x, axis=1, keepdims=True)")]
    assert output(plain(blocks), ab()) == [[33.0], [77.0], [121.0]]


def test_the_extra_function_sees_a_list_where_inputs_are_merged_into_one() -> None:
    blocks = [node("m", group("ga"), group("gb"), merge_inputs_into_list=True, extra_input_fn="lambda x: x[1] - x[0]")]
    assert output(plain(blocks), ab()) == [[9.0, 18.0], [27.0, 36.0], [45.0, 54.0]]


def test_an_ignored_input_leaves_no_value() -> None:
    blocks = [
        node("late", group("ga"), **function("lambda x: x * 2")),
        node("m", block("late", ignore_input=True), group("gb")),
    ]
    backbone = plain(blocks, concat_blocks=["m"])
    assert output(backbone, ab()) == B_VALUES


def test_an_ignored_input_keeps_the_order() -> None:
    blocks = [
        node("m", block("late", ignore_input=True), group("gb")),
        node("late", group("ga"), **function("lambda x: x * 2")),
    ]
    order = [n.name for n in plain(blocks, concat_blocks=["m"]).main[0].plan.nodes]
    assert order.index("late") < order.index("m")


# Operations


def test_lambda_reads_the_merged_inputs() -> None:
    blocks = [node("m", group("ga"), group("gb"), **function("lambda x: x[:, 1:3]"))]
    assert output(plain(blocks), ab()) == [[2.0, 10.0], [4.0, 30.0], [6.0, 50.0]]


def test_layers_run_one_after_another_and_win_over_a_single_operation() -> None:
    steps = [function("lambda x: x + 1"), function("lambda x: [x, x * 10]"), {"layer": {"class_name": "Add"}}]
    blocks = [node("m", group("ga"), layers=steps, **function("lambda x: x * 0"))]
    assert output(plain(blocks), ab()) == [[22.0, 33.0], [44.0, 55.0], [66.0, 77.0]]


def test_layers_size_each_step_by_the_one_before() -> None:
    steps = [layer("Dense", units=3), {"repeat": {"num_repeat": 2, "output_concat_axis": 1, **layer("Dense", units=5)}}]
    backbone = plain([node("m", group("ga"), layers=steps)])
    assert backbone.out_features == 10
    assert backbone(ab())[0].shape == (3, 10)


def test_one_copy_gives_a_tensor() -> None:
    repeat = {"repeat": {"num_repeat": 1, "layer": {"class_name": "Activation", "st_params": {"activation": "relu"}}}}
    assert output(plain([node("m", group("ga"), **repeat)]), ab()) == A_VALUES


def test_several_copies_give_a_list_and_differ() -> None:
    backbone = plain([node("m", group("ga"), repeat={"num_repeat": 3, **layer("Dense", units=2)})])
    one, two, three = backbone(ab())[0]
    assert one.shape == two.shape == three.shape == (3, 2)
    assert not torch.equal(one, two)
    assert not torch.equal(two, three)


def test_several_copies_are_concatenated_on_an_axis() -> None:
    for axis, shape in ((1, (3, 6)), (0, (9, 2))):
        repeat = {"num_repeat": 3, "output_concat_axis": axis, **layer("Dense", units=2)}
        assert plain([node("m", group("ga"), repeat=repeat)])(ab())[0].shape == shape


def test_each_copy_gets_its_own_slice_and_function() -> None:
    scale = {"class_name": "Activation", "st_params": {"activation": "linear"}}
    repeat = {"num_repeat": 2, "layer": scale, "input_slice": "[i]", "input_fn": "lambda x, i: x * (i + 1)"}
    blocks = [node("m", group("ga"), group("gb"), merge_inputs_into_list=True, repeat=repeat)]
    doubled = [[2 * x for x in row] for row in B_VALUES]
    assert output(plain(blocks), ab()) == [A_VALUES, doubled]


def test_recurrent_copies_feed_each_other() -> None:
    backbone = plain([node("m", group("ga"), recurrent={"num_steps": 3, **layer("Dense", units=2)})])
    steps = backbone.graphs["backbone"].block("m").operation.steps
    x = torch.tensor(A_VALUES)
    for step in steps:
        x = step(x)
    assert len({id(step) for step in steps}) == 3
    assert torch.equal(backbone(ab())[0], x)


def test_crosses_with_a_fixed_input_equal_the_formula_by_hand() -> None:
    """DCN-v2: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l."""
    cross = {"num_steps": 2, "fixed_input_index": 0, "layer": {"class_name": "Cross"}}
    backbone = plain([node("m", group("ga", input_fn="lambda x: [x, x]"), recurrent=cross)])
    first, second = backbone.graphs["backbone"].block("m").operation.steps
    with torch.no_grad():
        first.up.weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
        first.up.bias.copy_(torch.tensor([0.5, 0.0]))
        second.up.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        second.up.bias.copy_(torch.tensor([0.0, -1.0]))
    # Row (1, 2): x1 = (1 * (1 + .5) + 1, 2 * (2 + 2) + 2) = (2.5, 10); x2 = (1 * 10 + 2.5, 2 * (2.5 - 1) + 10).
    assert output(backbone, ab(1)) == [[12.5, 13.0]]


def test_the_fixed_input_may_stand_anywhere_and_is_left_out_at_the_end() -> None:
    subtract = {"num_steps": 2, "fixed_input_index": 1, "layer": {"class_name": "Subtract"}}
    blocks = [node("m", group("gb"), group("ga"), merge_inputs_into_list=True, recurrent=subtract)]
    assert output(plain(blocks), ab()) == [[8.0, 16.0], [24.0, 32.0], [40.0, 48.0]]


def test_one_output_takes_the_place_of_every_free_input() -> None:
    add = {"num_steps": 2, "fixed_input_index": 1, "layer": {"class_name": "Add"}}
    blocks = [node("m", group("ga"), group("gb"), group("ga"), merge_inputs_into_list=True, recurrent=add)]
    # Row 0, first number: 1 + 10 + 1 = 12, then 12 + 10 + 12 = 34, in both free places.
    found = plain(blocks)(ab())[0]
    assert [part[0, 0].item() for part in found] == [34.0, 34.0]


# Outputs


def test_output_blocks_give_a_list_without_concatenation() -> None:
    blocks = [node("one", group("ga")), node("two", group("gb"))]
    assert output(plain(blocks, output_blocks=["two", "one"]), ab()) == [B_VALUES, A_VALUES]


def test_concat_blocks_are_joined_in_their_order() -> None:
    blocks = [node("one", group("ga")), node("two", group("gb"))]
    assert output(plain(blocks, concat_blocks=["two", "one"]), ab()) == [[*b, *a] for a, b in zip(A_VALUES, B_VALUES)]


def test_output_blocks_win_over_concat_blocks() -> None:
    blocks = [node("one", group("ga")), node("two", group("gb"))]
    assert output(plain(blocks, output_blocks=["one"], concat_blocks=["two"]), ab()) == [A_VALUES]


def test_concat_blocks_may_name_an_input_layer_that_came_by_itself() -> None:
    assert output(plain([node("m", group("ga"), group("gb"))], concat_blocks=["gb"]), ab()) == B_VALUES


def test_without_names_all_leaves_are_concatenated() -> None:
    blocks = [
        node("one", group("ga")),
        node("two", block("one"), **function("lambda x: x * 2")),
        node("three", group("gb")),
    ]
    doubled = [[2 * x for x in row] for row in A_VALUES]
    assert output(plain(blocks), ab()) == [[*x, *b] for x, b in zip(doubled, B_VALUES)]


def test_the_top_mlp_reads_the_concatenation_of_a_list() -> None:
    blocks = [node("one", group("ga")), node("two", group("gb"), **layer("Dense", units=3))]
    backbone = plain(blocks, output_blocks=["one", "two"], top_mlp={"hidden_units": [7, 5]})
    assert backbone.top_mlp is not None
    assert backbone.top_mlp.in_features == 5
    assert backbone.out_features == 5
    assert backbone(ab())[0].shape == (3, 5)


def test_the_top_mlp_reads_a_tensor() -> None:
    backbone = plain([node("one", group("ga"))], top_mlp={"hidden_units": [3]})
    assert backbone(ab())[0].shape == (3, 3)


def test_one_number_a_row_without_an_axis_counts_as_one_wide() -> None:
    backbone = plain([node("m", group("ga"), **function("lambda x: tf.reduce_sum(x, axis=1)"))])
    assert backbone.out_features == 1
    assert output(backbone, ab()) == [3.0, 7.0, 11.0]


@pytest.mark.parametrize(
    ("operation", "shape"),
    [
        ("lambda x: tf.stack([x, x], axis=1)", "(B, 2, 2)"),
        ("lambda x: tf.reduce_sum(x)", "scalar"),
        ("lambda x: (x, x)", None),
    ],
)
def test_an_output_that_is_no_vector_is_refused_when_its_width_is_asked_for(operation: str, shape: str | None) -> None:
    from intarsia.core.errors import BuildError

    backbone = plain([node("m", group("ga"), **function(operation))])
    with pytest.raises(
        BuildError, match=r"model_config.backbone: the backbone must give one vector a row, \(B, D\)"
    ) as e:
        _ = backbone.out_features
    assert shape is None or f"Received: {shape}. Flatten" in str(e.value)


def test_a_list_has_no_width() -> None:
    from intarsia.core.errors import BuildError

    backbone = plain([node("m", group("ga"))], output_blocks=["m"])
    with pytest.raises(BuildError, match=r"the backbone gives a list of tensors.*in concat_blocks, or join"):
        _ = backbone.out_features


# Losses and what runs when

LOSS = layer("AuxiliaryLoss", loss_type="l2_loss", loss_weight=0.5)


def with_loss(**more: object) -> list[dict[str, object]]:
    return [
        node("one", group("ga")),
        node("aside", group("gb"), **function("lambda x: x / 10")),
        node("apart", block("one"), block("aside"), merge_inputs_into_list=True, **LOSS),
        node("dead", block("one"), **function("lambda x: x * 100")),
    ]


def test_a_loss_block_runs_in_training_though_nothing_reads_it() -> None:
    backbone = plain(with_loss(), concat_blocks=["one"]).train()
    value, run = backbone(ab())
    assert lists(value) == A_VALUES
    assert set(run.losses) == {"apart_l2_loss"}
    assert run.losses["apart_l2_loss"].item() == 0.0  # b is ten times a
    assert set(run.values) >= {"one", "aside", "apart", "dead"}


def test_a_loss_block_is_no_leaf() -> None:
    assert output(plain(with_loss()), ab()) == [[100 * x for x in row] for row in A_VALUES]


def test_where_every_leaf_is_a_loss_the_output_must_be_named() -> None:
    found = plain_problems(with_loss()[:3])
    assert found == [
        "model_config.backbone: nothing comes out of `backbone`: all its blocks are read by others or add a loss. Name "
        "its concat_blocks"
    ]


def test_evaluation_leaves_out_what_only_losses_read_and_gives_the_same_output() -> None:
    backbone = plain(with_loss(), concat_blocks=["one"])
    value, run = backbone(ab())
    assert run.losses == {}
    assert "aside" not in run.values
    assert torch.equal(value, backbone.train()(ab())[0])


def test_a_block_whose_value_is_a_prediction_is_not_left_out() -> None:
    mlp = layer("MLP", hidden_units=[1], add_to_outputs=True, use_final_bn=False, final_activation="linear")
    blocks = [
        node("one", group("ga")),
        node("extra", group("gb"), layers=[mlp]),
        node("apart", block("extra"), block("extra"), merge_inputs_into_list=True, **LOSS),
    ]
    backbone = plain(blocks, concat_blocks=["one"])
    _, run = backbone(ab())
    assert run.outputs["extra"].shape == (3,)
    assert run.losses == {}


def test_a_loss_at_the_end_of_layers_counts_as_a_loss() -> None:
    steps = [function("lambda x: [x, x + 1]"), LOSS]
    blocks = [node("one", group("ga")), node("apart", block("one"), layers=steps)]
    backbone = plain(blocks, concat_blocks=["one"]).train()
    value, run = backbone(ab())
    assert lists(value) == A_VALUES
    assert run.losses["apart_l2_loss"].item() == pytest.approx(0.5 * 2)  # half of the mean of 1 + 1


def test_blocks_are_registered_once_and_travel_with_the_backbone() -> None:
    import copy

    top = {"hidden_units": [2], "use_final_bn": False, "final_activation": "linear"}
    backbone = plain([node("m", group("ga"), **layer("Dense", units=3))], top_mlp=top)
    twin = copy.deepcopy(backbone)
    names = [name for name, _ in backbone.named_parameters()]
    assert len(names) == len(set(names)) == len(list(backbone.parameters()))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(twin(ab())[0], torch.zeros(3, 2))
    assert backbone(ab())[0].abs().sum() > 0
    twin.load_state_dict(backbone.state_dict())
    assert torch.equal(twin(ab())[0], backbone(ab())[0])


@pytest.mark.parametrize("name", ["training", "keys", "a.b", "forward", "50%", "T_destination"])
def test_any_name_will_do(name: str) -> None:
    specs = (numbers(name, 2), B)
    blocks = [node("copy of it", group("g.x")), node(name, block("copy of it"), **layer("Dense", units=1))]
    backbone = bone(blocks, {"g.x": [name]}, *specs)
    assert isinstance(backbone.main[0].block(name).operation, nn.Module)


def test_names_that_differ_in_a_dot_stay_apart() -> None:
    blocks = [node("a.b", group("ga")), node("a_b", group("gb"))]
    assert output(plain(blocks, output_blocks=["a.b", "a_b"]), ab()) == [A_VALUES, B_VALUES]
    blocks = [node("a.b", group("ga"), **layer("Dense", units=1)), node("a_b", group("gb"), **layer("Dense", units=1))]
    assert len([*bone(blocks, AB, A, B).parameters()]) == 4
