"""Nothing breaks out of an expression: each trick is refused, at once, by an error that says why."""

from __future__ import annotations

import ast
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import intarsia.core.expressions as package
from intarsia.core.errors import IntarsiaError
from intarsia.core.expressions import ExpressionError
from intarsia.core.expressions.columns import compile_expr, compile_numeric_function
from intarsia.core.expressions.syntax import MAX_DEPTH, MAX_LENGTH, MAX_NODES
from intarsia.core.expressions.tensor_values import MAX_ELEMENTS, check_pair
from intarsia.core.expressions.tensors import compile_lambda, compile_slice

SECONDS = 1.0  # of processor time: far above the milliseconds needed, far below what any of the tricks would take


def quickly(call: Callable[[], Any]) -> Any:
    start = time.thread_time()
    try:
        return call()
    finally:
        assert time.thread_time() - start < SECONDS


BREAK_OUTS = [
    # attributes of values
    "x.__class__",
    "x.grad_fn",
    "().__class__",
    "().__class__.__bases__[0].__subclasses__()",
    "[].__class__.__mro__",
    "(1).__class__",
    "(1).bit_length()",
    "''.__class__",
    "x[0].__class__",
    "(x).__dict__",
    "x.numpy().tofile('f')",
    "x.__class__.__init__.__globals__",
    "tf.add_n.__globals__",
    "tf.add_n.__call__(x)",
    "tf.__dict__",
    "torch.load('f')",
    "torch.hub.load('a', 'b')",
    "torch.ops.load_library('f')",
    "torch.utils.cpp_extension.load('f')",
    "torch.save(x, 'f')",
    "torch.from_file('f')",
    "tf.io.read_file('f')",
    "tf.py_function(x)",
    "tf.math.os.system('ls')",
    "np.load('f')",
    "tf.nn",
    "torch",
    # names of Python
    "getattr(x, '__class__')",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "open('f')",
    "__import__('os')",
    "globals()",
    "locals()",
    "vars(x)",
    "type(x)",
    "dir()",
    "input()",
    "breakpoint()",
    "print(x)",
    "object",
    "__builtins__",
    "__builtins__['eval']",
    "os.system('ls')",
    "str(x)",
    "range(10)",
    "map(abs, x)",
    "sorted(x)",
    # calls of values, functions as values
    "x()",
    "x(1)",
    "x[0](1)",
    "(tf.add_n)(x)(x)",
    "tf.add_n(x)()",
    "1()",
    "[tf.add_n][0](x)",
    "(tf.add_n if 1 else abs)(x)",
    "tf.add_n",
    "abs",
    "list",
    # inner functions and statements
    "(lambda y: y)(x)",
    "lambda y: x",
    "lambda: x",
    "(y := 1)",
    "[y := 1, y]",
    "[y for y in x]",
    "{y for y in x}",
    "{y: y for y in x}",
    "(y for y in x)",
    "tf.add_n(y for y in x)",
    "(yield)",
    "(yield x)",
    "(yield from x)",
    "await x",
    "x; import os",
    "x\nimport os",
    "import os",
    "x if 1",
    "*x",
    "[*x]",
    "(*x,)",
    "{**x}",
    "tf.add_n(*x)",
    "tf.add_n(**x)",
    "tf.concat(x, **{'axis': 1})",
    "{}",
    "{1: 2}",
    "{1, 2}",
    # texts
    "'a'",
    "b'a'",
    "'a' * 10**9",
    "'%s' % x",
    "'{}'.format(x)",
    "'{0.__class__}'.format(x)",
    "f'{x}'",
    "f'{x.__class__!r:>{10**9}}'",
    "'float32' 'float32'",
    "'\\x66loat32'",
    "'\\N{LATIN SMALL LETTER A}'",
    "1j",
    "...",
    # operators that are not offered
    "x and x",
    "x or 1",
    "not x",
    "1 < 2 < 3",
    "x is None",
    "0 in x",
    "1 << 2",
    "1 >> 2",
    "1 ^ 2",
    "x @ x",
    # arguments
    "tf.concat(x, axis=1, name='a')",
    "tf.concat(x, 1, axis=1)",
    "tf.concat(x, axis=1, dim=1)",
    "tf.concat(axis=1)",
    "tf.reduce_sum(x, 1, True, out=x)",
    "tf.concat(x, 1, 2, 3)",
    # size of the text
    "(" * 900 + "x" + ")" * 900,
    "[" * 70 + "x" + "]" * 70,
    "-" * 80 + "1",
    "-" * 1900 + "1",
    "~" * 1900 + "1",
    "x" + "[0]" * 70,
    "x" + "+x" * 70,
    "x" + "+x" * 900,
    "[" + "x," * 500 + "]",
    "tf.abs(" * 70 + "x" + ")" * 70,
    "1 if " * 300 + "1" + " else 1" * 300,
    "9" * 1900,
    "9" * 30,
    "9223372036854775808",
    "0x" + "f" * 1900,
    "x" + " " * 3000 + "+ 1",
    "x+" * 50_000 + "x",
    "[" * 100_000,
    "9" * 100_000,
    # characters
    "x\x00",
    "\x00",
    "x # \x00",
    "x\x1b[2J",
    "\ud800",
    "𝚝𝚏.add_n(x)",
    "ｔｆ.add_n(x)",
    "tf.ａdd_n(x)",
    "х",  # Cyrillic
    "x․__class__",  # one dot leader
    "x.__cl\u200bass__",
    "x \\\n + 1",
    "ﬀ",
    "x１",
    "\u202ex",
    "",
    "#",
    ")",
    "x)",
    ",",
]


