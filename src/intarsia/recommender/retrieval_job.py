"""Training and measuring a model that ranks a catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.splits import Division
from intarsia.data.interactions.views import View
from intarsia.data.loader import Loader
from intarsia.evaluation.evaluate import Evaluation
from intarsia.models.base import Model
from intarsia.models.catalogue import build
from intarsia.models.retriever import ItemScorer, Retriever
from intarsia.models.solver import Solver
from intarsia.recommender.item_index import check_index
from intarsia.recommender.jobs import Metrics
from intarsia.recommender.log_data import LogData, encode_log, open_log_data
from intarsia.recommender.memory import in_time_order
from intarsia.recommender.rank_queries import RankingJudge
from intarsia.recommender.retrieval import RetrievalRecommender
from intarsia.training.protocols import BatchSource


class RetrievalJob:
    """A retriever or a solver on a divided log; see `Job`."""

    def __init__(
        self, config: PipelineConfig, *, frames: Mapping[str, Any] | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        if frames is not None and list(frames) != ["train"]:
            raise DataError(
                "a log in memory is one data frame, which data_config.split divides. Received: "
                f"{', '.join(frames)}. Give the whole log as `data` alone."
            )
        self._take(config, open_log_data(config, frame=None if frames is None else frames["train"]), rank, world_size)

    def _take(self, config: PipelineConfig, data: LogData, rank: int, world_size: int) -> None:
        self.config, self.rank, self.world_size = config, rank, world_size
        self.data = data
        division = self.data.division
        self.schema = self.data.schema
        self.parts: list[str] = [name for name in ("valid", "test") if name in division.queries]
        self.rows = {"train": division.num_training}
        for name in self.parts:
            queries = division.queries[name]
            self.rows[name] = int((queries.target_ends - queries.target_starts).sum())

    def build(self) -> Model:
        """The model, with what it has to know of the items."""
        model = build(self.config.model, self.schema, backend=self.config.train_config.embedding_backend)
        assert isinstance(model, ItemScorer)
        equip(model, self.data)
        if self.config.export_config.index is not None:
            check_index(model, self.config.export_config.index, self.config.model.model_class)
        self.model = model
        self.judge = RankingJudge(model, self.data, self.config)
        return model

    def training(self) -> BatchSource | None:
        """Training rows of the kind that the model learns from."""
        model, data = self.model, self.config.data_config
        if not isinstance(model, Retriever):
            return None
        view = View(
            self.data.division,
            model.view,
            max_history=model.max_history,
            side=self.data.side,
            with_seen=model.objective.needs_seen,
        )
        return Loader(
            view,
            data.batch_size,
            data.shuffle,
            self.config.train_config.seed,
            data.drop_remainder,
            min(data.prefetch_size, 4),
            rank=self.rank,
            world_size=self.world_size,
            lengths=view.lengths if model.pads else None,
        )

    def solve(self) -> None:
        """Fits a solver; lets any model remember what it needs for strangers."""
        with torch.no_grad():
            if isinstance(self.model, Solver):
                self.model.fit(self.data.division, self.config.train_config.seed)
            self.model.finish(self.data.division)

    def measure(self, part: str) -> Evaluation:
        """Ranking metrics, of the model with what it needs for strangers."""
        if isinstance(self.model, Retriever):
            self.solve()
        return self.judge.measure(part)

    def whole(self) -> RetrievalJob:
        """All interactions in training."""
        everything = RetrievalJob.__new__(RetrievalJob)
        log = in_time_order(self.data.division.log)
        division = Division(log, log.offsets[:-1], log.offsets[1:], {}, "everything", ordered=True)
        everything._take(self.config, encode_log(self.config, division), self.rank, self.world_size)
        return everything

    def keep(self, folder: Path) -> None:
        """Metrics of every user of every part."""
        self.judge.save(folder)

    def bundle(self, metrics: Metrics) -> RetrievalRecommender:
        """A recommender that ranks the catalogue, with its index where the pipeline asks for one."""
        found = RetrievalRecommender.from_data(self.config, self.data, self.model, metrics)
        if self.config.export_config.index is not None and self.rank == 0:
            found.build_index(self.config.export_config.index)
        return found


def equip(model: ItemScorer, data: LogData) -> None:
    """Gives a fresh model what it has to know of the log: features of the items, and how often they were taken."""
    from intarsia.nn.side_features import CatalogueFeatures

    for module in model.modules():
        if isinstance(module, CatalogueFeatures):
            module.fill(data.of_items)
    if isinstance(model, Retriever):
        model.objective.set_counts(torch.from_numpy(data.division.item_counts()))
