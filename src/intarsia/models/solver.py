"""The contract of models that are computed from a log in one go, without gradients."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from torch import Tensor

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch
from intarsia.core.errors import BuildError, Problem
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.retriever import ItemScorer, needs_log


class Solver(ItemScorer):
    """Computes its numbers from the training part of a log. What it has computed are buffers, so it saves as any model.

    A subclass declares its options in the constructor (keyword arguments with `Param`, beside `schema`), makes its
    buffers there in their final shapes, and fills them in `fit`.
    """

    @classmethod
    def from_config(cls, config: ModelConfig, schema: Schema, *, backend: str = "torch") -> Self:
        """Builds the model of a pipeline file.

        Raises:
            BuildError: The data are no interaction log, or the pipeline names an objective.
        """
        needs_log(config, schema)
        for name in ("objective", "negatives"):
            if getattr(config, name) is not None:
                text = f"`{config.model_class}` is computed without an objective or negatives. Remove the field"
                raise BuildError([Problem("", f"model_config.{name}", text)])
        return cls(schema=schema, **cls.options_given(config))

    @abstractmethod
    def fit(self, division: Division, seed: int) -> None:
        """Computes the model from the training part.

        Args:
            division: The divided log; nothing but its training windows may be read.
            seed: Of random choices.
        """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`scores`: (B, N). For small catalogues; ranking goes block by block."""
        return {"scores": self.score_block(self.queries(batch), self.catalogue(), 0, self.num_items)}

    def losses(self, predictions: Any, batch: Batch) -> dict[str, Tensor]:
        """None: there is nothing to minimise."""
        return {}