FORMS: list[tuple[Callable[[str], Any], str]] = [
    (compile_lambda, "lambda x: {}"),
    (compile_lambda, "{}"),
    (compile_slice, "[{}]"),
    (compile_slice, "[0]{}"),
    (compile_numeric_function, "lambda x: {}"),
    (compile_numeric_function, "{}"),
]
# What means something harmless where it stands in this form.
HARMLESS = {
    ("[{}]", "..."),
    ("[0]{}", ""),
    ("[0]{}", "#"),
    ("{}", "abs"),
    ("{}", "tf.add_n"),
    ("{}", "list"),
}


@pytest.mark.parametrize("body", BREAK_OUTS, ids=lambda body: ascii(body[:40]))
def test_break_out_is_refused_before_it_runs(body: str) -> None:
    for compiler, form in FORMS:
        if (form, body) not in HARMLESS:
            with pytest.raises(ExpressionError):
                quickly(lambda: compiler(form.replace("{}", body)))  # noqa: B023


COLUMN_BREAK_OUTS = [
    # A sum and signs are no nesting there.
    *(body for body in BREAK_OUTS if body not in ("-" * 80 + "1", "x" + "+x" * 70)),
    "(" * 50 + "x" + ")" * 50,
    "lambda x: x",
    "x[0]",
    "x ? 1 : 2",
    "x > 1; x",
    "x == 'a'",
    "`x`",
    "$x",
    "x!",
    "1x",
    "1.5.2",
    "x.y",
    "tf.reduce_sum(x)",
    "tf.abs(x=x)",
    "tf.abs()",
    "tf.abs(,)",
    "tf.abs(x,)",
    "~" * 1900,
]


@pytest.mark.parametrize("text", COLUMN_BREAK_OUTS, ids=lambda text: ascii(text[:40]))
def test_break_out_of_columns_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        quickly(lambda: compile_expr(text, ["x"])({"x": np.ones(2)}))


