"""Input layers: the forms that a group comes in, norms, dropout, and sequences that become one vector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bones import (
    A_VALUES,
    AB,
    B_VALUES,
    ab,
    batch_of,
    bone,
    dense,
    fill,
    group,
    ids,
    jagged,
    lists,
    node,
    numbers,
    output,
    plain,
    plain_problems,
    problems,
    sequence,
    table,
)
from torch import Tensor, nn

from intarsia.backbone.build import Backbone
from intarsia.data.schema import FeatureSpec

GAB = {"g": ["a", "b"]}
FLAT = [[*a, *b] for a, b in zip(A_VALUES, B_VALUES, strict=True)]
STACKED = [[a, b] for a, b in zip(A_VALUES, B_VALUES, strict=True)]


def reading(**options: Any) -> Backbone:
    """A backbone that gives the group of a and b as `options` ask."""
    return plain([node("x", group("g"), input_layer=options)], GAB, output_blocks=["x"])


# Forms

LIST, CUBE = "only_output_feature_list", "only_output_3d_tensor"
PAIR, SEQ = "output_2d_tensor_and_feature_list", "output_seq_and_normal_feature"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], FLAT),
        ([LIST], [A_VALUES, B_VALUES]),
        ([CUBE], STACKED),
        ([PAIR], (FLAT, [A_VALUES, B_VALUES])),
        # Several at once: sequences, list, 3d, pair, in this order.
        ([LIST, CUBE, PAIR], [A_VALUES, B_VALUES]),
        ([CUBE, PAIR], STACKED),
    ],
)
def test_forms_and_their_order_of_precedence(options: list[str], expected: Any) -> None:
    assert output(reading(**dict.fromkeys(options, True)), ab()) == [expected]


def test_sequences_win_over_every_other_form() -> None:
    backbone = bone(
        [node("x", group("g"), input_layer=dict.fromkeys([LIST, CUBE, PAIR, SEQ], True))],
        {"g": ["s", "a"]},
        sequence("s"),
        numbers("a", 2),
        output_blocks=["x"],
    )
    (found,) = backbone(batch_of({"s": jagged([[1, 2], [3]]), "a": dense(A_VALUES[:2])}))[0]
    assert isinstance(found, tuple)
    assert len(found) == 3


def test_3d_needs_equal_widths() -> None:
    found = problems(
        [node("x", group("g"), input_layer={CUBE: True})], {"g": ["a", "c"]}, numbers("a", 2), numbers("c", 3)
    )
    assert found[0].path == "model_config.backbone.blocks[0]"
    assert found[0].message == (
        "block `x`: only_output_3d_tensor needs equally wide features. Received: widths [2, 3] in the group `g`."
    )


# Sequences


def sequences(rows: list[list[int]], second: list[list[int]] | None = None, **options: Any) -> Any:
    """What a group of a sequence s (tables of the row's number), perhaps t, and the numbers a gives."""
    specs: list[FeatureSpec] = [sequence("s", dim=2, **options.pop("spec", {}))]
    batch = {"s": jagged(rows)}
    if second is not None:
        specs.append(sequence("t", dim=1))
        batch["t"] = jagged(second)
    if options.pop("target", True):
        specs.append(numbers("a", 2))
        batch["a"] = dense(A_VALUES[: len(rows)])
    layer = {SEQ: True, **options}
    blocks = [node("x", group("g"), input_layer=layer)]
    backbone = bone(blocks, {"g": [s.name for s in specs]}, *specs, output_blocks=["x"])
    fill(backbone, "g/s", [[i, i / 10] for i in range(10)])
    if second is not None:
        fill(backbone, "g/t", [[-i] for i in range(10)])
    return backbone(batch_of(batch))[0][0]


def test_a_sequence_comes_padded_with_its_lengths_and_the_other_features() -> None:
    steps, lengths, target = sequences([[1, 2, 3], [], [4]])
    assert torch.allclose(steps[0], torch.tensor([[1, 0.1], [2, 0.2], [3, 0.3]]))
    assert steps[1].abs().sum() == 0
    assert torch.allclose(steps[2], torch.tensor([[4, 0.4], [0, 0], [0, 0]]))
    assert lengths.tolist() == [3, 0, 1]
    assert target.tolist() == A_VALUES


def test_without_other_features_the_target_is_none() -> None:
    steps, _, target = sequences([[1], [2]], target=False)
    assert steps.shape == (2, 1, 2)
    assert target is None


def test_several_sequences_are_concatenated_and_the_first_gives_the_lengths() -> None:
    steps, lengths, _ = sequences([[1], [2, 3]], [[4, 5], [6]])
    assert torch.allclose(steps[0], torch.tensor([[1, 0.1, -4], [0, 0, -5]]))
    assert torch.allclose(steps[1], torch.tensor([[2, 0.2, -6], [3, 0.3, 0]]))
    assert lengths.tolist() == [1, 2]


def test_concat_seq_feature_false_keeps_lists() -> None:
    steps, lengths, target = sequences([[1], [2, 3]], [[4, 5], [6]], concat_seq_feature=False)
    assert [one.shape for one in steps] == [(2, 2, 2), (2, 2, 1)]
    assert lengths.tolist() == [1, 2]
    assert lists(target) == [A_VALUES[:2]]


def test_a_sequence_longer_than_its_schema_is_cut_to_its_first_steps() -> None:
    steps, lengths, _ = sequences([[1, 2, 3], [4]], spec={"max_length": 2})
    assert steps[0, :, 0].tolist() == [1, 2]
    assert lengths.tolist() == [2, 1]


def test_a_group_without_a_sequence_has_none_to_give() -> None:
    found = plain_problems([node("x", group("g"), input_layer={SEQ: True})], GAB)
    assert found == [
        "model_config.backbone.blocks[0]: block `x`: output_seq_and_normal_feature needs a sequence, and the group `g` "
        "has none."
    ]


# Sequences that become one vector


def pooled(spec: FeatureSpec, rows: list[list[int]], weights: Any = None) -> tuple[Backbone, Tensor]:
    backbone = bone([node("x", group("g"))], {"g": [spec.name]}, spec)
    if weights is not None:
        fill(backbone, f"g/{spec.name}", weights)
    return backbone, backbone(batch_of({spec.name: jagged(rows)}))[0]


def test_the_attention_combiner_weighs_steps_by_a_softmax_of_a_learned_score() -> None:
    spec = sequence("s", rows=4, dim=2, sequence_combiner={"attention": {}, "text_cnn": None})
    backbone, _ = pooled(spec, [[1]])
    fill(backbone, "g/s", [[0, 0], [1, 0], [0, 1], [2, 2]])
    pooler = backbone.readers["g"].poolers["s"]
    with torch.no_grad():
        pooler.score.weight.copy_(torch.tensor([[0.0, 1.0]]))
    found = backbone(batch_of({"s": jagged([[1, 2], [3], []])}))[0]
    e = torch.e
    assert torch.allclose(found, torch.tensor([[1 / (1 + e), e / (1 + e)], [2, 2], [0, 0]]))


def test_the_text_cnn_combiner_gives_its_filters() -> None:
    combiner = {"text_cnn": {"filter_sizes": [2, 3], "num_filters": [4, 1], "pad_sequence_length": 5, "mlp": None}}
    backbone, found = pooled(sequence("s", sequence_combiner=combiner), [[1, 2, 3], [4]])
    assert found.shape == (2, 5)
    assert backbone.out_features == 5
    assert backbone.readers["g"].poolers["s"].pad_sequence_length == 5


@pytest.mark.parametrize(("max_length", "expected"), [(7, 7), (0, 3)])
def test_text_cnn_pads_to_the_longest_sequence_or_the_widest_filter(max_length: int, expected: int) -> None:
    combiner = {"text_cnn": {"filter_sizes": [2, 3], "num_filters": [4, 1], "pad_sequence_length": 0}}
    backbone, _ = pooled(sequence("s", sequence_combiner=combiner, max_length=max_length), [[1, 2, 3], [4]])
    assert backbone.readers["g"].poolers["s"].pad_sequence_length == expected


def test_a_sequence_without_a_combiner_is_refused_with_both_cures() -> None:
    (found,) = problems([node("x", group("g"), input_layer={})], {"g": ["s"]}, sequence("s"))
    assert found.path == "model_config.backbone.blocks[0]"
    assert found.message == (
        "block `x`: the sequence `s` must become one vector in the group `g`. Give the feature a `sequence_combiner`, "
        "or "
        "read the group with `input_layer: {output_seq_and_normal_feature: true}`."
    )


@pytest.mark.parametrize("combiner", [{"multi_head_attention": {}}, {"attention": {}, "text_cnn": {}}])
def test_other_combiners_are_refused(combiner: dict[str, Any]) -> None:
    (found,) = problems([node("x", group("g"))], {"g": ["s"]}, sequence("s", sequence_combiner=combiner))
    assert found.path == "model_config.feature_groups[0]"
    assert found.message == (
        "feature group `g`: the sequence_combiner of `s` must be `attention` or `text_cnn`. Received: "
        + ", ".join(combiner)
    )


def test_a_filter_that_does_not_fit_names_the_group() -> None:
    combiner = {"text_cnn": {"filter_sizes": [4], "num_filters": [1], "pad_sequence_length": 3}}
    (found,) = problems([node("x", group("g"))], {"g": ["s"]}, sequence("s", sequence_combiner=combiner))
    assert found.path == "model_config.feature_groups[0]"
    assert found.message.startswith("feature group `g`: `TextCNN` needs filters that fit into the sequence.")


def test_numbers_in_sequences_are_pooled_too() -> None:
    spec = numbers("s", 3, sequence=True, sequence_combiner={"attention": {}})
    backbone = bone([node("x", group("g"))], {"g": ["s"]}, spec)
    found = backbone(batch_of({"s": jagged([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0], [4.0, 5.0, 6.0]]])}))[0]
    assert torch.allclose(found, torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))


