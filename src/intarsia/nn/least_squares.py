"""Many small ridge regressions at once: the vector of each row, given the vectors of what the row holds.

A row is a user with the items that they took, or an item with its users. Alternating least squares solves one side
after the other with this.

Shape legend: B rows, S entries of all rows, L entries of a row, D dimension, N vectors of the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intarsia.core.errors import TrainingError

CHUNK_NUMBERS = 1 << 19
"""Numbers of the padded vectors that are worked on at a time: they should stay in a processor's cache."""
_SLACK = 1.25
"""How much longer than its shortest row the longest of a group may be."""


@dataclass(frozen=True)
class RowGroup:
    """b rows of like length, padded.

    Attributes:
        rows: (b,) numbers of the rows.
        entries: (b, L) int32 numbers of what the rows hold; the number N, a vector of zeros, where a row is shorter.
        weights: (b, L) weight of each entry; None: all count 1.
        targets: (b, L) what the product with each entry's vector should be; None: 1.
    """

    rows: Tensor
    entries: Tensor
    weights: Tensor | None = None
    targets: Tensor | None = None


def group_rows(
    entries: Tensor,
    offsets: Tensor,
    *,
    count: int,
    width: int,
    weights: Tensor | None = None,
    targets: Tensor | None = None,
) -> list[RowGroup]:
    """Cuts jagged rows into groups of like length. Rows without entries are in none.

    Args:
        entries: (S,) numbers from 0 to N - 1.
        offsets: (B + 1,); row b owns the entries `offsets[b]:offsets[b + 1]`.
        count: N.
        width: D of the vectors that will be looked up.
        weights: (S,) or None.
        targets: (S,) or None.
    """
    lengths = offsets.diff()
    order = lengths.argsort(stable=True)
    order = order[int((lengths == 0).sum()) :]
    return [_padded(order[part], entries, offsets, count, weights, targets) for part in _parts(lengths[order], width)]


