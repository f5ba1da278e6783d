"""BST: an independent encoder gives the same numbers; options, padding, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intarsia.core.errors import BuildError, DataError
from intarsia.nn.bst import BST
from intarsia.nn.sequence import length_mask
from intarsia.nn.transformer import Packing, TransformerLayer

H = 8
OPTIONS: dict = {
    "hidden_size": H,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 6,
    "initializer_range": 0.3,
}
PAIR = ((None, None, 5), (None,))
TRIPLE = ((None, None, 5), (None,), (None, 3))
LENGTHS = torch.tensor([4, 1, 0, 3])


def batch(limit: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, limit, 5, generator=generator), LENGTHS, torch.randn(4, 3, generator=generator)


def build(shapes: object = TRIPLE, **options: object) -> BST:
    torch.manual_seed(3)
    return BST.from_inputs(shapes, **{**OPTIONS, **options}).eval()  # type: ignore[arg-type]


def torch_layer(layer: TransformerLayer, norm_first: bool = False) -> nn.TransformerEncoderLayer:
    """torch's own encoder layer with the same weights."""
    out = nn.TransformerEncoderLayer(
        H, 2, 12, 0.0, lambda x: nn.functional.gelu(x, approximate="tanh"), 1e-12, True, norm_first
    )
    attention = out.self_attn
    attention.in_proj_weight.data = torch.cat([layer.query.weight, layer.key_value.weight]).detach()
    attention.in_proj_bias.data = torch.cat([layer.query.bias, layer.key_value.bias]).detach()
    attention.out_proj.load_state_dict(layer.attention_output.state_dict())
    out.linear1.load_state_dict(layer.intermediate.state_dict())
    out.linear2.load_state_dict(layer.output.state_dict())
    out.norm1.load_state_dict(layer.attention_norm.state_dict())
    out.norm2.load_state_dict(layer.output_norm.state_dict())
    return out.eval()


@pytest.mark.parametrize("position", ["head", "tail", "ignore"])
def test_equals_torch_encoder_row_by_row(position):
    bst = build(target_item_position=position, output_all_token_embeddings=False)
    everything = build(target_item_position=position)
    everything.load_state_dict(bst.state_dict())
    steps, lengths, target = batch()
    one, full = bst((steps, lengths, target)), everything((steps, lengths, target)).view(4, 7, H)
    layers = [torch_layer(layer) for layer in bst.layers]
    for b, n in enumerate(lengths.tolist()):
        tokens = bst.steps_projection(steps[b, :n])
        if position != "ignore":
            item = bst.target_projection(target[b : b + 1])
            tokens = torch.cat([item, tokens] if position == "head" else [tokens, item])
        if not len(tokens):
            assert not one[b].any()
            assert not full[b].any()
            continue
        hidden = bst.norm(tokens + bst.positions[: len(tokens)]).unsqueeze(0)
        for layer in layers:
            hidden = layer(hidden)
        torch.testing.assert_close(full[b, : len(tokens)], hidden[0], rtol=1e-4, atol=1e-5)
        assert not full[b, len(tokens) :].any()
        torch.testing.assert_close(one[b], hidden[0, -1 if position == "tail" else 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
def test_layer_equals_torch_layer_for_all_tokens_and_for_one(norm_first):
    torch.manual_seed(0)
    layer = TransformerLayer(hidden_size=H, num_heads=2, intermediate_size=12, norm_first=norm_first).eval()
    lengths = torch.tensor([3, 2])
    row, position = length_mask(lengths, 3).nonzero(as_tuple=True)
    packing = Packing.of(row, position, lengths, 3)
    tokens = torch.randn(5, H)
    twin = torch_layer(layer, norm_first)
    expected = torch.cat([twin(tokens[:3].unsqueeze(0))[0], twin(tokens[3:].unsqueeze(0))[0]])
    torch.testing.assert_close(layer(tokens, packing), expected, rtol=1e-4, atol=1e-5)
    read = torch.tensor([1, 3])
    torch.testing.assert_close(layer(tokens, packing, read), expected[read], rtol=1e-4, atol=1e-5)


def test_tail_without_target_reads_the_last_real_step():
    bst = build(PAIR, target_item_position="tail", output_all_token_embeddings=False)
    everything = build(PAIR, target_item_position="tail")
    everything.load_state_dict(bst.state_dict())
    steps, lengths, _ = batch()
    full = everything((steps, lengths)).view(4, 7, H)
    for b, n in enumerate(lengths.tolist()):
        expected = full[b, n - 1] if n else torch.zeros(H)
        torch.testing.assert_close(bst((steps, lengths))[b], expected)


def test_a_missing_target_is_no_target():
    bst = build(PAIR)
    steps, lengths, _ = batch()
    assert torch.equal(bst((steps, lengths)), bst((steps, lengths, None)))
    assert BST.from_inputs((*PAIR, None), **OPTIONS).takes_target is False


def test_parameters():
    shapes = {n: tuple(p.shape) for n, p in build().named_parameters() if "layers" not in n}
    assert shapes == {
        "steps_projection.linear.weight": (H, 5),
        "steps_projection.linear.bias": (H,),
        "target_projection.linear.weight": (H, 3),
        "target_projection.linear.bias": (H,),
        "positions": (7, H),
        "norm.weight": (H,),
        "norm.bias": (H,),
    }
    per_layer = 4 * (H * H + H) + 2 * 2 * H + (H * 12 + 12) + (12 * H + H)
    assert sum(p.numel() for p in build().layers.parameters()) == 2 * per_layer
    assert not list(build(((None, None, H), (None,))).steps_projection.parameters())
    assert build(reserve_target_position=False).positions.shape == (6, H)
    assert build(use_position_embeddings=False).positions is None
    assert len(list(build().kernels())) == 2 + 2 * 5


def test_output_widths():
    assert build().out_features == 7 * H
    assert build(reserve_target_position=False).out_features == 6 * H
    assert build(output_all_token_embeddings=False).out_features == H
    assert build()(batch()).shape == (4, 7 * H)


def test_positions_matter_only_where_they_are_used():
    steps, lengths, target = batch()
    swapped = steps.clone()
    swapped[0, [1, 2]] = steps[0, [2, 1]]
    with_positions = build(output_all_token_embeddings=False)
    without = build(output_all_token_embeddings=False, use_position_embeddings=False)
    assert not torch.allclose(with_positions((steps, lengths, target)), with_positions((swapped, lengths, target)))
    torch.testing.assert_close(without((steps, lengths, target)), without((swapped, lengths, target)))


def test_initial_spread():
    weight = (
        BST.from_inputs(((None, None, 256), (None,)), **{**OPTIONS, "hidden_size": 256, "initializer_range": 0.1})
        .layers[0]
        .query.weight
    )
    assert weight.std().item() == pytest.approx(0.1 * 0.8796, rel=0.02)
    assert weight.abs().max() <= 0.2


def test_hidden_act_and_dropouts_have_an_effect():
    inputs = batch()
    assert not torch.allclose(build()(inputs), build(hidden_act="relu")(inputs))
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, name: 0.5}
        bst = build(**rates)
        assert torch.equal(bst(inputs), bst(inputs))
        bst.train()
        assert not torch.allclose(bst(inputs), bst(inputs))


@pytest.mark.parametrize("shapes", [PAIR, TRIPLE])
@pytest.mark.parametrize("position", ["head", "tail"])
@pytest.mark.parametrize("every", [True, False])
def test_padding_row_order_and_neighbours(shapes, position, every):
    bst = build(shapes, target_item_position=position, output_all_token_embeddings=every)
    inputs = batch()[: len(shapes)]
    out = bst(inputs)
    dirty = torch.cat([inputs[0], torch.zeros(4, 7, 5)], 1)  # longer than the positions, but only by padding
    dirty[~length_mask(LENGTHS, 11)] = torch.nan
    torch.testing.assert_close(bst((dirty, *inputs[1:])), out)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(bst(tuple(part[order] for part in inputs)), out[order])
    torch.testing.assert_close(bst(tuple(part[1:2] for part in inputs)), out[1:2])


@pytest.mark.parametrize("position", ["head", "tail"])
@pytest.mark.parametrize("every", [True, False])
def test_gradients(position, every):
    bst = build(target_item_position=position, output_all_token_embeddings=every).train()
    steps, lengths, target = batch(6)
    lengths = torch.tensor([6, 2, 0, 3])
    steps.requires_grad_()
    torch.manual_seed(0)
    out = bst((steps, lengths, target))
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in bst.parameters())
    assert torch.isfinite(steps.grad).all()
    assert torch.equal(steps.grad.abs().sum(-1) > 0, length_mask(lengths, 6))