@pytest.mark.parametrize(
    "body",
    [
        "9**9**9",
        "2**64",
        "2**63",
        "(-2)**65",
        "9**9**9**9",
        "10**10 * 10**10",
        "(10**18)**2",
        "9223372036854775807 + 1",
        "-9223372036854775807 - 2",
        "10.0**400",
        "2**-10**9**2",
        "[0]*10**9",
        "10**9*[0]",
        "(0,)*10**9",
        "1 % 0",
        "1 // 0",
        "0 ** -1",
        "[0] - [0]",
        "[0] < [1]",
        "[0] == [0]",
        "[0] + (0,)",
        "None + 1",
        "-[0]",
        "~1.5",
        "x[10**10]",
        "x[0:10:0]",
        "tf.tile(x[0], [1000000000, 1000000000])",
        "tf.tile(x[0], [100000, 100000])",
        "tf.tile(tf.tile(x[0], [10000, 1]), [1, 10000])",
        "tf.reshape(x[0], [10**18])",
        "tf.split(x[0], 10**18)",
        "torch.split(x[0], 0)",
        "tf.reduce_sum(x[0], axis=10**18)",
        "tf.reduce_sum(x[0], axis=list(x))",
        "tf.transpose(x[0], perm=[0, 0])",
        "tf.stack([])",
        "tf.add_n([])",
        "tf.concat(None, axis=0)",
        "tf.matmul(x[0], None)",
        "tf.unstack(1)",
        "tf.unstack(x[0], axis=7)",
        "tf.unstack(x[1], axis=0)",
        "list(1)",
        "len(None)",
        "x[1][:, None] * x[1] * x[1][:, None, None] * x[1][:, None, None, None]",
        "tf.multiply(x[1][:, None, None], x[1][:, None] * x[1])",
        "tf.matmul(tf.tile(x[1][:, None], [10, 1]), tf.tile(x[1][None], [1, 10]))",
        "tf.where(x[1][:, None, None] > 0, x[1][:, None], x[1])",
    ],
)
def test_too_much_is_refused_when_it_runs(body: str) -> None:
    values = [torch.ones(3, 4), torch.zeros(20_000)]
    with pytest.raises(ExpressionError, match="does not work on these inputs"):
        quickly(lambda: compile_lambda(f"lambda x: {body}")(values))


def test_large_values_may_pass_through() -> None:
    # The limit is on what an expression makes, not on what it is given. A view: nothing is allocated here.
    huge = torch.zeros(1, 1).expand(2**31, 1)
    check_pair(huge, huge)
    with pytest.raises(ValueError, match=f"the result would have {2**62} elements, more than {MAX_ELEMENTS}"):
        check_pair(huge, huge.T)


def test_limits_are_those_stated() -> None:
    body = "x[0]" + "[0]" * (MAX_DEPTH - 3)
    compile_lambda(f"lambda x: {body}")
    with pytest.raises(ExpressionError, match=f"nested at most {MAX_DEPTH} deep"):
        compile_lambda(f"lambda x: {body}[0]")
    compile_lambda("lambda x: [" + "x," * (MAX_NODES - 2) + "]")
    with pytest.raises(ExpressionError, match=f"at most {MAX_NODES} parts"):
        compile_lambda("lambda x: [" + "x," * (MAX_NODES - 1) + "]")
    compile_lambda("lambda x: x".ljust(MAX_LENGTH))
    with pytest.raises(ExpressionError, match=f"at most {MAX_LENGTH} characters, got {MAX_LENGTH + 1}"):
        compile_lambda("lambda x: x".ljust(MAX_LENGTH + 1))
    assert compile_lambda("lambda x: 9223372036854775807 - 1")(0) == 2**63 - 2
    assert compile_expr("x" + "+x" * 190, ["x"])({"x": np.ones(1)}).tolist() == [191.0]


@pytest.mark.parametrize("text", [None, 5, b"lambda x: x", ["x"]])
def test_other_than_text_is_refused(text: Any) -> None:
    for call in (compile_lambda, compile_slice, compile_numeric_function, lambda t: compile_expr(t, ["x"])):
        with pytest.raises(ExpressionError, match=f"^an expression must be text, got {type(text).__name__}"):
            call(text)


