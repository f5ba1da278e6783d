"""Metrics of ranked lists: exact, in blocks, the same whatever the blocks and the batches.

Shape legend: B queries of a batch, Q queries of an evaluation, T targets, N items, M candidates, k items of a list.
"""

from intarsia.evaluation.ranking.evaluate import (
    GroupValues,
    RankingAccumulator,
    RankingEvaluation,
    RankingValue,
    evaluate_ranking,
)
from intarsia.evaluation.ranking.files import SavedEvaluation, load_evaluation, save_evaluation
from intarsia.evaluation.ranking.queries import NOT_FOUND, Ranked, RankingQueries, rank_targets
from intarsia.evaluation.ranking.sampling import NegativeSampler
from intarsia.evaluation.ranking.spec import (
    LogFacts,
    MetricSpec,
    RankingMetrics,
    build_ranking_metrics,
    categories_of,
    code_ids,
    protocol_suffix,
)

__all__ = [
    "NOT_FOUND",
    "GroupValues",
    "LogFacts",
    "MetricSpec",
    "NegativeSampler",
    "Ranked",
    "RankingAccumulator",
    "RankingEvaluation",
    "RankingMetrics",
    "RankingQueries",
    "RankingValue",
    "SavedEvaluation",
    "build_ranking_metrics",
    "categories_of",
    "code_ids",
    "evaluate_ranking",
    "load_evaluation",
    "protocol_suffix",
    "rank_targets",
    "save_evaluation",
]
