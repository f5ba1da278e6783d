"""A vector for somebody new: the one that explains a history best, given the vectors of the items."""

from __future__ import annotations

import torch
from torch import Tensor

from intarsia.nn.sequence import to_padded

CHUNK_NUMBERS = 1 << 24
"""Numbers of the systems and of the padded histories that are in memory at a time."""


def fold_in(items: Tensor, values: Tensor, offsets: Tensor, ridge: float = 0.1) -> Tensor:
    """Vectors of B people by ridge regression.

    Of each history h the vector x that minimises

        sum_{i in h} (1 - <x, q_i>)^2 + |h| / N * sum_j <x, q_j>^2 + ridge * |h| * m * |x|^2

    where m is the mean of the eigenvalues of sum_j q_j q_j' / N: the items of the history should score 1, all items
    together 0, with equal weight. Closed form, one D x D system each. An empty history gets zeros.

    Source: the user step of alternating least squares, Hu, Koren and Volinsky (2008), eq. 4, with these weights.

    Args:
        items: (N, D) vectors of all items.
        values: (S,) item numbers of the histories.
        offsets: (B + 1,).
        ridge: Strength of the penalty, relative to the size of the item vectors.

    Returns:
        (B, D) in the type of `items`.
    """
    vectors = items.detach().double()
    count, width = vectors.shape
    gram = vectors.t() @ vectors / max(count, 1)
    lengths = offsets.diff().double()
    own = vectors[values]
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=items.device), offsets.diff())
    out = torch.zeros(len(lengths), width, dtype=torch.float64, device=items.device)
    out.index_add_(0, rows, own)
    eye = torch.eye(width, dtype=torch.float64, device=items.device)
    damped = gram + (ridge * gram.diagonal().mean() + 1e-12) * eye
    longest = int(lengths.max()) if len(lengths) else 0
    step = max(1, CHUNK_NUMBERS // (width * max(width, longest)))
    for start in range(0, len(lengths), step):
        stop = min(start + step, len(lengths))
        part = slice(int(offsets[start]), int(offsets[stop]))
        mine, _ = to_padded(own[part], offsets[start : stop + 1] - offsets[start])  # (b, L, D)
        system = torch.baddbmm(lengths[start:stop, None, None].clamp(min=1) * damped, mine.transpose(1, 2), mine)
        out[start:stop] = torch.linalg.solve(system, out[start:stop].unsqueeze(2)).squeeze(2)
    return out.to(items.dtype)
