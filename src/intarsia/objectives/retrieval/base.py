"""What objectives of retrievers read and give: queries that score items, positives, negatives, the objective.

Shape legend: B rows of a batch (users, histories), P positives and queries, one for each other, n negatives, N items of
the catalogue, M any number of items, D dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from intarsia.core.batch import Jagged
from intarsia.core.errors import BuildError, DataError
from intarsia.objectives.retrieval.frequency import ItemCounts

Similarity = Literal["inner_product", "cosine", "euclidean"]
"""How two vectors make a score; `euclidean` is the squared distance, negated."""


@dataclass(frozen=True)
class Factors:
    """Scores of queries and items as a product: scale * <queries[p], items[n]> + bias[n] (+ a term of p alone).

    Attributes:
        queries: (P, D).
        items: (N, D), or (M, D) of M items.
        bias: (N,) or None.
        scale: Factor of the products.
    """

    queries: Tensor
    items: Tensor
    bias: Tensor | None = None
    scale: float = 1.0


class Scorer(ABC):
    """P queries and the catalogue of N items that they are scored against.

    Attributes:
        num_queries: P.
        num_items: N.
    """

    num_queries: int
    num_items: int

    @abstractmethod
    def pairs(self, items: Tensor) -> Tensor:
        """Scores of each query with its own items: (P,) or (P, n) int64 to scores of the same shape."""

    def block(self, items: Tensor) -> Tensor:
        """(P, M) scores of all queries with the same items (M,)."""
        return self.pairs(items.expand(self.num_queries, -1))

    def groups(self, positions: Tensor, items: Tensor) -> Tensor:
        """Scores inside of groups: each query of a group with all items of the group.

        Args:
            positions: (G, Q) numbers of the queries of each of G groups, a query in one group at most; -1: no query.
            items: (G, M) items of each group.

        Returns:
            (G, Q, M); what stands where there is no query means nothing.
        """
        group = torch.zeros(self.num_queries, dtype=torch.int64, device=items.device)
        real = positions >= 0
        group[positions[real]] = real.nonzero()[:, 0]
        return self.pairs(items[group])[positions.clamp(min=0)]

    def factors(self, items: Tensor | None = None) -> Factors | None:
        """The scores as a product of two matrices; None where the model has no such form.

        Args:
            items: (M,) the items to score; None: the whole catalogue.
        """
        return None

    def cosine(self) -> Scorer:
        """The same queries and items under the cosine of their vectors, between -1 and 1.

        Raises:
            BuildError: The model has no vectors.
        """
        raise BuildError(
            "an objective on cosines needs a model that makes a vector of each query and each item. Received: "
            f"{type(self).__name__}, which scores pairs. Use another objective, such as bpr or bce."
        )


@dataclass(frozen=True)
class Positives:
    """P items to be found, one for each query.

    Attributes:
        items: (P,) int64.
        rows: (P,) row of the batch that a position belongs to, from 0 to B - 1; None: position p is row p.
        steps: (P,) position inside of its history, from 0; None: rows have one position each.
        ratings: (P,) float32 or None.
        weights: (P,) float32; None: all count alike.
        users: (P,) user numbers, -1: unknown; or None.
        seen: For each of the B rows all training items of that row's user, sorted, each once; or None.
    """

    items: Tensor
    rows: Tensor | None = None
    steps: Tensor | None = None
    ratings: Tensor | None = None
    weights: Tensor | None = None
    users: Tensor | None = None
    seen: Jagged | None = None

    def __len__(self) -> int:
        return self.items.shape[0]

    def row_of(self) -> Tensor:
        """(P,) row of each position."""
        return torch.arange(len(self), device=self.items.device) if self.rows is None else self.rows

    def step_of(self) -> Tensor:
        """(P,) step of each position."""
        return torch.zeros_like(self.items) if self.steps is None else self.steps


@dataclass(frozen=True)
class Negatives:
    """Items that are taken for not wanted.

    Attributes:
        items: (n,) the same for all positives, each once; or (P, n), each positive's own.
        log_prob_of: Items to logarithms of the number of times that each is expected among the n: (n,) or (P, n) for
            items of that shape, (P,) for one item of each positive. Where no item can come twice that is the
            probability that it comes at all. A positive is spoken of as if it could be drawn, too.
        valid: Bool, (n,) or (P, n): False for what must not be used. None: all may be.
    """

    items: Tensor
    log_prob_of: Callable[[Tensor], Tensor]
    valid: Tensor | None = None

    @property
    def shared(self) -> bool:
        """Whether all positives have the same negatives."""
        return self.items.dim() == 1

    @property
    def log_probs(self) -> Tensor:
        """Of the shape of `items`: what `log_prob_of` says of the negatives."""
        return self.log_prob_of(self.items)

    def usable(self, positives: Positives) -> Tensor:
        """(P, n) bool: valid, and not the positive itself (no accidental hit)."""
        usable = self.items != positives.items.unsqueeze(1)
        return usable if self.valid is None else usable & self.valid

    def scores(self, scorer: Scorer) -> Tensor:
        """(P, n) scores of the positives' queries."""
        return scorer.block(self.items) if self.shared else scorer.pairs(self.items)