def test_pooling_has_its_example_in_evaluation_mode() -> None:
    """Building a backbone must leave no trace in running statistics."""
    mlp = {"hidden_units": [3], "use_bn": True}
    combiner = {"text_cnn": {"filter_sizes": [2], "num_filters": [4], "pad_sequence_length": 2, "mlp": mlp}}
    backbone, _ = pooled(sequence("s", sequence_combiner=combiner), [[1, 2]])
    fresh, _ = pooled(sequence("s", sequence_combiner=combiner), [[5, 5]])
    for (name, one), (_, two) in zip(backbone.named_buffers(), fresh.named_buffers(), strict=True):
        assert torch.equal(one, two), name
        if name.endswith("running_mean"):
            assert one.abs().sum() == 0


# Norms


def test_layer_norm_of_the_concatenation() -> None:
    found = reading(do_layer_norm=True)(ab())[0][0]
    assert torch.allclose(found.mean(dim=1), torch.zeros(3), atol=1e-6)
    assert torch.allclose(found.var(dim=1, unbiased=False), torch.ones(3), atol=1e-3)


def test_batch_norm_of_the_concatenation_uses_the_batch_in_training() -> None:
    backbone = reading(do_batch_norm=True).train()
    found = backbone(ab())[0][0]
    assert torch.allclose(found.mean(dim=0), torch.zeros(4), atol=1e-6)
    assert sum(isinstance(m, nn.Module) and "BatchNorm" in type(m).__name__ for m in backbone.modules()) >= 1


