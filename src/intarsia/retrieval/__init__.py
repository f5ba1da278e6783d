"""From vectors to recommendations: indexes, re-ranking for diversity, export of vectors.

Shape legend: B queries, K interests of a query or items of a list, N items, D dimension, M candidates.
"""

from intarsia.retrieval.diversity import (
    CategoryDifference,
    Difference,
    VectorDifference,
    list_diversity,
    rerank_diverse,
    rerank_mmr,
)
from intarsia.retrieval.diversity_curve import CurvePoint, DiversityCurve, diversity_curve, plot_diversity
from intarsia.retrieval.index import Index, Measured, build_index, load_index
from intarsia.retrieval.vectors import SavedVectors, load_vectors, recall_from_vectors, save_vectors

__all__ = [
    "CategoryDifference",
    "CurvePoint",
    "Difference",
    "DiversityCurve",
    "Index",
    "Measured",
    "SavedVectors",
    "VectorDifference",
    "build_index",
    "diversity_curve",
    "list_diversity",
    "load_index",
    "load_vectors",
    "plot_diversity",
    "recall_from_vectors",
    "rerank_diverse",
    "rerank_mmr",
    "save_vectors",
]