class Sampler(nn.Module, ABC):
    """Where negatives come from. Random numbers are drawn from torch's global generator.

    Args:
        num_items: N.

    Attributes:
        needs_seen: Whether positives must come with their users' seen items.
    """

    needs_seen: bool = False

    def __init__(self, *, num_items: int) -> None:
        super().__init__()
        self.num_items = num_items

    def check(self, n: int) -> None:
        """Raises BuildError if the sampler cannot give n negatives."""

    @torch.no_grad()
    def sample(self, positives: Positives, scorer: Scorer, n: int, *, shared: bool = False) -> Negatives:
        """Draws negatives.

        Args:
            positives: P positives.
            scorer: Scores of their queries, for samplers that look for hard negatives.
            n: Negatives of each positive.
            shared: Whether all positives may get the same ones.
        """
        items, valid = self.draw(positives, scorer, n, shared)
        return Negatives(items, lambda of: self.log_probs(of, positives, n, shared), valid)

    @abstractmethod
    def draw(self, positives: Positives, scorer: Scorer, n: int, shared: bool) -> tuple[Tensor, Tensor | None]:
        """Items and what of them is valid, as in `Negatives`; in an order that means nothing."""

    @abstractmethod
    def log_probs(self, items: Tensor, positives: Positives, n: int, shared: bool) -> Tensor:
        """`log_prob_of` of negatives drawn with these arguments."""


class Objective(nn.Module, ABC):
    """What a retriever minimises.

    Args:
        num_items: N.

    Attributes:
        name: Name of the loss in logs, and of the objective in a pipeline file.
        explicit: Whether positives must come with ratings.
        whole_catalogue: Whether the loss looks at all items, so that tables need dense gradients.
        similarity: `cosine` where the objective is one of cosines: a model must rank by them, too. None: any score.
        sampler: Where negatives come from; None: the objective draws none.
    """

    name: ClassVar[str]
    whole_catalogue: ClassVar[bool] = False
    explicit: bool = False
    similarity: Similarity | None = None
    sampler: Sampler | None

    def __init__(self, *, num_items: int) -> None:
        super().__init__()
        self.num_items = num_items
        self.sampler = None

    @property
    def needs_seen(self) -> bool:
        """Whether positives must come with their users' seen items."""
        return self.sampler is not None and self.sampler.needs_seen

    def set_counts(self, counts: Tensor) -> None:
        """Tells how often each item (N,) is a positive in training; kept in the state.

        Raises:
            BuildError: There is not one count an item, or counts make no probabilities.
        """
        if counts.shape != (self.num_items,):
            raise BuildError(
                f"counts of items are one number for each of the {self.num_items} items. Received: shape "
                f"{tuple(counts.shape)}. Count the training interactions of every item."
            )
        for part in self.modules():
            if isinstance(part, ItemCounts):
                part.set(counts)

    def forward(self, scorer: Scorer, positives: Positives) -> dict[str, Tensor]:
        """The loss by its name: a mean over the positives, weighted; 0 where there are none.

        Raises:
            DataError: There is not one positive a query, or something that the objective reads is missing.
        """
        if positives.items.shape != (scorer.num_queries,):
            raise DataError(
                f"an objective needs one positive for each query. Received: {scorer.num_queries} queries, positives of "
                f"shape {tuple(positives.items.shape)}."
            )
        if not len(positives):
            return {self.name: scorer.pairs(positives.items).sum()}
        if self.similarity == "cosine":
            scorer = scorer.cosine()
        return {self.name: self.compute(scorer, positives)}

    @abstractmethod
    def compute(self, scorer: Scorer, positives: Positives) -> Tensor:
        """The loss of at least one positive, a scalar."""


def wide(scores: Tensor) -> Tensor:
    """Scores in single precision at least: losses are not computed in half."""
    return scores if scores.dtype == torch.float64 else scores.float()
