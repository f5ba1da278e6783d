"""ItemKNN: items that the same people took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from intarsia.core.batch import Batch, Jagged
from intarsia.core.errors import BuildError, DataError, Problem
from intarsia.core.params import Param
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.retriever import rows_and_steps
from intarsia.models.rows import distinct_history, tensors, training_matrix
from intarsia.models.solver import Solver
from intarsia.nn.sequence import to_padded

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CHUNK = 1 << 23
"""Pairs of items, or numbers of scores, that are in memory at a time."""


@dataclass(frozen=True)
class Votes:
    """What items of histories say for others, sorted by (item of the history, scored item).

    Attributes:
        keys: (V,) item of the history times N plus the scored item.
        weights: (V,).
    """

    keys: Tensor
    weights: Tensor


class ItemKNN(Solver):
    """Each item has some neighbours: those that the same users took. A history speaks for what it is a neighbour of.

    Strong for its price, explains itself ("because you took ..."), and is updated by counting.

        score(h, i) = sum over the distinct items j of h that are among the top_k neighbours of i of s(i, j)

        cosine           s(i, j) = <x_i, x_j> / (|x_i| |x_j| + shrink)
        adjusted_cosine  the same of ratings less each user's mean
        jaccard          s(i, j) = n_ij / (n_i + n_j - n_ij + shrink), n counting users

    with x_i the column of item i in the matrix of users and items. It holds 1 where the user took the item, or by
    `weighting`, with f_ui how often user u took item i, n_u how many items u took, and F_i = sum_u f_ui:

        tf_idf  x_ui = f_ui log(N / n_u)
        bm25    x_ui = log(N / n_u) f_ui (k1 + 1) / (f_ui + k1 (1 - b + b F_i / mean F)),  k1 = 1.2, b = 0.75

    so that users who take everything count less. Similarities that are not above zero are dropped.

    Shapes: neighbours (N, top_k). Memory: 8 N top_k bytes. Time: the sum of the squared lengths of the histories.

    Source: Sarwar et al., Item-based Collaborative Filtering Recommendation Algorithms (WWW 2001), sections 3.1 and
    3.2; the shrink: Ferrari Dacremi, Cremonesi and Jannach, Are We Really Making Much Progress? (RecSys 2019).

    Departures: scores are sums, not means weighted by similarity: clicks have no ratings to average.
    """

    def __init__(
        self,
        *,
        schema: Schema,
        top_k: Annotated[int, Param("Neighbours that an item keeps.", ge=1)] = 100,
        similarity: Annotated[
            Literal["cosine", "adjusted_cosine", "jaccard"],
            Param("What makes items alike; adjusted_cosine needs ratings."),
        ] = "cosine",
        weighting: Annotated[
            Literal["none", "tf_idf", "bm25"], Param("How a user's interactions count; cosine alone.")
        ] = "none",
        shrink: Annotated[
            float, Param("Added to the divisor, so that items that few people took are less alike.", ge=0)
        ] = 0.0,
    ) -> None:
        super().__init__()
        if weighting != "none" and similarity != "cosine":
            text = (
                "weighting goes with similarity: cosine; the others count users or compare ratings. Received: "
                f"weighting {weighting}, similarity {similarity}. Set weighting: none."
            )
            raise BuildError([Problem("", "model_config.item_knn.weighting", text)])
        self.num_items, self.top_k = schema.num_items, top_k
        self.similarity, self.weighting, self.shrink = similarity, weighting, shrink
        self.register_buffer("neighbors", torch.zeros(self.num_items, self.top_k, dtype=torch.int32))
        self.register_buffer("similarities", torch.zeros(self.num_items, self.top_k))
        self.register_buffer("num_neighbors", torch.zeros(self.num_items, dtype=torch.int64))

    def fit(self, division: Division, seed: int) -> None:
        """Finds the neighbours.

        Raises:
            DataError: Ratings are asked for, and the log has none.
        """
        matrix = self._matrix(division)
        of_items = matrix.T.tocsr()
        lengths = _sums(matrix.copy(), squared=True)  # |x_i|^2; of zeros and ones n_i
        for items in _blocks(of_items, matrix):
            products = of_items[items] @ matrix
            products.sort_indices()
            self._keep(items, products, lengths)

    def _matrix(self, division: Division) -> csr_array:
        """x, (U, N)."""
        if self.similarity == "adjusted_cosine":
            if division.log.ratings is None:
                raise DataError(
                    "similarity: adjusted_cosine compares ratings. Received: a log without log.rating_field. Name the "
                    "column, or set similarity: cosine."
                )
            return _centred(training_matrix(division, values="rating"))
        if self.weighting == "none":
            return training_matrix(division)
        counts = training_matrix(division, values="count")
        sizes = np.diff(counts.indptr)
        rarity = np.log(counts.shape[1] / np.maximum(sizes, 1)).repeat(sizes)
        often = counts.data
        if self.weighting == "bm25":
            totals = _sums(counts)
            norm = 0.25 + 0.75 * totals / totals.mean()
            often = often * 2.2 / (often + 1.2 * norm[counts.indices])
        counts.data = (often * rarity).astype(np.float32)
        return counts

    def _keep(self, items: np.ndarray, products: csr_array, lengths: np.ndarray) -> None:
        """Keeps the most similar of the pairs of a block of items."""
        columns, offsets, values = tensors(products)
        rows, _ = rows_and_steps(offsets, len(columns))
        size = torch.from_numpy(lengths)
        one, other = size[torch.from_numpy(items)][rows], size[columns]
        if self.similarity == "jaccard":
            divisor = one + other - values
        else:
            divisor = (one * other).sqrt()
        likeness = values / (divisor + self.shrink)
        likeness[columns == torch.from_numpy(items)[rows]] = 0.0
        padded, _ = to_padded(likeness, offsets)  # (b, L), zeros behind each row
        best, place = padded.topk(min(self.top_k, padded.shape[1]), dim=1)
        place = (place + offsets[:-1].unsqueeze(1)).clamp(max=max(len(columns) - 1, 0))
        where, width = torch.from_numpy(items), best.shape[1]
        self.get_buffer("similarities")[where, :width] = best
        self.get_buffer("neighbors")[where, :width] = columns[place].int() if len(columns) else 0
        self.get_buffer("num_neighbors")[where] = (best > 0).sum(dim=1)

    def catalogue(self) -> Votes:
        """The neighbours turned around: for each item of a history the items it speaks for."""
        counts = self.get_buffer("num_neighbors")
        real = torch.arange(self.top_k, device=counts.device) < counts.unsqueeze(1)
        scored = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        keys, order = (self.get_buffer("neighbors")[real].long() * self.num_items + scored).sort()
        return Votes(keys, self.get_buffer("similarities")[real][order])

    def queries(self, batch: Batch) -> Jagged:
        """Distinct items of the histories."""
        return distinct_history(batch, self.num_items)

    def score_block(self, queries: Jagged, catalogue: Votes, start: int, stop: int) -> Tensor:
        """Sums of votes, in the order of the history's items."""
        first = torch.searchsorted(catalogue.keys, queries.values * self.num_items + start)
        last = torch.searchsorted(catalogue.keys, queries.values * self.num_items + stop)
        offsets = torch.cat([first.new_zeros(1), (last - first).cumsum(0)])
        step, place = rows_and_steps(offsets, int(offsets[-1]))
        vote = first[step] + place
        rows, _ = rows_and_steps(queries.offsets, len(queries.values))
        slots = rows[step] * (stop - start) + catalogue.keys[vote] % self.num_items - start
        scores = catalogue.weights.new_zeros(len(queries) * (stop - start))
        return scores.index_add_(0, slots, catalogue.weights[vote]).view(len(queries), -1)

    def score_pairs(self, queries: Jagged, catalogue: Votes, items: Tensor) -> Tensor:
        """(B, M), from the scores of all items, some queries at a time."""
        out = [catalogue.weights.new_zeros(0, items.shape[1])]
        step = max(1, CHUNK // self.num_items)
        for start in range(0, len(queries), step):
            offsets = queries.offsets[start : start + step + 1]
            part = Jagged(queries.values[offsets[0] : offsets[-1]], offsets - offsets[0])
            scores = self.score_block(part, catalogue, 0, self.num_items)
            out.append(scores.gather(1, items[start : start + step].clamp(min=0)))
        return torch.cat(out)


def _blocks(of_items: csr_array, matrix: csr_array) -> Iterator[np.ndarray]:
    """Items in the order of how many pairs they make, as many at a time as a chunk holds."""
    pairs = of_items.astype(bool).astype(np.int64) @ np.diff(matrix.indptr).astype(np.int64)
    order = np.argsort(pairs, kind="stable")
    ends = np.minimum(pairs[order], matrix.shape[1]).cumsum()
    while len(order):
        count = max(1, int(np.searchsorted(ends, CHUNK, side="right")))
        yield order[:count].astype(np.int64)
        order, ends = order[count:], ends[count:] - ends[count - 1]


def _sums(matrix: csr_array, *, squared: bool = False) -> np.ndarray:
    """(N,) sums of the columns."""
    weights = matrix.data**2 if squared else matrix.data
    return np.bincount(matrix.indices, weights, minlength=matrix.shape[1]).astype(np.float32)


def _centred(ratings: csr_array) -> csr_array:
    """Ratings less the mean of their row."""
    sizes = np.diff(ratings.indptr)
    means = np.add.reduceat(np.append(ratings.data, 0.0), ratings.indptr[:-1]) / np.maximum(sizes, 1)
    ratings.data = (ratings.data - means.repeat(sizes)).astype(np.float32)
    return ratings


MODEL = ItemKNN
