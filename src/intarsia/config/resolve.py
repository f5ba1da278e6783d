"""A configuration as plain data and as YAML, with its defaults written out."""

from __future__ import annotations

from enum import Enum
from typing import Any

import yaml
from pydantic import BaseModel

from intarsia.config.fields import fields_of
from intarsia.config.schema import PipelineConfig
from intarsia.config.yamltext import FLOAT


def resolved(config: BaseModel) -> dict[str, Any]:
    """All values of a configuration, in the order of the schema.

    Values that are not set (None) and fields without effect are left out.
    """
    out: dict[str, Any] = {}
    for key, item in fields_of(type(config)).items():
        value = getattr(config, item.name)
        if value is not None and item.no_effect is None:
            out[key] = _plain(value)
    for key, value in (config.model_extra or {}).items():
        out[key] = _plain(value)
    return out


def dump_yaml(config: PipelineConfig) -> str:
    """The YAML text of a configuration, which loads to an equal one."""
    return to_yaml(resolved(config))


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML: in the order given, lists of scalars on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return resolved(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(child) for child in value]
    return value


class _Dumper(yaml.SafeDumper):
    """Safe YAML without aliases; quotes text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: _Dumper, data: list[Any]) -> yaml.SequenceNode:
    flat = all(not isinstance(child, dict | list) for child in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


def _text(dumper: _Dumper, data: str) -> yaml.ScalarNode:
    # A line break or a rare character is written as an escape, so that nothing folds or normalises it.
    style = '"' if any(not character.isprintable() for character in data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))
