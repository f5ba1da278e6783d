"""Softmax losses."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.nn.catalogue_softmax import catalogue_softmax_loss
from intarsia.objectives.retrieval.base import Objective, Positives, Scorer


class Softmax(Objective):
    """Cross entropy over the whole catalogue. Draws no negatives: all items are.

        loss = -s(q, i+) / temperature + log sum_j exp(s(q, j) / temperature)

    Computed a chunk of positives at a time, without a tensor of P x N.
    """

    name = "softmax"
    whole_catalogue = True

    def __init__(
        self,
        *,
        num_items: int,
        temperature: Annotated[float, Param("Divisor of the scores.", gt=0)] = 1.0,
    ) -> None:
        super().__init__(num_items=num_items)
        self.temperature = temperature

    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The mean cross entropy."""
        factors = scorer.factors()
        if factors is None:
            raise BuildError(
                "the objective softmax scores the whole catalogue as a product of vectors. Received: "
                f"{type(scorer).__name__}, which scores pairs. Use sampled_softmax, bce or bpr."
            )
        bias = factors.bias if factors.bias is None or self.temperature == 1.0 else factors.bias / self.temperature
        return catalogue_softmax_loss(
            factors.queries,
            factors.items,
            positives.items,
            bias,
            positives.weights,
            factors.scale / self.temperature,
        )
