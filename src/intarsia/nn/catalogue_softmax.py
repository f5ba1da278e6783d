"""Cross entropy over a whole catalogue, without a tensor of positions x items.

Positions are taken a chunk at a time. Each chunk's gradient is computed while its probabilities are at hand, so nothing
of size (P, N) is kept for the backward pass and no product is computed twice.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from intarsia.nn.fast_products import fast_products

CHUNK_BYTES = 4 << 20
"""Logits that are alive at a time. Small enough to stay in a processor's cache between the passes over them."""


def catalogue_softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Mean cross entropy of P targets under a softmax over N items.

        logits[p, n] = scale * <queries[p], items[n]> + bias[n]
        loss = sum_p weights[p] * (logsumexp_n logits[p, n] - logits[p, targets[p]]) / P

    Args:
        queries: (P, D) floating point.
        items: (N, D).
        targets: (P,) int64 item numbers.
        bias: (N,) or None.
        weights: (P,) or None: all count alike. The divisor is the number of weights that are not 0.
        scale: Factor of the products: one over the temperature.

    Returns:
        Scalar float32 (float64 for float64 queries); 0 for no positions.

    All of it is float32, under autocast, too.
    """
    if queries.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            return catalogue_softmax_loss(queries.float(), items.float(), targets, bias, weights, scale)
    count = queries.shape[0] if weights is None else int((weights != 0).sum())
    share = queries.new_full((queries.shape[0],), 1.0) if weights is None else weights.to(queries.dtype)
    loss: Tensor = _CatalogueSoftmax.apply(queries, items, targets, bias, share / max(count, 1), scale)  # type: ignore[no-untyped-call]
    return loss


class _CatalogueSoftmax(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, bias: Tensor | None, weights: Tensor, scale: float
    ) -> Tensor:
        wants = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[3]]
        queries, items = queries.detach(), items.detach()
        of_queries = torch.empty_like(queries) if wants[0] else None
        of_items = torch.zeros_like(items) if wants[1] else None
        of_bias = torch.zeros_like(bias) if wants[2] and bias is not None else None
        loss = queries.new_zeros(())
        rows = max(1, CHUNK_BYTES // (max(items.shape[0], 1) * queries.element_size()))
        across = items.t()
        full = queries.shape[0] // rows * rows
        for start in range(0, queries.shape[0], rows):
            # The last chunk has a shape of its own each time.
            with fast_products(queries.device) if start < full else nullcontext():
                part = slice(start, start + rows)
                query, target, weight = queries[part] * scale, targets[part, None], weights[part, None]
                logits = query @ across if bias is None else torch.addmm(bias.detach(), query, across)
                top = logits.amax(dim=1, keepdim=True)
                hit = logits.gather(1, target)
                logits.sub_(top).exp_()
                total = logits.sum(dim=1, keepdim=True)
                loss += (weight * (total.log() + top - hit)).sum()
                if not any(wants):
                    continue
                # The gradient of the logits, in place of the exponentials: weight * (softmax - one at the target).
                logits.mul_(weight / total).scatter_add_(1, target, -weight)
                if of_queries is not None:
                    torch.mm(logits, items, out=of_queries[part])
                if of_items is not None:
                    of_items.addmm_(logits.t(), query)
                if of_bias is not None:
                    of_bias += logits.sum(dim=0)
        if of_queries is not None:
            of_queries *= scale
        ctx.save_for_backward(of_queries, of_items, of_bias)
        return loss

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_queries, of_items, of_bias = (None if g is None else g * gradient for g in ctx.saved_tensors)
        return of_queries, of_items, None, of_bias, None, None
