"""Names that one part of a file gives and another uses: columns, features, groups, blocks, packages, labels.

Works on a regrouped, expanded tree, so that these errors are told together with those of types and ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from intarsia.config.nodes import Node, join
from intarsia.config.report import Report

_NOTHING = Node(None)
_READS_GROUP = ("input_layer", "raw_input", "embedding_layer")


def check_references(root: Node, report: Report) -> None:
    """Reports names that are given twice or that name nothing."""
    names = _Names(root, report)
    names.columns_and_features()
    names.groups()
    names.labels()
    names.metrics()
    backbone = _get(root, "model_config", "backbone")
    if backbone.kind == "mapping":
        _Graph(names, backbone).check()


def _get(node: Node, *keys: str) -> Node:
    for key in keys:
        node = node.entries.get(key, _NOTHING)
    return node


def _text(node: Node) -> str | None:
    return node.value if node.kind == "text" and isinstance(node.value, str) else None


def _texts(node: Node, path: str) -> Iterator[tuple[str, Node, str]]:
    """(name, node, path) of a list of names."""
    for i, child in enumerate(node.items):
        text = _text(child)
        if text is not None:
            yield text, child, join(path, i)


@dataclass
class _Names:
    root: Node
    report: Report
    features: dict[str, Node] = field(default_factory=dict)
    group_names: dict[str, Node] = field(default_factory=dict)
    label_names: dict[str, Node] = field(default_factory=dict)

    def twice(self, known: dict[str, Node], name: str, node: Node, path: str, what: str) -> None:
        """Adds a name, which must be new."""
        first = known.setdefault(name, node)
        if first is not node:
            told = f" (first {first.where})" if first.line else ""
            self.report.wrong(node, path, f"the {what} `{name}` is given twice{told}; names are unique")

    def known(self, name: str, names: Collection[str], node: Node, path: str, rule: str, what: str) -> None:
        """Reports a name that is none of `names`."""
        if name not in names:
            hint = self.report.suggester.hint(name, names, what)
            self.report.wrong(node, path, f"`{name[:80]}` {rule}.{hint}")

    def columns_and_features(self) -> None:
        """Input fields, features, and the columns that features read."""
        data = _get(self.root, "data_config")
        columns: dict[str, Node] = {}
        for i, item in enumerate(_get(data, "input_fields").items):
            name = _get(item, "input_name")
            if _text(name) is not None:
                path = f"data_config.input_fields[{i}].input_name"
                self.twice(columns, str(name.value), name, path, "input field")
        self.columns = columns
        if columns and _get(data, "log").kind == "mapping":
            history = _text(_get(data, "log", "history_field")) or "history"
            columns.setdefault(history, _get(data, "log"))
        rule, what = "is no input_name of data_config.input_fields", "input fields"
        for i, item in enumerate(_get(self.root, "feature_config", "features").items):
            path = f"feature_config.features[{i}]"
            inputs = _get(item, "input_names")
            named = _get(item, "feature_name")
            first = inputs.items[0] if inputs.items else _NOTHING
            name = named if _text(named) else first
            if _text(name):
                at = join(path, "feature_name") if name is named else f"{path}.input_names[0]"
                self.twice(self.features, str(name.value), name, at, "feature")
            if columns:
                for text, node, at in _texts(inputs, join(path, "input_names")):
                    self.known(text, columns, node, at, rule, what)
        if not columns:
            return
        for text, node, at in _texts(_get(data, "feature_fields"), "data_config.feature_fields"):
            self.known(text, columns, node, at, rule, what)
        weight = _get(data, "sample_weight")
        if _text(weight):
            self.known(str(weight.value), columns, weight, "data_config.sample_weight", rule, what)

    def groups(self) -> None:
        """Feature groups and the features in them."""
        model = _get(self.root, "model_config")
        for i, group in enumerate(_get(model, "feature_groups").items):
            path = f"model_config.feature_groups[{i}]"
            name = _get(group, "group_name")
            if _text(name) is not None:
                self.twice(self.group_names, str(name.value), name, join(path, "group_name"), "feature group")
            self.feature_names(_get(group, "feature_names"), join(path, "feature_names"))
            self.attentions(_get(group, "sequence_features"), join(path, "sequence_features"))
        self.attentions(_get(model, "seq_att_groups"), "model_config.seq_att_groups")

    def attentions(self, groups: Node, path: str) -> None:
        """Keys and histories of target attentions."""
        for i, group in enumerate(groups.items):
            for j, pairs in enumerate(_get(group, "seq_att_map").items):
                for key in ("key", "hist_seq", "aux_hist_seq"):
                    self.feature_names(_get(pairs, key), f"{path}[{i}].seq_att_map[{j}].{key}")

    def feature_names(self, names: Node, path: str) -> None:
        """Every name is a feature, where features are given; `*` stands for all of them."""
        if self.features:
            for text, node, at in _texts(names, path):
                if text == "*":
                    continue
                self.known(text, self.features, node, at, "is no feature", "features")

    def labels(self) -> None:
        """Labels among the columns; label names of the model among the labels."""
        data, model = _get(self.root, "data_config"), _get(self.root, "model_config")
        made: dict[str, Node] = {}
        for item in _get(data, "extra_label_func").items:
            made_name = _text(_get(item, "label_name"))
            if made_name is not None:
                made[made_name] = item
        named = list(_texts(_get(data, "label_fields"), "data_config.label_fields"))
        for text, node, at in named:
            if self.columns and not _get(data, "log").entries:
                rule = "is no input_name of data_config.input_fields"
                self.known(text, {**self.columns, **made}, node, at, rule, "input fields")
        self.label_names = {**{text: node for text, node, _ in named}, **made}
        if not named:
            return
        self.label(_get(model, "label_name"), "model_config.label_name")
        towers: dict[str, Node] = {}
        for i, tower in enumerate(_get(model, "model_params", "task_towers").items):
            path = f"model_config.model_params.task_towers[{i}]"
            self.label(_get(tower, "label_name"), join(path, "label_name"))
            self.label(_get(tower, "task_space_indicator_label"), join(path, "task_space_indicator_label"))
            for text, node, at in _texts(_get(tower, "relation_tower_names"), join(path, "relation_tower_names")):
                self.known(text, towers, node, at, "is no task tower before this one", "towers before this one")
            name = _get(tower, "tower_name")
            if _text(name) is not None:
                self.twice(towers, str(name.value), name, join(path, "tower_name"), "task tower")

    def label(self, node: Node, path: str) -> None:
        """A label's name."""
        if _text(node):
            self.known(
                str(node.value), self.label_names, node, path, "is no label of data_config.label_fields", "labels"
            )

    def metrics(self) -> None:
        """Columns that metrics group by."""
        if not self.columns:
            return
        for i, metric in enumerate(_get(self.root, "eval_config", "metrics_set").items):
            for name, key in (("gauc", "uid_field"), ("session_auc", "session_id_field")):
                node = _get(metric, name, key)
                if _text(node):
                    path = f"eval_config.metrics_set[{i}].{name}.{key}"
                    rule = "is no input_name of data_config.input_fields"
                    self.known(str(node.value), self.columns, node, path, rule, "input fields")


