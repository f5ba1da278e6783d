"""Lambdas and slices on tensors: every whitelisted function against NumPy or SciPy, and what a lambda may do."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch

from intarsia.core.expressions import ExpressionError
from intarsia.core.expressions.tensor_functions import TENSORS
from intarsia.core.expressions.tensors import compile_lambda, compile_slice

RNG = np.random.default_rng(5)
A = RNG.normal(size=(2, 3, 4))
B = RNG.normal(size=(2, 3, 4))
P = np.abs(A) + 0.5  # positive
L = [A, B, P]


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return scipy.special.softmax(x, axis)


# (body of the lambda, input, expected). What the input is: A, P and L above, as float64 tensors.
ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "cos": np.cos,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "isfinite": np.isfinite,
    "log": np.log,
    "log1p": np.log1p,
    "logical_not": np.logical_not,
    "negative": np.negative,
    "ones_like": np.ones_like,
    "relu": lambda x: np.where(x > 0, x, 0),
    "round": np.round,
    "rsqrt": lambda x: x**-0.5,
    "sigmoid": scipy.special.expit,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
    "zeros_like": np.zeros_like,
}
PAIRWISE: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "divide": np.divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "subtract": np.subtract,
}
SELU = 1.0507009873554805, 1.6732632423543772

TABLE: list[tuple[str, Any, Any]] = [
    # list to tensor
    ("tf.add_n(x)", L, A + B + P),
    ("tf.add_n(inputs=x)", L, A + B + P),
    ("tf.concat(x, axis=1)", L, np.concatenate(L, 1)),
    ("tf.concat(values=x, axis=-1)", L, np.concatenate(L, -1)),
    ("tf.concat(x, -1)", L, np.concatenate(L, -1)),
    ("torch.cat(x)", L, np.concatenate(L, 0)),
    ("torch.cat(x, dim=2)", L, np.concatenate(L, 2)),
    ("torch.concat(tensors=x, axis=1)", L, np.concatenate(L, 1)),
    ("tf.stack(x)", L, np.stack(L)),
    ("tf.stack(x, axis=1)", L, np.stack(L, 1)),
    ("torch.stack(x, dim=-1)", L, np.stack(L, -1)),
    # reductions
    ("tf.reduce_sum(x)", A, A.sum()),
    ("tf.reduce_sum(x, axis=1)", A, A.sum(1)),
    ("tf.reduce_sum(x, axis=1, keepdims=True)", A, A.sum(1, keepdims=True)),
    ("tf.reduce_sum(input_tensor=x, axis=[0, -1])", A, A.sum((0, 2))),
    ("tf.reduce_sum(x, axis=0)", L, A + B + P),
    ("torch.sum(x, dim=1, keepdim=True)", A, A.sum(1, keepdims=True)),
    ("tf.reduce_mean(x, axis=-1)", A, A.mean(-1)),
    ("tf.reduce_mean(x)", A, A.mean()),
    ("torch.mean(x, 0)", A, A.mean(0)),
    ("tf.reduce_max(x)", A, A.max()),
    ("tf.reduce_max(x, axis=[1, 2])", A, A.max((1, 2))),
    ("torch.amax(x, dim=1)", A, A.max(1)),
    ("tf.reduce_min(x, 1)", A, A.min(1)),
    ("torch.amin(x, dim=1, keepdim=True)", A, A.min(1, keepdims=True)),
    ("tf.reduce_prod(x)", A, A.prod()),
    ("tf.reduce_prod(x, axis=[0, 2], keepdims=True)", A, A.prod((0, 2), keepdims=True)),
    ("tf.reduce_prod(x, axis=[-1, 0])", A, A.prod((0, 2))),
    ("torch.prod(x, 1)", A, A.prod(1)),
    ("tf.argmax(x, axis=1)", A, A.argmax(1)),
    ("torch.argmax(x, dim=2)", A, A.argmax(2)),
    # shapes
    ("tf.unstack(x, axis=1)", A, [A[:, 0], A[:, 1], A[:, 2]]),
    ("tf.unstack(x, num=2)", A, [A[0], A[1]]),
    ("tf.unstack(tf.reshape(x, [-1, 6, 2]), axis=1)", A, list(A.reshape(-1, 6, 2).swapaxes(0, 1))),
    ("torch.unbind(x, dim=2)", A, [A[..., n] for n in range(4)]),
    ("tf.reshape(x, [-1, 12])", A, A.reshape(-1, 12)),
    ("tf.reshape(x, (4, 6))", A, A.reshape(4, 6)),
    ("tf.reshape(x, [tf.shape(x)[0], -1])", A, A.reshape(2, -1)),
    ("torch.reshape(x, [3, 8])", A, A.reshape(3, 8)),
    ("tf.shape(x)", A, [2, 3, 4]),
    ("tf.split(x, 2, axis=-1)", A, np.split(A, 2, -1)),
    ("tf.split(x, num_or_size_splits=[1, 2], axis=1)", A, [A[:, :1], A[:, 1:]]),
    ("tf.split(x, [1, -1], 2)", A, [A[..., :1], A[..., 1:]]),
    ("torch.split(x, 2, dim=1)", A, [A[:, :2], A[:, 2:]]),
    ("torch.split(x, [3, 1], dim=2)", A, [A[..., :3], A[..., 3:]]),
    ("torch.chunk(x, 2, dim=2)", A, [A[..., :2], A[..., 2:]]),
    ("tf.squeeze(x)", A[:1, :1], A[0, 0]),
    ("tf.squeeze(x, axis=[0])", A[:1, :1], A[0, :1]),
    ("torch.squeeze(x, dim=1)", A[:, :1], A[:, 0]),
    ("torch.squeeze(x, dim=0)", A, A),
    ("torch.squeeze(x)", A[:1], A[0]),
    ("tf.expand_dims(x, 1)", A, A[:, None]),
    ("tf.expand_dims(x, axis=-1)", A, A[..., None]),
    ("torch.unsqueeze(x, dim=0)", A, A[None]),
    ("tf.transpose(x)", A, A.T),
    ("tf.transpose(x, perm=[0, 2, 1])", A, A.swapaxes(1, 2)),
    ("tf.transpose(a=x, perm=[2, 0, 1])", A, A.transpose(2, 0, 1)),
    ("torch.transpose(x, 0, 2)", A, A.swapaxes(0, 2)),
    ("torch.permute(x, dims=[2, 0, 1])", A, A.transpose(2, 0, 1)),
    ("tf.tile(x, [1, 2, 1])", A, np.tile(A, (1, 2, 1))),
    ("torch.tile(x, dims=[2, 1, 1])", A, np.tile(A, (2, 1, 1))),
    # products
    ("tf.matmul(x[0], x[1], transpose_b=True)", L, A @ B.swapaxes(1, 2)),
    ("tf.linalg.matmul(a=x[0], b=x[1], transpose_a=True)", L, A.swapaxes(1, 2) @ B),
    ("torch.matmul(x, torch.transpose(x, 1, 2))", A, A @ A.swapaxes(1, 2)),
    # choice, types
    ("tf.where(x > 0, x, 0.)", A, np.where(A > 0, A, 0)),
    ("torch.where(x[0] > 0, x[1], x[2])", L, np.where(A > 0, B, P)),
    ("tf.equal(x, x)", A, np.ones_like(A, bool)),
    ("torch.eq(x[0], x[2])", L, A == P),
    ("tf.clip_by_value(x, clip_value_min=-0.5, clip_value_max=0.25)", A, np.clip(A, -0.5, 0.25)),
    ("torch.clamp(x, min=0, max=1)", A, np.clip(A, 0, 1)),
    ("tf.cast(x, tf.int64)", A, A.astype(np.int64)),
    ("tf.cast(x > 0, 'float64')", A, (A > 0).astype(float)),
    ("tf.cast(x, dtype=torch.bool)", A, A != 0),
    ("tf.stop_gradient(x)", A, A),
    ("torch.detach(x)", A, A),
    ("tf.identity(x)", A, A),
    ("torch.mul(x[0], x[1])", L, A * B),
    ("torch.sub(x[0], x[1])", L, A - B),
    ("torch.div(x[0], x[2])", L, A / P),
    ("torch.neg(x)", A, -A),
    # activations
    ("tf.nn.gelu(x)", A, A * scipy.special.ndtr(A)),
    ("torch.nn.functional.gelu(x)", A, A * scipy.special.ndtr(A)),
    (
        "tf.nn.gelu(x, approximate=True)",
        A,
        0.5 * A * (1 + np.tanh(np.sqrt(2 / np.pi) * (A + 0.044715 * A**3))),
    ),
    ("tf.nn.silu(x)", A, A * scipy.special.expit(A)),
    ("tf.nn.swish(x)", A, A * scipy.special.expit(A)),
    ("torch.nn.functional.silu(x)", A, A * scipy.special.expit(A)),
    ("tf.nn.elu(x)", A, np.where(A > 0, A, np.expm1(A))),
    ("torch.nn.functional.elu(x)", A, np.where(A > 0, A, np.expm1(A))),
    ("tf.nn.selu(x)", A, SELU[0] * np.where(A > 0, A, SELU[1] * np.expm1(A))),
    ("torch.selu(x)", A, SELU[0] * np.where(A > 0, A, SELU[1] * np.expm1(A))),
    ("torch.nn.functional.selu(x)", A, SELU[0] * np.where(A > 0, A, SELU[1] * np.expm1(A))),
    ("tf.nn.leaky_relu(x)", A, np.where(A > 0, A, 0.2 * A)),
    ("tf.nn.leaky_relu(x, alpha=0.5)", A, np.where(A > 0, A, 0.5 * A)),
    ("torch.nn.functional.leaky_relu(x)", A, np.where(A > 0, A, 0.01 * A)),
    ("tf.nn.softplus(x)", A, np.logaddexp(A, 0)),
    ("torch.nn.functional.softplus(x)", A, np.logaddexp(A, 0)),
    ("torch.nn.functional.relu(x)", A, np.maximum(A, 0)),
    ("torch.nn.functional.sigmoid(x)", A, scipy.special.expit(A)),
    ("torch.nn.functional.tanh(x)", A, np.tanh(A)),
    ("tf.nn.softmax(x)", A, softmax(A)),
    ("tf.nn.softmax(logits=x, axis=1)", A, softmax(A, 1)),
    ("torch.softmax(x, dim=0)", A, softmax(A, 0)),
    ("torch.nn.functional.softmax(x, dim=1)", A, softmax(A, 1)),
    ("tf.nn.log_softmax(x, axis=1)", A, scipy.special.log_softmax(A, 1)),
    ("torch.log_softmax(x, dim=1)", A, scipy.special.log_softmax(A, 1)),
    ("torch.nn.functional.log_softmax(x, dim=1)", A, scipy.special.log_softmax(A, 1)),
    ("tf.math.l2_normalize(x, axis=-1)", A, A / np.linalg.norm(A, axis=-1, keepdims=True)),
    ("tf.nn.l2_normalize(x)", A, A / np.linalg.norm(A)),
    ("torch.nn.functional.normalize(x, dim=2)", A, A / np.linalg.norm(A, axis=2, keepdims=True)),
    ("torch.nn.functional.normalize(x, p=1, dim=2)", A, A / np.abs(A).sum(2, keepdims=True)),
    # Python's own
    ("list(x) + [None]", tuple(L), [*L, None]),
    ("tuple(x)", L, tuple(L)),
    ("len(x)", L, 3),
    ("abs(x)", A, np.abs(A)),
    *((f"tf.{name}(x)", P - 0.9 if name == "sign" else P, call) for name, call in ELEMENTWISE.items()),
    *((f"torch.{name}(x)", P, call) for name, call in ELEMENTWISE.items()),
    *((f"tf.{name}(x[2], x[0])", L, call(P, A)) for name, call in PAIRWISE.items()),
    *((f"torch.{name}(x[2], 0.75)", L, call(P, 0.75)) for name, call in PAIRWISE.items()),
]


def tensors(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(tensors(item) for item in value)
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def check(got: Any, expected: Any) -> None:
    if isinstance(expected, list | tuple):
        assert type(got) is type(expected)
        assert len(got) == len(expected)
        for one, other in zip(got, expected):
            check(one, other)
    elif expected is None or isinstance(expected, int):
        assert got == expected
    else:
        assert got.shape == expected.shape
        assert got.dtype == torch.from_numpy(np.array(expected)).dtype
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("body", "given", "expected"), TABLE, ids=[body for body, _, _ in TABLE])
def test_function_has_the_meaning_of_its_namespace(body: str, given: Any, expected: Any) -> None:
    expected = expected(given) if callable(expected) else expected
    check(compile_lambda(f"lambda x: {body}")(tensors(given)), expected)


def test_table_covers_every_function() -> None:
    used = {
        re.sub(r"^tf\.(math|nn|linalg)\.", "tf.", n) for body, _, _ in TABLE for n in re.findall(r"[\w.]+(?=\()", body)
    }
    known = {re.sub(r"^tf\.(math|nn|linalg)\.", "tf.", name) for name in TENSORS.functions}
    assert used == known
    for name, function in TENSORS.functions.items():
        if name.startswith("tf.") and name.count(".") == 1:
            for place in ("math", "nn", "linalg"):
                assert TENSORS.functions[f"tf.{place}.{name[3:]}"] is function


x0, x1 = torch.arange(6.0).reshape(2, 3), torch.arange(6.0, 12).reshape(2, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lambda x: x", [x0, x1]),
        ("lambda x: [x]", [[x0, x1]]),
        ("lambda x: [x, x]", [[x0, x1], [x0, x1]]),
        ("lambda x: x[0]", x0),
        ("lambda x: x[-1]", x1),
        ("lambda x: x[1:]", [x1]),
        ("lambda x: x[::-1]", [x1, x0]),
        ("lambda x: (x[1], x[0])", (x1, x0)),
        ("lambda x: x[0][:, 0]", x0[:, 0]),
        ("lambda x: x[0][..., 1]", x0[..., 1]),
        ("lambda x: x[0][:, 1:3]", x0[:, 1:3]),
        ("lambda x: x[0][:, None]", x0[:, None]),
        ("lambda x: x[0][:, -1:]", x0[:, -1:]),
        ("lambda x: x[0] + x[1] * 2 - 1", x0 + x1 * 2 - 1),
        ("lambda x: -x[0] / (x[1] + 1)", -x0 / (x1 + 1)),
        ("lambda x: x[1] // 2 % 3", x1 // 2 % 3),
        ("lambda x: 2 ** x[0] ** 2", 2 ** (x0**2)),
        ("lambda x: (x[0] > 1) & (x[0] <= 4) | ~(x[0] != 0)", (x0 > 1) & (x0 <= 4) | ~(x0 != 0)),
        ("lambda x: x[0] if 2 > 1 else x[1]", x0),
        ("lambda x: x[0 if len(x) == 3 else 1]", x1),
        ("lambda inputs: inputs[7 // 2 - 3]", x0),
        ("lambda x: tf.maximum(0.5, x[0])", x0.clamp(min=0.5)),
        ("lambda x: tf.multiply(x[0], [1, 0, 2])", x0 * torch.tensor([1, 0, 2])),
    ],
)
def test_what_a_lambda_may_do(text: str, expected: Any) -> None:
    got = compile_lambda(text)([x0, x1])
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_two_arguments() -> None:
    function = compile_lambda("lambda x, i: [x[0][i], x[1]]", 2)
    assert function([[x0, x1], x0], 1)[0] is x1
    last = compile_lambda("lambda x, i: x[i] if i < 2 else x[0] + i", 2)
    assert torch.equal(last([x0, x1], 2), x0 + 2)
    with pytest.raises(ExpressionError, match=r"takes 2 argument\(s\), got 1"):
        last([x0, x1])


@pytest.mark.parametrize("text", ["tf.nn.relu", "torch.relu", " tf.nn.relu ", "lambda t:tf.nn.relu(t)"])
def test_bare_function_name(text: str) -> None:
    assert torch.equal(compile_lambda(text)(x0 - 2), (x0 - 2).clamp(min=0))


@pytest.mark.parametrize(
    ("text", "key"),
    [("[0]", 0), ("[1]", 1), (" [ -1 ] ", -1), ("[:, 1:3]", (slice(None), slice(1, 3))), ("[..., 0]", (..., 0))],
)
def test_slices(text: str, key: Any) -> None:
    assert torch.equal(compile_slice(text)(x0), x0[key])


def test_slices_of_lists_and_with_number() -> None:
    assert compile_slice("[0][1]")([[x0, x1]]) is x1
    assert compile_slice("[i]")([x0, x1], 1) is x1
    assert torch.equal(compile_slice("[0][:, i:i+2]")([x0], 1), x0[:, 1:3])
    assert compile_slice("[1]")([x0, x1], 0) is x1
    with pytest.raises(ExpressionError, match=r"takes 2 argument\(s\), got 1"):
        compile_slice("[i]")([x0])
    with pytest.raises(ExpressionError, match="`i` is not a known name"):
        compile_slice("[i]", with_number=False)


@pytest.mark.parametrize(
    "text", ["", "0", "[0", "[0] + 1", "[_]", "[0][_[0]]", "(1)", "[0](1)", "[0].T", ".T", "[0], [1]"]
)
def test_slice_must_be_indexing(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_slice(text)


def test_numbers_keep_the_precision_of_the_tensor() -> None:
    double = torch.tensor([1.0], dtype=torch.float64)
    assert compile_lambda("lambda x: tf.add(x, 0.1)")(double).item() == 1.1
    half = torch.ones(3, dtype=torch.bfloat16)
    assert compile_lambda("lambda x: tf.maximum(2.5, x)")(half).dtype == torch.bfloat16


def test_gradient_flows_and_stops() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    compile_lambda("lambda x: tf.reduce_sum(tf.square(x) * tf.stop_gradient(x))")(x).backward()
    assert torch.equal(x.grad, torch.full((2, 3), 2.0))


def test_tiny_vectors_normalise_as_in_tensorflow() -> None:
    # The bound 1e-12 is on the squared norm there, and on the norm in torch.
    tiny = torch.tensor([[1e-9, 0.0]], dtype=torch.float64)
    assert compile_lambda("lambda x: tf.nn.l2_normalize(x, axis=1)")(tiny)[0, 0].item() == pytest.approx(1e-3)
    assert compile_lambda("lambda x: torch.nn.functional.normalize(x, dim=1)")(tiny)[0, 0].item() == pytest.approx(1)


def test_expression_can_be_pickled_copied_printed() -> None:
    for function in (compile_lambda("lambda x: x[0] * 2"), compile_slice("[0]")):
        again = pickle.loads(pickle.dumps(function))  # noqa: S301
        assert repr(again) == repr(function) == f"Expression({function.text!r})"
        for other in (again, copy.deepcopy(function)):
            assert torch.equal(other([x0]), function([x0]))


class Wrapped(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.function = compile_lambda("lambda x: tf.reshape(tf.concat([x, x * 2], axis=1), [tf.shape(x)[0], 2, -1])")
        self.cut = compile_slice("[:, 1]")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.cut(self.function(x))
        return out


def test_expression_exports_for_any_batch_size() -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(Wrapped(), (x0,), dynamic_shapes=({0: batch},))
    other = torch.randn(7, 3)
    assert torch.equal(program.module()(other), other * 2)


@pytest.mark.parametrize(
    ("text", "given", "reason"),
    [
        ("lambda x: tf.add_n(x)", [x0, x0[:1]], "add_n needs tensors of one shape, got (2, 3), (1, 3)"),
        ("lambda x: x[2]", [x0, x1], "there is no item 2 in a list of 2"),
        ("lambda x: x[0, 1]", [x0, x1], "a list takes one whole number or slice"),
        ("lambda x: x[0.5]", [x0], "a list takes one whole number or slice, got 0.5"),
        ("lambda x: x * 2", [x0], "`*` does not work between list [float32 (2, 3)] and 2"),
        ("lambda x: -x", [x0], "`-` does not work on list"),
        ("lambda x: x[0] < x", [x0], "`<` does not work between"),
        ("lambda x: 1 if x else 2", x0, "the condition of `if` must be a number, got float32 (2, 3); use tf.where"),
        ("lambda x: tf.concat(x, axis=5)", [x0], "Dimension out of range"),
        ("lambda x: tf.concat(x, axis=1.5)", [x0], "a whole number is needed, got 1.5"),
        ("lambda x: tf.concat(3, axis=1)", x0, "a list of tensors is needed, got 3"),
        ("lambda x: tf.reduce_sum(None)", x0, "a tensor is needed, got None"),
        ("lambda x: tf.reduce_sum(x, keepdims=1)", x0, "True or False is needed, got 1"),
        ("lambda x: tf.cast(x, 1)", x0, "a number type such as tf.float32 is needed, got 1"),
        ("lambda x: tf.split(x, 2, axis=1)", x0, "axis 1 of shape (2, 3) does not divide into 2 equal parts"),
        (
            "lambda x: tf.squeeze(x, axis=[1])",
            x0,
            "axes of length 1 can be squeezed; axis 1 of shape (2, 3) is not",
        ),
        ("lambda x: tf.unstack(x, num=4)", x0, "gives 2 parts, not 4"),
        ("lambda x: tf.reshape(x, [4])", x0, "shape '[4]' is invalid for input of size 6"),
        ("lambda x: 1 / (len(x) - 2)", x0, "division by zero"),
        ("lambda x: (-1) ** 0.5", x0, "is not a real number"),
        ("lambda x: 1[0]", x0, "1 cannot be indexed"),
    ],
)
def test_failure_names_expression_and_shapes(text: str, given: Any, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_lambda(text)(given)
    message = str(caught.value)
    assert caught.value.reason.startswith("the expression does not work on these inputs: ")
    assert reason in caught.value.reason
    assert f"\n    {text}\n" in message
    shapes = "list [float32 (2, 3)" if isinstance(given, list) else "float32 (2, 3)"
    assert message.splitlines()[-1].startswith(f"inputs: x = {shapes}")
    assert caught.value.expression == text


def test_failure_points_at_the_innermost_part() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_lambda("lambda x: tf.nn.relu(x[0]) + tf.nn.relu(x[7])")([x0])
    lines = str(caught.value).splitlines()
    assert lines[1][lines[2].index("^") : lines[2].rindex("^") + 1] == "x[7]"


def test_slice_failure_points_into_the_slice() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_slice("[0][3]")([[x0]])
    lines = str(caught.value).splitlines()
    assert lines[1:3] == ["    [0][3]", "    ^^^^^^"]
    assert "no item 3 in a list of 1" in lines[0]
