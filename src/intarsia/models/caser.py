"""Caser: convolutions over the latest steps as an image."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import USER
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.retriever import history_of, rows_and_steps
from intarsia.models.sequential import SequentialRetriever, from_the_end, last_steps
from intarsia.models.sides import Sides
from intarsia.nn.dropout import Dropout
from intarsia.nn.id_table import IdTable
from intarsia.nn.item_bias import ItemBias
from intarsia.nn.side_features import ItemEncoder
from intarsia.objectives.retrieval import Objective


class Caser(SequentialRetriever):
    """Filters slide over an image of the latest steps; the user's own vector stands beside what they find.

    For short memories in which a few steps together mean something that none of them means alone.

        E = [item_{t-L+1}, ..., item_t]'                               L x D, zeros before the history begins
        o = for each height h = 1..L and filter F of h x D:  max over positions of relu(<E[i:i+h], F> + c)
        o' = [W_1 E, ..., W_n E]                                       vertical filters of L x 1
        z = relu(W [o; o'] + b);   score(t, i) = <[z; p_u], w_i> + b_i

    Every step of a history is asked for the one after it; its image is cut out of the history on the spot.

    Shapes: steps (S, D), images (S, L, D); queries (S, 2D + 1) or (B, 2D + 1), without users (.., D + 1).

    Source: Tang and Wang, Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding (WSDM
    2018), equations 3 to 11.

    Departures: the next item alone is predicted, not the next T; the default objective is the full softmax (the
    paper's is `objective: {bce: {num_negatives: 3}}`); images begin at the first step of a history instead of the
    fifth; the vector of a user whom training never saw is 0, and so is z where there is no history.
    """

    reads = frozenset({"user", "history"})

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items, users and z.", ge=1)] = 64,
        window: Annotated[int, Param("L, steps of an image.", ge=1)] = 5,
        horizontal_filters: Annotated[int, Param("Horizontal filters of each height.", ge=1)] = 16,
        vertical_filters: Annotated[int, Param("Vertical filters.", ge=1)] = 4,
        max_history: Annotated[int, Param("Latest steps of a history that training reads.", ge=1)] = 50,
        dropout: Annotated[float, Param("Dropout of what the filters found.", ge=0, lt=1)] = 0.5,
        user_vectors: Annotated[bool, Param("Whether users have vectors.")] = True,
    ) -> None:
        std = 1.0 / hidden_size
        super().__init__(schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, item_std=std)
        self.window, self.max_history = window, max(max_history, window)
        self.horizontal = nn.ModuleList(
            nn.Linear(height * hidden_size, horizontal_filters) for height in range(1, window + 1)
        )
        self.vertical = nn.Linear(window, vertical_filters, bias=False)
        self.dropout = Dropout(dropout)
        self.project = nn.Linear(window * horizontal_filters + vertical_filters * hidden_size, hidden_size)
        if not user_vectors:
            self.reads = frozenset({"history"})
        self.users = IdTable(schema.num_users, hidden_size, std=std, sparse=True) if user_vectors else None
        width = hidden_size * (2 if user_vectors else 1)
        self.output_items = ItemEncoder(schema.num_items, width, std=1.0 / width, features=sides.item)
        self.bias = None if objective.similarity == "cosine" else ItemBias(schema.num_items)
        self.num_biases = 0 if self.bias is None else 1

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`queries`: (S, 2D + 1), one for each step."""
        history = history_of(batch)
        rows, _ = rows_and_steps(history.offsets, len(history.values))
        found = self.encode_steps(self.step_vectors(batch), history.offsets)
        return {"queries": self._ask(found, batch, rows)}

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, 2D + 1), of the last image of each history; z is 0 where there is no history."""
        history = history_of(batch)
        latest = from_the_end(history.offsets, len(history.values)) < self.window
        lengths = history.lengths.clamp(max=self.window)
        image = Jagged(history.values[latest], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
        found = last_steps(self.encode_steps(self.step_vectors(batch)[latest], image.offsets), image)
        return self._ask(found, batch, torch.arange(len(history), device=lengths.device))

    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """(S, D): z of the image that ends with each step (S, D)."""
        index = self.image_index(offsets, len(steps))
        images = torch.cat([steps, steps.new_zeros(1, steps.shape[1])])[index]  # (S, L, D)
        found = []
        for height, filters in enumerate(self.horizontal, start=1):
            assert isinstance(filters, nn.Linear)
            # Images share their positions: each filter looks once at the last rows of each image, and before the
            # beginning it sees zeros, of which its bias is left.
            seen = torch.cat([filters(images[:, -height:].flatten(1)), filters.bias.unsqueeze(0)])
            found.append(seen[index[:, height - 1 :]].amax(dim=1).relu())
        found.append(self.vertical(images.transpose(1, 2)).transpose(1, 2).flatten(1))  # (S, n D), filter by filter
        out: Tensor = self.project(self.dropout(torch.cat(found, dim=1))).relu()
        return out

    def image_index(self, offsets: Tensor, count: int) -> Tensor:
        """(S, L) numbers of the steps in the image that ends with each of S steps; S before a history begins."""
        _, place = rows_and_steps(offsets, count)
        back = torch.arange(self.window - 1, -1, -1, device=offsets.device)
        index = torch.arange(count, device=offsets.device).unsqueeze(1) - back
        return torch.where(place.unsqueeze(1) < back, count, index)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., 2D + 1) output vectors of items, the bias at the end."""
        vectors = super().encode_items(items)
        if self.bias is None:
            return vectors
        out: Tensor = self.bias(vectors, items)
        return out

    def _ask(self, found: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        if self.users is not None:
            user = batch.features[USER]
            assert isinstance(user, Dense)
            found = torch.cat([found, self.users(user.values[rows])], dim=1)
        return found if self.bias is None else self.bias.ask(found)


MODEL = Caser
