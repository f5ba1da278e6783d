"""A pipeline file as read, before it means anything: scalars, lists and mappings that know their line.

The readers (`pbtext`, `yamltext`, `jsontext`) give the same tree for the same file in any syntax.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, NoReturn, TypeAlias

from pydantic import BaseModel

from intarsia.core.errors import ConfigError, Problem

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = Any
Kind = Literal["mapping", "list", "repeated", "text", "word", "int", "float", "bool", "null"]

MAX_DEPTH = 100
"""Messages inside messages; deeper files are refused, so that no reader or check runs out of stack."""

MAX_DIGITS = 400
"""Characters of one number; real ones have fewer than 30."""


@dataclass(slots=True, eq=False)
class Node:
    """One value of a file.

    Attributes:
        value: A scalar, a list of nodes, or nodes by key.
        file: Name of the file, or the option that set the value.
        line: Line, from 1; 0: none (set by an option, or made in Python).
        column: Column, from 1.
        kind: What was written. `word` is a bare identifier of protobuf text (an enum's name); `repeated` holds the
            occurrences of a key that was written several times, whose meaning only the schema knows.
        key: The key as written, for an entry of a mapping.
        key_line: Line of that key.
    """

    value: Scalar | list[Node] | dict[str, Node]
    file: str = ""
    line: int = 0
    column: int = 0
    kind: Kind = "null"
    key: str | None = None
    key_line: int = 0

    @property
    def entries(self) -> dict[str, Node]:
        """Nodes by key; nothing where this is no mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """Elements; nothing where this is no list."""
        return self.value if isinstance(self.value, list) else []

    @property
    def scalar(self) -> Scalar:
        """The value of a scalar; None for a list or mapping."""
        return None if isinstance(self.value, list | dict) else self.value

    @property
    def where(self) -> str:
        """`file:line`, the line being that of the key if there is one."""
        line = self.key_line or self.line
        return f"{self.file}:{line}" if line else self.file

    def with_value(self, value: list[Node] | dict[str, Node], kind: Kind) -> Node:
        """Another value at the same place."""
        return replace(self, value=value, kind=kind)


def kind_of(value: Scalar) -> Kind:
    """The kind of a Python scalar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "text"


def scalar_node(value: Scalar, file: str, line: int, column: int, kind: Kind | None = None) -> Node:
    """A scalar at a place."""
    return Node(value, file, line, column, kind or kind_of(value))


PROTO_BOOLS = {"true": True, "True": True, "false": False, "False": False}


def plain(node: Node) -> Plain:
    """Dicts, lists and scalars. A key written several times becomes a list; `true` and `false` become booleans."""
    if node.kind == "mapping":
        return {key: plain(child) for key, child in node.entries.items()}
    if node.kind == "list":
        return [plain(child) for child in node.items]
    if node.kind == "repeated":
        return [plain(child) for child in occurrences(node)]
    if node.kind == "word" and node.value in PROTO_BOOLS:
        return PROTO_BOOLS[str(node.value)]
    return node.value


def occurrences(node: Node) -> list[Node]:
    """The elements that a key was given: over all its occurrences, short lists opened."""
    if node.kind == "list":
        return node.items
    if node.kind != "repeated":
        return [node]
    return [element for child in node.items for element in (child.items if child.kind == "list" else [child])]


def from_plain(value: object, name: str = "") -> Node:
    """A tree without positions, for configurations made in Python.

    Raises:
        ConfigError: Something in it is no mapping, list, text, number, boolean or None.
    """
    return _from_plain(value, name, "", 0)


def _from_plain(value: object, name: str, path: str, depth: int) -> Node:
    if depth > MAX_DEPTH:
        fail(name, 0, 0, f"nested deeper than {MAX_DEPTH} levels, which is not allowed")
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        entries: dict[str, Node] = {}
        for key, child in value.items():
            if not isinstance(key, str):
                raise ConfigError([Problem(name, path, f"keys are text, received {key!r}")])
            node = _from_plain(child, name, f"{path}.{key}" if path else key, depth + 1)
            node.key = key
            entries[key] = node
        return Node(entries, name, kind="mapping")
    if isinstance(value, list | tuple):
        items = [_from_plain(child, name, f"{path}[{i}]", depth + 1) for i, child in enumerate(value)]
        return Node(items, name, kind="list")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, PurePath):
        value = str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return Node(value, name, kind=kind_of(value))
    message = f"wants plain data (text, numbers, lists, mappings), received {type(value).__name__}"
    raise ConfigError([Problem(name, path, message)])


def walk(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
    """All nodes with their paths, parents first."""
    yield path, node
    for key, child in node.entries.items():
        yield from walk(child, (*path, key))
    for index, child in enumerate(node.items):
        yield from walk(child, (*path, index))


def join(path: str, step: str | int) -> str:
    """`path` and one more step, as in `train_config.optimizer_config[0]`."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def fail(file: str, line: int, column: int, message: str) -> NoReturn:
    """Raises the error of a reader, at `file:line:column`."""
    where = f"{file}:{line}:{column}" if line else file
    raise ConfigError([Problem(where, "", message)])


def parse_int(digits: str, base: int) -> int | None:
    """A whole number, or None where it is too long to be one."""
    return None if len(digits) > MAX_DIGITS else int(digits, base)


def shown(value: object, limit: int = 60) -> str:
    """A value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
