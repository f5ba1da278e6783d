"""JSON schema of the pipeline file, for editors that complete and check YAML while it is written."""

from __future__ import annotations

import copy
from typing import Any

from pydantic.json_schema import models_json_schema

from intarsia.config.fields import (
    NUMBER_KEYS,
    SHORT_KEYS,
    WORD_FIELDS,
    Extensions,
    Model,
    extension_kind,
    fields_of,
)
from intarsia.config.schema import PipelineConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(extensions: Extensions | None = None) -> dict[str, Any]:
    """The schema of a pipeline file.

    Args:
        extensions: Messages of later pieces, which become keys of the messages that they extend. Without them, those
            messages accept any further key.
    """
    extensions = extensions or Extensions()
    models = _reachable(PipelineConfig, extensions)
    refs, out = models_json_schema(
        [(model, "validation") for model in models], by_alias=True, ref_template="#/$defs/{model}"
    )
    names = {model: refs[model, "validation"]["$ref"].rsplit("/", 1)[-1] for model in models}
    definitions = copy.deepcopy(out["$defs"])
    for model, name in names.items():
        definitions[name] = _message(model, definitions[name], names, extensions)
    root = definitions.pop(names[PipelineConfig])
    return {"$schema": _DIALECT, "title": "intarsia pipeline file", **_without(root, "title"), "$defs": definitions}


def _reachable(root: Model, extensions: Extensions) -> list[Model]:
    """All messages, in the order in which they are met."""
    found: dict[Model, None] = {}
    waiting: list[Model] = [root]
    while waiting:
        model = waiting.pop(0)
        if model in found:
            continue
        found[model] = None
        for item in fields_of(model).values():
            shapes = [item.shape]
            while shapes:
                shape = shapes.pop()
                if shape.model is not None:
                    waiting.append(shape.model)
                shapes += [*shape.members, *([shape.inner] if shape.inner else [])]
            typed = extensions.of_field(model, item.name)
            if typed is not None:
                waiting.append(typed)
        waiting += list(extensions.messages.get(extension_kind(model) or "", {}).values())
    return list(found)


def _message(model: Model, schema: dict[str, Any], names: dict[Model, str], extensions: Extensions) -> dict[str, Any]:
    fields = fields_of(model)
    properties: dict[str, Any] = {}
    for key, item in fields.items():
        info = schema["properties"]
        value: dict[str, Any] = next((info[spelling] for spelling in item.spellings if spelling in info), {})
        typed = extensions.of_field(model, item.name)
        if typed is not None:
            value = {"$ref": f"#/$defs/{names[typed]}", "description": value.get("description", "")}
        if item.no_effect is not None:
            value = {"description": value.get("description", ""), "deprecated": True}
        value = _with_single(_without(value, "title"))
        for spelling in dict.fromkeys((key, *item.spellings)):
            properties[spelling] = value
    kind = extension_kind(model)
    catalogue = extensions.messages.get(kind or "")
    for key, extra in (catalogue or {}).items():
        properties[key] = {"$ref": f"#/$defs/{names[extra]}"}
    for word, key in SHORT_KEYS.get(model, {}).items():
        properties.setdefault(word, properties[key])
    out: dict[str, Any] = {"type": "object", "description": schema.get("description", ""), "properties": properties}
    required = [item for item in fields.values() if item.required]
    single = [item.key for item in required if len(item.spellings) == 1]
    if single:
        out["required"] = single
    several = [item for item in required if len(item.spellings) > 1]
    if several:
        out["allOf"] = [{"anyOf": [{"required": [name]} for name in item.spellings]} for item in several]
    if kind is None or catalogue is not None:
        out["additionalProperties"] = False
    return _with_shorthands(model, out, list(catalogue or {}))


def _with_shorthands(model: Model, schema: dict[str, Any], catalogue: list[str]) -> dict[str, Any]:
    if model in WORD_FIELDS:
        return {"anyOf": [schema, schema["properties"][WORD_FIELDS[model]]]}
    if model in SHORT_KEYS:
        words = [*SHORT_KEYS[model], *(catalogue if not SHORT_KEYS[model] else [])]
        return {"anyOf": [schema, {"enum": words} if words else {"type": "string"}]}
    if model in NUMBER_KEYS:
        return {"anyOf": [schema, {"type": "number"}]}
    return schema


def _with_single(value: dict[str, Any]) -> dict[str, Any]:
    """A lone value will do for a list of one."""
    if value.get("type") == "array" and "items" in value:
        array = {key: value[key] for key in ("type", "items", "minItems", "maxItems") if key in value}
        rest = {key: child for key, child in value.items() if key not in array}
        return {"anyOf": [array, value["items"]], **rest}
    return value


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
