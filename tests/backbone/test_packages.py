"""Packages: graphs that are called like functions and share their parameters between calls."""

from __future__ import annotations

import torch
from bones import (
    A_VALUES,
    B_VALUES,
    ab,
    batch_of,
    block,
    bone,
    function,
    group,
    ids,
    jagged,
    layer,
    node,
    output,
    package,
    plain,
    plain_problems,
    sequence,
)
from torch import Tensor, nn

GIVEN = {"use_package_input": True}
DENSE = {"name": "p", "blocks": [node("d", GIVEN, **layer("Dense", units=2))]}


def calls(backbone: nn.Module, graph: str, name: str) -> list[tuple[Tensor, ...]]:
    """Records what the operation of a block receives and gives."""
    seen: list[tuple[Tensor, ...]] = []
    operation = backbone.graphs[graph].block(name).operation
    operation.register_forward_hook(lambda module, args, value: seen.append((args[0], value)))
    return seen


def test_calls_share_one_set_of_parameters() -> None:
    blocks = [node("one", package("p", "ga")), node("two", package("p", "gb"))]
    backbone = plain(blocks, packages=[DENSE])
    dense = backbone.graphs["p"].block("d").operation
    assert [*backbone.parameters()] == [*dense.parameters()]
    expected = torch.cat([dense(torch.tensor(A_VALUES)), dense(torch.tensor(B_VALUES))], dim=-1)
    assert torch.equal(backbone(ab())[0], expected)


def test_a_shared_parameter_gets_the_gradient_of_every_call() -> None:
    blocks = [node("one", package("p", "ga")), node("two", package("p", "gb"))]
    backbone = plain(blocks, packages=[DENSE])
    backbone(ab())[0].sum().backward()
    gradient = backbone.graphs["p"].block("d").operation.linear.weight.grad
    total = (torch.tensor(A_VALUES) + torch.tensor(B_VALUES)).sum(0)
    assert torch.allclose(gradient, total.expand(2, 2))


def test_every_call_runs_the_package_anew() -> None:
    blocks = [node("one", package("p", "ga")), node("two", package("p", "ga")), node("three", package("p", "gb"))]
    backbone = plain(blocks, packages=[DENSE])
    seen = calls(backbone, "p", "d")
    backbone(ab())
    assert [x.tolist() for x, _ in seen] == [A_VALUES, A_VALUES, B_VALUES]


def test_dropout_is_drawn_anew_at_each_call() -> None:
    packages = [{"name": "p", "blocks": [node("d", GIVEN, **layer("Dropout", rate=0.5))]}]
    blocks = [node("one", package("p", "wide")), node("two", package("p", "wide"))]
    backbone = plain(
        [node("wide", group("ga"), **function("lambda x: tf.tile(x, [1, 32])")), *blocks], packages=packages
    )
    torch.manual_seed(1)
    one, two = backbone.train()(ab())[0].chunk(2, dim=-1)
    assert not torch.equal(one == 0, two == 0)
    one, two = backbone.eval()(ab())[0].chunk(2, dim=-1)
    assert torch.equal(one, two)


def test_augmentation_is_drawn_anew_and_shares_its_mask_vector() -> None:
    augment = layer("SeqAugment", mask_rate=0.5, crop_rate=1.0, reorder_rate=0.0)
    packages = [{"name": "p", "blocks": [node("d", block("seq"), **augment)]}]
    blocks = [
        node("seq", group("g"), input_layer={"output_seq_and_normal_feature": True}),
        node("one", package("p", input_slice="[0]")),
        node("two", package("p", input_slice="[0]")),
    ]
    backbone = bone(blocks, {"g": ["s"]}, sequence("s"), packages=packages, output_blocks=["one", "two"]).train()
    batch = batch_of({"s": jagged([list(range(10))] * 8)})
    torch.manual_seed(0)
    one, two = backbone(batch)[0]
    assert one.shape == two.shape
    assert not torch.equal(one, two)
    assert sum(p.numel() for name, p in backbone.named_parameters() if name.startswith("graphs")) == 4


def test_blocks_of_the_backbone_run_once_however_many_packages_read_them() -> None:
    packages = [{"name": "p", "blocks": [node("x", block("shared"))]}]
    blocks = [node("shared", group("ga"), **layer("Dense", units=2)), node("m", package("p"), package("p"))]
    backbone = plain(blocks, packages=packages, concat_blocks=["m"])
    seen = calls(backbone, "backbone", "shared")
    backbone(ab())
    assert len(seen) == 1


def test_packages_call_packages() -> None:
    inner = {"name": "inner", "blocks": [node("x", GIVEN, **function("lambda x: x * 10"))]}
    outer = {
        "name": "outer",
        "blocks": [node("y", GIVEN, **function("lambda x: x + 1")), node("z", package("inner", "y"))],
    }
    assert output(plain([node("m", package("outer", "ga"))], packages=[outer, inner]), ab(1)) == [[20.0, 30.0]]


