"""Objectives of retrievers and the samplers of their negatives, written once for all of them."""

from intarsia.objectives.retrieval.base import (
    Factors,
    Negatives,
    Objective,
    Positives,
    Sampler,
    Scorer,
    Similarity,
)
from intarsia.objectives.retrieval.catalogue import (
    OBJECTIVES,
    SAMPLERS,
    build_objective,
    build_sampler,
    objective_messages,
    sampler_messages,
)
from intarsia.objectives.retrieval.scorers import FactorScorer

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "FactorScorer",
    "Factors",
    "Negatives",
    "Objective",
    "Positives",
    "Sampler",
    "Scorer",
    "Similarity",
    "build_objective",
    "build_sampler",
    "objective_messages",
    "sampler_messages",
]