@dataclass
class _Scope:
    """The backbone itself or one package: a graph of blocks."""

    node: Node
    path: str
    blocks: dict[str, Node] = field(default_factory=dict)
    read_groups: dict[str, None] = field(default_factory=dict)


class _Graph:
    def __init__(self, names: _Names, backbone: Node) -> None:
        self.names = names
        self.groups = names.group_names
        self.packages: dict[str, Node] = {}
        self.main = _Scope(backbone, "model_config.backbone")
        self.scopes = [self.main]
        for i, package in enumerate(_get(backbone, "packages").items):
            path = f"model_config.backbone.packages[{i}]"
            self.scopes.append(_Scope(package, path))
            name = _get(package, "name")
            if _text(name) is not None:
                names.twice(self.packages, str(name.value), name, join(path, "name"), "package")

    def check(self) -> None:
        """Block names first, then everything that uses them."""
        for scope in self.scopes:
            self.declare(scope)
        for scope in self.scopes:
            for i, block in enumerate(_get(scope.node, "blocks").items):
                for j, item in enumerate(_get(block, "inputs").items):
                    self.input(scope, item, f"{scope.path}.blocks[{i}].inputs[{j}]")
            for key in ("concat_blocks", "output_blocks"):
                for text, node, at in _texts(_get(scope.node, key), join(scope.path, key)):
                    known = {**dict.fromkeys(scope.blocks), **scope.read_groups}
                    self.names.known(text, known, node, at, "is no block here", "blocks here")

    def declare(self, scope: _Scope) -> None:
        """Names of a scope's blocks, which are unique and no feature group's unless the block reads the group."""
        for i, block in enumerate(_get(scope.node, "blocks").items):
            path = f"{scope.path}.blocks[{i}].name"
            name = _get(block, "name")
            text = _text(name)
            for item in _get(block, "inputs").items:
                group = _text(_get(item, "feature_group_name"))
                if group in self.groups:
                    scope.read_groups[str(group)] = None
            if text is None:
                continue
            self.names.twice(scope.blocks, text, name, path, "block")
            if text in self.groups and not any(key in block.entries for key in _READS_GROUP):
                place = self.groups[text].where
                message = f"`{text}` is the name of a feature group" + (f" ({place})" if place else "")
                self.names.report.wrong(name, path, message + "; only a block with an input_layer may share it")

    def input(self, scope: _Scope, item: Node, path: str) -> None:
        """What one input reads: looked up in its own scope, then among feature groups, then in the main graph."""
        own, main = scope.blocks, self.main.blocks
        blocks = (own, main, scope.read_groups, self.main.read_groups)
        for key, known, rule, what in (
            ("feature_group_name", (self.groups, own, main), "is no feature group", "feature groups"),
            ("block_name", blocks, "is no block", "blocks"),
            ("package_name", (self.packages,), "is no package", "packages"),
            (
                "package_input",
                (*blocks, self.packages, self.groups),
                "is neither a block nor a package nor a feature group",
                "blocks, packages and feature groups",
            ),
        ):
            node = _get(item, key)
            text = _text(node)
            if text is not None and not any(text in names for names in known):
                offered = self.groups if key == "feature_group_name" else {n: None for names in known for n in names}
                hint = self.names.report.suggester.hint(text, offered, what)
                self.names.report.wrong(node, join(path, key), f"`{text[:80]}` {rule}.{hint}")
