"""Shorthands that need more than one message: ranges in names, shared configurations, the older feature list.

Works on a regrouped tree, before it is checked; what is of the wrong type is left for the checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from intarsia.config.nodes import Node
from intarsia.config.report import Report

_RANGE = re.compile(r"(?P<prefix>.*)\[(?P<first>[0-9]{1,9})-(?P<last>[0-9]{1,9})\]")
_LIKE_RANGE = re.compile(r".*\[[^\[\]]*-[^\[\]]*\]")

MAX_RANGE = 100_000
"""Names that one range may stand for."""


def expand(root: Node, report: Report) -> None:
    """Writes out all shorthands of a tree, in place."""
    one_feature_list(root, report)
    data = root.entries.get("data_config")
    fields = data.entries.get("input_fields") if data else None
    expand_fields = bool(data and _is_true(data.entries.get("auto_expand_input_fields")))
    if fields is not None and expand_fields:
        fields.value = list(_expanded_fields(fields, report))
    features = root.entries.get("feature_config", Node(None)).entries.get("features")
    if features is not None:
        features.value = list(_shared(features, expand_fields, report))
    model = root.entries.get("model_config", Node(None))
    for i, group in enumerate(model.entries.get("feature_groups", Node(None)).items):
        names = group.entries.get("feature_names")
        if names is not None:
            path = f"model_config.feature_groups[{i}].feature_names"
            names.value = [new for j, name in enumerate(names.items) for new in _names(name, f"{path}[{j}]", report)]


def one_feature_list(root: Node, report: Report) -> None:
    """Moves the older `feature_configs` to `feature_config.features`."""
    old = root.entries.get("feature_configs")
    if old is None or old.kind != "list":
        return
    new = root.entries.get("feature_config")
    if new is not None and new.kind == "mapping" and new.entries.get("features", Node([])).items and old.items:
        message = "both `feature_config` and `feature_configs` are given; keep `feature_config.features`"
        report.wrong(old, "feature_configs", f"{message} (line {new.key_line or new.line})" if new.line else message)
        return
    del root.entries["feature_configs"]
    if not old.items:
        return
    if new is None or new.kind != "mapping":
        new = Node({}, old.file, old.line, old.column, "mapping", "feature_config", old.key_line)
        root.entries["feature_config"] = new
    old.key = "features"
    new.entries["features"] = old


def _is_true(node: Node | None) -> bool:
    return node is not None and (node.value is True or (node.kind == "word" and node.value in ("true", "True", "t")))


def _expanded_fields(fields: Node, report: Report) -> Iterator[Node]:
    for i, item in enumerate(fields.items):
        name = item.entries.get("input_name")
        if name is None or name.kind != "text":
            yield item
            continue
        for new in _names(name, f"data_config.input_fields[{i}].input_name", report):
            yield item if new is name else item.with_value({**item.entries, "input_name": new}, "mapping")


def _shared(features: Node, expand_names: bool, report: Report) -> Iterator[Node]:
    for i, item in enumerate(features.items):
        yield item
        shared = item.entries.get("shared_names")
        if shared is None or shared.kind != "list":
            continue
        path = f"feature_config.features[{i}].shared_names"
        names = shared.items
        if expand_names:
            names = [new for j, name in enumerate(names) for new in _names(name, f"{path}[{j}]", report)]
        if any(name.kind != "text" for name in names):
            continue  # the checks will say so
        del item.entries["shared_names"]
        for name in names:
            entries = {key: child for key, child in item.entries.items() if key != "feature_name"}
            entries["input_names"] = Node([name], name.file, name.line, name.column, "list", "input_names", name.line)
            yield replace(item, value=entries, line=name.line or item.line, column=name.column)


def _names(node: Node, path: str, report: Report) -> list[Node]:
    """The names that `prefix[1-3]` stands for; any other name stands for itself."""
    text = node.value
    if node.kind != "text" or not isinstance(text, str) or not text.endswith("]"):
        return [node]
    found = _RANGE.fullmatch(text)
    if found is None:
        if _LIKE_RANGE.fullmatch(text):
            report.wrong(node, path, f"the range in `{text[:60]}` wants two whole numbers, as in `name[1-21]`")
        return [node]
    first, last = int(found["first"]), int(found["last"])
    if first > last:
        report.wrong(node, path, f"the range in `{text[:60]}` runs from {first} down to {last}; it must not fall")
        return [node]
    if last - first >= MAX_RANGE:
        report.wrong(node, path, f"the range in `{text[:60]}` stands for more than {MAX_RANGE} names")
        return [node]
    return [replace(node, value=f"{found['prefix']}{number}") for number in range(first, last + 1)]
