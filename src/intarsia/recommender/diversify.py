"""Lists whose items differ, after any model that ranks a catalogue; and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Jagged
from intarsia.core.errors import DataError
from intarsia.data.interactions.views import QueryView
from intarsia.evaluation.evaluate import evaluating
from intarsia.evaluation.ranking import categories_of
from intarsia.nn.top_k import running_top_k
from intarsia.recommender.fallback import answered
from intarsia.recommender.log_data import LogData, open_log_data
from intarsia.recommender.memory import Memory
from intarsia.recommender.search import Searcher
from intarsia.retrieval.diversity import CategoryDifference
from intarsia.retrieval.diversity_curve import DiversityCurve, diversity_curve

if TYPE_CHECKING:
    from intarsia.recommender.retrieval import RetrievalRecommender

POOL, LEAST_POOL = 10, 100
"""Candidates that a list is chosen from: so many for each place of the list, and at least so many."""
STEPS = range(-3, 7)
"""Weights of a curve: powers of two of the weight at which k - 1 differences outweigh the spread of the candidates."""


def pool_size(k: int) -> int:
    """M: candidates that a list of k items is chosen from."""
    return max(LEAST_POOL, POOL * k)


def category_difference(memory: Memory, category: str, separator: str) -> CategoryDifference:
    """How the items of a catalogue differ by a column of their table.

    Args:
        memory: The catalogue.
        category: The column: one category an item, several with a separator between them, or a list.
        separator: Between categories of a text.

    Raises:
        DataError: There is no such column.
    """
    table = memory.catalogue
    if table is None or category not in table.columns:
        have = "no item table" if table is None else f"columns {', '.join(table.columns)}"
        asked = f"`{category}`" if category else "none"
        raise DataError(
            f"diversity needs a `category`, a column of the item table. Received: {asked}, and {have}. Name one of its "
            "columns, or set eval_config.category; a pipeline without a table names it as log.item_table."
        )
    return CategoryDifference(categories_of(table[category], separator)[0])


def measure_diversity(
    recommender: RetrievalRecommender,
    category: str | None = None,
    *,
    k: int = 20,
    weights: Sequence[float] | None = None,
    part: str = "test",
    data: Any = None,
) -> DiversityCurve:
    """Accuracy and diversity of a model's lists as the weight of the differences grows.

    Args:
        recommender: The model.
        category: Column of the item table. Default: `eval_config.category`.
        k: Length of the lists.
        weights: Weights, on the scale of the scores. Default: ten, told by how far the scores of the candidates lie
            apart.
        part: `valid` or `test`.
        data: The log as a data frame, where the pipeline names no files.

    Raises:
        DataError: There is no such column or no such part, or the data are missing.
    """
    if k < 2:
        raise DataError(
            f"the items of a list differ where there are at least two: k must be at least 2. Received: {k}."
        )
    difference = recommender.difference(category)
    opened = open_log_data(recommender.config, frame=data, encoders=recommender.encoders)
    if part not in opened.division.queries:
        have = ", ".join(opened.division.queries) or "none"
        raise DataError(f"the data have no part `{part}` to measure. Received: {have}. Set data_config.split.")
    filters = recommender.config.eval_config.protocol.filter_seen
    scores, items, targets = _lists(recommender.searcher, opened, part, pool_size(k), filters)
    chosen = _weights(scores, k) if weights is None else list(weights)
    return diversity_curve(scores, items, targets, difference, k, chosen)


def _lists(
    searcher: Searcher, data: LogData, part: str, depth: int, filter_seen: bool
) -> tuple[Tensor, Tensor, Jagged]:
    """The `depth` best items of the queries of a part: (Q, M) scores and items; and their targets."""
    division, model = data.division, searcher.model
    view = QueryView(division, division.queries[part], max_history=model.max_history, side=data.side)
    total = division.log.num_items
    # Histories of like length together, so that a batch is little padded.
    order = np.argsort(view.lengths, kind="stable")
    scores, items = [], []
    with evaluating(model):
        for rows, answers in answered(model, view, order, searcher.size):
            seen = _without(view.seen(rows), view.targets(rows), total) if filter_seen else None
            best = running_top_k(answers.blocks(seen), depth)
            scores.append(best[0])
            items.append(best[1])
    return torch.cat(scores), torch.cat(items), view.targets(order)


def _without(seen: Jagged, targets: Jagged, total: int) -> Jagged:
    """Items of the histories that are no targets, which are ranked always, as in evaluation."""
    keys, found = (
        torch.repeat_interleave(torch.arange(len(one)), one.lengths) * total + one.values for one in (seen, targets)
    )
    kept = ~torch.isin(keys, found)
    before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return Jagged(seen.values[kept], before[seen.offsets])


def _weights(scores: Tensor, k: int) -> list[float]:
    """Rising weights on the scale of the scores, to three digits.

    At the weight w with w (k - 1) = (best score - worst of the candidates), the last place of a list can go to the
    worst candidate, if that differs from all items before; the median over queries counts.
    """
    worst = torch.where(scores > -torch.inf, scores, torch.inf).amin(dim=1)
    spread = (scores[:, 0] - worst).clamp(min=0)
    typical = float(spread[spread.isfinite()].median()) if bool(spread.isfinite().any()) else 0.0
    unit = (typical or 1.0) / (k - 1)
    return [float(f"{unit * 2.0**step:.3g}") for step in STEPS]
