"""Expressions over numeric columns: ExprFeature, labels computed from labels, and normalisers.

Column expressions are no Python: comparisons bind tighter than `&` and `|`, so that `age > 2 & age < 5` means what it
says. From tightest to loosest:

    ( )  f(a, b)      parentheses, functions
    -a  +a            signs
    *  /              left to right
    +  -              left to right
    <  <=  ==  !=  >  >=    one only; `1 < a < 5` is refused
    ~                 not
    &  |              equal rank, left to right

Everything is float64. Comparisons, `&`, `|` and `~` give 1 or 0, and take each number but 0 for true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intarsia.core.expressions.column_functions import COLUMNS, Array
from intarsia.core.expressions.errors import ExpressionError, expression_error, printable
from intarsia.core.expressions.operations import describe
from intarsia.core.expressions.syntax import MAX_LENGTH, MAX_NODES, compile_function

Columns = Mapping[str, np.ndarray]
_Run = Callable[[Columns], object]

_MAX_DEPTH = 32

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)"
    r"|(?P<symbol><=|>=|==|!=|\*\*|//|&&|\|\||[-+*/<>&|~(),=])"
)
_COMPARE: dict[str, Callable[..., object]] = {
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_SUM: dict[str, Callable[..., object]] = {"+": np.add, "-": np.subtract}
_PRODUCT: dict[str, Callable[..., object]] = {"*": np.multiply, "/": np.divide}
_LOGIC: dict[str, Callable[..., object]] = {"&": np.logical_and, "|": np.logical_or}
_INSTEAD = {"=": "`==`", "&&": "`&`", "||": "`|`", "and": "`&`", "or": "`|`", "not": "`~`", "**": "tf.pow(a, b)"}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class ColumnExpression:
    """A compiled column expression; call it with the columns.

    Attributes:
        text: The expression.
        names: The columns that it reads, in order of first use.
    """

    def __init__(self, text: str, names: tuple[str, ...], run: _Run, known: tuple[str, ...]) -> None:
        self.text = text
        self.names = names
        self._run = run
        self._known = known

    def __call__(self, columns: Columns) -> Array:
        """The value for each row.

        Args:
            columns: (N,) or (N, W) numbers or booleans by name; all columns that the expression reads.

        Returns:
            float64 of the columns' common shape.

        Raises:
            ExpressionError: A column is missing, holds no numbers, or the shapes do not fit.
        """
        inputs: dict[str, np.ndarray] = {}
        for name in self.names:
            if name not in columns:
                raise self._fail(f"the column `{printable(name)}` is not given", f"columns: {', '.join(columns)}")
            inputs[name] = _numbers(columns[name], f"the column `{printable(name)}`", self.text)
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(self._run(inputs), dtype=np.float64)
                shape = np.broadcast_shapes(value.shape, *(column.shape for column in inputs.values()))
                return np.array(np.broadcast_to(value, shape))
        except (ValueError, TypeError, MemoryError) as error:
            shown = ", ".join(f"{name} = {describe(column)}" for name, column in inputs.items())
            raise self._fail(
                f"the expression does not work on these columns: {printable(str(error), 300)}", shown
            ) from error

    def _fail(self, reason: str, cure: str) -> ExpressionError:
        return expression_error(reason, self.text, 0, len(self.text), cure)

    def __repr__(self) -> str:
        return f"ColumnExpression({self.text!r})"

    def __reduce__(self) -> tuple[Callable[..., ColumnExpression], tuple[str, tuple[str, ...]]]:
        return compile_expr, (self.text, self._known)


class NumericFunction:
    """A compiled normaliser; call it with an array of any shape, get float64 of that shape."""

    def __init__(self, text: str) -> None:
        self._expression = compile_function(text, 1, COLUMNS, (NumericFunction, (text,)))
        self.text = self._expression.text

    def __call__(self, values: np.ndarray) -> Array:
        """The function of each element.

        Raises:
            ExpressionError: The values are no numbers, or the function does not work on them.
        """
        numbers = _numbers(values, "the input", self.text)
        with np.errstate(all="ignore"):
            result = _numbers(self._expression(numbers), "the result", self.text)
        return np.array(np.broadcast_to(result, numbers.shape))

    def __repr__(self) -> str:
        return f"NumericFunction({self.text!r})"

    def __reduce__(self) -> tuple[type[NumericFunction], tuple[str]]:
        return NumericFunction, (self.text,)


def compile_expr(text: str, names: Sequence[str]) -> ColumnExpression:
    """Compiles a column expression, such as `age >= 18 & (price < 5 | tf.math.log1p(clicks) > 2)`.

    Departs from EasyRec, where `&` and `|` have no stated rank: here they are applied left to right.

    Args:
        text: The expression.
        names: The columns that it may read.

    Raises:
        ExpressionError: The text is not allowed.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"an expression must be text, got {type(text).__name__}\n{COLUMNS.allowed}")
    if len(text) > MAX_LENGTH:
        reason = f"an expression has at most {MAX_LENGTH} characters, got {len(text)}"
        raise expression_error(reason, text, 0, 1, COLUMNS.allowed)
    parser = _Parser(text, tuple(names))
    run = parser.whole()
    return ColumnExpression(text, tuple(parser.used), run, tuple(names))


def compile_numeric_function(text: str) -> NumericFunction:
    """Compiles a normaliser: the name of an elementwise function such as `tf.math.log1p`, or `lambda x: ...`.

    The lambda is Python, with Python's ranks of operators.

    Raises:
        ExpressionError: The text is not allowed.
    """
    return NumericFunction(text)