def test_the_input_of_a_package_is_a_block_a_package_or_a_group() -> None:
    double = {"name": "double", "blocks": [node("x", GIVEN, **function("lambda x: x * 2"))]}
    fixed = {"name": "fixed", "blocks": [node("y", group("gb"))]}
    blocks = [
        node("three", group("ga"), **function("lambda x: x * 3")),
        node("of_block", package("double", "three")),
        node("of_package", package("double", "fixed")),
        node("of_group", package("double", "ga")),
    ]
    names = ["of_block", "of_package", "of_group"]
    found = output(plain(blocks, packages=[double, fixed], concat_blocks=names), ab(1))
    assert found == [[6.0, 12.0, 20.0, 40.0, 2.0, 4.0]]


def test_a_block_comes_before_a_package_of_the_same_name_as_package_input() -> None:
    double = {"name": "double", "blocks": [node("x", GIVEN, **function("lambda x: x * 2"))]}
    twin = {"name": "twin", "blocks": [node("y", group("gb"))]}
    blocks = [node("twin", group("ga")), node("m", package("double", "twin"))]
    assert output(plain(blocks, packages=[double, twin]), ab(1)) == [[2.0, 4.0]]


def test_the_function_of_a_package_input_comes_first() -> None:
    double = {"name": "double", "blocks": [node("x", GIVEN, **function("lambda x: x * 2"))]}
    call = package("double", "ga", package_input_fn="lambda x: x + 1", input_slice="[:, 0:1]", input_fn="lambda x: -x")
    assert output(plain([node("m", call)], packages=[double]), ab(1)) == [[-4.0]]


def test_an_ignored_call_still_runs_the_package() -> None:
    loss = layer("AuxiliaryLoss", loss_type="l2_loss")
    packages = [{"name": "p", "blocks": [node("pair", group("ga"), group("gb"), merge_inputs_into_list=True, **loss)]}]
    packages[0]["blocks"].append(node("value", group("ga")))
    blocks = [node("m", package("p", ignore_input=True), group("gb"))]
    value, run = plain(blocks, packages=packages, concat_blocks=["m"]).train()(ab(1))
    assert value.tolist() == B_VALUES[:1]
    assert run.losses["p.pair_l2_loss"].item() == 9.0**2 + 18.0**2


def test_a_loss_inside_a_package_counts_at_every_call() -> None:
    loss = layer("AuxiliaryLoss", loss_type="l2_loss")
    pair = node("pair", GIVEN, extra_input_fn="lambda x: [x, x * 0]", **loss)
    packages = [{"name": "p", "blocks": [pair, node("value", GIVEN)], "concat_blocks": ["value"]}]
    blocks = [node("m", package("p", "ga"), package("p", "gb"))]
    backbone = plain(blocks, packages=packages)
    _, run = backbone.train()(ab(1))
    assert run.losses["p.pair_l2_loss"].item() == 1 + 4 + 100 + 400
    assert backbone.eval()(ab(1))[1].losses == {}


def test_a_package_gives_a_list_for_output_blocks() -> None:
    packages = [{"name": "p", "blocks": [node("x", group("ga")), node("y", group("gb"))], "output_blocks": ["y", "x"]}]
    blocks = [node("m", package("p", input_slice="[0]"))]
    assert output(plain(blocks, packages=packages), ab()) == B_VALUES


def test_a_package_may_be_called_several_times_by_one_block() -> None:
    double = {"name": "double", "blocks": [node("x", GIVEN, **function("lambda x: x * 2"))]}
    blocks = [node("m", package("double", "ga"), package("double", "gb"), merge_inputs_into_list=True)]
    found = output(plain(blocks, packages=[double]), ab(1))
    assert found == [[[2.0, 4.0]], [[20.0, 40.0]]]


def test_what_only_a_loss_calls_is_left_out_of_evaluation_and_what_it_shares_is_not() -> None:
    """The contrastive pattern: a package reads a block of the backbone, for a loss and for the output."""
    loss = layer("AuxiliaryLoss", loss_type="l2_loss")
    view = {"name": "view", "blocks": [node("v", block("shared"), **layer("Dropout", rate=0.5))]}
    encoder = {"name": "encoder", "blocks": [node("e", GIVEN, **layer("Dense", units=2))]}
    blocks = [
        node("shared", group("ga")),
        node("apart", package("encoder", "view"), package("encoder", "view"), merge_inputs_into_list=True, **loss),
        node("main", package("encoder", "shared")),
    ]
    backbone = plain(blocks, packages=[view, encoder], concat_blocks=["main"])
    seen = calls(backbone, "encoder", "e")
    skipped = backbone.eval()(ab())[0]
    assert len(seen) == 1
    backbone.train()(ab())
    assert len(seen) == 4
    dense = backbone.graphs["encoder"].block("e").operation
    assert torch.equal(skipped, dense(torch.tensor(A_VALUES)))


