"""NCFMLP: dense layers over the vectors of a user and an item."""

from __future__ import annotations

from typing import Annotated

from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.ncf import Latest, Penalty
from intarsia.models.ncf_net import Layers, NetNCF
from intarsia.objectives.retrieval import Objective


class NCFMLP(NetNCF):
    """Dense layers score a user and an item: the MLP of neural collaborative filtering.

    For comparison with `GMF` and `NeuMF`, of which it is one half. Scores are no inner products, so no index searches
    them; the whole catalogue is scored.

        z_1 = [p_u, q_i];  z_l = relu(W_l z_{l-1} + b_l);  score(u, i) = <h, z_L> + b

    Shapes: users (B,) to queries (B, H), H the units of the first layer, which is computed for users and for items
    apart; see `intarsia.models.ncf_net`.

    A user whom training never saw gets the mean of the vectors of the ten training users with the most similar
    histories; see `intarsia.models.ncf_net`.

    Source: He et al., Neural Collaborative Filtering (WWW 2017), equation 10; trained by equation 7 with four unseen
    items for each pair. From the authors' code: vectors start from N(0, 0.01^2), layers from Glorot's and h from
    LeCun's uniform distribution, and there is a bias b.

    Departures: none in the equations; the sigmoid is part of the objective. The authors' penalty is on whole tables and
    layers, l2 is on the rows of the pairs of a batch.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        hidden_size: Annotated[int, Param("D, width of the vectors.", ge=1)] = 32,
        hidden_units: Layers = [32, 16, 8],  # noqa: B006 - read, never changed
        l2: Penalty = 0.0,
        max_history: Latest = 1000,
    ) -> None:
        super().__init__(
            schema=schema,
            objective=objective,
            factors=0,
            layer_size=hidden_size,
            hidden_units=hidden_units,
            l2=l2,
            max_history=max_history,
        )


MODEL = NCFMLP
