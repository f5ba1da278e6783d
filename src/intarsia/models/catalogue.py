"""The named models: one file each in this folder, found by its name.

`models/deepfm.py` holds the class `DeepFM` (assigned to `MODEL`), whose message in a pipeline file is `deepfm` and
whose shipped configuration is `models/deepfm.yaml`. Nothing else has to know about it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from intarsia.backbone.groups import nearest
from intarsia.config.schema import ModelConfig
from intarsia.core.errors import BuildError, Problem
from intarsia.core.params import StrictModel
from intarsia.data.schema import Schema
from intarsia.models.base import Model


@cache
def names() -> dict[str, str]:
    """Module of each model, by class name."""
    return {model.__name__: module for module, model in _models()}


def _models() -> Iterator[tuple[str, type[Model]]]:
    folder = Path(__file__).parent
    for info in pkgutil.iter_modules([str(folder)]):
        # Modules without a `MODEL` hold what several models share.
        model = None if info.name == "catalogue" else _model_of(info.name)
        if model is not None:
            yield info.name, model


def _model_of(module: str) -> type[Model] | None:
    return getattr(importlib.import_module(f"intarsia.models.{module}"), "MODEL", None)


def resolve(model_class: str) -> type[Model]:
    """The class of a model.

    Raises:
        BuildError: There is none.
    """
    if model_class not in names():
        hint = nearest(model_class, names()) or f". Models: {', '.join(sorted(names()))}"
        raise BuildError(
            [
                Problem(
                    "",
                    "model_config.model_class",
                    f"there is no model `{model_class}`{hint}",
                )
            ]
        )
    model: type[Model] = importlib.import_module(f"intarsia.models.{names()[model_class]}").MODEL
    return model


def messages() -> dict[str, type[StrictModel]]:
    """Schemas of the models' own messages, by the name of the message."""
    return {module: model.Config for module, model in _models() if model.Config is not None}


def build(config: ModelConfig, schema: Schema, *, backend: str = "torch") -> Model:
    """Builds the model of a pipeline file from its configuration and the sizes of the features.

    Raises:
        BuildError: Unknown model, or a model that does not fit together.
    """
    return resolve(config.model_class).from_config(config, schema, backend=backend)


def shipped_yaml(model_class: str) -> Path | None:
    """The configuration that is shipped with a model, for the short form of the command line."""
    resolve(model_class)
    path = Path(__file__).parent / f"{names()[model_class]}.yaml"
    return path if path.exists() else None
