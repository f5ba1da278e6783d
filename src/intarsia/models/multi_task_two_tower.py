"""MultiTaskTwoTower: retrieval and ratings from the same two towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.core.errors import BuildError, DataError
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.sides import Sides
from intarsia.models.two_tower import CandidateUnits, Dropout, Latest, QueryUnits, StateWidth, TwoTower, Width
from intarsia.nn.towers import tower
from intarsia.objectives.base import weighted_mean
from intarsia.objectives.retrieval import Objective


class MultiTaskTwoTower(TwoTower):
    """Two towers that find what will be taken and predict how it will be rated.

    Where ratings are few and interactions many: each task lends the other its vectors.

        r(u, i) = mean + net([q; c]);   loss = retrieval_weight * retrieval + rating_weight * (r - rating)^2

    Items are ranked by <q, c>; `rate` predicts ratings.

    Shapes: as in `TwoTower`; ratings (B,).

    Source: TensorFlow Recommenders, tutorial on multi-task recommenders: retrieval and ranking with
    `retrieval_weight` and `rating_weight`; the sum of losses is Caruana, Multitask Learning (1997).

    Raises:
        BuildError: Both weights are 0.

    Departures: the query tower reads the history and the context as that of `TwoTower`. The net predicts the distance
    to the mean rating of the first batch, since errors as large as ratings themselves would drown the retrieval.
    """

    mean: Tensor
    mean_is_known: Tensor

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Width = 64,
        gru_size: StateWidth = 0,
        query_units: QueryUnits = [128],  # noqa: B006 - read, never changed
        candidate_units: CandidateUnits = [],  # noqa: B006 - read, never changed
        rating_units: Annotated[list[PositiveInt], Param("Hidden layers of the rating net.")] = [128, 64],  # noqa: B006 - read, never changed
        rating_weight: Annotated[float, Param("Weight of the squared error of ratings.", ge=0)] = 1.0,
        retrieval_weight: Annotated[float, Param("Weight of the objective.", ge=0)] = 1.0,
        dropout: Dropout = 0.0,
        max_history: Latest = 50,
    ) -> None:
        if not rating_weight and not retrieval_weight:
            raise BuildError(
                "MultiTaskTwoTower needs a task to learn. Received: rating_weight 0, retrieval_weight 0. Make one of "
                "them positive."
            )
        super().__init__(
            schema=schema,
            objective=objective,
            sides=sides,
            hidden_size=hidden_size,
            gru_size=gru_size,
            query_units=query_units,
            candidate_units=candidate_units,
            dropout=dropout,
            max_history=max_history,
        )
        self.rating_weight, self.retrieval_weight = rating_weight, retrieval_weight
        self.ratings = tower(2 * hidden_size, rating_units, 1, dropout=dropout)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("mean_is_known", torch.tensor(False))

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The objective and the squared error of ratings, weighted.

        Raises:
            DataError: The log has no ratings.
        """
        out = {name: self.retrieval_weight * loss for name, loss in super().losses(predictions, batch).items()}
        positives = self.positives(batch)
        if positives.ratings is None:
            raise DataError(
                "MultiTaskTwoTower learns ratings, and the log has none. Name their column by log.rating_field, or use "
                "TwoTower."
            )
        if self.training:
            self._take_mean(positives.ratings)
        predicted = self._rated(predictions["queries"], positives.items)
        errors = (predicted - positives.ratings.to(predicted)).square()
        out["rating"] = self.rating_weight * weighted_mean(errors, positives.weights)
        return out

    def rate(self, batch: Batch, items: Tensor) -> Tensor:
        """(B,) ratings that the batch's queries would give to items (B,)."""
        return self._rated(self.encode_queries(batch), items)

    @torch.no_grad()
    def _take_mean(self, ratings: Tensor) -> None:
        self.mean.copy_(torch.where(self.mean_is_known, self.mean, ratings.to(self.mean).mean()))
        self.mean_is_known.fill_(True)

    def _rated(self, queries: Tensor, items: Tensor) -> Tensor:
        out: Any = self.ratings(torch.cat([queries, self.encode_items(items)], dim=1))
        rating: Tensor = out.squeeze(1) + self.mean
        return rating


MODEL = MultiTaskTwoTower
