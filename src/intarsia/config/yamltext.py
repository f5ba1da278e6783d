"""YAML, as far as a pipeline file needs it: plain data, no tags, no surprises.

Scalars follow YAML 1.2's core schema: `1e-3` is a number, `no`, `on` and `12:30` are text, dates are text. A key given
twice is an error, and aliases may not repeat more than the file could reasonably hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

import yaml

from intarsia.config.nodes import MAX_DEPTH, MAX_DIGITS, Node, Scalar, fail, scalar_node, shown
from intarsia.core.errors import ConfigError, Problem

MAX_ALIASED = 100_000
"""Nodes that aliases may add to a file."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= {_word: _value, _word.title(): _value, _word.upper(): _value}
for _sign, _factor in (("", 1), ("+", 1), ("-", -1)):
    for _word in (".inf", ".Inf", ".INF"):
        _WORDS[_sign + _word] = _factor * math.inf
for _word in (".nan", ".NaN", ".NAN"):
    _WORDS[_word] = math.nan


def parse(text: str, name: str = "<text>") -> Node:
    """The tree of a YAML file.

    Args:
        text: The file's text.
        name: The file's name, for messages.

    Raises:
        ConfigError: The text is no YAML, holds tags, a key twice, or aliases that explode; names line and column.
    """
    try:
        return _Reader(_events(text), name).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
        code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or " ")
        message = f"the character U+{code:04X} may not stand in YAML as it is; "
        fail(name, line, 1, message + f'write it as an escape in double quotes, such as "\\x{code % 256:02x}"')
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        told = " ".join(part for part in (error.context, error.problem) if part)
        fail(name, line, column, f"this is not YAML: {told}{_tab_hint(text, line)}")
    except yaml.YAMLError as error:
        fail(name, 0, 0, f"this is not YAML: {error}")


def parse_value(text: str, name: str) -> Node:
    """The tree of one value, such as the right side of an override."""
    if any(ord(character) < 32 and character not in "\t\n\r" for character in text):
        return scalar_node(text, name, 0, 0)
    try:
        node = parse(text, name)
    except ConfigError as error:
        raise ConfigError([Problem(name, "", problem.message) for problem in error.problems]) from None
    _forget_lines(node)
    return node


def _forget_lines(node: Node) -> None:
    stack = [node]
    while stack:
        child = stack.pop()
        child.line = child.key_line = 0
        stack += [*child.entries.values(), *child.items]


def _tab_hint(text: str, line: int) -> str:
    lines = text.splitlines()
    if 0 < line <= len(lines) and lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())].count("\t"):
        return " (YAML is indented by spaces, not by tabs)"
    return ""


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Reader:
    """Builds nodes from events without recursion, so that depth is a rule and not a crash."""

    def __init__(self, events: Iterator[yaml.Event], file: str) -> None:
        self.events = events
        self.file = file
        self.anchors: dict[str, Node] = {}
        self.stack: list[Node] = []
        self.aliased = 0

    def document(self) -> Node:
        root: Node | None = None
        stack = self.stack
        keys: list[Node | None] = []
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                self.fail(event, "a second document starts here; a pipeline file holds one")
            if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                stack.pop()
                keys.pop()
                continue
            node = self.node(event)
            if node is None:
                continue
            if not stack:
                root = node
            elif stack[-1].kind == "list":
                stack[-1].items.append(node)
            elif keys[-1] is None:
                keys[-1] = self.checked_key(node, stack[-1], event)
            else:
                node.key, node.key_line = str(keys[-1].value), keys[-1].line
                stack[-1].entries[node.key] = node
                keys[-1] = None
            if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                stack.append(node)
                keys.append(None)
                if len(stack) > MAX_DEPTH:
                    self.fail(event, f"nested deeper than {MAX_DEPTH} levels, which is not allowed")
        return root or scalar_node(None, self.file, 1, 1)

    def node(self, event: yaml.Event) -> Node | None:
        """The node that an event starts; None for events of the stream."""
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if not isinstance(event, yaml.NodeEvent):
            return None
        line, column = _place(event)
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            self.fail(event, f"tags such as `{tag}` are not allowed; write plain data")
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None or event.style == ""
            value = self.scalar(event) if plain and tag is None else event.value
            node = scalar_node(value, self.file, line, column)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node([], self.file, line, column, "list")
        else:
            node = Node({}, self.file, line, column, "mapping")
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = event.value
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in "+-.0123456789":
            return str(text)
        if len(text) > MAX_DIGITS and (_INT.fullmatch(text) or _BASED.fullmatch(text) or FLOAT.fullmatch(text)):
            self.fail(event, f"found a number of {len(text)} digits, which is too long")
        if _INT.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        return float(text) if FLOAT.fullmatch(text) else str(text)

    def checked_key(self, node: Node, mapping: Node, event: yaml.Event) -> Node:
        if node.kind in ("list", "mapping", "null"):
            self.fail(event, "a key is a word, found something else")
        if node.kind != "text":
            # `1: x` in free-form options: keys are text in every syntax.
            node.value = str(getattr(event, "value", node.value))
        if node.value == "<<":
            self.fail(
                event, "merge keys (`<<`) are not allowed; repeat the entries or use an alias for the whole value"
            )
        if node.value in mapping.entries:
            first = mapping.entries[str(node.value)].key_line
            self.fail(event, f"the key {shown(node.value)} is given twice in one mapping (first on line {first})")
        return node

    def alias(self, event: yaml.AliasEvent) -> Node:
        target = self.anchors.get(event.anchor or "")
        if target is None:
            self.fail(event, f"the alias `*{event.anchor}` has no anchor before it")
        if any(node is target for node in self.stack):
            self.fail(event, f"the alias `*{event.anchor}` stands inside what it repeats")
        return self.copy(target, event, len(self.stack))

    def copy(self, node: Node, event: yaml.AliasEvent, depth: int) -> Node:
        self.aliased += 1
        if self.aliased > MAX_ALIASED:
            self.fail(event, f"aliases repeat more than {MAX_ALIASED} values, which is not allowed")
        if depth > MAX_DEPTH:
            self.fail(event, f"nested deeper than {MAX_DEPTH} levels, which is not allowed")
        if node.kind == "list":
            return node.with_value([self.copy(inner, event, depth + 1) for inner in node.items], "list")
        if node.kind == "mapping":
            return node.with_value({k: self.copy(v, event, depth + 1) for k, v in node.entries.items()}, "mapping")
        return replace(node)

    def fail(self, event: yaml.Event, message: str) -> NoReturn:
        fail(self.file, *_place(event), message)


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (0, 0) if mark is None else (mark.line + 1, mark.column + 1)
