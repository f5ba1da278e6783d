"""Measuring a model that ranks a catalogue on the queries of a divided log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intarsia.config.schema import PipelineConfig
from intarsia.core.batch import Jagged
from intarsia.core.errors import ConfigError
from intarsia.data.interactions.interactions import Ints
from intarsia.data.interactions.views import QueryView, window_index
from intarsia.evaluation.evaluate import Evaluation, evaluating
from intarsia.evaluation.ranking import (
    LogFacts,
    NegativeSampler,
    RankingEvaluation,
    RankingMetrics,
    RankingQueries,
    build_ranking_metrics,
    categories_of,
    code_ids,
    evaluate_ranking,
    save_evaluation,
)
from intarsia.models.retriever import ItemScorer
from intarsia.recommender.fallback import answered
from intarsia.recommender.log_data import LogData


class RankingJudge:
    """Ranks the catalogue for the queries of a part, as the recommender would: popular items for whom it knows nothing.

    Args:
        model: The model.
        data: The divided log.
        config: The pipeline; `eval_config` says what is measured and how.

    Raises:
        ConfigError: A metric or the protocol needs what the log does not have.
    """

    def __init__(self, model: ItemScorer, data: LogData, config: PipelineConfig) -> None:
        self.model, self.data, self.config = model, data, config
        self.protocol = config.eval_config.protocol
        self.found: dict[str, RankingEvaluation] = {}
        log = data.division.log
        if self.protocol.candidates == "fixed" and log.fixed_negatives is None:
            raise ConfigError(
                "eval_config.protocol fixed ranks against negatives that the data come with. Received: a log without "
                "such. Name their file (log.negatives_path), or set protocol to full or sampled."
            )

    @cached_property
    def metrics(self) -> RankingMetrics:
        """What is measured."""
        options, log = self.config.eval_config, self.data.division.log
        fixed = log.fixed_negatives
        return build_ranking_metrics(
            options.metrics,
            protocol=self.protocol,
            facts=self._facts(),
            groups=options.groups,
            confidence=options.confidence,
            num_fixed=None if fixed is None else fixed.shape[1],
        )

    def _facts(self) -> LogFacts:
        division, options = self.data.division, self.config.eval_config
        facts = LogFacts(
            item_counts=torch.from_numpy(division.item_counts()),
            trained=torch.from_numpy(division.train_ends > division.train_starts),
            item_codes=code_ids(division.log.item_ids.ids),
        )
        if not options.category:
            return facts
        table = division.log.catalogue
        if table is None or options.category not in table.columns:
            have = "no item table" if table is None else f"columns {', '.join(table.columns)}"
            raise ConfigError(
                f"eval_config.category names a column of the item table. Received: `{options.category}`, and {have}."
            )
        categories, _ = categories_of(table[options.category], options.category_separator)
        return replace(facts, categories=categories)

    def measure(self, part: str) -> Evaluation:
        """Metrics of a part: `valid` or `test`."""
        started = time.perf_counter()
        division = self.data.division
        view = QueryView(division, division.queries[part], max_history=self.model.max_history, side=self.data.side)
        with evaluating(self.model):
            found = evaluate_ranking(
                self._batches(view, part),
                self.metrics,
                num_items=division.log.num_items,
                model=self.config.model.model_class,
            )
        self.found[part] = found
        return Evaluation(dict(found.values), found.num_queries, time.perf_counter() - started)

    def save(self, folder: Path) -> None:
        """Writes the metrics of every user of every part that was measured, for `intarsia compare`."""
        division, protocol = self.data.division, self.protocol
        told = {"split": division.by, "items": division.log.num_items, **protocol.model_dump()}
        if protocol.candidates != "sampled":
            for name in ("num_negatives", "sampler", "alpha", "seed"):
                del told[name]
        for part, found in self.found.items():
            save_evaluation(
                found,
                folder,
                part,
                user_ids=division.log.user_ids.ids,
                protocol=told,
                model=self.config.model.model_class,
            )

    def _batches(self, view: QueryView, part: str) -> Iterator[RankingQueries]:
        """Queries of like length together, so that a batch is little padded."""
        asked = np.arange(len(view.lengths))
        if part == "valid" and self.config.eval_config.num_examples:
            # Before lengths have a say, which depend on the model: all models are asked for the same users.
            asked = np.sort(np.random.default_rng(0).permutation(asked)[: self.config.eval_config.num_examples])
        order = asked[np.argsort(view.lengths[asked], kind="stable")]
        size = min(self.config.data_config.eval_batch_size, 1024)
        for rows, answers in answered(self.model, view, order, size):
            users = view.queries.users[rows]
            index, offsets = window_index(view.queries.target_starts[rows], view.queries.target_ends[rows])
            targets = Jagged(
                torch.from_numpy(view.division.log.items[index].astype(np.int64)), torch.from_numpy(offsets)
            )
            seen = view.seen(rows)
            ratings = view.division.log.ratings
            yield RankingQueries(
                users=torch.from_numpy(users.astype(np.int64)),
                targets=targets,
                excluded=seen if self.protocol.filter_seen else _nothing(len(rows)),
                candidates=self._candidates(users, targets, seen),
                scores=answers.block,
                pair_scores=answers.pairs,
                best=answers.best,
                histories=seen.lengths,
                history_items=seen,
                ratings=None if ratings is None else torch.from_numpy(ratings[index]),
            )

    def _candidates(self, users: Ints, targets: Jagged, seen: Jagged) -> Tensor | None:
        log = self.data.division.log
        if self.protocol.candidates == "full":
            return None
        if self.protocol.candidates == "fixed":
            assert log.fixed_negatives is not None
            assert log.negative_users is not None
            place = np.full(log.num_users, -1, dtype=np.int64)
            place[log.negative_users] = np.arange(len(log.negative_users))
            rows = log.fixed_negatives[np.maximum(place[users], 0)]
            return torch.from_numpy(np.where(place[users, None] < 0, -1, rows).astype(np.int64))
        together = _joined(seen, targets)
        return self._sampler.draw(torch.from_numpy(users.astype(np.int64)), together)

    @cached_property
    def _sampler(self) -> NegativeSampler:
        division = self.data.division
        return NegativeSampler(self.protocol, division.log.num_items, torch.from_numpy(division.item_counts()))


def _joined(a: Jagged, b: Jagged) -> Jagged:
    """The values of both for each row."""
    rows = [torch.repeat_interleave(torch.arange(len(one)), one.lengths) for one in (a, b)]
    order = torch.cat(rows).argsort(stable=True)
    return Jagged(torch.cat([a.values, b.values])[order], a.offsets + b.offsets)


def _nothing(count: int) -> Jagged:
    return Jagged(torch.zeros(0, dtype=torch.int64), torch.zeros(count + 1, dtype=torch.int64))
