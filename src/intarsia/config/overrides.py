"""Single values set from the command line: `train_config.num_steps=100`.

    train_config.num_steps=100                                        a value, or a new key
    model_config.feature_groups[0].feature_names[2]=price             an element; [-1] is the last
    feature_config.features[:].embedding_dim=32                       a slice: each element of it
    feature_config.features[input_names[0]=user_id].embedding_dim=32  the elements whose value is equal

The value is YAML: `adam`, `1e-3`, `[256, 128]`, `{patience: 3}`, `"\\x02"`. It takes the place of what is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from intarsia.config.fields import Shape
from intarsia.config.nodes import Node, join, plain, shown
from intarsia.config.regroup import Regrouper
from intarsia.config.report import Report
from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import ConfigError, Problem

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INDEX = re.compile(r"-?[0-9]{1,9}")
_SLICE = re.compile(r"(-?[0-9]{1,9})?:(-?[0-9]{1,9})?")


@dataclass(frozen=True)
class _Select:
    """Elements of a list whose value at `path` is `value`."""

    path: tuple[Step, ...]
    value: str


Step = str | int | slice | _Select


@dataclass(frozen=True)
class Override:
    """One `path=value`."""

    text: str
    steps: tuple[Step, ...]
    value: Node

    @property
    def where(self) -> str:
        """The option, as messages name it."""
        return self.value.file

    @property
    def path(self) -> str:
        """The part before the `=`."""
        return self.text[: _split(self.text)]


def parse_override(text: str) -> Override:
    """Reads `path=value`.

    Raises:
        ConfigError: There is no `=`, the path is none, or the value is no YAML.
    """
    at = _split(text)
    if at < 0:
        raise ConfigError([Problem(f"--set {text}", "", "wants `path=value`, as in `train_config.num_steps=100`")])
    path = text[:at].strip()
    where = f"--set {path}"
    from intarsia.config import yamltext

    steps, rest = _steps(path, where)
    if rest or not steps or not isinstance(steps[0], str):
        message = f"found {shown(rest or path)} in the path; wants keys and indices, as in `a.b[0].c`"
        raise ConfigError([Problem(where, "", message)])
    return Override(text, steps, yamltext.parse_value(text[at + 1 :].strip(), where))


def apply(root: Node, overrides: list[Override], regrouper: Regrouper, report: Report) -> None:
    """Sets values in a regrouped tree, in place and in order."""
    for override in overrides:
        _Setter(override, regrouper, report).set(root)


def _split(text: str) -> int:
    """Position of the first `=` outside brackets."""
    depth = 0
    for i, character in enumerate(text):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "=" and depth <= 0:
            return i
    return -1


def _steps(path: str, where: str, depth: int = 0) -> tuple[tuple[Step, ...], str]:
    steps: list[Step] = []
    rest = path
    while rest:
        if rest[0] == "[":
            inside = _inside(rest)
            if inside is None:
                break
            step = _bracket(inside, where, depth)
            if step is None:
                break
            steps.append(step)
            rest = rest[len(inside) + 2 :]
            continue
        dotted = rest[1:] if steps and rest[0] == "." else rest if not steps else ""
        key = _KEY.match(dotted)
        if key is None:
            break
        steps.append(key.group())
        rest = dotted[key.end() :]
    return tuple(steps), rest


def _inside(text: str) -> str | None:
    depth = 0
    for i, character in enumerate(text):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth == 0:
            return text[1:i]
    return None


def _bracket(inside: str, where: str, depth: int) -> Step | None:
    if _INDEX.fullmatch(inside):
        return int(inside)
    found = _SLICE.fullmatch(inside)
    if found is not None:
        start, stop = (int(bound) if bound else None for bound in found.groups())
        return slice(start, stop)
    at = _split(inside)
    if at < 0 or depth > 3:
        return None
    steps, rest = _steps(inside[:at].strip(), where, depth + 1)
    return _Select(steps, inside[at + 1 :].strip().strip("'\"")) if steps and not rest else None


@dataclass(frozen=True)
class _Place:
    node: Node
    path: str
    shape: Shape


class _Setter:
    def __init__(self, override: Override, regrouper: Regrouper, report: Report) -> None:
        self.override = override
        self.regrouper = regrouper
        self.report = report
        self.made: list[tuple[Node, str]] = []

    def set(self, root: Node) -> None:
        before = len(self.report.problems)
        self.walk(root)
        if len(self.report.problems) > before:
            # A path that leads nowhere leaves nothing behind that would give further errors.
            for node, key in self.made:
                node.entries.pop(key, None)

    def walk(self, root: Node) -> None:
        places = [_Place(root, "", Shape("message", model=PipelineConfig))]
        *steps, last = self.override.steps
        for step in steps:
            places = [found for place in places for found in self.go(place, step)]
        for place in places:
            self.put(place, last)

    def put(self, place: _Place, step: Step) -> None:
        new = _copy(self.override.value)
        if isinstance(step, str):
            key = self.key(place, step)
            if key is not None:
                new.key = step
                place.node.entries[key] = new
            return
        for found in self.go(place, step):
            child, new = found.node, _copy(self.override.value)
            child.value, child.kind, child.file, child.line, child.key_line = new.value, new.kind, new.file, 0, 0

    def key(self, place: _Place, step: str) -> str | None:
        """The entry that `step` means in a mapping, there or not."""
        node = place.node
        if node.kind == "null":
            node.value, node.kind = {}, "mapping"
        if node.kind != "mapping":
            self.wrong(
                place.path, f"has no key `{step}`: it is {'a list' if node.kind == 'list' else 'a single value'}"
            )
            return None
        return step if place.shape.model is None else self.regrouper.key(place.shape.model, step)

    def go(self, place: _Place, step: Step) -> list[_Place]:
        node, path = place.node, place.path
        if isinstance(step, str):
            key = self.key(place, step)
            if key is None:
                return []
            if key not in node.entries:
                node.entries[key] = Node({}, self.override.where, kind="mapping", key=step)
                self.made.append((node, key))
            child = node.entries[key]
            return [_Place(child, join(path, step), self.regrouper.shape_of_entry(node, place.shape, key, child))]
        if node.kind != "list":
            none = node.kind in ("mapping", "null") and not node.entries
            self.wrong(path, "has no elements: it is " + ("not set" if none else "no list"))
            return []
        items, inner = node.items, place.shape.inner or Shape("any")
        if isinstance(step, int):
            if not -len(items) <= step < len(items):
                self.wrong(path, f"has no element {step}; it has {len(items)}")
                return []
            at = step % len(items)
            return [_Place(items[at], join(path, at), inner)]
        if isinstance(step, slice):
            return [_Place(items[i], join(path, i), inner) for i in range(*step.indices(len(items)))]
        return self.select(items, path, step, inner)

    def select(self, items: list[Node], path: str, step: _Select, inner: Shape) -> list[_Place]:
        values = [_value_at(item, step.path) for item in items]
        found = [i for i, value in enumerate(values) if value == step.value]
        if not found:
            known = [value for value in values if value is not None]
            hint = self.report.suggester.hint(step.value, known, "values there")
            self.wrong(path, f"no element matches {shown(step.value)}.{hint}")
        return [_Place(items[i], join(path, i), inner) for i in found]

    def wrong(self, path: str, message: str) -> None:
        self.report.problems.append(Problem(self.override.where, path, message))


def _value_at(node: Node, steps: tuple[Step, ...]) -> str | None:
    for step in steps:
        if isinstance(step, str):
            key = next((k for k, child in node.entries.items() if step in (k, child.key)), None)
            if key is None:
                return None
            node = node.entries[key]
        elif isinstance(step, int) and -len(node.items) <= step < len(node.items):
            node = node.items[step]
        else:
            return None
    value = plain(node)
    return None if isinstance(value, dict | list) else str(value)


def _copy(node: Node) -> Node:
    if node.kind == "mapping":
        return node.with_value({key: _copy(child) for key, child in node.entries.items()}, "mapping")
    if node.kind == "list":
        return node.with_value([_copy(child) for child in node.items], "list")
    return Node(node.value, node.file, kind=node.kind, key=node.key)
