"""The error of an expression: what is wrong, where, and what is allowed."""

from __future__ import annotations

from intarsia.core.errors import IntarsiaError

_WIDTH = 100


class ExpressionError(IntarsiaError):
    """An expression of a pipeline file is refused, or fails on the values that it was given.

    Attributes:
        reason: The first line of the message: the rule and what was received.
        expression: The text of the expression.
    """

    exit_code = 2

    def __init__(self, message: str, expression: str = "") -> None:
        super().__init__(message)
        self.reason = message.split("\n", 1)[0]
        self.expression = expression


def expression_error(reason: str, text: str, start: int, end: int, cure: str) -> ExpressionError:
    """An error that shows the expression with carets under `text[start:end]`.

        attributes of values cannot be read, got `x.shape`
            lambda x: x.shape
                      ^^^^^^^
        tf.shape(x) gives the lengths of the axes

    Args:
        reason: The rule and what was received, without a line break.
        text: The whole expression; a long one is shown in part.
        start: First character of the offending part.
        end: Character after the offending part.
        cure: What is allowed, or what to do.
    """
    start = min(max(start, 0), len(text))
    end = min(max(end, start + 1), max(len(text), start + 1))
    left = max(0, start - _WIDTH // 2) if len(text) > _WIDTH else 0
    right = left + _WIDTH
    before = "..." if left else ""
    shown = before + printable(text[left:right]) + ("..." if len(text) > right else "")
    carets = " " * (len(before) + start - left) + "^" * (min(end, right) - start)
    return ExpressionError(f"{reason}\n    {shown}\n    {carets}\n{cure}", text)


def printable(text: str, limit: int = _WIDTH) -> str:
    """`text` cut to `limit` characters, each control character as `?`, so that an error cannot steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])
