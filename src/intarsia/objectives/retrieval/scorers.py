"""Scores from vectors of queries and items."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.core.errors import BuildError
from intarsia.objectives.retrieval.base import Factors, Scorer, Similarity
from intarsia.objectives.retrieval.products import distinct, pair_products

Encode = Callable[[Tensor | None], Tensor]
"""Item numbers (...) to vectors (..., D) or biases (...); None: the whole catalogue."""

FEW = 2
"""Items of a query up to which plain sums are faster than products of matrices."""
MANY = 65536
"""From this number of pairs on, vectors are made once for each distinct item, and not gathered all at once."""


class FactorScorer(Scorer):
    """Scores of vectors.

        inner_product:  s(q, i) = <q, i> / temperature + bias_i
        cosine:         s(q, i) = <q, i> / (|q| |i| temperature) + bias_i
        euclidean:      s(q, i) = -|q - i|^2 / temperature + bias_i

    Args:
        queries: (P, D).
        encode: Vectors of items.
        num_items: N.
        bias: Biases of items, or None.
        similarity: How two vectors make a score.
        temperature: Divisor of the similarity, above 0.

    Raises:
        BuildError: Queries are not P vectors.
    """

    def __init__(
        self,
        queries: Tensor,
        encode: Encode,
        *,
        num_items: int,
        bias: Encode | None = None,
        similarity: Similarity = "inner_product",
        temperature: float = 1.0,
    ) -> None:
        if queries.dim() != 2:
            raise BuildError(
                "queries of a scorer are one vector for each positive, (P, D). Received: shape "
                f"{tuple(queries.shape)}. Of several vectors choose the one that the positive goes with."
            )
        self.num_queries, self.num_items = queries.shape[0], num_items
        self.queries = functional.normalize(queries, dim=-1) if similarity == "cosine" else queries
        self.encode, self.bias = encode, bias
        self.similarity, self.scale = similarity, 1.0 / temperature

    def pairs(self, items: Tensor) -> Tensor:
        """Products of each query with its own items."""
        if items.dim() == 1:
            vectors = self._vectors(items)
            products = (self.queries * vectors).sum(dim=-1)
            return self._scores(products, self.queries, vectors, items)
        if items.numel() < MANY:
            vectors = self._vectors(items)
            if items.shape[1] <= FEW:
                products = (vectors * self.queries.unsqueeze(1)).sum(dim=-1)
            else:
                products = torch.bmm(vectors, self.queries.unsqueeze(2)).squeeze(2)
            return self._scores(products, self.queries.unsqueeze(1), vectors, items)
        found, places = distinct(items, self.num_items)
        factors = self.factors(found)
        scores = pair_products(factors.queries * factors.scale, factors.items, places)
        if factors.bias is not None:
            scores = scores + factors.bias[places]
        if self.similarity == "euclidean":
            scores = scores - self.scale * self.queries.square().sum(dim=1, keepdim=True)
        return scores

    def block(self, items: Tensor) -> Tensor:
        """One product of two matrices."""
        vectors = self._vectors(items)
        return self._scores(self.queries @ vectors.t(), self.queries.unsqueeze(1), vectors, items)

    def groups(self, positions: Tensor, items: Tensor) -> Tensor:
        """One product of matrices for each group."""
        vectors = self._vectors(items)
        queries = self.queries[positions.clamp(min=0)]
        products = torch.bmm(queries, vectors.transpose(1, 2))
        return self._scores(products, queries.unsqueeze(2), vectors.unsqueeze(1), items.unsqueeze(1))

    def factors(self, items: Tensor | None = None) -> Factors:
        """Queries and items. Squared distances lose |q|^2, which is the same for all items of a query."""
        vectors = self._vectors(items)
        bias = None if self.bias is None else self.bias(items)
        if self.similarity != "euclidean":
            return Factors(self.queries, vectors, bias, self.scale)
        squares = -self.scale * vectors.square().sum(dim=-1)
        return Factors(self.queries, vectors, squares if bias is None else squares + bias, 2 * self.scale)

    def cosine(self) -> FactorScorer:
        """The same vectors under the cosine, without temperature and biases."""
        if self.similarity == "cosine" and self.scale == 1.0 and self.bias is None:
            return self
        return FactorScorer(self.queries, self.encode, num_items=self.num_items, similarity="cosine")

    def _vectors(self, items: Tensor | None) -> Tensor:
        vectors = self.encode(items)
        return functional.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors

    def _scores(self, products: Tensor, queries: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
        """Scores from products; the other arguments are shaped to go with them."""
        if self.similarity == "euclidean":
            products = 2 * products - queries.square().sum(dim=-1) - vectors.square().sum(dim=-1)
        scores = products if self.scale == 1.0 else products * self.scale
        return scores if self.bias is None else scores + self.bias(items)
