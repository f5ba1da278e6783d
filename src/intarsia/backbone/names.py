"""Names of blocks, groups and features as keys of module dictionaries."""

from __future__ import annotations

from torch import nn

_RESERVED = {*dir(nn.ModuleDict()), *dir(nn.ParameterDict())}


def module_name(name: str) -> str:
    """A key that torch accepts; different names give different keys, and most names are their own key.

    Torch refuses dots, empty keys and the names of its own attributes (`keys`, `training`, ...).
    """
    key = name.replace("%", "%25").replace(".", "%2E")
    return f"{key}%" if key in _RESERVED or not key else key
