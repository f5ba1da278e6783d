"""Types, keys and groups of a regrouped tree against the schema, and the pydantic models made of it.

Types are strict: no number out of a boolean or a text (but for proto JSON, which writes large numbers as text), whole
floats are integers, integers are floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from intarsia.config.explain import explain
from intarsia.config.fields import Field, Model, OneOf, Shape, extension_kind, fields_of, one_ofs, spellings_of
from intarsia.config.nodes import MAX_DIGITS, PROTO_BOOLS, Node, join, plain, shown
from intarsia.config.regroup import Regrouper
from intarsia.config.report import Report

_BOOL_WORDS = {**PROTO_BOOLS, "t": True, "f": False}
_WRONG = object()

Steps = tuple[str | int, ...]


@dataclass
class _Typed:
    """A mapping of the schema that has a message of a later piece."""

    steps: Steps
    model: Model
    node: Node
    path: str
    data: dict[str, Any]
    made: BaseModel | None = None


@dataclass
class Checker:
    """One pass over a tree.

    Attributes:
        syntax: `pbtext`, `yaml` or `json`: what else a value may look like.
    """

    regrouper: Regrouper
    syntax: str
    report: Report
    _typed: list[_Typed] = field(default_factory=list)
    _silenced: set[str] = field(default_factory=set)

    def build(self, model: Model, node: Node) -> BaseModel | None:
        """The model of a tree, or None where the report has problems."""
        shape = Shape("message", model=model)
        data = self.value(node, shape, "", ())
        if data is _WRONG:
            return None
        made = self.validated(model, data, node, "")
        for item in self._typed:
            item.made = self.validated(item.model, item.data, item.node, item.path)
        if self.report.problems or made is None:
            return None
        for item in self._typed:
            _put(made, item.steps, item.made)
        return made

    def validated(self, model: Model, data: dict[str, Any], node: Node, path: str) -> BaseModel | None:
        """The pydantic model, its errors told in plain words."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            explain(error, model, node, path, self.report)
            return None

    def value(self, node: Node, shape: Shape, path: str, steps: Steps) -> Any:
        """Plain data for a node; what does not fit is reported and passed on as it is."""
        if node.kind == "null" and (shape.optional or shape.kind == "any"):
            return None
        if shape.kind == "message" and shape.model is not None:
            if node.kind != "mapping":
                self.mismatch(node, shape, path)
                return _WRONG
            return self.message(node, shape.model, path, steps)
        if shape.kind == "list":
            if node.kind != "list":
                self.mismatch(node, shape, path)
                return _WRONG
            inner = shape.inner or Shape("any")
            return [self.value(child, inner, join(path, i), (*steps, i)) for i, child in enumerate(node.items)]
        if shape.kind == "mapping" and node.kind != "mapping":
            self.mismatch(node, shape, path)
            return _WRONG
        if shape.kind in ("mapping", "any"):
            return plain(node)
        if shape.kind == "union":
            return self.union(node, shape, path, steps)
        value = self.scalar(node, shape)
        if value is _WRONG:
            self.mismatch(node, shape, path)
        return value

    def union(self, node: Node, shape: Shape, path: str, steps: Steps) -> Any:
        """The first member that fits; text goes to text before anything reads it as a number."""
        for member in shape.members:
            if member.kind in ("message", "mapping", "list"):
                if node.kind == ("list" if member.kind == "list" else "mapping"):
                    return self.value(node, member, path, steps)
            elif member.kind == "any" or _natural(node, member):
                return self.value(node, member, path, steps)
        for member in shape.members:
            if member.kind not in ("message", "mapping", "list", "union"):
                value = self.scalar(node, member)
                if value is not _WRONG:
                    return value
        self.mismatch(node, shape, path)
        return _WRONG

    def scalar(self, node: Node, shape: Shape) -> Any:
        """A scalar of the right type, or `_WRONG`."""
        value = node.scalar
        if node.kind in ("mapping", "list", "null"):
            return _WRONG
        if shape.kind == "choice":
            return self.choice(node, shape)
        if shape.kind == "text":
            return value if node.kind == "text" else _WRONG
        if shape.kind == "bool":
            if node.kind == "bool":
                return value
            if self.syntax == "pbtext" and node.kind == "word":
                return _BOOL_WORDS.get(str(value), _WRONG)
            return bool(value) if self.syntax == "pbtext" and node.kind == "int" and value in (0, 1) else _WRONG
        if self.syntax == "json" and node.kind == "text":
            value = _number(str(value))
        elif node.kind not in ("int", "float"):
            return _WRONG
        if not isinstance(value, int | float):
            return _WRONG
        if shape.kind == "int":
            whole = isinstance(value, int) or value.is_integer()
            return int(value) if whole else _WRONG
        try:
            return float(value)
        except OverflowError:
            return _WRONG

    def choice(self, node: Node, shape: Shape) -> Any:
        """One of the options, by name or by the number that protobuf gives it."""
        value = node.scalar
        if node.kind == "int":
            value = dict(shape.numbers).get(int(value), value) if isinstance(value, int) else value
        for option in shape.options:
            if type(option) is type(value) and option == value:
                return option
        return _WRONG

    def mismatch(self, node: Node, shape: Shape, path: str) -> None:
        """Reports a value of the wrong type."""
        received = received_text(node)
        if shape.kind == "choice" and node.kind in ("text", "word", "int"):
            names = [str(option) for option in shape.options]
            hint = self.report.suggester.hint(node.value, names, "right names")
            self.report.wrong(node, path, f"{received} is not a value of this key.{hint}")
            return
        cure = ""
        if shape.kind == "text" and node.kind in ("int", "float", "bool", "word"):
            cure = "; put it in quotes if it is meant as text"
        self.report.wrong(node, path, f"wants {shape}, received {received}{cure}")

    def message(self, node: Node, model: Model, path: str, steps: Steps) -> dict[str, Any]:
        """Plain data for a message."""
        fields = fields_of(model)
        data: dict[str, Any] = {}
        self.check_groups(node, model, path)
        for key, child in node.entries.items():
            written = child.key or key
            item = fields.get(key)
            inner, at = join(path, written), (*steps, key)
            if item is None:
                self.extra(node, child, model, key, inner, at, data)
                continue
            if item.no_effect is not None:
                self.without_effect(child, inner, item.no_effect)
                continue
            shape = self.regrouper.field_shape(model, item, node)
            if shape is not item.shape and shape.model is not None and child.kind == "mapping":
                self.typed(child, shape.model, inner, (*steps, item.key))
                value: Any = {}
            else:
                value = self.value(child, shape, inner, at)
            if value is not _WRONG:
                data[key] = value
        self.check_missing(node, model, path, fields)
        return data

    def typed(self, node: Node, model: Model, path: str, steps: Steps) -> None:
        """Checks a message of a later piece, to be put in its place when the rest is right."""
        # Noted before what it holds: outer messages must be in place before inner ones.
        item = _Typed(steps, model, node, path, {})
        self._typed.append(item)
        item.data = self.message(node, model, path, steps)

    def extra(
        self, parent: Node, node: Node, model: Model, key: str, path: str, steps: Steps, data: dict[str, Any]
    ) -> None:
        """A key that the schema does not know: a message of a catalogue, or an error."""
        kind = extension_kind(model)
        extensions = self.regrouper.extensions
        catalogue = dict(extensions.messages.get(kind, {})) if kind and extensions else {}
        if key in catalogue:
            if node.kind != "mapping":
                self.mismatch(node, Shape("message", model=catalogue[key]), path)
                return
            self.typed(node, catalogue[key], path, steps)
            data[key] = {}
            return
        known = list(spellings_of(model)) + list(catalogue)
        if kind and not (extensions and kind in extensions.messages) and node.kind == "mapping":
            data[key] = plain(node)
            return
        shown_keys = [name for name in dict.fromkeys(known) if not _ignored(model, name)]
        hint = self.report.suggester.hint(key, shown_keys, "keys here")
        self.report.wrong(node, path, f"unknown key.{hint}")

    def catalogued(self, kind: str | None, key: str, node: Node) -> bool:
        """Whether an unknown entry is a message of a catalogue (any message may be, where none is given)."""
        extensions = self.regrouper.extensions
        if kind is None:
            return False
        if extensions is None or kind not in extensions.messages:
            return node.entries[key].kind == "mapping"
        return key in extensions.messages[kind]

    def without_effect(self, node: Node, path: str, reason: str) -> None:
        """Names a field that is accepted and ignored, once however often it is set."""
        name = "".join(part.split("]", 1)[-1] for part in path.split("["))
        if name not in self._silenced:
            self._silenced.add(name)
            self.report.note(node, name, f"accepted, but has no effect here: {reason}")

    def check_groups(self, node: Node, model: Model, path: str) -> None:
        """At most one key of each group is set; `use_package_input: false` does not count."""
        groups, fields = list(one_ofs(model)), fields_of(model)
        kind = extension_kind(model)
        extra = [key for key in node.entries if key not in fields and self.catalogued(kind, key, node)]
        if kind == "layer":
            groups.append(OneOf(("st_params", *extra)))
        elif kind is not None:
            groups.append(OneOf(tuple(extra)))
        for group in groups:
            found = [child for key, child in node.entries.items() if key in group.keys]
            found = [child for child in found if not _unset(child)]
            if len(found) > 1:
                told = " and ".join(f"`{child.key}`{_line(child)}" for child in found)
                at = join(path, found[1].key or "")
                self.report.wrong(found[1], at, f"only one of these may be set, received {told}")
            elif not found and group.needed and all(key in fields for key in node.entries):
                keys = ", ".join(f"`{key}`" for key in group.keys)
                self.report.wrong(node, path, f"sets none of {keys}; set one")

    def check_missing(self, node: Node, model: Model, path: str, fields: dict[str, Field]) -> None:
        """Required keys that are not there."""
        missing = [item for item in fields.values() if item.required and item.key not in node.entries]
        for item in missing:
            told = " (or ".join(f"`{spelling}`" for spelling in item.spellings) + ")" * (len(item.spellings) - 1)
            name = f"`{item.key}`" if len(item.spellings) == 1 else told
            self.report.lacks(node, join(path, item.key), f"{name} is required and missing")