def test_rows_all_empty():
    nothing = torch.zeros(4, dtype=torch.int64)
    assert not build(PAIR)((torch.randn(4, 3, 5), nothing)).any()
    assert torch.isfinite(build()((torch.randn(4, 3, 5), nothing, torch.randn(4, 3)))).all()


def test_too_long_a_sequence():
    steps, lengths = torch.randn(2, 8, 5), torch.tensor([7, 2])
    with pytest.raises(DataError, match=r"positions for 6 steps\. Received: a sequence of 7 steps.*embeddings = 6"):
        build(PAIR)((steps, lengths))
    target = torch.randn(2, 3)
    assert build()((steps, torch.tensor([6, 2]), target)).shape == (2, 7 * H)
    with pytest.raises(DataError, match=r"positions for 5 steps\. Received: a sequence of 6 steps"):
        build(reserve_target_position=False)((steps, torch.tensor([6, 2]), target))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ((None, 5), {}, r"`BST` reads a sequence.*Received: \(B, 5\)"),
        (PAIR, {"num_attention_heads": 3}, r"multiple of its number of heads\. Received: hidden_size = 8, heads = 3"),
        (PAIR, {"target_item_position": "middle"}, r"head, tail or ignore\. Received: 'middle'"),
    ],
)
def test_build_errors(shapes, options, message):
    with pytest.raises(BuildError, match=message):
        build(shapes, **options)


def test_target_that_was_not_announced():
    with pytest.raises(
        BuildError, match=r"built for a sequence without a target\. Received: \(\(B, 4, 5\), \(B,\), \(B, 3\)\)"
    ):
        build(PAIR)(batch())


@pytest.mark.parametrize("norm_first", [True, False])
def test_causal_packing_hides_the_future(norm_first):
    torch.manual_seed(0)
    layer = TransformerLayer(hidden_size=H, num_heads=2, intermediate_size=8, norm_first=norm_first).eval()
    lengths = torch.tensor([3, 2])
    row, position = length_mask(lengths, 3).nonzero(as_tuple=True)
    packing = Packing.of(row, position, lengths, 3, causal=True)
    tokens = torch.randn(5, H)
    out = layer(tokens, packing)
    changed = tokens.clone()
    changed[1] = torch.randn(H)
    after = layer(changed, packing)
    same = (after == out).all(-1)
    assert same.tolist() == [True, False, False, True, True]
    assert torch.equal(packing.unpad(packing.pad(tokens)), tokens)
