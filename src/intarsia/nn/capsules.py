"""Capsules: the steps of a history vote for K interests, and dynamic routing settles which step goes where.

Shape legend: B rows, L steps, K interests, D dimension, G groups of interests. The interests of a group hear the same
votes: G = 1 where all share one transformation, G = K where each has its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def squash(vectors: Tensor) -> Tensor:
    """Vectors (..., D) of the same direction, their lengths pressed below 1.

        squash(z) = |z|^2 / (1 + |z|^2) * z / |z|

    Source: Sabour et al., Dynamic Routing Between Capsules (NeurIPS 2017), eq. 1.
    """
    squares = vectors.square().sum(dim=-1, keepdim=True)
    return squares / (1.0 + squares) * vectors * (squares + 1e-9).rsqrt()


def dynamic_routing(
    votes: Tensor, real: Tensor, logits: Tensor, *, iterations: int, interests: Tensor | None = None
) -> Tensor:
    """Interests that the votes of the steps agree on.

        w = softmax over the interests of b, for each step; 0 for padding
        u_k = squash(sum_i w_ki vote_ki);  b_ki = b_ki + <u_k, vote_ki>

    repeated; the gradient passes through the votes of the last sum alone, the way there counts as given.

    Source: Sabour et al. 2017, procedure 1; over items Li et al. (CIKM 2019), algorithm 1.

    Args:
        votes: (B, G, L, D).
        real: (B, L) bool, False for padding.
        logits: (B or 1, K, L) routing logits b at the start.
        iterations: Times that interests are computed, at least 1.
        interests: (B,) how many of the K interests each row has; None: all.

    Returns:
        (B, K, D); interests beyond a row's own number are zeros.
    """
    rows, groups, steps, width = votes.shape
    count = logits.shape[1]
    absent = ~real.unsqueeze(1)  # (B, 1, L)
    if interests is not None:
        absent = absent | (torch.arange(count, device=votes.device) >= interests.unsqueeze(1)).unsqueeze(2)
    logits = logits.expand(rows, count, steps)
    given = votes.detach()
    for left in range(iterations - 1, -1, -1):
        shares = _shares(logits, absent, interests).view(rows, groups, count // groups, steps)
        capsules = squash(shares @ (given if left else votes))  # (B, G, K / G, D)
        if left:
            logits = logits + (capsules @ given.transpose(2, 3)).view(rows, count, steps)
    return capsules.view(rows, count, width)


def _shares(logits: Tensor, absent: Tensor, interests: Tensor | None) -> Tensor:
    """(B, K, L): how each step divides itself among the interests."""
    if interests is not None:
        missing = torch.arange(logits.shape[1], device=logits.device) >= interests.unsqueeze(1)
        logits = logits.masked_fill(missing.unsqueeze(2), -torch.inf)
    return logits.softmax(dim=1).masked_fill(absent, 0.0)


class SharedVotes(nn.Module):
    """One matrix for all steps and all interests: vote_i = S item_i.

    Args:
        dim: D.

    Shape:
        (B, L, D) to (B, 1, L, D).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bilinear = nn.Linear(dim, dim, bias=False)

    def forward(self, steps: Tensor) -> Tensor:
        """Votes of padded steps."""
        out: Tensor = self.bilinear(steps).unsqueeze(1)
        return out


class PositionVotes(nn.Module):
    """A matrix for each position and each interest: vote_ki = W_ki item_i.

    Args:
        dim: D.
        num_interests: K.
        max_length: Positions that have matrices, K * D * D numbers each.

    Shape:
        (B, L, D), L at most max_length, to (B, K, L, D).
    """

    def __init__(self, dim: int, num_interests: int, max_length: int) -> None:
        super().__init__()
        self.num_interests = num_interests
        self.weight = nn.Parameter(torch.empty(max_length, dim, num_interests * dim))
        nn.init.normal_(self.weight, std=dim**-0.5)

    def forward(self, steps: Tensor) -> Tensor:
        """Votes of padded steps."""
        rows, length, dim = steps.shape
        votes = torch.bmm(steps.transpose(0, 1), self.weight[:length])  # (L, B, K * D)
        return votes.view(length, rows, self.num_interests, dim).permute(1, 2, 0, 3)
