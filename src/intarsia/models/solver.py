"""The contract of models that are computed from a log in one go, without gradients."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from torch import Tensor

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch
from intarsia.core.errors import BuildError, Problem
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.blocks import message
from intarsia.models.retriever import ItemScorer


class Solver(ItemScorer):
    """Computes its numbers from the training part of a log. What it has computed are buffers, so it saves as any model.

    A subclass declares its options in the constructor (keyword arguments with `Param`, beside `schema`), makes its
    buffers there in their final shapes, and fills them in `fit`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.Config = config_from_signature(cls)

    @classmethod
    def from_config(cls, config: ModelConfig, schema: Schema, *, backend: str = "torch") -> Self:
        """Builds the model of a pipeline file.

        Raises:
            BuildError: The data are no interaction log, or the pipeline names an objective.
        """
        if not schema.num_items:
            text = f"`{config.model_class}` learns from an interaction log. Name it by data_config.dataset or log"
            raise BuildError([Problem("", "model_config.model_class", text)])
        for name in ("objective", "negatives"):
            if getattr(config, name) is not None:
                text = f"`{config.model_class}` is computed without an objective or negatives. Remove the field"
                raise BuildError([Problem("", f"model_config.{name}", text)])
        options: StrictModel = message(config, cls)
        return cls(schema=schema, **{name: getattr(options, name) for name in type(options).model_fields})

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