@pytest.mark.parametrize(
    ("text", "marked", "reason"),
    [
        ("lambda x: x.__class__", "x.__class__", "attributes of values cannot be read; tf.shape(x) gives"),
        ("lambda x: tf.ad_n(x)", "tf.ad_n", "`tf.ad_n` is not a known name; the nearest is `tf.add_n`"),
        ("lambda x: os.system(x)", "os.system", "`os.system` is not a known name"),
        ("lambda x: y + 1", "y", "`y` is not a known name"),
        ("lambda x: x()", "x()", "only whitelisted functions can be called, by their own name"),
        ("lambda x: x + tf.add_n", "tf.add_n", "the function `tf.add_n` must be called: `tf.add_n(...)`"),
        ("lambda x: [y for y in x]", "[y for y in x]", "a comprehension is not allowed in an expression"),
        ("lambda x: x if (y := 1) else x", "y := 1", "an assignment `:=` is not allowed"),
        ("lambda x: f'{x}'", "f'{x}'", "an f-string is not allowed"),
        ("lambda x: {}", "{}", "a dict is not allowed"),
        ("lambda x: x and x", "x and x", "`and`/`or` is not allowed"),
        ("lambda x: [x, *x]", "*x", "an argument list `*` is not allowed"),
        ("lambda x: tf.add_n(*x)", "*x", "arguments must be written out, without `*` or `**`"),
        ("lambda x: tf.add_n(x, bxis=1)", "tf.add_n(x, bxis=1)", "`tf.add_n` has no argument `bxis`; it has: tensors"),
        ("lambda x: tf.concat(x, 1, dim=2)", "tf.concat(x, 1, dim=2)", "`tf.concat` got its argument `axis` twice"),
        ("lambda x: tf.concat(x)", "tf.concat(x)", "`tf.concat` needs its argument `axis`"),
        ("lambda x: tf.abs(x, 1, 2)", "tf.abs(x, 1, 2)", "`tf.abs` takes at most 1 arguments, got 3"),
        ("lambda x: tf.cast(x, 'text')", "'text'", "text is not allowed, except the name of a number type: float32,"),
        ("lambda x: 1j", "1j", "a constant must be a number or None, got complex"),
        ("lambda x: ...", "...", "a constant must be a number or None, got ellipsis"),
        ("lambda x: 99999999999999999999", "99999999999999999999", "a whole number must fit 64 bits"),
        ("lambda x: x $ 1", "$", "the expression cannot be read: invalid syntax"),
        ("lambda x: é", "é", "an expression is printable ASCII without backslashes, got '\\xe9'"),
        ("x[0]", "x[0]", "the expression must have the form `lambda x: ...`"),
        ("lambda x, i: x", "lambda x, i: x", "the lambda must take 1 plain argument(s): `lambda x: ...`"),
        ("lambda x=1: x", "lambda x=1: x", "the lambda must take 1 plain argument(s)"),
        ("lambda *x: x", "lambda *x: x", "the lambda must take 1 plain argument(s)"),
        ("lambda x, **k: x", "lambda x, **k: x", "the lambda must take 1 plain argument(s)"),
        ("lambda tf: tf", "lambda tf: tf", "the lambda's argument hides the whitelisted name `tf`"),
    ],
)  # fmt: skip
def test_refusal_points_at_the_part(text: str, marked: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_lambda(text)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(reason)
    assert lines[1] == "    " + text
    assert lines[1][lines[2].index("^") : lines[2].rindex("^") + 1] == marked
    assert lines[3].startswith("allowed: the lambda's arguments, numbers, lists, tuples, indexing, arithmetic")
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, IntarsiaError)


def test_two_argument_rules() -> None:
    for text in ("lambda x: x", "tf.abs", "lambda x, x: x", "lambda x, /, i: x", "lambda x, i, j: x"):
        with pytest.raises(ExpressionError, match="lambda x, i: "):
            compile_lambda(text, 2)


def test_long_text_is_shown_in_part() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_lambda("lambda x: " + "x + " * 60 + "wrong" + " + 1" * 300)
    assert "at most" in caught.value.reason
    with pytest.raises(ExpressionError) as caught:
        compile_lambda("lambda x: [" + "x, " * 100 + "wrong, " + "x, " * 100 + "]")
    lines = str(caught.value).splitlines()
    assert lines[1].strip().startswith("...")
    assert lines[1].endswith("...")
    assert len(lines[1]) < 120
    assert lines[1][lines[2].index("^") : lines[2].rindex("^") + 1] == "wrong"


