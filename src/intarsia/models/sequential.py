"""What sequential retrievers share: items in, one vector for each step of a history out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch, Feature, Jagged
from intarsia.core.batch_names import HISTORY
from intarsia.data.schema import Schema
from intarsia.models.retriever import Retriever, history_of
from intarsia.models.sides import Sides, sides_of, without_users
from intarsia.nn.side_features import ItemEncoder, SideFeatures
from intarsia.objectives.retrieval import Objective


class SequentialRetriever(Retriever):
    """A history becomes a vector; a model adds `encode_steps`.

    Trained on all steps of a history at once (view `causal`): the output of step t is asked for the item of step t+1.
    A query is the output of the last step, and zeros for an empty history.

    Args:
        schema: Numbers of users and items.
        objective: What is minimised.
        sides: Features of items (added to their vectors, in and out) and of interactions (added to the steps).
        hidden_size: D.
        item_std: Standard deviation of the item vectors at the start.
        separate_output: Whether predicted items have vectors of their own.
    """

    view = "causal"

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: int,
        item_std: float = 0.02,
        separate_output: bool = False,
    ) -> None:
        super().__init__()
        self.num_items = schema.num_items
        self.objective = objective
        self.items = ItemEncoder(schema.num_items, hidden_size, std=item_std, features=sides.item)
        self.context = SideFeatures(sides.context, hidden_size) if sides.context else None
        self.output_items: nn.Module = self.items
        if separate_output:
            self.output_items = ItemEncoder(schema.num_items, hidden_size, std=item_std, features=sides.item)

    @classmethod
    def parts(cls, config: ModelConfig, schema: Schema) -> dict[str, Any]:
        """Side features."""
        return {"sides": without_users(sides_of(config, schema), config.model_class)}

    @abstractmethod
    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """Outputs of all steps.

        Args:
            steps: (S, D) vectors of the items of all histories, those of real steps alone.
            offsets: (B + 1,) steps of each history.

        Returns:
            (S, D); a step's output depends on that step and those before it.
        """

    def step_vectors(self, batch: Batch) -> Tensor:
        """(S, D) vectors of the steps: of the item, and of the moment where there are such features."""
        vectors: Tensor = self.items(history_of(batch).values)
        if self.context is None:
            return vectors
        moments: dict[str, Feature] = {f.name: batch.features[f"{HISTORY}/{f.name}"] for f in self.context.features}
        out: Tensor = vectors + self.context(moments)
        return out

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`queries`: (S, D), the output of every step."""
        return {"queries": self.encode_steps(self.step_vectors(batch), history_of(batch).offsets)}

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D): the output of each history's last step."""
        history = history_of(batch)
        return last_steps(self.encode_steps(self.step_vectors(batch), history.offsets), history)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D) output vectors of items."""
        out: Tensor = self.output_items(items)
        return out


def last_steps(steps: Tensor, history: Jagged) -> Tensor:
    """(B, D): the last of each history's steps (S, D), zeros where there is none."""
    padded = torch.cat([steps, steps.new_zeros(1, steps.shape[1])])
    last = torch.where(history.lengths > 0, history.offsets[1:] - 1, len(steps))
    return padded[last]


def from_the_end(offsets: Tensor, count: int) -> Tensor:
    """(S,) how many steps of its history follow each step: 0 for the last one."""
    rows = torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff(), output_size=count
    )
    return offsets[rows + 1] - 1 - torch.arange(count, device=offsets.device)
