"""Protobuf text format, read without a schema.

Accepted beyond the plain form: `key: {` and `key {` and `key <`, short lists (also of messages) mixed with repeated
keys, either kind of quotes, adjacent strings, escapes (bytes written as octal or hex are UTF-8), raw control
characters inside strings, `#` comments, `;` and `,` after fields, `1f`, `inf`, `nan`. What a repeated key means (a
list, a message in parts, or a value that the last one overrides) is left to the schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from intarsia.config.nodes import MAX_DEPTH, Node, fail, occurrences, parse_int, plain, scalar_node, shown

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<number>\.?[0-9](?:[eE][+-]|[A-Za-z0-9_.])*)
      |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      |(?P<sign>[{}<>\[\]:;,+-])""",
    re.VERBOSE,
)
_INT = re.compile(r"0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]+)|(?P<decimal>0|[1-9][0-9]*)")
_FLOAT = re.compile(r"(?![0-9]+$)(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "?": 63, "\\": 92, "'": 39, '"': 34}
_SPECIAL = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
_CLOSING = {"{": "}", "<": ">"}


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    line: int
    column: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end of the file"
        return shown(self.text) if self.kind == "string" else f"`{self.text[:60]}`"


def parse(text: str, name: str = "<text>") -> Node:
    """The tree of a file in protobuf text format.

    Args:
        text: The file's text.
        name: The file's name, for messages.

    Raises:
        ConfigError: The text does not follow the format; names line, column, what was found and what was expected.
    """
    parser = _Parser(_tokens(text, name), name)
    return parser.message("", None, 0)


def _tokens(text: str, file: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, line, start = 0, 1, 0
    match = _TOKEN.match
    while position < len(text):
        found = match(text, position)
        if found is None:
            _bad_character(text, position, file, line, position - start + 1)
        kind, chunk = found.lastgroup or "", found.group()
        if kind == "space":
            lines = chunk.count("\n")
            if lines:
                line += lines
                start = position + chunk.rindex("\n") + 1
        else:
            tokens.append(_Token(kind, chunk, line, position - start + 1))
        position = found.end()
    tokens.append(_Token("end", "", line, position - start + 1))
    return tokens


def _bad_character(text: str, position: int, file: str, line: int, column: int) -> NoReturn:
    character = text[position]
    if character in "\"'":
        fail(file, line, column, f"a string that starts with {character} is not closed on its line")
    fail(file, line, column, f"found {character!r}, which starts neither a key nor a value")


class _Parser:
    def __init__(self, tokens: list[_Token], file: str) -> None:
        self.tokens = tokens
        self.file = file
        self.at = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def fail(self, expected: str, token: _Token | None = None) -> NoReturn:
        token = token or self.token
        fail(self.file, token.line, token.column, f"found {token}, expected {expected}")

    def message(self, close: str, opened: _Token | None, depth: int) -> Node:
        """Fields until `close` (until the end of the file where it is empty)."""
        if depth > MAX_DEPTH:
            token = opened or self.token
            fail(self.file, token.line, token.column, f"nested deeper than {MAX_DEPTH} levels, which is not allowed")
        entries: dict[str, Node] = {}
        while True:
            token = self.token
            if token.kind == "end":
                if opened is not None:
                    self.fail(f"`{close}` for the `{opened.text}` of line {opened.line}")
                break
            if token.text == close and token.kind == "sign":
                self.take()
                break
            if token.kind != "name":
                self.fail("a key" if not close else f"a key or `{close}`")
            self.take()
            node = self.field(token, depth)
            node.key, node.key_line = token.text, token.line
            _add(entries, node)
            if self.token.kind == "sign" and self.token.text in ";,":
                self.take()
        line, column = (opened.line, opened.column) if opened else (1, 1)
        return Node(entries, self.file, line, column, "mapping")

    def field(self, key: _Token, depth: int) -> Node:
        token = self.token
        if token.kind == "sign" and token.text == ":":
            self.take()
        elif not self.opens_message(token) and not (token.text == "[" and self.opens_message(self.tokens[self.at + 1])):
            self.fail(f"`:` or `{{` after `{key.text}`")
        node = self.value(key, depth, "a value")
        return _struct(node, self.file) if key.text == "st_params" else node

    def opens_message(self, token: _Token) -> bool:
        return token.kind == "sign" and token.text in _CLOSING

    def value(self, key: _Token, depth: int, expected: str) -> Node:
        token = self.token
        if token.kind == "string":
            return self.string()
        if token.kind == "number":
            self.take()
            return self.number(token, 1)
        if token.kind == "name":
            self.take()
            if token.text.lower() in _SPECIAL:
                return scalar_node(_SPECIAL[token.text.lower()], self.file, token.line, token.column)
            return scalar_node(token.text, self.file, token.line, token.column, "word")
        if token.kind == "sign":
            if token.text in _CLOSING:
                self.take()
                return self.message(_CLOSING[token.text], token, depth + 1)
            if token.text == "[" and expected == "a value":
                return self.short_list(key, depth)
            if token.text in "+-":
                return self.signed()
        return self.fail(f"{expected} for `{key.text}`")

    def short_list(self, key: _Token, depth: int) -> Node:
        opened = self.take()
        items: list[Node] = []
        while not (self.token.kind == "sign" and self.token.text == "]"):
            items.append(self.value(key, depth, "a list element or `]`"))
            if self.token.kind == "sign" and self.token.text == ",":
                self.take()
            elif not (self.token.kind == "sign" and self.token.text == "]"):
                self.fail(f"`,` or `]` in the list of `{key.text}`")
        self.take()
        return Node(items, self.file, opened.line, opened.column, "list")

    def signed(self) -> Node:
        sign = self.take()
        token = self.take()
        factor = -1 if sign.text == "-" else 1
        if token.kind == "number":
            node = self.number(token, factor)
        elif token.kind == "name" and token.text.lower() in _SPECIAL:
            node = scalar_node(factor * _SPECIAL[token.text.lower()], self.file, token.line, token.column)
        else:
            self.fail(f"a number after `{sign.text}`", token)
        node.column = sign.column
        return node

    def number(self, token: _Token, factor: int) -> Node:
        place = (self.file, token.line, token.column)
        found = _INT.fullmatch(token.text)
        if found is not None:
            bases = {"hex": 16, "octal": 8, "decimal": 10}
            whole = parse_int(found[found.lastgroup or 0], bases[found.lastgroup or ""])
            if whole is None:
                fail(*place, f"found a number of {len(token.text)} digits, which is too long")
            return scalar_node(factor * whole, *place)
        if _FLOAT.fullmatch(token.text) is None:
            self.fail("a number", token)
        return scalar_node(factor * float(token.text.rstrip("fF")), *place)

    def string(self) -> Node:
        first = self.token
        data = bytearray()
        while self.token.kind == "string":
            token = self.take()
            data += self.unescaped(token)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            fail(self.file, first.line, first.column, f"the bytes of the string {first} are not UTF-8 text")
        return scalar_node(text, self.file, first.line, first.column)

    def unescaped(self, token: _Token) -> bytes:
        body = token.text[1:-1]
        if "\\" not in body:
            return body.encode("utf-8", "surrogatepass")
        out = bytearray()
        position = 0
        for found in _ESCAPE.finditer(body):
            out += body[position : found.start()].encode("utf-8", "surrogatepass")
            octal, hexa, short, long, letter = found.groups()
            if octal is not None:
                out.append(int(octal, 8) & 255)
            elif hexa is not None:
                out.append(int(hexa, 16))
            elif letter is None:
                code = int(short or long, 16)
                if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                    self.bad_escape(token, found.group())
                out += chr(code).encode("utf-8")
            elif letter in _LETTERS:
                out.append(_LETTERS[letter])
            else:
                self.bad_escape(token, found.group())
            position = found.end()
        out += body[position:].encode("utf-8", "surrogatepass")
        return bytes(out)

    def bad_escape(self, token: _Token, escape: str) -> NoReturn:
        fail(
            self.file,
            token.line,
            token.column,
            f"`{escape}` is no escape of a string; a backslash itself is written `\\\\`",
        )


def _add(entries: dict[str, Node], node: Node) -> None:
    """Adds an entry; a key that is there already becomes `repeated`."""
    key = node.key or ""
    there = entries.get(key)
    if there is None:
        entries[key] = node
    elif there.kind == "repeated":
        there.items.append(node)
    else:
        entries[key] = Node([there, node], there.file, there.line, there.column, "repeated", key, there.key_line)


# Structs: mappings of any shape, spelled out as `fields { key: 'k' value { number_value: 1 } }`.

_STRUCT_KINDS = ("number_value", "string_value", "bool_value", "list_value", "struct_value", "null_value")


def _struct(node: Node, file: str) -> Node:
    """The plain mapping that a Struct message stands for; a mapping written plainly stays as it is."""
    if node.kind != "mapping" or set(node.entries) != {"fields"}:
        return node
    entries: dict[str, Node] = {}
    for pair in occurrences(node.entries["fields"]):
        key, value = pair.entries.get("key"), pair.entries.get("value")
        if key is None or value is None or key.kind != "text" or value.kind != "mapping":
            fail(file, pair.line, pair.column, "`fields` of a Struct wants { key: 'name' value { ... } }")
        child = _struct_value(value, file)
        child.key, child.key_line = str(key.value), key.line
        if child.key in entries:
            fail(file, key.line, key.column, f"the key {child.key!r} is given twice in one Struct")
        entries[child.key] = child
    return node.with_value(dict(entries), "mapping")


def _struct_value(node: Node, file: str) -> Node:
    kinds = list(node.entries)
    kind = kinds[0] if len(kinds) == 1 else ""
    if kind not in _STRUCT_KINDS:
        wanted = ", ".join(_STRUCT_KINDS)
        fail(file, node.line, node.column, f"a value of a Struct sets one of {wanted}; received {kinds or 'none'}")
    inner = node.entries[kind]
    if kind == "struct_value":
        return _struct(inner, file)
    if kind == "list_value":
        values = inner.entries.get("values")
        items = [] if values is None else [_struct_value(v, file) for v in occurrences(values)]
        return inner.with_value(list(items), "list")
    if kind == "null_value":
        return scalar_node(None, file, inner.line, inner.column)
    good = {
        "number_value": inner.kind in ("int", "float"),
        "string_value": inner.kind == "text",
        "bool_value": inner.kind == "word" and str(inner.value) in ("true", "True", "t", "false", "False", "f"),
    }
    if not good[kind]:
        fail(file, inner.line, inner.column, f"{kind} received {shown(plain(inner))}, which is no {kind.split('_')[0]}")
    if kind == "bool_value":
        return scalar_node(str(inner.value)[0] in "tT", file, inner.line, inner.column)
    return inner
