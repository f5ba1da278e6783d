"""Products of queries with items, and the softmax over them, a part of the queries at a time.

Nothing of size (P, n, D), and for the softmax nothing of size (P, M), is ever in memory: the parts are small enough for
a processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CPU_BYTES, _GPU_BYTES = 4 << 20, 256 << 20


def distinct(items: Tensor, num_items: int) -> tuple[Tensor, Tensor]:
    """The distinct items (M,), sorted, and the place in them of each of the given ones.

    Args:
        items: Any shape, int64.
        num_items: N.
    """
    if items.numel() * 8 < num_items:
        found, places = torch.unique(items, return_inverse=True)
        return found, places
    # Marks in an array over the catalogue are faster than sorting.
    marks = torch.zeros(num_items, dtype=torch.int64, device=items.device)
    marks[items.reshape(-1)] = 1
    return marks.nonzero()[:, 0], (marks.cumsum(0) - 1)[items]


def rows_at_a_time(width: int, like: Tensor) -> int:
    """How many rows of `width` numbers are worked on together."""
    size = _CPU_BYTES if like.device.type == "cpu" else _GPU_BYTES
    return max(1, size // max(width * like.element_size(), 1))


def full_precision(like: Tensor) -> torch.autocast:
    """A context without mixed precision."""
    return torch.autocast(like.device.type, enabled=False)


def widened(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one type, single precision at least."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return [t.to(dtype) for t in tensors]


def pair_products(queries: Tensor, vectors: Tensor, index: Tensor) -> Tensor:
    """(P, n) products <queries[p], vectors[index[p, k]]>.

    Args:
        queries: (P, D).
        vectors: (M, D).
        index: (P, n) int64 rows of `vectors`.
    """
    with full_precision(queries):
        out: Tensor = _PairProducts.apply(*widened(queries, vectors), index)  # type: ignore[no-untyped-call]
    return out


class _PairProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, vectors: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(queries, vectors, index)
        out = queries.new_empty(index.shape)
        count, width = index.shape[1], queries.shape[1]
        rows = rows_at_a_time(count * width, queries)
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            near = vectors.index_select(0, index[part].reshape(-1)).view(-1, count, width)
            torch.bmm(near, queries[part].unsqueeze(2), out=out[part].unsqueeze(2))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, vectors, index = ctx.saved_tensors
        of_queries = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        of_vectors = torch.zeros_like(vectors) if ctx.needs_input_grad[1] else None
        count, width = index.shape[1], queries.shape[1]
        rows = rows_at_a_time(count * width, queries)
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            flat = index[part].reshape(-1)
            if of_queries is not None:
                near = vectors.index_select(0, flat).view(-1, count, width)
                torch.bmm(gradient[part].unsqueeze(1), near, out=of_queries[part].unsqueeze(1))
            if of_vectors is not None:
                pulls = gradient[part].unsqueeze(2) * queries[part].unsqueeze(1)  # (rows, n, D)
                of_vectors.index_add_(0, flat, pulls.view(-1, width))
        return of_queries, of_vectors, None


def candidate_softmax_losses(
    queries: Tensor, vectors: Tensor, bias: Tensor, own: Tensor, hits: Tensor, scale: float = 1.0
) -> Tensor:
    """(P,) cross entropies of each query's own logit among those of M candidates that all queries share.

        logits[p, m] = scale * <queries[p], vectors[m]> + bias[m]
        loss[p] = log(exp(own[p]) + sum over m != hits[p] of exp(logits[p, m])) - own[p]

    The backward pass computes the products a second time.

    Args:
        queries: (P, D).
        vectors: (M, D).
        bias: (M,).
        own: (P,) logits of the positives.
        hits: (P,) int64, the candidate that is the positive itself and does not count; -1: none.
        scale: Factor of the products.
    """
    with full_precision(queries):
        inputs = widened(queries, vectors, bias, own)
        losses: Tensor = _CandidateSoftmax.apply(*inputs, hits, scale)  # type: ignore[no-untyped-call]
    return losses


class _CandidateSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, vectors: Tensor, bias: Tensor, own: Tensor, hits: Tensor, scale: float
    ) -> Tensor:
        total = torch.empty_like(own)
        for part in _parts(queries, vectors):
            logits = _logits(queries, vectors, bias, hits, scale, part)
            total[part] = torch.logaddexp(logits.logsumexp(dim=1), own[part])
        ctx.save_for_backward(queries, vectors, bias, own, hits, total)
        ctx.scale = scale
        return total - own

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, vectors, bias, own, hits, total = ctx.saved_tensors
        of_queries = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        of_vectors = torch.zeros_like(vectors) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        for part in _parts(queries, vectors):
            shares = _logits(queries, vectors, bias, hits, ctx.scale, part)
            shares.sub_(total[part, None]).exp_().mul_(gradient[part, None])
            if of_queries is not None:
                torch.mm(shares, vectors, out=of_queries[part])
            if of_vectors is not None:
                of_vectors.addmm_(shares.t(), queries[part])
            if of_bias is not None:
                of_bias += shares.sum(dim=0)
        for found in (of_queries, of_vectors):
            if found is not None:
                found *= ctx.scale
        of_own = gradient * torch.expm1(own - total) if ctx.needs_input_grad[3] else None
        return of_queries, of_vectors, of_bias, of_own, None, None


def _parts(queries: Tensor, vectors: Tensor) -> list[slice]:
    rows = rows_at_a_time(len(vectors), queries)
    return [slice(start, start + rows) for start in range(0, len(queries), rows)]


def _logits(queries: Tensor, vectors: Tensor, bias: Tensor, hits: Tensor, scale: float, part: slice) -> Tensor:
    """(rows, M) with -inf at the hits."""
    logits = torch.addmm(bias, queries[part], vectors.t(), alpha=scale)
    hit = hits[part]
    row = (hit >= 0).nonzero()[:, 0]
    logits[row, hit[row]] = -torch.inf
    return logits
