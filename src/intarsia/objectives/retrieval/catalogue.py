"""Objectives and samplers by the names that a pipeline file calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from intarsia.core.errors import BuildError
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.nn.component import nearest, options
from intarsia.objectives.retrieval.base import Objective, Sampler
from intarsia.objectives.retrieval.contrastive import CCL, GBCE, InfoNCE, SampledSoftmax
from intarsia.objectives.retrieval.hardest import AdaptiveHinge, BPRMax, Top1Max, Warp
from intarsia.objectives.retrieval.in_batch import InBatchSoftmax
from intarsia.objectives.retrieval.negatives import Dynamic, InBatch, Mixed, Unseen
from intarsia.objectives.retrieval.pairwise import BPR, Hinge, Top1
from intarsia.objectives.retrieval.pointwise import BCE, MSE, Logistic, Poisson
from intarsia.objectives.retrieval.sampled import SampledObjective
from intarsia.objectives.retrieval.samplers import Popularity, Uniform
from intarsia.objectives.retrieval.softmax import Softmax

Spec = str | Mapping[str, Any]
"""A name, or a mapping of one name to its options."""

_OBJECTIVES: tuple[type[Objective], ...] = (
    Softmax,
    SampledSoftmax,
    InBatchSoftmax,
    InfoNCE,
    BCE,
    GBCE,
    Logistic,
    MSE,
    Poisson,
    BPR,
    BPRMax,
    Hinge,
    AdaptiveHinge,
    Warp,
    Top1,
    Top1Max,
    CCL,
)

OBJECTIVES: Mapping[str, type[Objective]] = MappingProxyType({cls.name: cls for cls in _OBJECTIVES})
"""Objectives by name."""

SAMPLERS: Mapping[str, type[Sampler]] = MappingProxyType(
    {
        "uniform": Uniform,
        "popularity": Popularity,
        "unseen": Unseen,
        "in_batch": InBatch,
        "dynamic": Dynamic,
        "mixed": Mixed,
    }
)
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
    if num_items < 2:
        raise BuildError(
            f"an objective tells items apart, so there must be two at least. Received: {num_items}. Check item_field "
            "and the filters."
        )
    drawn = issubclass(OBJECTIVES[name], SampledObjective)
    if not drawn and (num_negatives is not None or negatives not in (None, "uniform", {"uniform": {}})):
        what = f"negatives {negatives}" if num_negatives is None else f"num_negatives {num_negatives}"
        raise BuildError(f"the objective {name} draws no negatives. Received: {what}. Leave it out.")
    if num_negatives is not None and "num_negatives" not in given:
        given = {**given, "num_negatives": num_negatives}
    cls: Callable[..., Objective] = OBJECTIVES[name]
    arguments = options(cls, given, f"objective.{name}")
    if drawn:
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
