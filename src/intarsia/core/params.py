"""Hyperparameters, declared once.

A component states each hyperparameter in its constructor and nowhere else:

    class SeqAugment(nn.Module):
        def __init__(
            self,
            *,
            dim: int,
            mask_rate: Annotated[float, Param("Fraction of the steps that the mask replaces.", ge=0, le=1)] = 0.6,
        ) -> None: ...

`config_from_signature(SeqAugment)` makes the strict schema of the pipeline file's message from it: every keyword-only
argument annotated with `Param` is a field, the others (`dim`) are what the assembler passes in. Help texts, tables,
editor schemas and search spaces are read from the same place.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.fields import FieldInfo


class StrictModel(BaseModel):
    """Base of every message of a pipeline file: unknown keys are errors, a lone value will do for a list of one."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=False,
        arbitrary_types_allowed=True,
        # Validators are built when a file is first read, not when the package is imported.
        defer_build=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _wrap_lone_values(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        out = dict(data)
        for name, info in cls.model_fields.items():
            value = out.get(name)
            if value is not None and not isinstance(value, list | tuple) and is_list(info.annotation):
                out[name] = [value]
        return out


@dataclass(frozen=True)
class Param:
    """One line of meaning and the allowed range of a hyperparameter."""

    doc: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def field(self, default: Any) -> Any:
        """The pydantic field for this hyperparameter."""
        if isinstance(default, list | dict):
            value = default
            return Field(default_factory=lambda: value.copy(), description=self.doc)
        return Field(default, description=self.doc, ge=self.ge, gt=self.gt, le=self.le, lt=self.lt)


def is_list(annotation: Any) -> bool:
    """Whether a field's annotation is a list (also `list[...] | None`, also under `Annotated`)."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_list(get_args(annotation)[0])
    if origin in (list, tuple) or annotation is list:
        return True
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return any(is_list(arg) for arg in get_args(annotation))
    return False


class _FromSignature(StrictModel):
    # Looking for docstrings of attributes, of which a signature has none, took most of the time of making a schema.
    model_config = ConfigDict(use_attribute_docstrings=False)


@cache
def config_from_signature(target: Callable[..., Any], name: str | None = None) -> type[StrictModel]:
    """The strict schema of a component's hyperparameters.

    Args:
        target: A class (its `__init__` is read) or a function whose keyword-only arguments carry `Param`.
        name: Name of the schema. Default: the target's own name.

    Raises:
        TypeError: A keyword-only argument with `Param` has no type under its annotation.
    """
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for argument in inspect.signature(function).parameters.values():
        hint = hints.get(argument.name)
        if argument.kind is not inspect.Parameter.KEYWORD_ONLY or get_origin(hint) is not Annotated:
            continue
        base, *metadata = get_args(hint)
        param = next((m for m in metadata if isinstance(m, Param)), None)
        if param is None:
            continue
        default = ... if argument.default is inspect.Parameter.empty else argument.default
        fields[argument.name] = (base, param.field(default))
    doc = inspect.getdoc(target) or ""
    title = name or str(getattr(target, "__name__", "Component"))
    return create_model(title, __base__=_FromSignature, __doc__=doc.split("\n\n")[0], **fields)


def describe(model: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Rows of (name, type, default, meaning), one per field, for help texts and generated tables."""
    return [
        (name, type_name(info.annotation), default_text(info), info.description or "")
        for name, info in model.model_fields.items()
    ]


def type_name(annotation: Any) -> str:
    """A type as a person would write it."""
    if annotation is type(None):
        return "none"
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_name(get_args(annotation)[0])
    if origin is typing.Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if origin in (list, tuple):
        return f"list of {type_name(get_args(annotation)[0])}" if get_args(annotation) else "list"
    if origin is dict:
        return "mapping"
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return " | ".join(type_name(arg) for arg in get_args(annotation) if arg is not type(None))
    return getattr(annotation, "__name__", str(annotation))


def default_text(info: FieldInfo) -> str:
    """A field's default as it would be written in a pipeline file; `required` where there is none."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    return "-" if value is None else repr(value) if isinstance(value, str) else str(value)
