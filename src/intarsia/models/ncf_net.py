"""What NeuMF and NCFMLP share: a net that scores pairs, without computing anything twice that users or items share.

Shape legend: B rows, P queries, n items of a query, M items, W numbers in a row of a table, D factors, H units of the
first layer.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import USER
from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.interactions.views import user_rows
from intarsia.data.schema import Schema
from intarsia.models.ncf import NCF
from intarsia.models.retriever import Vectors, history_of
from intarsia.nn.initializers import initialize_
from intarsia.objectives.retrieval import Objective, Scorer
from intarsia.objectives.retrieval.products import distinct, rows_at_a_time

Layers = Annotated[list[PositiveInt], Param("Widths of the layers, at least one.")]
NEIGHBOURS = 10
"""Training users who stand for a user without a row."""
KEPT_NUMBERS = 1 << 24
"""Numbers of a layer that are kept for the way back; of more pairs, layers are computed again there."""


class NetNCF(NCF):
    """Scores pairs by a net over the rows of the user and the item.

    A row holds D factors and M numbers for the layers, either of which may be none. The first layer is a sum of what it
    makes of the user and of the item, so that it is computed once for each of them and not for each pair:

        z = a(W_u p + b + W_i q);  further layers z = a(W z + b);  score = sum_d h_d p_d q_d + <h', z> + b'

    Queries are [h * p, W_u p + b] and items [q, W_i q]; `net` makes scores of them.

    A user whom training never saw gets the mean of the rows of the training users with the most similar histories: by
    the cosine between the means of their items' rows, from which the mean of all users is taken away. What is known of
    the training users for that is remembered when training is over.

    Args:
        schema: Numbers of users and items.
        objective: What is minimised.
        factors: D.
        layer_size: M.
        hidden_units: Widths of the layers.
        l2: Strength of the penalty on the rows of the training pairs.
        max_history: Latest items that describe a user without a row.

    Raises:
        BuildError: There is no layer.
    """

    indexable = False

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        factors: int,
        layer_size: int,
        hidden_units: list[int],
        l2: float,
        max_history: int,
    ) -> None:
        width = factors + layer_size
        super().__init__(schema=schema, objective=objective, width=width, l2=l2, max_history=max_history)
        if not hidden_units:
            raise BuildError(
                f"`{type(self).__name__}` needs at least one layer. Received: hidden_units = []. Name the widths, or "
                "use `GMF`, which has no layers."
            )
        self.factors = factors
        self.of_user = nn.Linear(layer_size, hidden_units[0])
        self.of_item = nn.Linear(layer_size, hidden_units[0], bias=False)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden_units))
        self.output = nn.Linear(factors + hidden_units[-1], 1)
        self._start()
        self.register_buffer("histories", torch.zeros(schema.num_users, width))
        self.register_buffer("known", torch.zeros(schema.num_users, dtype=torch.bool))
        self.register_buffer("usual_history", torch.zeros(width))

    def _start(self) -> None:
        """Glorot's uniform distribution, of the first layer as a whole; the output's is LeCun's."""
        whole = initialize_(torch.empty(self.of_user.out_features, 2 * self.of_user.in_features), "glorot_uniform")
        with torch.no_grad():
            for part, weight in zip((self.of_user, self.of_item), whole.chunk(2, dim=1)):
                part.weight.copy_(weight)
        for layer in self.hidden:
            initialize_(layer.get_parameter("weight"), "glorot_uniform")
        initialize_(self.output.weight, "lecun_uniform")
        for layer in (self.of_user, *self.hidden, self.output):
            nn.init.zeros_(layer.get_parameter("bias"))

    # Users and items

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D + H)."""
        rows = self.user_vectors(batch)
        user = batch.features[USER]
        assert isinstance(user, Dense)
        strangers = user.values < 0
        if not self.training and bool(strangers.any()):
            rows = torch.where(strangers.unsqueeze(1), self._neighbours_mean(history_of(batch)), rows)
        factors, layers = rows[:, : self.factors], rows[:, self.factors :]
        return torch.cat([factors * self.output.weight[0, : self.factors], self.of_user(layers)], dim=1)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D + H)."""
        rows: Tensor = self.items.weight if items is None else self.items(items)
        return torch.cat([rows[..., : self.factors], self.of_item(rows[..., self.factors :])], dim=-1)

    def finish(self, division: Division) -> None:
        """Remembers the histories of the training users."""
        offsets, items, _ = user_rows(division)
        histories = Jagged(torch.from_numpy(items.astype("int64")), torch.from_numpy(offsets))
        means = self._means(histories)
        known = (histories.lengths > 0).to(means.device)
        usual = means[known].mean(dim=0)
        self.get_buffer("usual_history").copy_(usual)
        self.get_buffer("histories").copy_(functional.normalize(means - usual, dim=1))
        self.get_buffer("known").copy_(known)

    def _means(self, histories: Jagged) -> Tensor:
        """(B, W) means of the rows of the items; zeros for none."""
        weight = self.items.weight.detach()
        values, offsets = histories.values.to(weight.device), histories.offsets.to(weight.device)
        return functional.embedding_bag(values, weight, offsets, mode="mean", include_last_offset=True)

    def _neighbours_mean(self, histories: Jagged) -> Tensor:
        """(B, W) means of the rows of the users with the nearest histories; of all users for an empty history."""
        known, rows = self.get_buffer("known"), self.users.weight.detach()
        count = int(known.sum())
        if not count:
            return rows.new_zeros(len(histories), rows.shape[1])
        directions = functional.normalize(self._means(histories) - self.get_buffer("usual_history"), dim=1)
        cosines = (directions @ self.get_buffer("histories").t()).masked_fill(~known, -torch.inf)
        nearest = cosines.topk(min(NEIGHBOURS, count), dim=1).indices
        empty = (histories.lengths == 0).unsqueeze(1)
        return torch.where(empty, rows[known].mean(dim=0), rows[nearest].mean(dim=1))

    # Scores

    def scorer(self, queries: Tensor) -> Scorer:
        """The net."""
        return NetScorer(queries, self)

    def catalogue(self) -> Vectors:
        """What the first layer makes of all items."""
        return Vectors(self.encode_items().detach())

    def queries(self, batch: Batch) -> Tensor:
        """What the first layer makes of the users, in double precision."""
        return self.encode_queries(batch).double()

    def score_block(self, queries: Tensor, catalogue: Vectors, start: int, stop: int) -> Tensor:
        """Computed in double precision, rounded to single, so that the size of a block cannot change them."""
        return self.net(queries, catalogue.items[start:stop]).float()

    def score_pairs(self, queries: Tensor, catalogue: Vectors, items: Tensor) -> Tensor:
        """(B, M) scores of each query's own items."""
        return self.net(queries, catalogue.items, items.clamp(min=0)).float()

    def net(self, queries: Tensor, items: Tensor, places: Tensor | None = None) -> Tensor:
        """Scores, a part of the queries at a time.

        Args:
            queries: (P, D + H).
            items: (M, D + H).
            places: (P, n) which of the items each query is scored with; None: all.

        Returns:
            (P, M) or (P, n).
        """

        def part(some: Tensor, where: Tensor | None) -> Tensor:
            if where is None:
                return self._product(some, items) + self._deep(some.unsqueeze(1), items)
            own = items.index_select(0, where.reshape(-1)).view(*where.shape, -1)
            return self._product(some.unsqueeze(1), own).squeeze(1) + self._deep(some.unsqueeze(1), own)

        width = (len(items) if places is None else places.shape[1]) * self.of_user.out_features
        graph = torch.is_grad_enabled() and queries.requires_grad
        return _in_parts(part, queries, places, width, graph)

    def _product(self, queries: Tensor, items: Tensor) -> Tensor:
        """The factors' part, and the bias."""
        bias = self.output.get_parameter("bias").to(queries.dtype)
        return queries[..., : self.factors] @ items[..., : self.factors].transpose(-1, -2) + bias

    def _deep(self, queries: Tensor, items: Tensor) -> Tensor:
        """The layers' part: (P, 1, D + H) with (M, D + H) or (P, n, D + H)."""
        out = torch.relu(queries[..., self.factors :] + items[..., self.factors :])
        for layer in self.hidden:
            weight, bias = (layer.get_parameter(name).to(out.dtype) for name in ("weight", "bias"))
            out = torch.relu(functional.linear(out, weight, bias))
        return out @ self.output.weight[0, self.factors :].to(out.dtype)


