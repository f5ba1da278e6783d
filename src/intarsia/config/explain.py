"""Pydantic's errors in plain words, at the right line."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from intarsia.config.fields import Model
from intarsia.config.nodes import Node, join, shown
from intarsia.config.report import Report

_RANGES = {
    "greater_than_equal": ("ge", "must be at least {}"),
    "greater_than": ("gt", "must be more than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "less_than": ("lt", "must be less than {}"),
    "multiple_of": ("multiple_of", "must be a multiple of {}"),
}
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a message { ... }",
}


def explain(error: ValidationError, model: Model, root: Node, path: str, report: Report) -> None:
    """Adds the errors of a model to the report.

    Args:
        error: What pydantic raised.
        model: The model that it validated.
        root: The tree of the data.
        path: Place of the root in the file.
        report: Receives the problems; places that have one already are left out.
    """
    for detail in error.errors(include_url=False):
        node, at = root, path
        steps = list(detail["loc"])
        missing = detail["type"] == "missing"
        for step in steps[: len(steps) - 1] if missing else steps:
            child = _child(node, step)
            if child is None:
                continue  # a member of a union, named by its type
            at = join(at, step if isinstance(step, int) else child.key or step)
            node = child
        if missing and report.problems:
            continue  # told already, or the value is there and wrong
        message = _message(detail)  # type: ignore[arg-type]
        if missing:
            report.lacks(node, join(at, str(steps[-1])), message)
        else:
            report.wrong(node, at, message)


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(step, int):
        return node.items[step] if step < len(node.items) else None
    return node.entries.get(step)


def _message(detail: dict[str, Any]) -> str:
    kind, context = str(detail["type"]), detail.get("ctx") or {}
    received = shown(detail.get("input"))
    if kind in _RANGES:
        name, rule = _RANGES[kind]
        return f"{rule.format(_tidy(context.get(name)))}, received {received}"
    if kind == "too_short":
        return f"wants at least {_elements(context.get('min_length'))}, received {context.get('actual_length')}"
    if kind == "too_long":
        return f"wants at most {_elements(context.get('max_length'))}, received {context.get('actual_length')}"
    if kind == "string_too_short":
        return f"wants at least {context.get('min_length')} characters, received {received}"
    if kind == "string_pattern_mismatch":
        return f"must match the pattern `{context.get('pattern')}`, received {received}"
    if kind == "finite_number":
        return f"must be a finite number, received {received}"
    if kind in ("value_error", "assertion_error"):
        return f"{context.get('error') or detail['msg']}"
    if kind == "missing":
        return "is required and missing"
    if kind in ("literal_error", "enum"):
        return f"must be {context.get('expected')}, received {received}"
    if kind == "extra_forbidden":
        return "unknown key"
    wanted = _TYPES.get(kind.split("_")[0])
    if wanted is not None:
        return f"wants {wanted}, received {received}"
    text = str(detail["msg"])
    return f"{text[:1].lower()}{text[1:]}, received {received}"


def _tidy(bound: Any) -> str:
    return str(int(bound)) if isinstance(bound, float) and bound.is_integer() else str(bound)


def _elements(count: Any) -> str:
    return f"{count} element{'' if count == 1 else 's'}"
