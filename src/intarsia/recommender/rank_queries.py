"""Measuring a model that ranks a catalogue on the queries of a divided log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intarsia.config.schema import PipelineConfig
from intarsia.core.batch import Jagged
from intarsia.data.interactions.interactions import Ints
from intarsia.data.interactions.views import QueryView
from intarsia.evaluation.evaluate import Evaluation, evaluating
from intarsia.evaluation.ranking import RankingEvaluation, RankingQueries, build_ranking_metrics, evaluate_ranking
from intarsia.models.retriever import ItemScorer
from intarsia.recommender.log_data import LogData


class RankingJudge:
    """Ranks the catalogue for the queries of a part.

    Args:
        model: The model.
        data: The divided log.
        config: The pipeline; `eval_config` says what is measured and how.
    """

    def __init__(self, model: ItemScorer, data: LogData, config: PipelineConfig) -> None:
        self.model, self.data, self.config = model, data, config
        self.found: dict[str, RankingEvaluation] = {}

    def measure(self, part: str) -> Evaluation:
        """Metrics of a part: `valid` or `test`."""
        started = time.perf_counter()
        division = self.data.division
        view = QueryView(division, division.queries[part], max_history=self.model.max_history, side=self.data.side)
        with evaluating(self.model):
            found = evaluate_ranking(self._batches(view), self.metrics, num_items=division.log.num_items)
        self.found[part] = found
        return Evaluation(found.values, found.num_queries, time.perf_counter() - started)

    def _batches(self, view: QueryView) -> Iterator[RankingQueries]:
        """Queries of like length together, so that a batch is little padded."""
        catalogue = self.model.catalogue()
        device = next(iter(self.model.state_dict().values())).device
        size = self.config.data_config.eval_batch_size
        order = np.argsort(view.lengths, kind="stable")
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            queries = self.model.queries(view.take(rows).to(device))
            yield self._queries(view, rows, queries, catalogue)
