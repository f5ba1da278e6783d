"""JSON with positions."""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from intarsia.config.nodes import MAX_DEPTH, MAX_DIGITS, Node, fail, scalar_node, shown

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS = {"null": None, "true": True, "false": False}


def parse(text: str, name: str = "<text>") -> Node:
    """The tree of a JSON file.

    Args:
        text: The file's text.
        name: The file's name, for messages.

    Raises:
        ConfigError: The text is no JSON, or holds a key twice; names line and column.
    """
    reader = _Reader(text, name)
    node = reader.value(0)
    reader.skip()
    if reader.at < len(text):
        reader.fail("the end of the file")
    return node


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self.line = 1
        self.line_start = 0
        self.counted = 0

    def skip(self) -> str:
        """The next character that is no space; empty at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def place(self) -> tuple[str, int, int]:
        lines = self.text.count("\n", self.counted, self.at)
        if lines:
            self.line += lines
            self.line_start = self.text.rindex("\n", self.counted, self.at) + 1
        self.counted = self.at
        return self.file, self.line, self.at - self.line_start + 1

    def fail(self, expected: str) -> NoReturn:
        place = self.place()
        rest = self.text[self.at :].split("\n", 1)[0][:20]
        found = shown(rest) if rest else "the end of the file" if self.at >= len(self.text) else "the end of the line"
        fail(*place, f"found {found}, expected {expected}")

    def value(self, depth: int) -> Node:
        character = self.skip()
        place = self.place()
        if depth > MAX_DEPTH:
            fail(*place, f"nested deeper than {MAX_DEPTH} levels, which is not allowed")
        if character == "{":
            return self.mapping(depth, place)
        if character == "[":
            return self.list(depth, place)
        if character == '"':
            return scalar_node(self.string(), *place)
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            self.at = number.end()
            if len(number.group()) > MAX_DIGITS:
                fail(*place, f"found a number of {len(number.group())} digits, which is too long")
            whole = number.group(1) is None and number.group(2) is None
            return scalar_node(int(number.group()) if whole else float(number.group()), *place)
        word = _WORD.match(self.text, self.at)
        if word is not None and word.group() in _WORDS:
            self.at = word.end()
            return scalar_node(_WORDS[word.group()], *place)
        return self.fail("a JSON value")

    def string(self) -> str:
        try:
            text: str
            text, self.at = scanstring(self.text, self.at + 1, False)
        except json.JSONDecodeError as error:
            self.at = min(error.pos, len(self.text))
            fail(*self.place(), f"this is not JSON: {error.msg}")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            fail(*self.place(), "half of a surrogate pair in a string, which is no text")
        return text

    def mapping(self, depth: int, place: tuple[str, int, int]) -> Node:
        entries: dict[str, Node] = {}
        self.at += 1
        if self.skip() == "}":
            self.at += 1
            return Node(entries, *place, kind="mapping")
        while True:
            if self.skip() != '"':
                self.fail("a key in double quotes")
            key_place = self.place()
            key = self.string()
            if key in entries:
                message = f"the key {shown(key)} is given twice in one mapping (first on line {entries[key].key_line})"
                fail(*key_place, message)
            if self.skip() != ":":
                self.fail("`:` after the key")
            self.at += 1
            node = self.value(depth + 1)
            node.key, node.key_line = key, key_place[1]
            entries[key] = node
            if not self.more("}"):
                return Node(entries, *place, kind="mapping")

    def list(self, depth: int, place: tuple[str, int, int]) -> Node:
        items: list[Node] = []
        self.at += 1
        if self.skip() == "]":
            self.at += 1
            return Node(items, *place, kind="list")
        while True:
            items.append(self.value(depth + 1))
            if not self.more("]"):
                return Node(items, *place, kind="list")

    def more(self, close: str) -> bool:
        character = self.skip()
        if character not in (",", close) or not character:
            self.fail(f"`,` or `{close}`")
        self.at += 1
        return character == ","
