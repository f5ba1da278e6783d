"""DIN: values, options, padding, errors."""

from __future__ import annotations

import math

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.din import DIN
from intarsia.nn.mlp import MLP
from intarsia.nn.sequence import length_mask

SHAPES = ((None, None, 3), (None,), (None, 3))
LENGTHS = torch.tensor([4, 1, 0, 2])


def batch(query_dim: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 4, 3, generator=generator), LENGTHS, torch.randn(4, query_dim, generator=generator)


def scoring(**options: object) -> DIN:
    """Scores a step by the sum of its products with the query."""
    din = DIN.from_inputs(SHAPES, attention_dnn={"hidden_units": [1]}, need_target_feature=False, **options)
    weight = torch.zeros(1, 12)
    weight[0, 9:] = 1.0
    din.attention_dnn.layers[0].linear.weight.data = weight
    return din


def test_softmax_by_hand():
    keys = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0], [7, 7, 7]]])
    query = torch.tensor([[math.log(3.0), 0.0, 5.0]])  # scores log 3 and 0: weights 3/4 and 1/4
    out = scoring()((keys, torch.tensor([2]), query))
    torch.testing.assert_close(out, torch.tensor([[0.75, 0.25, 0.0]]))


def test_sigmoid_divides_by_the_root_of_the_width():
    keys = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0], [7, 7, 7]]])
    query = torch.tensor([[math.sqrt(3) * math.log(3.0), 0.0, 0.0]])  # sigmoids 3/4 and 1/2
    out = scoring(attention_normalizer="sigmoid")((keys, torch.tensor([2]), query))
    torch.testing.assert_close(out, torch.tensor([[0.75, 0.5, 0.0]]))


def test_mlp_sees_query_key_difference_product():
    torch.manual_seed(0)
    din = DIN.from_inputs(SHAPES, attention_dnn={"hidden_units": [6, 1]}, need_target_feature=False).eval()
    keys, _, query = batch()
    one = din((keys, torch.ones(4, dtype=torch.int64), query))
    torch.testing.assert_close(one, keys[:, 0])
    two = din((keys, torch.full((4,), 2), query))
    scores = torch.cat(
        [din.attention_dnn(torch.cat([query, k, query - k, query * k], 1)) for k in (keys[:, 0], keys[:, 1])], 1
    ).softmax(1)
    torch.testing.assert_close(two, scores[:, :1] * keys[:, 0] + scores[:, 1:] * keys[:, 1])


def test_forced_options_and_parameters():
    din = DIN.from_inputs(
        SHAPES, attention_dnn={"hidden_units": [5, 1], "use_final_bn": True, "final_activation": "relu"}
    )
    shapes = {n: tuple(p.shape) for n, p in din.named_parameters()}
    assert shapes == {
        "attention_dnn.layers.0.linear.weight": (5, 12),
        "attention_dnn.layers.0.norm.weight": (5,),
        "attention_dnn.layers.0.norm.bias": (5,),
        "attention_dnn.layers.1.linear.weight": (1, 5),
        "attention_dnn.layers.1.linear.bias": (1,),
    }
    assert isinstance(din.attention_dnn, MLP)
    assert isinstance(din.attention_dnn.layers[1].activation, torch.nn.Identity)


def test_query_is_appended_on_request():
    keys, lengths, query = batch()
    din = DIN.from_inputs(SHAPES, attention_dnn={"hidden_units": [1]})
    out = din((keys, lengths, query))
    assert din.out_features == 6
    assert torch.equal(out[:, 3:], query)


def test_narrow_query_is_padded_and_the_output_cut():
    din = DIN.from_inputs(((None, None, 3), (None,), (None, 2)), attention_dnn={"hidden_units": [1]})
    assert din.out_features == 4
    keys, lengths, query = batch(query_dim=2)
    weights = {"hidden_units": [1]}
    wide = DIN.from_inputs(SHAPES, attention_dnn=weights)
    wide.load_state_dict(din.state_dict())
    padded = torch.nn.functional.pad(query, (0, 1))
    torch.testing.assert_close(din((keys, lengths, query))[:, :2], wide((keys, lengths, padded))[:, :2])


@pytest.mark.parametrize("normalizer", ["softmax", "sigmoid"])
@pytest.mark.parametrize("training", [True, False])
def test_padding_and_row_order(normalizer, training):
    torch.manual_seed(0)
    din = DIN.from_inputs(SHAPES, attention_dnn={"hidden_units": [6, 1]}, attention_normalizer=normalizer)
    din.train(training)
    keys, lengths, query = batch()
    out = din((keys, lengths, query))
    dirty = torch.cat([keys, torch.zeros(4, 3, 3)], 1)
    dirty[~length_mask(lengths, 7)] = torch.nan
    torch.testing.assert_close(din((dirty, lengths, query)), out)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(din((keys[order], lengths[order], query[order])), out[order])
    assert not out[2, :3].any()


@pytest.mark.parametrize(("normalizer", "total"), [("softmax", 1.0), ("sigmoid", None)])
def test_weights_pool_other_sequences_too(normalizer, total):
    torch.manual_seed(0)
    din = DIN.from_inputs(
        SHAPES, attention_dnn={"hidden_units": [1]}, attention_normalizer=normalizer, need_target_feature=False
    )
    keys, lengths, query = batch()
    weights = din.weights(keys, lengths, query)
    assert torch.equal(weights > 0, length_mask(lengths, 4))
    torch.testing.assert_close(torch.einsum("bl,bld->bd", weights, keys), din((keys, lengths, query)))
    if total is not None:
        torch.testing.assert_close(weights.sum(1), (lengths > 0).float())


def test_gradients_and_empty_batches():
    torch.manual_seed(0)
    din = DIN.from_inputs(SHAPES, attention_dnn={"hidden_units": [6, 1], "activation": "dice"})
    keys, lengths, query = batch()
    din((keys, lengths, query)).square().sum().backward()
    moved = [n for n, p in din.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    # Softmax ignores a constant, so the bias of the score has no gradient.
    assert set(dict(din.named_parameters())) - set(moved) <= {"attention_dnn.layers.1.linear.bias"}
    out = din((keys, torch.zeros(4, dtype=torch.int64), query))
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (
            ((None, None, 3), (None,), (None, 4)),
            {"hidden_units": [1]},
            r"query that is not wider than the keys\. Received: \(\(B, L, 3\), \(B,\), \(B, 4\)\)",
        ),
        (((None, None, 3), (None,), None), {"hidden_units": [1]}, r"none\)\. Add the target's features"),
        ((None, 3), {"hidden_units": [1]}, r"`DIN` reads three tensors.*Received: \(B, 3\)"),
        (SHAPES, {"hidden_units": [8, 4]}, r"gives one score\. Received: hidden_units = \[8, 4\]\. End them with 1"),
        (SHAPES, {"hidden_unit": [1]}, r"attention_dnn\.hidden_unit: no such option\. Did you mean `hidden_units`"),
    ],
)
def test_errors(shapes, options, message):
    with pytest.raises(BuildError, match=message):
        DIN.from_inputs(shapes, attention_dnn=options)


def test_unknown_normalizer():
    with pytest.raises(BuildError, match=r"softmax or sigmoid\. Received: 'max'"):
        DIN.from_inputs(SHAPES, attention_dnn={"hidden_units": [1]}, attention_normalizer="max")
