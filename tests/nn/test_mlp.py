"""MLP and DNN: values, options, errors."""

from __future__ import annotations

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.mlp import DNN, MLP
from intarsia.nn.normalization import BatchNorm


def plain(**options: object) -> MLP:
    base: dict = {"hidden_units": [2], "use_final_bn": False, "initializer": "ones"}
    return MLP.from_inputs((None, 3), **{**base, **options})


def test_hand_computed_value():
    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, 0.0]])
    torch.testing.assert_close(plain()(x), torch.tensor([[6.0, 6.0], [0.0, 0.0]]))
    torch.testing.assert_close(plain(final_activation="linear")(x), torch.tensor([[6.0, 6.0], [-3.0, -3.0]]))


def test_two_layers_use_their_own_activations():
    x = torch.tensor([[-1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    mlp = plain(hidden_units=[2, 1], use_bn=False, activation="linear", final_activation="relu")
    torch.testing.assert_close(mlp(x), torch.tensor([[0.0], [6.0]]))
    mlp = plain(hidden_units=[2, 1], use_bn=False, activation="relu", final_activation="linear")
    torch.testing.assert_close(mlp(-x), torch.tensor([[2.0], [0.0]]))


def test_parameters_of_the_defaults():
    mlp = MLP.from_inputs((None, 5), hidden_units=[4, 3])
    shapes = {name: tuple(p.shape) for name, p in mlp.named_parameters()}
    assert shapes == {
        "layers.0.linear.weight": (4, 5),
        "layers.0.norm.weight": (4,),
        "layers.0.norm.bias": (4,),
        "layers.1.linear.weight": (3, 4),
        "layers.1.norm.weight": (3,),
        "layers.1.norm.bias": (3,),
    }
    assert mlp.out_features == 3
    assert [tuple(k.shape) for k in mlp.kernels()] == [(4, 5), (3, 4)]


@pytest.mark.parametrize(
    ("options", "biases", "norms"),
    [
        ({"use_bias": True}, [True, True, False], [True, True, True]),
        ({"use_final_bias": True}, [False, False, True], [True, True, True]),
        ({"use_bn": False}, [False] * 3, [False, False, True]),
        ({"use_final_bn": False}, [False] * 3, [True, True, False]),
    ],
)
def test_switches_reach_the_right_layers(options, biases, norms):
    mlp = MLP(in_features=4, hidden_units=[4, 3, 2], **options)
    assert [layer.linear.bias is not None for layer in mlp.layers] == biases
    assert [isinstance(layer.norm, BatchNorm) for layer in mlp.layers] == norms


def test_norm_after_activation_centres_the_output():
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    before = MLP(in_features=3, hidden_units=[8])(x)
    after = MLP(in_features=3, hidden_units=[8], use_bn_after_activation=True)(x)
    assert before.min() >= 0
    torch.testing.assert_close(after.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    assert after.min() < 0


def test_dropout_of_missing_entries_is_none():
    mlp = MLP(in_features=50, hidden_units=[50, 50], dropout_ratio=[0.5], use_bn=False, use_final_bn=False)
    hidden = mlp.layers[0](torch.rand(40, 50) + 1)
    mlp.eval()
    kept = mlp.layers[0](torch.rand(40, 50) + 1)
    assert (hidden == 0).float().mean() > (kept == 0).float().mean() + 0.1
    assert not isinstance(mlp.layers[1].dropout, torch.nn.Dropout)


def test_he_uniform_bounds_and_spread():
    torch.manual_seed(0)
    weight = next(MLP(in_features=600, hidden_units=[400]).kernels())
    limit = (6 / 600) ** 0.5
    assert weight.abs().max() <= limit
    assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)


def test_rank_three_equals_flattened_rows():
    torch.manual_seed(0)
    mlp = MLP(in_features=4, hidden_units=[6, 2], activation="dice", final_activation="prelu")
    x = torch.randn(5, 7, 4)
    torch.testing.assert_close(mlp(x), mlp(x.reshape(35, 4)).view(5, 7, 2))


def test_one_row_trains_without_touching_the_running_statistics():
    mlp = MLP(in_features=4, hidden_units=[3])
    mlp.train()
    out = mlp(torch.randn(1, 4))
    assert torch.isfinite(out).all()
    assert torch.equal(mlp.layers[0].norm.running_mean, torch.zeros(3))


def test_running_statistics_are_the_mean_of_the_first_batches_and_then_move_by_one_hundredth():
    norm = BatchNorm(1)
    norm(torch.tensor([[1.0], [3.0]]))
    assert norm.running_mean.item() == pytest.approx(2.0)
    assert norm.running_var.item() == pytest.approx(2.0)
    norm(torch.tensor([[5.0], [7.0]]))
    assert norm.running_mean.item() == pytest.approx(4.0)
    for _ in range(98):
        norm(torch.tensor([[3.0], [5.0]]))
    assert norm.running_mean.item() == pytest.approx(4.0)
    norm(torch.tensor([[13.0], [15.0]]))
    assert norm.running_mean.item() == pytest.approx(0.99 * 4.0 + 0.01 * 14.0)
    assert norm.eps == 1e-3


def test_a_restored_batch_norm_goes_on_where_it_was():
    torch.manual_seed(0)
    batches = torch.randn(6, 8, 3)
    straight, broken = BatchNorm(3), BatchNorm(3)
    for batch in batches:
        straight(batch)
    for batch in batches[:3]:
        broken(batch)
    resumed = BatchNorm(3)
    resumed(torch.ones(4, 3))
    resumed.load_state_dict(broken.state_dict())
    for batch in batches[3:]:
        resumed(batch)
    torch.testing.assert_close(resumed.running_mean, straight.running_mean, rtol=0, atol=0)
    torch.testing.assert_close(resumed.running_var, straight.running_var, rtol=0, atol=0)


@pytest.mark.parametrize("component", [MLP, DNN])
def test_gradients_rows_and_eval(component):
    torch.manual_seed(0)
    module = component.from_inputs((None, 4), hidden_units=[6, 3], dropout_ratio=[0.2, 0.2], activation="gelu")
    x = torch.randn(16, 4)
    module(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    module.eval()
    order = torch.randperm(16)
    torch.testing.assert_close(module(x)[order], module(x[order]))
    assert torch.equal(module(x), module(x))


@pytest.mark.parametrize(
    ("component", "inputs", "options", "message"),
    [
        (
            MLP,
            (None, 2, 3, 4),
            {"hidden_units": [1]},
            r"`MLP` reads one tensor of rank 2 or 3\. Received: \(B, 2, 3, 4\)",
        ),
        (MLP, [(None, 2), (None, 3)], {"hidden_units": [1]}, r"Received: \[\(B, 2\), \(B, 3\)\]\. Concatenate"),
        (MLP, (None, None), {"hidden_units": [1]}, r"last axis has a known size\. Received: \(B, L\)"),
        (MLP, (None, 2), {"hidden_units": []}, r"at least one layer\. Received: hidden_units = \[\]"),
        (MLP, (None, 2), {"hidden_units": [1], "dropout_ratio": [0.1, 0.2]}, r"2 rates for 1 layers"),
        (MLP, (None, 2), {"hidden_units": [1], "final_activation": "rellu"}, r"called `rellu`\. Did you mean `relu`"),
        (
            MLP,
            (None, 2),
            {"hidden_units": [1], "initializer": "he_unifrom"},
            r"`he_unifrom`\. Did you mean `he_uniform`",
        ),
        (DNN, (None, 2), {"hidden_units": [4, 2], "dropout_ratio": [0.1]}, r"1 rates for 2 layers"),
        (DNN, (None, 2), {"hidden_units": [4, 0]}, r"hidden_units = \[4, 0\]"),
    ],
)
def test_errors(component, inputs, options, message):
    with pytest.raises(BuildError, match=message):
        component.from_inputs(inputs, **options)


def test_dnn_layers_and_identity():
    dnn = DNN.from_inputs((None, 5), hidden_units=[4, 3], activation="tf.nn.relu")
    assert sum(p.numel() for p in dnn.parameters()) == 5 * 4 + 4 + 8 + 4 * 3 + 3 + 6
    assert dnn(torch.randn(7, 5)).min() >= 0
    limit = (6 / 9) ** 0.5
    assert dnn.layers[0].linear.weight.abs().max() <= limit
    without = DNN(in_features=5, hidden_units=[4], use_bn=False)
    assert sum(p.numel() for p in without.parameters()) == 24
    nothing = DNN.from_inputs((None, 5), hidden_units=[0])
    x = torch.randn(2, 5)
    assert nothing(x) is x
    assert nothing.out_features == 5