def _numbers(values: object, what: str, text: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise expression_error(
            f"{what} must hold numbers, got {array.dtype}",
            text,
            0,
            len(text),
            "declare it as a number in the data's fields",
        )
    return array.astype(np.float64, copy=False)


class _Parser:
    """Recursive descent over the ranks of the module's docstring."""

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        self.names = names
        self.used: dict[str, None] = {}
        self.depth = 0
        self.position = 0
        self.tokens = self._tokens()

    def whole(self) -> _Run:
        run = self._logic()
        if self._now.kind != "end":
            raise self._refuse(self._now, f"an operator is needed here, got `{self._now.text}`")
        if not self.used:
            known = ", ".join(printable(name) for name in self.names[:20])
            rule = "an expression must read at least one of its inputs"
            raise expression_error(rule, self.text, 0, self._now.start, f"inputs: {known}")
        return run

    def _tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self.text):
            if self.text[at] in " \t\r\n":
                at += 1
                continue
            match = _TOKEN.match(self.text, at)
            if match is None:
                raise self._refuse(_Token("", self.text[at], at), f"this character is not allowed: {self.text[at]!a}")
            token = _Token(match.lastgroup or "", match.group(), at)
            if token.text in _INSTEAD and token.text not in self.names:
                raise self._refuse(token, f"`{token.text}` is not allowed; write {_INSTEAD[token.text]}")
            tokens.append(token)
            at = match.end()
        if len(tokens) > MAX_NODES:
            raise self._refuse(tokens[MAX_NODES], f"an expression has at most {MAX_NODES} parts, got {len(tokens)}")
        return [*tokens, _Token("end", "", len(self.text))]

    def _refuse(self, token: _Token, reason: str) -> ExpressionError:
        return expression_error(reason, self.text, token.start, token.end, COLUMNS.allowed)

    @property
    def _now(self) -> _Token:
        return self.tokens[self.position]

    def _take(self, *symbols: str) -> _Token | None:
        """The next token if it is one of these symbols."""
        token = self._now
        if token.kind == "symbol" and token.text in symbols:
            self.position += 1
            return token
        return None

    def _chain(self, operand: Callable[[], _Run], table: Mapping[str, Callable[..., object]]) -> _Run:
        first = operand()
        rest: list[tuple[Callable[..., object], _Run]] = []
        while (token := self._take(*table)) is not None:
            rest.append((table[token.text], operand()))

        def run(columns: Columns) -> object:
            value = first(columns)
            for call, right in rest:
                value = np.asarray(call(value, right(columns)), dtype=np.float64)
            return value

        return run if rest else first

    def _logic(self) -> _Run:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._refuse(self._now, f"an expression is nested at most {_MAX_DEPTH} deep")
        run = self._chain(self._not, _LOGIC)
        self.depth -= 1
        return run

    def _not(self) -> _Run:
        flips = 0
        while self._take("~"):
            flips += 1
        run = self._comparison()
        for _ in range(min(flips, 2 - flips % 2)):
            run = _unary(np.logical_not, run)
        return run

    def _comparison(self) -> _Run:
        run = self._sum()
        token = self._take(*_COMPARE)
        if token is None:
            return run
        compare, right = _COMPARE[token.text], self._sum()
        again = self._take(*_COMPARE)
        if again is not None:
            raise self._refuse(again, "comparisons cannot be chained; write `1 < a & a < 5` for `1 < a < 5`")
        return lambda columns: np.asarray(compare(run(columns), right(columns)), dtype=np.float64)

    def _sum(self) -> _Run:
        return self._chain(self._product, _SUM)

    def _product(self) -> _Run:
        return self._chain(self._sign, _PRODUCT)

    def _sign(self) -> _Run:
        negative = False
        while (token := self._take("-", "+")) is not None:
            negative ^= token.text == "-"
        run = self._primary()
        return _unary(np.negative, run) if negative else run

    def _primary(self) -> _Run:
        token = self._now
        if token.kind == "number":
            self.position += 1
            number = float(token.text)
            return lambda columns: number
        if token.kind == "name":
            self.position += 1
            return self._call(token) if self._take("(") else self._name(token)
        if self._take("("):
            run = self._logic()
            self._close()
            return run
        hint = "; put `~` and what it negates in parentheses" if token.text == "~" else ""
        raise self._refuse(token, f"a number, an input or a function is needed here, got {self._got()}{hint}")

    def _close(self) -> None:
        if not self._take(")"):
            raise self._refuse(self._now, f"`)` is needed here, got {self._got()}")

    def _got(self) -> str:
        return f"`{self._now.text}`" if self._now.text else "the end"

    def _name(self, token: _Token) -> _Run:
        name = token.text
        if name in self.names:
            self.used[name] = None
            return lambda columns: columns[name]
        if name in COLUMNS.constants:
            constant = COLUMNS.constants[name]
            return lambda columns: constant
        if name in COLUMNS.functions:
            raise self._refuse(token, f"the function `{name}` must be called: `{name}(...)`")
        raise self._refuse(token, COLUMNS.unknown(name, self.names))

    def _call(self, token: _Token) -> _Run:
        name = token.text
        function = COLUMNS.functions.get(name)
        if function is None:
            raise self._refuse(token, COLUMNS.unknown(name))
        runs: list[_Run] = []
        while not self._take(")"):
            if runs and not self._take(","):
                raise self._refuse(self._now, f"`,` or `)` is needed here, got {self._got()}")
            runs.append(self._logic())
        try:
            parameters = function.bind(name, len(runs), ())
        except ValueError as error:
            raise self._refuse(token, str(error)) from None
        plan = list(zip(parameters, runs))
        call = function.call
        return lambda columns: call(**{p.name: p.convert(run(columns)) for p, run in plan})


def _unary(call: Callable[..., object], inner: _Run) -> _Run:
    return lambda columns: np.asarray(call(inner(columns)), dtype=np.float64)