def test_a_block_that_only_a_package_and_a_loss_read_runs_in_evaluation() -> None:
    loss = layer("AuxiliaryLoss", loss_type="l2_loss")
    packages = [{"name": "p", "blocks": [node("x", block("seen"), **function("lambda x: x * 2"))]}]
    blocks = [
        node("seen", group("ga")),
        node("apart", block("seen"), block("seen"), merge_inputs_into_list=True, **loss),
        node("m", package("p")),
    ]
    assert output(plain(blocks, packages=packages, concat_blocks=["m"]), ab(1)) == [[2.0, 4.0]]


# reset_input

READS = {"name": "p", "blocks": [node("x", group("g"))]}
TWO_IDS = (ids("u"), ids("v"))


def reads(*blocks: dict[str, object], **more: object) -> nn.Module:
    return bone(blocks, {"g": ["u", "v"]}, *TWO_IDS, packages=[READS], **more)


def uv() -> object:
    from bones import dense

    return batch_of({"u": dense([1, 2, 3]), "v": dense([4, 5, 6])})


def test_reset_input_changes_the_form_from_that_call_on() -> None:
    as_list = {"only_output_feature_list": True}
    backbone = reads(
        node("before", package("p")),
        node("at", block("before", ignore_input=True), package("p", reset_input=as_list)),
        node("after", block("at", ignore_input=True), package("p")),
        node("back", block("after", ignore_input=True), package("p", reset_input={})),
        output_blocks=["before", "at", "after", "back"],
    )
    before, at, after, back = backbone(uv())[0]
    assert before.shape == back.shape == (3, 8)
    assert [part.shape for part in at] == [part.shape for part in after] == [(3, 4), (3, 4)]
    assert torch.equal(torch.cat(at, dim=-1), before)
    again = backbone(uv())[0]
    assert again[0].shape == (3, 8)  # the next batch starts with the package's own options


def test_reset_input_has_norms_of_its_own() -> None:
    norm = {"do_layer_norm": True}
    backbone = reads(
        node("one", package("p", reset_input=norm)),
        node("two", block("one", ignore_input=True), package("p", reset_input=dict(norm))),
        output_blocks=["one", "two"],
    )
    names = [name for name, _ in backbone.named_parameters() if "norm" in name]
    assert len(names) == 4
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "variants.1" in name and name.endswith("weight"):
                parameter.fill_(2.0)
    one, two = backbone(uv())[0]
    assert torch.allclose(one, 2 * two, atol=1e-5)


def test_reset_input_of_a_skipped_call_keeps_its_effect() -> None:
    """A call that only a loss reads comes first; what it resets must hold in evaluation as in training."""
    loss = layer("AuxiliaryLoss", loss_type="l2_loss")
    backbone = reads(
        node("apart", package("p", reset_input={"do_layer_norm": True}), extra_input_fn="lambda x: [x, x]", **loss),
        node("m", block("apart", ignore_input=True), package("p")),
        concat_blocks=["m"],
    )
    trained = backbone.train()(uv())[0]
    assert torch.allclose(backbone.eval()(uv())[0], trained)
    assert torch.allclose(trained.mean(dim=1), torch.zeros(3), atol=1e-5)


def test_reset_input_leaves_raw_inputs_alone() -> None:
    packages = [{"name": "p", "blocks": [node("x", group("ga"), raw_input={})]}]
    blocks = [node("m", package("p", reset_input={"do_layer_norm": True}))]
    assert output(plain(blocks, packages=packages), ab()) == [A_VALUES]


def test_lookups_and_pooling_are_done_once_for_all_calls() -> None:
    packages = [{"name": "p", "blocks": [node("x", group("g"))]}]
    spec = sequence("s", sequence_combiner={"attention": {}})
    blocks = [node("m", package("p"), package("p"), group("g"))]
    backbone = bone(blocks, {"g": ["s"]}, spec, packages=packages)
    count = 0

    def one_more(*_: object) -> None:
        nonlocal count
        count += 1

    backbone.readers["g"].poolers["s"].register_forward_hook(one_more)
    backbone.embedder.collection.register_forward_hook(one_more)
    backbone(batch_of({"s": jagged([[1, 2], [3]])}))
    assert count == 2  # one lookup, one pooling


def test_errors_inside_packages_name_package_and_block() -> None:
    packages = [{"name": "p", "blocks": [node("x", GIVEN, **layer("FM"))]}]
    assert plain_problems([node("m", package("p", "ga"))], packages=packages) == [
        "model_config.backbone.packages[0].blocks[0]: block `p.x`: `FM` reads one tensor of rank 3. Received: (B, 2). "
        "Its inputs: (B, 2)"
    ]
