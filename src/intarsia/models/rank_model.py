"""RankModel: any backbone, one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from intarsia.backbone.build import Backbone
from intarsia.config.schema import LossConfig, ModelConfig
from intarsia.core.batch import Batch, Jagged
from intarsia.core.errors import BuildError, Problem
from intarsia.data.schema import Schema
from intarsia.models.base import AUXILIARY, Model
from intarsia.objectives.rank import RankLosses


class RankModel(Model):
    """Scores rows: a backbone, a dense head where the backbone's width is not the number of classes, and a loss.

    With one class the logit is one number a row, and a backbone that ends in one unit is the logit itself.

        loss = task losses + auxiliary losses of the backbone's blocks
             + embedding_regularization * sum(x^2) / 2 over the looked-up vectors of the batch
             + l2_regularization * sum(w^2) / 2 over the kernels of the layers

    Args:
        backbone: The graph.
        label: Name of the label.
        task: Losses of the head, and what it predicts.
        l2_regularization: Strength on kernels.
        embedding_regularization: Strength on looked-up vectors.

    Source: EasyRec's host class of configurable backbones. Departure: l2_regularization reaches the kernels of
    every component of the backbone, MLPs included.
    """

    summed_losses = frozenset({"embedding_regularization"})
    steady_shapes = False
    """Whether batches of one size make products of one shape: no feature is a sequence."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        label: str,
        task: RankLosses,
        l2_regularization: float = 0.0,
        embedding_regularization: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.label = label
        self.task = task
        self.l2_regularization = l2_regularization
        self.embedding_regularization = embedding_regularization
        width = backbone.out_features
        self.head = nn.Identity() if width == task.num_class else nn.Linear(width, task.num_class)
        if isinstance(self.head, nn.Linear):
            nn.init.xavier_uniform_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    @classmethod
    def from_config(cls, config: ModelConfig, schema: Schema, *, backend: str = "torch") -> Self:
        """Builds the model of a pipeline file.

        Raises:
            BuildError: No backbone, an unknown label, or a graph that does not fit together.
        """
        config = cls.expand(config)
        if config.backbone is None:
            raise BuildError([Problem("", "model_config", f"`{config.model_class}` needs a `backbone`")])
        label = config.label_name or next(iter(schema.labels), "")
        if label not in schema.labels:
            known = ", ".join(schema.labels) or "none"
            raise BuildError([Problem("", "model_config.label_name", f"there is no label `{label}`. Labels: {known}")])
        model = cls(
            backbone=Backbone(
                config=config.backbone, feature_groups=config.feature_groups, schema=schema, backend=backend
            ),
            label=label,
            task=RankLosses(
                config.losses or [LossConfig(loss_type=config.loss_type)],
                num_class=config.num_class,
                strategy=config.loss_weight_strategy,
            ),
            l2_regularization=config.model_params.l2_regularization,
            embedding_regularization=config.embedding_regularization,
        )
        model.steady_shapes = not any(spec.sequence for spec in schema.features.values())
        return model

    @classmethod
    def expand(cls, config: ModelConfig) -> ModelConfig:
        """The same model written as a backbone; named models override this."""
        return config

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions of B rows: `logits`, `probs` or `y`, and what blocks add to the outputs."""
        output, run = self.backbone(batch)
        if output.dim() == 1:
            output = output.unsqueeze(1)
        predictions: dict[str, Tensor] = self.task.predict(self.head(output))
        predictions.update(run.outputs)
        if self.training:
            predictions.update({AUXILIARY + name: value for name, value in run.losses.items()})
            if self.embedding_regularization:
                looked_up = [run.embedded[key] for key in self.backbone.embedder.learned]
                penalty = self.embedding_regularization * _half_squares(looked_up)
                predictions[f"{AUXILIARY}embedding_regularization"] = penalty
        return predictions

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The task's losses, the auxiliary losses and the penalties; their sum is minimised."""
        out: dict[str, Tensor] = self.task(predictions["logits"], batch.labels[self.label], batch.weights, batch.ids)
        out.update({k.removeprefix(AUXILIARY): v for k, v in predictions.items() if k.startswith(AUXILIARY)})
        if self.l2_regularization and self.training:
            out["l2_regularization"] = self.l2_regularization * _half_squares(self.kernels())
        return out


def _half_squares(values: Any) -> Tensor:
    tensors = [value.values if isinstance(value, Jagged) else value for value in values]
    total: Tensor = sum((tensor.square().sum() for tensor in tensors), torch.zeros(()))
    return total / 2


MODEL = RankModel