def _parts(lengths: Tensor, width: int) -> Iterator[slice]:
    """Runs of ascending lengths that fit in a chunk."""
    start, total = 0, len(lengths)
    while start < total:
        shortest = int(lengths[start])
        stop = int(torch.searchsorted(lengths, int(shortest * _SLACK), right=True))
        longest = int(lengths[stop - 1])
        stop = min(stop, start + max(1, CHUNK_NUMBERS // (width * max(longest, width))))
        yield slice(start, stop)
        start = stop


def _padded(
    rows: Tensor, entries: Tensor, offsets: Tensor, count: int, weights: Tensor | None, targets: Tensor | None
) -> RowGroup:
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    step = torch.arange(int(lengths.max()), device=entries.device)
    real = step < lengths.unsqueeze(1)
    index = torch.where(real, starts.unsqueeze(1) + step, 0)

    def laid_out(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[index].masked_fill(~real, 0)

    padded = entries[index].masked_fill(~real, count).to(torch.int32)
    return RowGroup(rows, padded, laid_out(weights), laid_out(targets))


def solve_rows(
    groups: Sequence[RowGroup],
    vectors: Tensor,
    start: Tensor,
    *,
    ridge: Tensor,
    gram: Tensor | None = None,
    steps: int = 0,
) -> Tensor:
    """The vector x of each row b that minimises

        sum over entries e of w_e (t_e - <x, v_e>)^2 + x' gram x + ridge_b |x|^2

    by solving (sum_e w_e v_e v_e' + gram + ridge_b I) x = sum_e w_e t_e v_e.

    Args:
        groups: The rows.
        vectors: (N, D) vectors v.
        start: (B, D) where conjugate gradients start. Rows without entries get zeros.
        ridge: (B,) strengths.
        gram: (D, D), added to every system; or (D,), where it is diagonal.
        steps: Steps of conjugate gradients, each of which costs L x D a row; 0: exact solution by Cholesky, which
            costs L x D^2 + D^3 / 3, and where no gram is there but a diagonal one, L^2 x D + L^3 / 3 if L < D.

    Returns:
        (B, D).

    Raises:
        TrainingError: A system has no single solution.
    """
    padded = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
    solution = torch.zeros_like(start)
    for group in groups:
        size, longest = group.entries.shape
        own = padded.index_select(0, group.entries.flatten()).view(size, longest, -1)  # (b, L, D)
        damping = ridge[group.rows].unsqueeze(1)  # (b, 1), or (b, D) with a diagonal gram
        if gram is not None and gram.dim() == 1:
            damping = damping + gram
        full = gram if gram is not None and gram.dim() == 2 else None
        if steps:
            product = _product(own, group.weights, full, damping)
            solution[group.rows] = conjugate_gradients(product, _right(own, group), start[group.rows], steps)
        elif full is None and longest < own.shape[2] and bool((damping > 0).all()):
            solution[group.rows] = _exact_of_few(own, group, damping)
        else:
            solution[group.rows] = _exact(own, group, full, damping)
    return solution


def _right(own: Tensor, group: RowGroup) -> Tensor:
    """(b, D) sum of w t v."""
    factor = group.targets
    if group.weights is not None:
        factor = group.weights if factor is None else factor * group.weights
    return own.sum(dim=1) if factor is None else torch.bmm(factor.unsqueeze(1), own).squeeze(1)


def _product(own: Tensor, weights: Tensor | None, gram: Tensor | None, damping: Tensor) -> Callable[[Tensor], Tensor]:
    """x (b, D) to its product with each row's system, which is never written out."""

    def product(x: Tensor) -> Tensor:
        hits = torch.bmm(x.unsqueeze(1), own.transpose(1, 2))  # (b, 1, L)
        if weights is not None:
            hits = hits * weights.unsqueeze(1)
        out = torch.bmm(hits, own).squeeze(1).addcmul_(x, damping)
        return out if gram is None else out.addmm_(x, gram)

    return product


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, steps: int) -> Tensor:
    """Approximate solutions of b systems at once.

    Args:
        product: (b, D) to the product of each row with its system, symmetric and positive definite.
        right: (b, D) right sides.
        start: (b, D) where to start.
        steps: Steps; D of them are exact but for rounding.

    Source: Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear Systems (1952); for alternating
    least squares Takács, Pilászy and Tikk, Applications of the Conjugate Gradient Method for Implicit Feedback
    Collaborative Filtering (RecSys 2011).
    """
    x = start
    residual = right - product(x)
    direction = residual
    size = residual.square().sum(dim=1, keepdim=True)
    for step in range(steps):
        along = product(direction)
        # A row that is solved has nothing left to move along.
        length = size / (direction * along).sum(dim=1, keepdim=True).clamp_(min=torch.finfo(x.dtype).tiny)
        x = torch.addcmul(x, direction, length)
        if step == steps - 1:
            break
        residual = torch.addcmul(residual, along, length, value=-1.0)
        before, size = size, residual.square().sum(dim=1, keepdim=True)
        direction = torch.addcmul(residual, direction, size / before.clamp(min=torch.finfo(x.dtype).tiny))
    return x


def _exact_of_few(own: Tensor, group: RowGroup, damping: Tensor) -> Tensor:
    """Rows of fewer entries than dimensions, by systems of L equations.

    With V the vectors of a row, each times the root of its weight, t likewise, and the diagonal A of the damping,
    (V'V + A)^-1 V't = A^-1 V' (I + V A^-1 V')^-1 t.

    Source: the matrix inversion lemma, Golub and Van Loan, Matrix Computations, section 2.1.4.
    """
    targets = own.new_ones(own.shape[:2]) if group.targets is None else group.targets
    if group.weights is not None:
        roots = group.weights.sqrt()
        own, targets = own * roots.unsqueeze(2), targets * roots
    systems = torch.bmm(own / damping.unsqueeze(1), own.transpose(1, 2))  # (b, L, L)
    systems.diagonal(dim1=1, dim2=2).add_(1.0)
    weights = _cholesky_solved(systems, targets, damping)
    return torch.bmm(weights.unsqueeze(1), own).squeeze(1) / damping


def _exact(own: Tensor, group: RowGroup, gram: Tensor | None, damping: Tensor) -> Tensor:
    weighted = own if group.weights is None else own * group.weights.unsqueeze(2)
    systems = torch.bmm(weighted.transpose(1, 2), own)  # (b, D, D)
    if gram is not None:
        systems += gram
    systems.diagonal(dim1=1, dim2=2).add_(damping)
    return _cholesky_solved(systems, _right(own, group), damping)


def _cholesky_solved(systems: Tensor, right: Tensor, damping: Tensor) -> Tensor:
    factors, failed = torch.linalg.cholesky_ex(systems)
    if bool(failed.any()):
        raise TrainingError(
            "a least squares problem needs a ridge that is large enough to have a single solution. Received: "
            f"{int((failed > 0).sum())} rows without one, smallest ridge {float(damping.min()):g}. Raise the "
            "regularization."
        )
    return torch.cholesky_solve(right.unsqueeze(2), factors).squeeze(2)
