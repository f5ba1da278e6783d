"""The schema's order for a tree: every message keyed by its right keys, repeated keys become what the schema says.

After this a list field is a list, a message is a mapping, other spellings (`keras_layer`, proto JSON's camel case,
`adam` for `adam_optimizer`) are gone, and shorthands (a bare word or number for a message) are written out. Nothing is
checked yet: what does not fit stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

from intarsia.config.fields import (
    NUMBER_KEYS,
    SHORT_KEYS,
    WORD_FIELDS,
    Extensions,
    Field,
    Model,
    Shape,
    camel_to_snake,
    extension_kind,
    fields_of,
    one_ofs,
    spellings_of,
)
from intarsia.config.nodes import Node, join, occurrences, plain, scalar_node, shown
from intarsia.config.report import Report

FREE = Shape("any")
MAPPING = Shape("mapping")


class Regrouper:
    """One pass over a tree.

    Args:
        extensions: Messages of later pieces.
        camel_case: Whether keys may be written in proto JSON's camel case.
        report: Receives remarks on values set twice.
    """

    def __init__(self, extensions: Extensions | None, camel_case: bool, report: Report) -> None:
        self.extensions = extensions
        self.camel_case = camel_case
        self.report = report

    def regroup(self, node: Node, shape: Shape, path: str = "") -> Node:
        """The tree in the order of `shape`."""
        if shape.kind == "union":
            return self._union(node, shape, path)
        if shape.kind == "list":
            return self._list(node, shape, path)
        if node.kind == "repeated":
            node = self._one(node, shape, path)
        if shape.kind == "message" and shape.model is not None:
            node = _written_out(node, shape.model)
            return self._message(node, shape.model, path) if node.kind == "mapping" else node
        return self._free(node, path) if shape.kind in ("mapping", "any") else node

    def _union(self, node: Node, shape: Shape, path: str) -> Node:
        wanted = {"mapping": ("message", "mapping"), "list": ("list",), "repeated": ("list", "message", "mapping")}
        for member in shape.members:
            if member.kind in wanted.get(node.kind, ()):
                return self.regroup(node, member, path)
        return self._one(node, shape, path) if node.kind == "repeated" else node

    def _list(self, node: Node, shape: Shape, path: str) -> Node:
        if node.kind == "null":
            return node
        inner = shape.inner or FREE
        items = [self.regroup(child, inner, join(path, i)) for i, child in enumerate(occurrences(node))]
        return node.with_value(items, "list")

    def _one(self, node: Node, shape: Shape, path: str) -> Node:
        """A key that was written several times and is no list: messages are merged, of scalars the last counts."""
        parts = node.items
        if shape.kind == "any":
            return node
        if shape.kind in ("message", "mapping") and all(part.kind == "mapping" for part in parts):
            return _merged(parts)
        last = parts[-1]
        message = f"is set {len(parts)} times; the last value, {shown(plain(last))}, counts"
        self.report.note(last, path, message)
        return last

    def _free(self, node: Node, path: str) -> Node:
        if node.kind == "mapping":
            return node.with_value({k: self._free(v, join(path, k)) for k, v in node.entries.items()}, "mapping")
        if node.kind in ("list", "repeated"):
            items = [self._free(child, join(path, i)) for i, child in enumerate(occurrences(node))]
            return node.with_value(items, "list")
        return node

    def _message(self, node: Node, model: Model, path: str) -> Node:
        fields = fields_of(model)
        entries: dict[str, Node] = {}
        for written, child in node.entries.items():
            key = self.key(model, written)
            if key in entries:
                first = entries[key].key
                self.report.wrong(child, join(path, written), f"`{first}` and `{written}` are the same key; keep one")
                continue
            entries[key] = child
        needy = {key for group in one_ofs(model) for key in group.keys}
        out: dict[str, Node] = {}
        by_key = node.with_value(entries, "mapping")
        for key, child in entries.items():
            field = fields.get(key)
            shape = self.shape_of_entry(by_key, Shape("message", model=model), key, child)
            if child.kind == "null" and field is not None and field.no_effect is None:
                if key in needy and shape.kind == "message":
                    # `auc:` with nothing after it sets a message without options.
                    child = child.with_value({}, "mapping")
                elif not shape.optional:
                    continue
            out[key] = child if field is not None and field.no_effect else self.regroup(child, shape, join(path, key))
        return node.with_value(out, "mapping")

    def key(self, model: Model, written: str) -> str:
        """The right key for a spelling of it; an unknown key is returned as it is."""
        spellings = spellings_of(model)
        if written in spellings:
            return spellings[written]
        if self.camel_case:
            snake = camel_to_snake(written)
            kind = extension_kind(model)
            if snake in spellings:
                return spellings[snake]
            if kind and self.extensions and snake in self.extensions.messages.get(kind, {}):
                return snake
        return written

    def shape_of_entry(self, message: Node, shape: Shape, key: str, child: Node) -> Shape:
        """The shape of one entry of a mapping of this shape."""
        if shape.model is None:
            return FREE
        field = fields_of(shape.model).get(key)
        if field is None:
            return self.extra_shape(shape.model, key, child)
        return self.field_shape(shape.model, field, message)

    def field_shape(self, model: Model, field: Field, message: Node) -> Shape:
        """The shape of a field, with the message of a later piece where the schema knows only a mapping."""
        if self.extensions is None or field.shape.kind != "mapping":
            return field.shape
        kind = extension_kind(model)
        name = message.entries.get("class_name")
        if kind and field.name == "st_params" and name is not None:
            options = self.extensions.classes.get(kind, {}).get(str(name.value))
        else:
            options = self.extensions.of_field(model, field.name)
        return field.shape if options is None else Shape("message", field.shape.optional, model=options)

    def extra_shape(self, model: Model, key: str, node: Node) -> Shape:
        """The shape of a key that the schema does not know."""
        kind = extension_kind(model)
        if kind and self.extensions is not None and key in self.extensions.messages.get(kind, {}):
            return Shape("message", model=self.extensions.messages[kind][key])
        repeated = node.kind == "repeated" and all(part.kind == "mapping" for part in node.items)
        return MAPPING if kind and (node.kind == "mapping" or repeated) else FREE


def _merged(parts: list[Node]) -> Node:
    entries: dict[str, Node] = {}
    for part in parts:
        for key, child in part.entries.items():
            there = entries.get(key)
            if there is None:
                entries[key] = child
                continue
            before = there.items if there.kind == "repeated" else [there]
            after = child.items if child.kind == "repeated" else [child]
            entries[key] = replace(there, value=[*before, *after], kind="repeated")
    return parts[0].with_value(entries, "mapping")


def _written_out(node: Node, model: Model) -> Node:
    """The message that a bare word or number stands for."""
    words = SHORT_KEYS.get(model)
    if words is not None and node.kind in ("text", "word"):
        child = Node({}, node.file, node.line, node.column, "mapping", str(node.value), node.line)
        return node.with_value({str(node.value): child}, "mapping")
    field = WORD_FIELDS.get(model)
    if field is not None and node.kind in ("text", "word"):
        word = replace(node, key=field, key_line=node.line)
        return node.with_value({field: word}, "mapping")
    keys = NUMBER_KEYS.get(model)
    if keys is not None and node.kind in ("int", "float"):
        rate = scalar_node(node.scalar, node.file, node.line, node.column)
        rate.key, rate.key_line = keys[1], node.line
        inner = Node({keys[1]: rate}, node.file, node.line, node.column, "mapping", keys[0], node.line)
        return node.with_value({keys[0]: inner}, "mapping")
    return node
