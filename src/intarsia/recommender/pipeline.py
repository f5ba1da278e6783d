"""Pipeline files with the messages of all components and models, and errors of the assembler with file and line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from intarsia.config import yamltext
from intarsia.config.fields import Extensions
from intarsia.config.load import LoadedConfig, Source, from_mapping, load
from intarsia.config.nodes import plain
from intarsia.config.schema import Backbone
from intarsia.core.errors import BuildError, ConfigError, Problem
from intarsia.data.catalogue import resolve_dataset
from intarsia.models import catalogue as models
from intarsia.models.retriever import ItemScorer
from intarsia.nn import catalogue as components
from intarsia.objectives.retrieval import objective_messages, sampler_messages


def extensions() -> Extensions:
    """The options of every component and model, for the strict reading of pipeline files."""
    layers = {e.field: components.config_of(e) for e in components.COMPONENTS.values() if e.field}
    classes = {n: components.config_of(e) for e in components.COMPONENTS.values() for n in (e.name, *e.aliases)}
    fields = {(Backbone, "top_mlp"): classes["MLP"]}
    messages = {
        "layer": layers,
        "model": _model_messages(),
        "objective": objective_messages(),
        "sampler": sampler_messages(),
    }
    return Extensions(messages, {"layer": classes}, fields)  # type: ignore[arg-type]


@cache
def _model_messages() -> Mapping[str, Any]:
    return models.messages()


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Reads a pipeline file strictly, options of components and models included.

    Raises:
        ConfigError: Everything that is wrong with it.
    """
    return _available(load(path, overrides=overrides, extensions=extensions()))


def pipeline_from(data: Mapping[str, Any], overrides: Sequence[str] = (), name: str = "") -> LoadedConfig:
    """The same for a mapping made in Python."""
    return _available(from_mapping(data, name=name, overrides=overrides, extensions=extensions()))


_UNAVAILABLE = {
    "data_config.negative_sampler": "sampled negatives",
    "data_config.negative_sampler_v2": "sampled negatives",
    "data_config.hard_negative_sampler": "sampled negatives",
    "data_config.hard_negative_sampler_v2": "sampled negatives",
    "data_config.negative_sampler_in_memory": "sampled negatives",
    "model_config.kd": "distillation losses",
    "model_config.variational_dropout": "dropout probabilities that are learned",
    "model_config.seq_att_groups": "attention groups of the older models (use sequence_features of a feature group)",
    "model_config.model_params.task_towers": "task towers",
}
"""Known fields that no model of this version can honour: refused, so that nobody trains what they did not write."""


def _available(loaded: LoadedConfig) -> LoadedConfig:
    config = loaded.config
    values = {"data_config": config.data_config, "model_config": config.model}
    problems = []
    for path, what in _UNAVAILABLE.items():
        piece, _, rest = path.partition(".")
        value: Any = values[piece]
        for name in rest.split("."):
            value = getattr(value, name)
        if value:
            problems.append(loaded.source.problem(path, f"{what} are not available in this version. Remove the field"))
    if problems:
        raise ConfigError(problems)
    return loaded


def short_form(model_class: str, data: str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """The pipeline of a model's shipped configuration on a catalogued data set.

    Args:
        model_class: Name of a model.
        data: Name of a data set, perhaps with a local folder: `ml-100k:folder`.
        overrides: Values to set.

    Raises:
        ConfigError: No such model, or a model without a shipped configuration.
        DataError: No such data set.
    """
    entry, folder = resolve_dataset(data)
    shipped = models.shipped_yaml(model_class)
    if shipped is None:
        raise ConfigError(f"`{model_class}` ships no configuration. Write a pipeline file and train that.")
    pipeline: dict[str, Any] = plain(yamltext.parse(shipped.read_text(encoding="utf-8"), shipped.name))
    retrieves = issubclass(models.resolve(model_class), ItemScorer)
    for key, value in entry.defaults.items():
        if retrieves and key != "data_config" and "feature_groups" not in pipeline["model_config"]:
            continue  # features of rows, of which a model that reads ids alone has no use
        ours: dict[str, Any] = pipeline.setdefault(key, {})
        pipeline[key] = {**value, **ours} if isinstance(value, dict) else value
        if key == "data_config" and "log" in ours:
            theirs: Any = value
            pipeline[key]["log"] = {**theirs.get("log", {}), **ours["log"]}
    pipeline["data_config"]["dataset"] = entry.name if folder is None else f"{entry.name}:{folder}"
    return pipeline_from(pipeline, overrides, f"{model_class} on {entry.name}")


@contextmanager
def located(source: Source) -> Iterator[None]:
    """Adds file and line to problems that are found when a model is assembled."""
    try:
        yield
    except ConfigError as error:
        problems = [p if p.where else Problem(source.where(p.path), p.path, p.message) for p in error.problems]
        raise BuildError(problems) from error
