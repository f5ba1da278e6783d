"""NeuMF: matrix factorization and dense layers side by side."""

from __future__ import annotations

from typing import Annotated

from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.ncf import Latest, Penalty
from intarsia.models.ncf_net import Layers, NetNCF
from intarsia.objectives.retrieval import Objective


class NeuMF(NetNCF):
    """Factors and dense layers, each with vectors of their own, share one output: neural matrix factorization.

    The complete model of neural collaborative filtering. Scores are no inner products, so no index searches them; the
    whole catalogue is scored. Where that is too slow, `GMF` and `MF` come close.

        g = p_u * q_i                                              element by element
        z_1 = [p'_u, q'_i];  z_l = relu(W_l z_{l-1} + b_l)
        score(u, i) = <h, [g, z_L]> + b

    Shapes: users (B,) to queries (B, D + H), D the factors and H the units of the first layer, which is computed for
    users and for items apart; see `intarsia.models.ncf_net`.

    A user whom training never saw gets the mean of the vectors of the ten training users with the most similar
    histories; see `intarsia.models.ncf_net`.

    Source: He et al., Neural Collaborative Filtering (WWW 2017), equation 12; trained by equation 7 with four unseen
    items for each pair. From the authors' code: vectors start from N(0, 0.01^2), layers from Glorot's and h from
    LeCun's uniform distribution, and there is a bias b.

    Departures: trained from the start, not from the weights of a trained GMF and MLP (the paper's tables have both);
    the sigmoid is part of the objective. The authors' penalty is on whole tables and layers, l2 is on the rows of the
    pairs of a batch.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        hidden_size: Annotated[int, Param("D, factors.", ge=1)] = 8,
        layer_size: Annotated[int, Param("Width of the vectors that the layers read.", ge=1)] = 32,
        hidden_units: Layers = [32, 16, 8],  # noqa: B006 - read, never changed
        l2: Penalty = 0.0,
        max_history: Latest = 1000,
    ) -> None:
        super().__init__(
            schema=schema,
            objective=objective,
            factors=hidden_size,
            layer_size=layer_size,
            hidden_units=hidden_units,
            l2=l2,
            max_history=max_history,
        )


MODEL = NeuMF
