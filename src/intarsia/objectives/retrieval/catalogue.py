"""Objectives and samplers by the names that a pipeline file calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from intarsia.core.errors import BuildError
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.nn.component import nearest, options
from intarsia.objectives.retrieval.base import Objective, Sampler
from intarsia.objectives.retrieval.pairwise import BPR
from intarsia.objectives.retrieval.pointwise import BCE
from intarsia.objectives.retrieval.sampled import SampledObjective
from intarsia.objectives.retrieval.samplers import Uniform
from intarsia.objectives.retrieval.softmax import Softmax

Spec = str | Mapping[str, Any]
"""A name, or a mapping of one name to its options."""

OBJECTIVES: Mapping[str, type[Objective]] = MappingProxyType({"softmax": Softmax, "bpr": BPR, "bce": BCE})
"""Objectives by name."""

SAMPLERS: Mapping[str, type[Sampler]] = MappingProxyType({"uniform": Uniform})
"""Samplers by name."""


def objective_messages() -> dict[str, type[StrictModel]]:
    """The strict schema of each objective's options."""
    return {name: config_from_signature(cls) for name, cls in OBJECTIVES.items()}


def sampler_messages() -> dict[str, type[StrictModel]]:
    """The strict schema of each sampler's options."""
    return {name: config_from_signature(cls) for name, cls in SAMPLERS.items()}


def build_objective(
    spec: Spec, *, num_items: int, negatives: Spec | None = None, num_negatives: int | None = None
) -> Objective:
    """The objective of a pipeline file.

    Args:
        spec: Name of the objective, or a mapping of it to its options.
        num_items: N.
        negatives: Name of a sampler, or a mapping of it to its options. Default: uniform.
        num_negatives: Negatives of each positive, where the options do not say. Default: the objective's own.

    Raises:
        BuildError: A name or an option is unknown, or the pieces do not go together.
    """
    name, given = _named(spec, "objective")
    if name not in OBJECTIVES:
        raise BuildError(f"no objective is called `{name}`. {nearest(name, OBJECTIVES)}")
    if num_negatives is not None and "num_negatives" not in given:
        given = {**given, "num_negatives": num_negatives}
    cls: Callable[..., Objective] = OBJECTIVES[name]
    arguments = options(cls, given, f"objective.{name}")
    if issubclass(OBJECTIVES[name], SampledObjective):
        arguments["sampler"] = build_sampler(negatives or "uniform", num_items=num_items)
    return cls(num_items=num_items, **arguments)


def build_sampler(spec: Spec, *, num_items: int) -> Sampler:
    """The sampler of a pipeline file.

    Raises:
        BuildError: A name or an option is unknown.
    """
    name, given = _named(spec, "negatives")
    if name not in SAMPLERS:
        raise BuildError(f"no sampler of negatives is called `{name}`. {nearest(name, SAMPLERS)}")
    cls: Callable[..., Sampler] = SAMPLERS[name]
    return cls(num_items=num_items, **options(cls, given, f"negatives.{name}"))


def _named(spec: Spec, where: str) -> tuple[str, Any]:
    if isinstance(spec, str):
        return spec, {}
    if len(spec) != 1:
        raise BuildError(f"`{where}` is one name with its options. Received: {', '.join(map(str, spec)) or 'none'}.")
    ((name, given),) = spec.items()
    return str(name), {} if given is None else given
