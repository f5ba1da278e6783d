"""What a run trains: the data, the model, how it is measured, what is kept. One kind for rows, one for logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import ConfigError
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation
from intarsia.models.base import Model
from intarsia.models.catalogue import build, resolve
from intarsia.models.retriever import ItemScorer
from intarsia.recommender.measure import evaluate_part
from intarsia.recommender.prepare import prepare
from intarsia.training.protocols import BatchSource

if TYPE_CHECKING:
    from intarsia.recommender.recommender import Recommender

Metrics = Mapping[str, Mapping[str, float | None]]


class Job(Protocol):
    """A pipeline whose data are open.

    Attributes:
        schema: Sizes and names.
        parts: Names of the parts that the model is measured on: of `valid` and `test` those that there are.
        rows: Rows (or interactions) of each part.
    """

    schema: Schema
    parts: list[str]
    rows: dict[str, int]

    def build(self) -> Model:
        """The model, fresh; torch's generator has been seeded."""

    def training(self) -> BatchSource | None:
        """Training batches; None for a model that is computed by `solve`."""

    def solve(self) -> None:
        """Computes a model without gradients, and what any model remembers once it is trained."""

    def measure(self, part: str) -> Evaluation:
        """The model on a part."""

    def whole(self) -> Job:
        """The same job with everything in training and nothing to measure.

        Raises:
            ConfigError: The kind of model cannot be fitted again on all data.
        """

    def keep(self, folder: Path) -> None:
        """Writes what a run keeps beside its bundle, such as the metrics of every user."""

    def bundle(self, metrics: Metrics) -> Recommender:
        """The fitted recommender."""


def open_job(
    config: PipelineConfig, *, frames: Mapping[str, Any] | None = None, rank: int = 0, world_size: int = 1
) -> Job:
    """Opens the data of a pipeline for the kind of model that it names.

    Raises:
        DataError: Data are missing or break a rule.
        ConfigError: The pipeline does not fit together.
    """
    if issubclass(resolve(config.model.model_class), ItemScorer):
        from intarsia.recommender.retrieval_job import RetrievalJob

        return RetrievalJob(config, frames=frames, rank=rank, world_size=world_size)
    if config.export_config.index is not None:
        raise ConfigError(
            "export_config.index is of models that rank a catalogue. Received: "
            f"{config.model.model_class}, which scores rows. Remove the field."
        )
    return RankJob(config, frames=frames, rank=rank, world_size=world_size)


class RankJob:
    """A model that scores rows; see `Job`."""

    def __init__(
        self, config: PipelineConfig, *, frames: Mapping[str, Any] | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        self.config = config
        self.prepared = prepare(config, frames=frames, rank=rank, world_size=world_size)
        self.schema, self.rows = self.prepared.schema, self.prepared.rows
        self.parts = list(self.prepared.parts)

    def build(self) -> Model:
        """The model."""
        self.model = build(self.config.model, self.schema, backend=self.config.train_config.embedding_backend)
        return self.model

    def training(self) -> BatchSource:
        """Training rows."""
        return self.prepared.train

    def solve(self) -> None:
        """Nothing: rank models are trained."""

    def measure(self, part: str) -> Evaluation:
        """Metrics of rows."""
        return evaluate_part(self.model, self.config, self.prepared.parts[part])

    def whole(self) -> Job:
        """Not for rows: files of validation rows may be of another kind than training rows."""
        raise ConfigError(
            "export_config.refit trains on all interactions of a log, for models that rank a catalogue. Received: "
            f"{self.config.model.model_class}. Remove the field, and add your validation files to train_input_path."
        )

    def keep(self, folder: Path) -> None:
        """Nothing."""

    def bundle(self, metrics: Metrics) -> Recommender:
        """A recommender that scores rows."""
        from intarsia.recommender.row_recommender import RowRecommender

        prepared = self.prepared
        return RowRecommender(self.config, self.schema, prepared.encoder, self.model, prepared.known, metrics)