def received_text(node: Node) -> str:
    """What was written, for a message."""
    if node.kind == "mapping":
        return "a message { ... }"
    if node.kind == "list":
        return f"a list of {len(node.items)}"
    if node.kind == "null":
        return "nothing"
    if node.kind == "word":
        return f"the word `{str(node.value)[:60]}`"
    if node.kind == "bool":
        return "true" if node.value else "false"
    return f"the {'text' if node.kind == 'text' else 'number'} {shown(node.value)}"


def _natural(node: Node, shape: Shape) -> bool:
    wanted = {"text": ("text", "word"), "bool": ("bool",), "int": ("int",), "float": ("float",)}
    if shape.kind == "text" and node.kind == "word":
        return False
    return node.kind in wanted.get(shape.kind, ())


def _ignored(model: Model, name: str) -> bool:
    item = fields_of(model).get(name)
    return item is not None and item.no_effect is not None


def _unset(node: Node) -> bool:
    if node.kind == "null" or (node.kind == "list" and not node.items):
        return True
    return node.value is False or (node.kind == "word" and node.value in ("false", "False", "f"))


def _line(node: Node) -> str:
    line = node.key_line or node.line
    return f" (line {line})" if line else ""


def _number(text: str) -> int | float | None:
    """A number that proto JSON wrote as text."""
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if text in special:
        return special[text]
    if len(text) > MAX_DIGITS or not text.isascii() or "_" in text or text.strip() != text:
        return None
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return None


def _put(made: BaseModel, steps: Steps, value: BaseModel | None) -> None:
    """Sets the place at `steps` (keys and indices) of a model."""
    place: Any = made
    for step in steps[:-1]:
        place = place[step] if isinstance(step, int) else getattr(place, _attribute(place, step))
    setattr(place, _attribute(place, str(steps[-1])), value)


def _attribute(model: BaseModel, key: str) -> str:
    item = fields_of(type(model)).get(key)
    return key if item is None else item.name
