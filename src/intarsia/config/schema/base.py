"""Kinds of field that the schema's messages share."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def cloud(reason: str) -> Any:
    """A field that is accepted because existing files carry it, and means nothing here; named once in a notice."""
    return Field(
        default=None, description=f"Accepted, no effect here: {reason}", json_schema_extra={"no_effect": reason}
    )


def extension(kind: str) -> dict[str, Any]:
    """Marks a message whose further keys are messages of a catalogue: `kind` is `layer` or `model`."""
    return {"extension": kind}
