"""Lambdas of a pipeline file: parsed by Python's `ast`, checked against a whitelist, compiled once to closures.

What is refused before anything runs: every node that is not listed in `_Compiler.value`, names that are not an argument
of the lambda or a whitelisted function, attributes of values, calls of values, and texts beyond the limits below. What
is refused while running: whole numbers beyond 64 bits and lists beyond `MAX_ITEMS`.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from intarsia.core.expressions.errors import ExpressionError, expression_error, printable
from intarsia.core.expressions.functions import Namespace
from intarsia.core.expressions.operations import BINARY, COMPARE, MAX_INT, UNARY, apply_operator, describe

MAX_LENGTH = 2000
MAX_NODES = 400
MAX_DEPTH = 64

Run = Callable[[Sequence[object]], object]

_REFUSED: dict[type[ast.AST], str] = {
    ast.Lambda: "a lambda inside a lambda",
    ast.NamedExpr: "an assignment `:=`",
    ast.JoinedStr: "an f-string",
    ast.Starred: "an argument list `*`",
    ast.BoolOp: "`and`/`or`",
    ast.Dict: "a dict",
    ast.Set: "a set",
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "a comprehension"),
}


class _RunFailure(Exception):
    """Carries the innermost node that failed up to the expression, which knows the inputs."""

    def __init__(self, node: ast.expr, error: Exception) -> None:
        super().__init__(str(error))
        self.node = node
        self.error = error


class Expression:
    """A compiled expression; call it with its arguments.

    Attributes:
        text: The expression as it is shown in messages.
        names: Names of its arguments.
    """

    def __init__(
        self, text: str, names: tuple[str, ...], required: int, run: Run, rebuild: tuple[Any, ...], shift: int = 0
    ) -> None:
        self.text = text
        self.names = names
        self._required = required
        self._run = run
        self._rebuild = rebuild
        self._shift = shift

    def __call__(self, *values: object) -> Any:
        """The expression's value.

        Raises:
            ExpressionError: A value is missing, or the expression does not work on these values.
        """
        if not self._required <= len(values) <= len(self.names):
            rule = f"the expression takes {self._required} argument(s), got {len(values)}"
            raise expression_error(rule, self.text, 0, len(self.text), f"arguments: {', '.join(self.names)}")
        try:
            return self._run(values)
        except _RunFailure as failure:
            node = failure.node
            inputs = ", ".join(f"{name} = {describe(v)}" for name, v in zip(self.names, values))
            cause = printable(" ".join(str(failure.error).split()), 300) or type(failure.error).__name__
            start, end = node.col_offset - self._shift, (node.end_col_offset or 0) - self._shift
            reason = f"the expression does not work on these inputs: {cause}"
            raise expression_error(reason, self.text, start, end, f"inputs: {inputs}") from failure.error

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Closures cannot be pickled; the text can be compiled again anywhere.
        return self._rebuild


def compile_function(text: str, num_args: int, namespace: Namespace, rebuild: tuple[Any, ...]) -> Expression:
    """Compiles `lambda x: ...`, `lambda x, i: ...`, or the bare name of a whitelisted function.

    Args:
        text: The expression.
        num_args: Number of arguments that the lambda must take.
        namespace: What it may name.
        rebuild: What pickle calls to compile it again.

    Raises:
        ExpressionError: The text is not allowed.
    """
    text = normalised(text, namespace)
    body = _parse(text, 0, namespace)
    shape = "lambda x: ..." if num_args == 1 else "lambda x, i: ..."
    compiler = _Compiler(text, namespace, ())
    if isinstance(body, ast.Name | ast.Attribute) and num_args == 1:
        names: tuple[str, ...] = ("x",)
        call = ast.Call(func=body, args=[ast.Name(id="x", ctx=ast.Load())], keywords=[])
        for part in (call, call.args[0]):
            ast.copy_location(part, body)
        return Expression(text, names, 1, _Compiler(text, namespace, names).value(call), rebuild)
    if not isinstance(body, ast.Lambda):
        raise compiler.refuse(body, f"the expression must have the form `{shape}`")
    given = body.args
    names = tuple(argument.arg for argument in given.args)
    extras = given.posonlyargs or given.vararg or given.kwonlyargs or given.kwarg or given.defaults
    if extras or len(names) != num_args or len(set(names)) != len(names):
        raise compiler.refuse(body, f"the lambda must take {num_args} plain argument(s): `{shape}`")
    roots = {name.partition(".")[0] for name in (*namespace.functions, *namespace.constants)}
    hidden = next((name for name in names if name in roots), None)
    if hidden is not None:
        raise compiler.refuse(body, f"the lambda's argument hides the whitelisted name `{hidden}`")
    return Expression(text, names, num_args, _Compiler(text, namespace, names).value(body.body), rebuild)


def compile_index(text: str, with_number: bool, namespace: Namespace, rebuild: tuple[Any, ...]) -> Expression:
    """Compiles indexing such as `[0]`, `[:, 1:3]`, `[0][i]` to a function of the indexed value and, perhaps, `i`.

    Raises:
        ExpressionError: The text is anything but indexing, or not allowed.
    """
    text = normalised(text, namespace)
    body = _parse("_" + text, 1, namespace)
    compiler = _Compiler(text, namespace, ("_", "i") if with_number else ("_",), shift=1)
    root: ast.expr = body
    while isinstance(root, ast.Subscript):
        root = root.value
    uses = [node.id for node in ast.walk(body) if isinstance(node, ast.Name)]
    if not text.startswith("[") or not isinstance(root, ast.Name) or uses.count("_") != 1:
        raise compiler.refuse(body, "a slice must be indexing only, such as `[0]`, `[:, 1:3]` or `[0][1]`")
    required = 2 if "i" in uses else 1
    return Expression(text, ("x", "i"), required, compiler.value(body), rebuild, shift=1)


def normalised(text: str, namespace: Namespace) -> str:
    """The text on one line, known to be short and plain ASCII, so that a name is what it looks like."""
    if not isinstance(text, str):
        raise ExpressionError(f"an expression must be text, got {type(text).__name__}\n{namespace.allowed}")
    if len(text) > MAX_LENGTH:
        reason = f"an expression has at most {MAX_LENGTH} characters, got {len(text)}"
        raise expression_error(reason, text, 0, 1, namespace.allowed)
    line = " ".join(text.split())
    bad = next((n for n, c in enumerate(line) if not (c.isascii() and c.isprintable()) or c == "\\"), None)
    if bad is not None:
        reason = f"an expression is printable ASCII without backslashes, got {line[bad]!a}"
        raise expression_error(reason, line, bad, bad + 1, namespace.allowed)
    return line


def _parse(source: str, shift: int, namespace: Namespace) -> ast.expr:
    shown = source[shift:]
    try:
        with warnings.catch_warnings():
            # `1if x` and the like are refused or read as Python does; its warning names no file of the user's.
            warnings.simplefilter("ignore")
            body = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        start = (error.offset or 1) - 1 - shift
        reason = f"the expression cannot be read: {printable(error.msg)}"
        raise expression_error(reason, shown, start, start + 1, namespace.allowed) from None
    except (RecursionError, MemoryError, ValueError, OverflowError):
        reason = "the expression cannot be read: it is nested too deeply or holds too large a number"
        raise expression_error(reason, shown, 0, 1, namespace.allowed) from None
    stack: list[tuple[ast.AST, int]] = [(body, 1)]
    count = 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            reason = f"an expression has at most {MAX_NODES} parts, nested at most {MAX_DEPTH} deep"
            raise expression_error(reason, shown, 0, len(shown), namespace.allowed)
        inner = ast.iter_child_nodes(node)
        stack.extend((child, depth + 1) for child in inner if isinstance(child, ast.expr | ast.keyword))
    return body


class _Compiler:
    """Turns checked nodes into closures over the arguments' values."""

    def __init__(self, text: str, namespace: Namespace, names: tuple[str, ...], shift: int = 0) -> None:
        self.text = text
        self.namespace = namespace
        self.names = names
        self.shift = shift

    def refuse(self, node: ast.expr | ast.keyword, reason: str) -> ExpressionError:
        start, end = node.col_offset - self.shift, (node.end_col_offset or 0) - self.shift
        return expression_error(reason, self.text, start, end, self.namespace.allowed)

    def value(self, node: ast.expr) -> Run:
        """The closure of a node.

        Raises:
            ExpressionError: The node is not on the whitelist.
        """
        match node:
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.Name(id=name) if name in self.names:
                position = self.names.index(name)
                return lambda values: values[position]
            case ast.Name() | ast.Attribute():
                return self._named(node)
            case ast.Call():
                return self._call(node)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                return self._pair(node, *BINARY[type(op)], left, right)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARE:
                return self._pair(node, *COMPARE[type(op)], left, right)
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in UNARY:
                return self._unary(node, *UNARY[type(sign)], operand)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._choice(node, test, body, orelse)
            case ast.Subscript(value=inner, slice=key) if self.namespace.containers:
                return self._subscript(node, inner, key)
            case ast.List(elts=elements) if self.namespace.containers:
                items = [self.value(element) for element in elements]
                return lambda values: [item(values) for item in items]
            case ast.Tuple(elts=elements) if self.namespace.containers:
                items = [self.value(element) for element in elements]
                return lambda values: tuple(item(values) for item in items)
        what = _REFUSED.get(type(node), f"this {type(node).__name__.lower()}")
        raise self.refuse(node, f"{what} is not allowed in an expression")

    def _constant(self, node: ast.expr, value: object) -> Run:
        if isinstance(value, str):
            if value not in self.namespace.constants:
                known = ", ".join(name for name in self.namespace.constants if "." not in name)
                raise self.refuse(node, f"text is not allowed, except the name of a number type: {known}")
            value = self.namespace.constants[value]
        elif value is not None and not isinstance(value, int | float):
            raise self.refuse(node, f"a constant must be a number or None, got {type(value).__name__}")
        elif isinstance(value, int) and value > MAX_INT:
            raise self.refuse(node, "a whole number must fit 64 bits")
        return lambda values: value

    def _named(self, node: ast.expr) -> Run:
        name = _dotted(node)
        if name in self.namespace.constants and "." in name:
            value = self.namespace.constants[name]
            return lambda values: value
        if name in self.namespace.functions:
            raise self.refuse(node, f"the function `{name}` must be called: `{name}(...)`")
        if name and name.partition(".")[0] not in self.names:
            raise self.refuse(node, self.namespace.unknown(name, self.names))
        raise self.refuse(node, "attributes of values cannot be read; tf.shape(x) gives the lengths of the axes")

    def _call(self, node: ast.Call) -> Run:
        name = _dotted(node.func)
        function = self.namespace.functions.get(name)
        if function is None:
            if name and name.partition(".")[0] not in self.names:
                raise self.refuse(node.func, self.namespace.unknown(name, self.names))
            raise self.refuse(node, "only whitelisted functions can be called, by their own name")
        for part in (*node.args, *node.keywords):
            if isinstance(part, ast.Starred) or (isinstance(part, ast.keyword) and part.arg is None):
                raise self.refuse(part, "arguments must be written out, without `*` or `**`")
        try:
            parameters = function.bind(name, len(node.args), [str(keyword.arg) for keyword in node.keywords])
        except ValueError as error:
            raise self.refuse(node, str(error)) from None
        runs = [self.value(argument) for argument in (*node.args, *(keyword.value for keyword in node.keywords))]
        plan = list(zip(parameters, runs))
        call = function.call
        return _located(node, lambda values: call(**{p.name: p.convert(run(values)) for p, run in plan}))

    def _pair(
        self, node: ast.expr, symbol: str, op: Callable[[Any, Any], object], left: ast.expr, right: ast.expr
    ) -> Run:
        first, second = self.value(left), self.value(right)
        space = self.namespace
        return _located(node, lambda values: apply_operator(symbol, op, first(values), second(values), space))

    def _unary(self, node: ast.expr, symbol: str, op: Callable[[Any], object], operand: ast.expr) -> Run:
        inner = self.value(operand)
        kinds = (int, float, *self.namespace.arrays)

        def run(values: Sequence[object]) -> object:
            value = inner(values)
            if not isinstance(value, kinds):
                raise TypeError(f"`{symbol}` does not work on {describe(value)}")
            return op(value)

        return _located(node, run)

    def _choice(self, node: ast.expr, test: ast.expr, body: ast.expr, orelse: ast.expr) -> Run:
        condition, yes, no = self.value(test), self.value(body), self.value(orelse)

        def run(values: Sequence[object]) -> object:
            chosen = condition(values)
            if not isinstance(chosen, int | float):
                raise TypeError(f"the condition of `if` must be a number, got {describe(chosen)}; use tf.where")
            return yes(values) if chosen else no(values)

        return _located(node, run)

    def _subscript(self, node: ast.expr, inner: ast.expr, key: ast.expr) -> Run:
        container, index = self.value(inner), self._index(key)
        arrays = self.namespace.arrays

        def run(values: Sequence[object]) -> object:
            value, at = container(values), index(values)
            if isinstance(value, list | tuple):
                if not isinstance(at, int | slice):
                    raise TypeError(f"a {type(value).__name__} takes one whole number or slice, got {describe(at)}")
                if isinstance(at, int) and not -len(value) <= at < len(value):
                    raise IndexError(f"there is no item {at} in a {type(value).__name__} of {len(value)}")
                return value[at]
            if not isinstance(value, arrays):
                raise TypeError(f"{describe(value)} cannot be indexed")
            return value[at]  # type: ignore[index]

        return _located(node, run)

    def _index(self, key: ast.expr) -> Run:
        match key:
            case ast.Slice(lower=lower, upper=upper, step=step):
                bounds = [None if bound is None else self.value(bound) for bound in (lower, upper, step)]
                return lambda values: slice(*(None if bound is None else bound(values) for bound in bounds))
            case ast.Tuple(elts=elements):
                items = [self._index(element) for element in elements]
                return lambda values: tuple(item(values) for item in items)
            case ast.Constant(value=value) if value is Ellipsis:
                return lambda values: Ellipsis
        return self.value(key)


def _located(node: ast.expr, run: Run) -> Run:
    """`run`, whose failure remembers the innermost node that it came from."""

    def guarded(values: Sequence[object]) -> object:
        try:
            return run(values)
        except _RunFailure:
            raise
        except Exception as error:
            raise _RunFailure(node, error) from error

    return guarded


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of names only, else an empty text."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