class NetScorer(Scorer):
    """Scores by a net; the first layer is computed once for each distinct item.

    Args:
        queries: (P, D + H).
        model: The net.
    """

    def __init__(self, queries: Tensor, model: NetNCF) -> None:
        self.num_queries, self.num_items = queries.shape[0], model.num_items
        self.queries, self.model = queries, model

    def pairs(self, items: Tensor) -> Tensor:
        """Scores of each query with its own items."""
        found, places = distinct(items, self.num_items)
        scores = self.model.net(self.queries, self.model.encode_items(found), places.view(len(items), -1))
        return scores.view(items.shape)

    def block(self, items: Tensor) -> Tensor:
        """Scores of all queries with the same items."""
        return self.model.net(self.queries, self.model.encode_items(items))


Part = Callable[[Tensor, Tensor | None], Tensor]


def _in_parts(function: Part, queries: Tensor, places: Tensor | None, width: int, graph: bool) -> Tensor:
    """The function of queries and their places, some rows of them at a time; `width` numbers a row are in a layer."""
    if not len(queries) or (graph and len(queries) * width <= KEPT_NUMBERS):
        return function(queries, places)
    parts, size = [], rows_at_a_time(width, queries)
    for start in range(0, len(queries), size):
        some = slice(start, start + size)
        given = (queries[some], None if places is None else places[some])
        parts.append(checkpoint(function, *given, use_reentrant=False) if graph else function(*given))
    return torch.cat(parts)