def test_the_list_and_the_concatenation_have_norms_of_their_own() -> None:
    flat, parts = reading(do_layer_norm=True, **{PAIR: True})(ab())[0][0]
    assert not torch.allclose(torch.cat(parts, dim=-1), flat)
    for part in parts:
        assert torch.allclose(part.mean(dim=1), torch.zeros(3), atol=1e-5)
    assert len(list(reading(do_layer_norm=True, **{PAIR: True}).parameters())) == 6


@pytest.mark.parametrize("form", [LIST, CUBE])
def test_lists_are_normalised_feature_by_feature(form: str) -> None:
    found = reading(do_layer_norm=True, **{form: True})(ab())[0][0]
    parts = found if form == LIST else list(found.unbind(dim=1))
    for part in parts:
        assert torch.allclose(part.mean(dim=1), torch.zeros(3), atol=1e-5)


def test_both_norms_at_once_are_refused() -> None:
    found = plain_problems([node("x", group("g"), input_layer={"do_batch_norm": True, "do_layer_norm": True})], GAB)
    assert found == [
        "model_config.backbone.blocks[0]: block `x`: do_batch_norm and do_layer_norm exclude each other: set one of "
        "them."
    ]


def test_sequences_are_neither_normalised_nor_dropped() -> None:
    steps, _, target = sequences([[1, 2], [3]], do_layer_norm=True, dropout_rate=0.9)
    assert target.tolist() == A_VALUES[:2]
    assert steps[0, :, 0].tolist() == [1, 2]


# Dropout

WIDE = numbers("w", 1000)
ONES = batch_of({"w": dense([[1.0] * 1000] * 2)})