def test_message_cannot_steer_a_terminal() -> None:
    for call in (compile_lambda, lambda text: compile_expr(text, ["x"])):
        with pytest.raises(ExpressionError) as caught:
            call("x + \x1b[2J\x07")
        assert all(c.isprintable() or c == "\n" for c in str(caught.value))


def test_source_never_evaluates_text() -> None:
    # The package may parse text, but calls nothing that runs it.
    calls: set[str] = set()
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                calls.add(ast.unparse(node.func))
    assert "ast.parse" in calls
    assert not calls & {"eval", "exec", "compile", "__import__", "importlib.import_module", "globals", "locals"}


def test_columns_need_no_torch() -> None:
    program = "import sys, intarsia.core.expressions.columns; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- fuzzing: whatever the text, an expression is compiled and run, or refused by ExpressionError, quickly ----------

PIECES = [
    *r"""
    x i _ 0 1 2 9 -1 1.5 1e9 ( ) [ ] { } , : . + - * / // % ** & | ~ < > <= == != @ = := ; # ' " \
    lambda if else for in is not and or None True ... x[0] x.y .__class__ __import__ tf torch tf.nn
    tf.add_n( tf.concat( tf.reshape( tf.split( tf.tile( tf.stack( tf.transpose( tf.reduce_sum(
    torch.permute( tf.where( tf.cast( tf.matmul( tf.abs( list( len( axis= tf.float32 'int64' [0] [-1, 10**9
    tf.unstack(x,axis=1) x[1:] x[:,0] é ｘ
    """.split(),  # noqa: SIM905
    *("lambda x: ", "lambda x, i: ", " ", "\n", "\t", "\x00"),
]
VALID = [
    "lambda x: [x[0], x[1]]",
    "lambda x: tf.add_n(x)",
    "lambda x: tf.reduce_sum(x, axis=1, keepdims=True)",
    "lambda x: tf.unstack(tf.reshape(x, [-1, 3, 4]), axis=1)",
    "lambda x, i: [x[0][i], x[1]]",
    "lambda x: tf.concat([x[0][:, 1:3], x[1] ** 2], axis=-1) / 9",
    "lambda x: x[0] if len(x) > 1 else tf.nn.relu(x[-1])",
    "[:, 1:3]",
    "[0][i]",
    "x > 1 & tf.math.log1p(x) / 2 <= i | ~(x == 3)",
    "lambda x: (x - 2) ** 3 * 10**3",
]

texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join).map("lambda x: {}".format),
    st.text(max_size=30),
    st.tuples(st.sampled_from(VALID), st.integers(0, 2**32), st.integers(1, 6)).map(lambda t: mutated(*t)),
)


def mutated(text: str, seed: int, times: int) -> str:
    """A valid expression with pieces put in, taken out, doubled or swapped."""
    rng = random.Random(seed)
    for _ in range(times):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randrange(4))
        piece = rng.choice([rng.choice(PIECES), text[end : end + 6], "", rng.choice(VALID)[start : start + 8]])
        text = text[:start] + piece + text[end:]
    return text


def survive(text: str) -> None:
    tensor, column = torch.ones(2, 3), np.array([1.0, 2.0])
    attempts: list[Callable[[], Any]] = [
        lambda: compile_lambda(text)([tensor, tensor]),
        lambda: compile_lambda(text)(tensor),
        lambda: compile_lambda(text, 2)([tensor, [tensor]], 1),
        lambda: compile_slice(text)([tensor, tensor], 1),
        lambda: compile_expr(text, ["x", "i"])({"x": column, "i": column}),
        lambda: compile_numeric_function(text)(column),
    ]
    for attempt in attempts:
        with contextlib.suppress(ExpressionError):
            quickly(attempt)


FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@given(texts)
@example("lambda x: tf.tile(x, [10**9, 10**9])")
@example("lambda x: 9**9**9")
@settings(max_examples=300, **FUZZ)
def test_only_expression_errors_escape(text: str) -> None:
    survive(text)


@pytest.mark.fuzz
@given(texts)
@settings(max_examples=10_000, **FUZZ)
def test_only_expression_errors_escape_long(text: str) -> None:
    survive(text)
