"""What models share that read one history at a time and are asked for the item after it (view `next`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch, Feature
from intarsia.core.batch_names import HISTORY, TARGET, USER
from intarsia.data.interactions.views import ViewKind
from intarsia.data.schema import Schema
from intarsia.models.retriever import Retriever, history_of
from intarsia.models.sides import Sides, sides_of, without_users
from intarsia.nn.side_features import ItemEncoder, SideFeatures
from intarsia.objectives.retrieval import Objective


class NextItemRetriever(Retriever):
    """Items of the history, and whatever else is known of the user and the moment, become vectors of one width.

    A model adds `encode_queries`; items are encoded as the history's are unless it says otherwise.

    Args:
        schema: Numbers of users and items.
        objective: What is minimised.
        sides: Features of users, of items, and of interactions. Those of items are added to item vectors; those of
            interactions to the steps of the history, and with `moment` they also describe the interaction to predict.
        hidden_size: D.
        item_std: Standard deviation of the item vectors at the start.
        reads_user: Whether features of users are read.
        moment: Whether the context of the interaction to predict is read.
    """

    view: ClassVar[ViewKind] = "next"

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: int,
        item_std: float = 0.05,
        reads_user: bool = False,
        moment: bool = False,
    ) -> None:
        super().__init__()
        if not reads_user:
            without_users(sides, type(self).__name__)
        self.num_items, self.objective, self.hidden_size, self.item_std = (
            schema.num_items,
            objective,
            hidden_size,
            item_std,
        )
        self.items = self.item_encoder(sides)
        self.context = SideFeatures(sides.context, hidden_size) if sides.context else None
        self.moment = SideFeatures(sides.context, hidden_size) if sides.context and moment else None
        self.person = SideFeatures(sides.user, hidden_size) if sides.user and reads_user else None

    @classmethod
    def parts(cls, config: ModelConfig, schema: Schema) -> dict[str, Any]:
        """Side features."""
        return {"sides": sides_of(config, schema)}

    def item_encoder(self, sides: Sides) -> ItemEncoder:
        """Vectors of items: rows of a table, and features."""
        return ItemEncoder(
            self.num_items,
            self.hidden_size,
            std=self.item_std,
            sparse=not self.objective.whole_catalogue,
            features=sides.item,
        )

    def step_vectors(self, batch: Batch) -> Tensor:
        """(S, D) vectors of the steps: of the item, and of the moment where there are such features."""
        vectors: Tensor = self.items(history_of(batch).values)
        if self.context is None:
            return vectors
        out: Tensor = vectors + self.context(_named(self.context, batch, HISTORY))
        return out

    @property
    def num_side_vectors(self) -> int:
        """Vectors that `side_vectors` gives."""
        return sum(part is not None for part in (self.person, self.moment))

    def side_vectors(self, batch: Batch) -> list[Tensor]:
        """(B, D) vectors of the user's features and of the moment, those of them that there are."""
        out: list[Tensor] = []
        if self.person is not None:
            out.append(self.person(_named(self.person, batch, USER)))
        if self.moment is not None:
            out.append(self.moment(_named(self.moment, batch, TARGET)))
        return out

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D) vectors of items."""
        out: Tensor = self.items(items)
        return out


def _named(encoder: SideFeatures, batch: Batch, of: str) -> Mapping[str, Feature]:
    """The features of the user, of the steps or of the moment, by their bare names."""
    return {f.name: batch.features[f"{of}/{f.name}"] for f in encoder.features}
