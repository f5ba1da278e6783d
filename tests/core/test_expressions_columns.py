"""Column expressions and normalisers against NumPy."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from intarsia.core.expressions import ExpressionError
from intarsia.core.expressions.column_functions import COLUMNS
from intarsia.core.expressions.columns import compile_expr, compile_numeric_function

a = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 7.0])
b = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
c = np.array([-2.0, -0.25, 0.0, 0.5, 1.5, 3.0])
DATA = {"a": a, "b": b, "c": c}


def value(text: str) -> list[float]:
    out = compile_expr(text, list(DATA))(DATA)
    assert out.dtype == np.float64
    assert out.shape == a.shape
    return out.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", a),
        ("a>2", [0, 0, 0, 1, 1, 1]),
        ("a>=2", [0, 0, 1, 1, 1, 1]),
        ("a<2", [1, 1, 0, 0, 0, 0]),
        ("a<=2", [1, 1, 1, 0, 0, 0]),
        ("a==2", [0, 0, 1, 0, 0, 0]),
        ("a!=2", [1, 1, 0, 1, 1, 1]),
        ("a * b", [0.5, 0, 2, 0, 4, 0]),
        ("a + b * 2", [2.5, 1, 4, 3, 6, 7]),
        ("(a + b) * 2", [3, 2, 6, 6, 10, 14]),
        ("a - b - 1", [-1.5, 0, 0, 2, 2, 6]),
        ("8 / a / 2", 4 / a),
        ("-a + +b", b - a),
        ("a - -b", a + b),
        ("1.5e1 - a * .5", 15 - a / 2),
        # Comparisons bind tighter than & and |, arithmetic tighter than comparisons.
        ("a>1 & a<4", [0, 0, 1, 1, 0, 0]),
        ("a>1&a<4", [0, 0, 1, 1, 0, 0]),
        ("(a>1)&(a<4)", [0, 0, 1, 1, 0, 0]),
        ("a + 1 > 2 + b", [0, 0, 0, 1, 1, 1]),
        ("a<1 | a>4", [1, 0, 0, 0, 0, 1]),
        # & and | have equal rank, left to right: (a<1 | b==1) & c>0, and (b==1 & c>0) | a<1.
        ("a<1 | b==1 & c>0", [0, 0, 0, 0, 1, 0]),
        ("a<1 | (b==1 & c>0)", [1, 0, 0, 0, 1, 0]),
        ("b==1 & c>0 | a<1", [1, 0, 0, 0, 1, 0]),
        # ~ negates the comparison after it.
        ("~a>2", [1, 1, 1, 0, 0, 0]),
        ("~(a>2)", [1, 1, 1, 0, 0, 0]),
        ("~b & a>2", [0, 0, 0, 1, 0, 1]),
        ("~~a", [1, 1, 1, 1, 1, 1]),
        ("~~~a", [0, 0, 0, 0, 0, 0]),
        # Any number but 0 is true.
        ("a & c", [1, 1, 0, 1, 1, 1]),
        ("b | c", [1, 1, 1, 1, 1, 1]),
        ("tf.math.log1p(a) / 10.0", np.log1p(a) / 10),
        ("tf.where(a > 2, b, c)", np.where(a > 2, b, c)),
        ("tf.maximum(a, b + 1) > 2 & b", [0, 0, 0, 0, 1, 0]),
        ("tf.cast(c, tf.int32)", [-2, 0, 0, 0, 1, 3]),
        ("tf.cast(c, tf.bool)", [1, 1, 0, 1, 1, 1]),
        ("tf.cast(a / 10, tf.float32)", (a / 10).astype(np.float32)),
        ("tf.clip_by_value(c, 0, 1)", np.clip(c, 0, 1)),
    ],
)
def test_meaning(text: str, expected: Any) -> None:
    np.testing.assert_allclose(value(text), expected, rtol=1e-15)


RANK = {"&": 0, "|": 0, "<": 1, ">": 1, "+": 2, "-": 2, "*": 3}
OPERATE: dict[str, Callable[[Any, Any], Any]] = {
    "&": lambda x, y: (x != 0) & (y != 0),
    "|": lambda x, y: (x != 0) | (y != 0),
    "<": np.less,
    ">": np.greater,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
}
trees = st.recursive(
    st.sampled_from("abc"), lambda inner: st.tuples(st.sampled_from(sorted(RANK)), inner, inner), max_leaves=12
)


def written(tree: Any, rank: int = 0) -> str:
    """With parentheses only where the documented ranks need them."""
    if isinstance(tree, str):
        return tree
    op, left, right = tree
    own = RANK[op]
    # A comparison does not chain: both its sides must be tighter.
    text = f"{written(left, own + (own == 1))}{op}{written(right, own + 1)}"
    return f"({text})" if own < rank else text


def computed(tree: Any) -> Any:
    if isinstance(tree, str):
        return DATA[tree]
    op, left, right = tree
    return OPERATE[op](computed(left), computed(right)).astype(np.float64)


@given(trees)
def test_ranks_give_back_the_tree(tree: Any) -> None:
    assert value(written(tree)) == computed(tree).tolist()


UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "negative": np.negative,
    "neg": np.negative,
    "sign": np.sign,
    "square": np.square,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "logical_not": np.logical_not,
    "isfinite": np.isfinite,
    "identity": lambda x: x,
    "sigmoid": scipy.special.expit,
    "relu": lambda x: np.where(x > 0, x, 0),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "rsqrt": lambda x: x**-0.5,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "sub": np.subtract,
    "multiply": np.multiply,
    "mul": np.multiply,
    "divide": np.divide,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "pow": np.power,
    "power": np.power,
    "equal": np.equal,
    "eq": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}
OTHERS = {"where", "clip_by_value", "clamp", "clip", "cast"}


@pytest.mark.parametrize("name", sorted(COLUMNS.functions))
def test_function_in_columns_and_in_normalisers(name: str) -> None:
    short = name.rpartition(".")[2]
    for given_a in (a, c):
        with np.errstate(all="ignore"):
            if short in UNARY:
                expected = UNARY[short](given_a)
                function = compile_numeric_function(name)
                np.testing.assert_allclose(function(given_a), expected, rtol=1e-12)
                text = f"{name}(a)"
            elif short in BINARY:
                expected, text = BINARY[short](given_a, b), f"{name}(a, b)"
            else:
                assert short in OTHERS
                arguments = {"where": "b, a, b", "cast": "a, tf.float32"}.get(short, "a, 0.25, b")
                expected = {
                    "where": lambda: np.where(b != 0, given_a, b),  # noqa: B023
                    "cast": lambda: given_a.astype(np.float32),  # noqa: B023
                }.get(short, lambda: np.clip(given_a, 0.25, b))()  # noqa: B023
                text = f"{name}({arguments})"
        out = compile_expr(text, ["a", "b"])({"a": given_a, "b": b})
        np.testing.assert_allclose(out, np.asarray(expected, np.float64), rtol=1e-12)


def test_sigmoid_and_softplus_hold_far_out() -> None:
    far = np.array([-1000.0, 1000.0])
    assert compile_numeric_function("tf.sigmoid")(far).tolist() == [0.0, 1.0]
    assert compile_numeric_function("tf.nn.softplus")(far).tolist() == [0.0, 1000.0]


def test_columns_of_other_types_and_shapes() -> None:
    run = compile_expr("flag & n > 1", ["flag", "n", "unused"])
    assert run.names == ("flag", "n")
    flag, n = np.array([True, False, True]), np.array([1, 2, 3], dtype=np.int8)
    assert run({"flag": flag, "n": n}).tolist() == [0, 0, 1]
    wide = np.arange(6).reshape(3, 2)
    assert run({"flag": flag[:, None], "n": wide}).tolist() == [[0, 0], [0, 0], [1, 1]]
    assert compile_expr("n / n", ["n"])({"n": np.array([0, 2])}).tolist() == pytest.approx([np.nan, 1], nan_ok=True)
    assert compile_expr("n", ["n"])({"n": np.empty(0)}).shape == (0,)


def test_result_is_not_the_column_itself() -> None:
    column = np.array([1.0, 2.0])
    compile_expr("n", ["n"])({"n": column})[0] = 9
    compile_numeric_function("lambda x: x")(column)[0] = 9
    assert column.tolist() == [1.0, 2.0]


def test_names_beyond_ascii_and_with_dots() -> None:
    names = ["年龄", "user.age", "abs", "and"]
    data = {name: np.array([float(n)]) for n, name in enumerate(names, start=1)}
    assert compile_expr("年龄 + user.age * abs(abs) + and", names)(data).tolist() == [11.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lambda x: tf.math.log(x + 1)", np.log1p(a)),
        ("lambda x: (x - 2) / 4", (a - 2) / 4),
        ("lambda v: np.log1p(v) ** 2", np.log1p(a) ** 2),
        ("lambda x: (x > 1) & (x < 4)", [0, 0, 1, 1, 0, 0]),
        ("lambda x: ~(x > 1)", [1, 1, 0, 0, 0, 0]),
        ("lambda x: tf.clip_by_value(x, clip_value_min=1, clip_value_max=3)", np.clip(a, 1, 3)),
        ("lambda x: 1", np.ones(6)),
    ],
)
def test_normaliser(text: str, expected: Any) -> None:
    function = compile_numeric_function(text)
    np.testing.assert_allclose(function(a), expected, rtol=1e-12)
    np.testing.assert_allclose(function(a.reshape(2, 3)), np.reshape(expected, (2, 3)), rtol=1e-12)


def test_compiled_can_be_pickled() -> None:
    run = pickle.loads(pickle.dumps(compile_expr("a > 2 & b", ["a", "b"])))  # noqa: S301
    assert run(DATA).tolist() == [0, 0, 0, 0, 1, 0]
    assert repr(run) == "ColumnExpression('a > 2 & b')"
    function = pickle.loads(pickle.dumps(compile_numeric_function("lambda x: x + 1")))  # noqa: S301
    assert function(a).tolist() == (a + 1).tolist()
    assert repr(function) == "NumericFunction('lambda x: x + 1')"


@pytest.mark.parametrize(
    ("text", "marked", "reason"),
    [
        ("a > 1 and b", "and", "`and` is not allowed; write `&`"),
        ("a > 1 or b", "or", "`or` is not allowed; write `|`"),
        ("not a", "not", "`not` is not allowed; write `~`"),
        ("a && b", "&&", "`&&` is not allowed; write `&`"),
        ("a = 1", "=", "`=` is not allowed; write `==`"),
        ("a ** 2", "**", "`**` is not allowed; write tf.pow(a, b)"),
        ("1 < a < 5", "<", "comparisons cannot be chained; write `1 < a & a < 5` for `1 < a < 5`"),
        ("a + ~b", "~", "a number, an input or a function is needed here, got `~`; put `~` and what"),
        ("a b", "b", "an operator is needed here, got `b`"),
        ("(a", "", "`)` is needed here, got the end"),
        ("a + 1)", ")", "an operator is needed here, got `)`"),
        ("a +", "", "a number, an input or a function is needed here, got the end"),
        ("", "", "a number, an input or a function is needed here, got the end"),
        ("a + agee", "agee", "`agee` is not a known name"),
        ("a + tf.log2(a)", "tf.log2", "`tf.log2` is not a known name; the nearest is `tf.log`"),
        ("a + tf.abs", "tf.abs", "the function `tf.abs` must be called: `tf.abs(...)`"),
        ("tf.maximum(a)", "tf.maximum", "`tf.maximum` needs its argument `y`"),
        ("tf.abs(a, b)", "tf.abs", "`tf.abs` takes at most 1 arguments, got 2"),
        ("tf.abs(a b)", "b", "`,` or `)` is needed here, got `b`"),
        ("a // 2", "//", "an operator is needed here, got `//`"),
        ("a[0]", "[", "this character is not allowed: '['"),
        ("a + 'x'", "'", 'this character is not allowed: "\'"'),
        ("a.__class__", "a.__class__", "`a.__class__` is not a known name"),
        ("1 + 2", "1 + 2", "an expression must read at least one of its inputs"),
    ],
)
def test_refusal_points_at_the_part(text: str, marked: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expr(text, ["a", "b"])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(reason)
    assert lines[1] == "    " + text
    start, end = lines[2].index("^"), lines[2].rindex("^") + 1
    assert lines[1][start:end] == marked
    assert lines[3].startswith(
        "inputs: a, b" if text == "1 + 2" else "allowed: the names of the inputs, numbers, arithmetic"
    )


def test_wrong_columns_are_named() -> None:
    run = compile_expr("a > b", ["a", "b"])
    with pytest.raises(ExpressionError, match=r"^the column `b` is not given\n    a > b\n    \^{5}\ncolumns: a, z$"):
        run({"a": a, "z": b})
    with pytest.raises(ExpressionError, match=r"^the column `b` must hold numbers, got <U1"):
        run({"a": a, "b": np.array(["x"] * 6)})
    with pytest.raises(ExpressionError, match=r"these columns: (.|\n)*a = float64 \(6,\), b = float64 \(2,\)"):
        run({"a": a, "b": b[:2]})
    with pytest.raises(ExpressionError, match=r"^the input must hold numbers, got object"):
        compile_numeric_function("tf.abs")(np.array([None]))
    with pytest.raises(ExpressionError, match=r"^the result must hold numbers, got object"):
        compile_numeric_function("lambda x: None")(a)