@pytest.mark.parametrize("form", [{}, {LIST: True}, {PAIR: True}])
def test_dropout_zeroes_elements_in_training_and_scales_the_others(form: dict[str, bool]) -> None:
    blocks = [node("x", group("g"), input_layer={"dropout_rate": 0.25, **form})]
    backbone = bone(blocks, {"g": ["w"]}, WIDE, output_blocks=["x"]).train()
    torch.manual_seed(0)
    found = backbone(ONES)[0][0]
    for value in [found] if isinstance(found, Tensor) else [found[0]] if LIST in form else [found[0], found[1][0]]:
        assert {round(x, 4) for x in value.unique().tolist()} == {0.0, 1.3333}
        assert (value == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    still = backbone.eval()(ONES)[0][0]
    assert (still if isinstance(still, Tensor) else still[0]).unique().tolist() == [1.0]


MANY = [numbers(f"n{i}") for i in range(400)]


def test_feature_dropout_takes_one_draw_a_feature_for_the_whole_batch() -> None:
    blocks = [node("x", group("g"), input_layer={"feature_dropout_rate": 0.25})]
    backbone = bone(blocks, {"g": [spec.name for spec in MANY]}, *MANY).train()
    batch = batch_of({spec.name: dense([[1.0]] * 5) for spec in MANY})
    torch.manual_seed(0)
    found = backbone(batch)[0]
    assert {round(x, 4) for x in found.unique().tolist()} == {0.0, 1.3333}
    assert (found == found[:1]).all()  # the same features for every row
    assert (found[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert not torch.equal(backbone(batch)[0], found)
    assert backbone.eval()(batch)[0].unique().tolist() == [1.0]


def test_feature_dropout_reaches_lists_too() -> None:
    blocks = [node("x", group("g"), input_layer={"feature_dropout_rate": 0.5, PAIR: True})]
    backbone = bone(blocks, {"g": [spec.name for spec in MANY]}, *MANY, output_blocks=["x"]).train()
    flat, parts = backbone(batch_of({spec.name: dense([[1.0]] * 2) for spec in MANY}))[0][0]
    assert torch.equal(torch.cat(parts, dim=-1), flat)
    assert {round(x, 4) for x in flat.unique().tolist()} == {0.0, 2.0}


# Raw inputs


def test_raw_input_gives_the_tensors_before_any_embedding_in_order() -> None:
    specs = (ids("i"), FeatureSpec("p", "raw", width=2), ids("t", multi=True), numbers("v", 2, multi=True))
    backbone = bone([node("x", group("g"), raw_input={})], {"g": ["p", "i", "t", "v"]}, *specs)
    batch = batch_of(
        {
            "i": dense([3, -1]),
            "p": dense([[0.5, 1.5], [2.5, 3.5]]),
            "t": jagged([[4, 5], [0]]),
            "v": jagged([[], [[1.0, 2.0]]]),
        }
    )
    assert output(backbone, batch) == [
        [[0.5, 1.5], [2.5, 3.5]],
        [3, -1],
        [[4, 5], [0, -1]],
        [[[0.0, 0.0]], [[1.0, 2.0]]],
    ]
    assert list(backbone.parameters()) == []


def test_a_passed_through_feature_needs_a_raw_input() -> None:
    (found,) = problems([node("x", group("g"))], {"g": ["p"]}, FeatureSpec("p", "raw"))
    assert found.path == "model_config.feature_groups[0]"
    assert found.message == (
        "the feature `p` of the group `g` is passed through as it is, so only a block with `raw_input` can read it. "
        "Give "
        "it a group of its own"
    )


# Sharing the work


def test_input_layers_over_one_group_share_tables_and_pooling() -> None:
    specs = (ids("i"), sequence("s", sequence_combiner={"attention": {}}))
    blocks = [
        node("flat", group("g"), input_layer={}),
        node("list", group("g"), input_layer={LIST: True}),
        node("cube", group("g"), input_layer={CUBE: True}),
    ]
    backbone = bone(blocks, {"g": ["i", "s"]}, *specs, output_blocks=["flat", "list", "cube"])
    runs = []
    backbone.readers["g"].poolers["s"].register_forward_hook(lambda *_: runs.append(1))
    flat, parts, cube = backbone(batch_of({"i": dense([1, 2]), "s": jagged([[1, 2], [3]])}))[0]
    assert torch.equal(torch.cat(parts, dim=-1), flat)
    assert torch.equal(torch.stack(parts, dim=1), cube)
    assert len(runs) == 1
    assert sorted(table(backbone, name).shape for name in ("g/i", "g/s")) == [(10, 4), (10, 4)]


def test_input_layers_over_one_group_keep_their_own_norms() -> None:
    blocks = [
        node("one", group("g"), input_layer={"do_layer_norm": True}),
        node("two", group("g"), input_layer={"do_layer_norm": True}),
        node("raw", group("g"), input_layer={}),
    ]
    backbone = plain(blocks, GAB, output_blocks=["one", "two", "raw"])
    assert len(list(backbone.parameters())) == 4
    one, two, raw = backbone(ab())[0]
    assert torch.equal(one, two)
    assert raw.tolist() == FLAT
    assert AB == {"ga": ["a"], "gb": ["b"]}
