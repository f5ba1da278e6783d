"""From a pipeline file to a checked `PipelineConfig`.

read text -> nodes with positions -> keys and lists as the schema has them -> overrides -> shorthands written out
-> names, types, ranges -> pydantic models. All problems of a file are told at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from intarsia.config import jsontext, pbtext
from intarsia.config.check import Checker, Steps, received_text
from intarsia.config.expand import expand
from intarsia.config.fields import Extensions, Shape
from intarsia.config.nodes import Node, fail, from_plain, join
from intarsia.config.overrides import apply, parse_override
from intarsia.config.references import check_references
from intarsia.config.regroup import Regrouper
from intarsia.config.report import Report
from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import ConfigError, Problem

Syntax = Literal["pbtext", "yaml", "json"]

ENDINGS: dict[str, Syntax] = {
    ".config": "pbtext",
    ".pbtxt": "pbtext",
    ".prototxt": "pbtext",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
}
"""Syntax by the file name's ending."""

MAX_BYTES = 32 * 1024 * 1024
"""Larger files are refused: they are data, given by mistake."""


@dataclass(frozen=True)
class Source:
    """Where the values of a configuration were written, after shorthands were written out."""

    root: Node
    name: str

    def node(self, path: str | Steps) -> Node | None:
        """The node at a path such as `model_config.feature_groups[0].group_name`, or None.

        Keys are those of the schema or as they are written in the file.
        """
        node: Node | None = self.root
        for step in _steps(path) if isinstance(path, str) else path:
            if node is None:
                return None
            if isinstance(step, int):
                node = node.items[step] if step < len(node.items) else None
            elif step in node.entries:
                node = node.entries[step]
            else:
                node = next((child for child in node.entries.values() if child.key == step), None)
        return node

    def where(self, path: str | Steps) -> str:
        """`file:line` of a path; of the nearest message around it where the path is not in the file."""
        steps = _steps(path) if isinstance(path, str) else list(path)
        for length in range(len(steps), -1, -1):
            node = self.node(tuple(steps[:length]))
            if node is not None:
                return node.where
        return self.name

    def problem(self, path: str | Steps, message: str) -> Problem:
        """A problem at a path, for errors that later pieces find."""
        steps = _steps(path) if isinstance(path, str) else list(path)
        text = ""
        for step in steps:
            text = join(text, step)
        return Problem(self.where(path), text, message)


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration.

    Attributes:
        config: The configuration; shorthands are written out.
        notices: Remarks that are no errors: fields without effect here, values set twice.
        source: Where each value was written.
    """

    config: PipelineConfig
    notices: list[str]
    source: Source


def load(path: str | Path, *, overrides: Sequence[str] = (), extensions: Extensions | None = None) -> LoadedConfig:
    """Reads and checks a pipeline file.

    Args:
        path: The file; `.config`, `.pbtxt` and `.prototxt` are protobuf text, `.yaml` and `.yml` YAML, `.json` JSON.
        overrides: Values to set, each `path=value` (see `intarsia.config.overrides`).
        extensions: Messages of later pieces: components, models, losses. Without them, such messages are kept as they
            are written.

    Raises:
        ConfigError: Everything that is wrong with the file, each with file and line.
    """
    file = Path(path)
    syntax = ENDINGS.get(file.suffix.lower())
    if syntax is None:
        wanted = ", ".join(ENDINGS)
        raise ConfigError([Problem(str(file), "", f"a pipeline file ends in one of {wanted}")])
    return parse_text(_text(file), syntax, str(file), overrides=overrides, extensions=extensions)


def parse_text(
    text: str,
    kind: Syntax,
    name: str = "<text>",
    *,
    overrides: Sequence[str] = (),
    extensions: Extensions | None = None,
) -> LoadedConfig:
    """Reads and checks the text of a pipeline file, as `load` does.

    Args:
        text: The text.
        kind: Its syntax: `pbtext`, `yaml` or `json`.
        name: What messages call it.
        overrides: As for `load`.
        extensions: As for `load`.

    Raises:
        ConfigError: Everything that is wrong with the text.
    """
    if not text.strip():
        raise ConfigError([Problem(name, "", "the file is empty; a pipeline file holds at least `model_config`")])
    if kind == "pbtext":
        root = pbtext.parse(text, name)
    elif kind == "json":
        root = jsontext.parse(text, name)
    else:
        from intarsia.config import yamltext

        root = yamltext.parse(text, name)
    if root.kind != "mapping":
        fail(name, root.line, root.column, f"a pipeline file is a mapping of keys, received {received_text(root)}")
    return _checked(root, kind, name, overrides, extensions)


def from_mapping(
    data: Mapping[str, Any],
    *,
    name: str = "",
    overrides: Sequence[str] = (),
    extensions: Extensions | None = None,
) -> LoadedConfig:
    """Checks a configuration made in Python, as `load` checks a file.

    Args:
        data: Mappings, lists and scalars, keyed as a YAML file is.
        name: What messages call it.
        overrides: As for `load`.
        extensions: As for `load`.

    Raises:
        ConfigError: Everything that is wrong with the data.
    """
    return _checked(from_plain(data, name), "yaml", name, overrides, extensions)


def _checked(
    root: Node, syntax: Syntax, name: str, overrides: Sequence[str], extensions: Extensions | None
) -> LoadedConfig:
    report = Report()
    regrouper = Regrouper(extensions, syntax == "json", report)
    shape = Shape("message", model=PipelineConfig)
    root = regrouper.regroup(root, shape)
    if overrides:
        _override(root, overrides, regrouper, report)
        root = regrouper.regroup(root, shape)
    expand(root, report)
    check_references(root, report)
    made = Checker(regrouper, syntax, report).build(PipelineConfig, root)
    if report.problems or not isinstance(made, PipelineConfig):
        raise ConfigError(sorted(report.problems, key=_place))
    return LoadedConfig(made, report.notices, Source(root, name))


def _override(root: Node, overrides: Sequence[str], regrouper: Regrouper, report: Report) -> None:
    for text in overrides:
        try:
            apply(root, [parse_override(text)], regrouper, report)
        except ConfigError as error:
            report.problems += error.problems


def _place(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            message = f"{file.stat().st_size} bytes are too many for a pipeline file (at most {MAX_BYTES})"
            raise ConfigError([Problem(str(file), "", message)])
        data = file.read_bytes()
    except FileNotFoundError:
        message = f"there is no such file{_similar(file)}"
        raise ConfigError([Problem(str(file), "", message)]) from None
    except OSError as error:
        raise ConfigError([Problem(str(file), "", f"cannot be read: {error.strerror or error}")]) from None
    except ValueError as error:
        raise ConfigError([Problem(str(file), "", f"is no path: {error}")]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fail(str(file), line, 1, f"the file is not UTF-8 text: byte 0x{data[error.start]:02x}; save it as UTF-8")


def _similar(file: Path) -> str:
    from intarsia.config.suggest import Suggester

    try:
        names = [child.name for child in file.parent.iterdir() if child.suffix.lower() in ENDINGS][:1000]
    except OSError:
        return ""
    near = Suggester().near(file.name, names)
    return f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for part in path.split(".") if path else []:
        key, *indices = part.split("[")
        if key:
            steps.append(key)
        steps += [int(index.rstrip("]")) for index in indices]
    return steps
