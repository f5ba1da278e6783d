"""Vectors of many features without copies: cut out of one tensor, and joined again where they still lie together.

A batch's vectors of F features lie in one (B, F, D) tensor. Models take them apart by name and join most of them to
(B, F * D) for the first layer, and the gradients go the same way back. Done by copying, that costs as much as the
lookup. Here every step is a view where the parts are neighbours, and a copy where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def concat_vectors(vectors: Sequence[Tensor]) -> Tensor:
    """(B, sum of widths) of vectors (B, width), as `torch.cat(vectors, dim=-1)` gives, but without a copy if possible.

    Use it for vectors that come out of an `EmbeddingCollection`. The result may share memory with them: it must not be
    changed in place, which torch refuses where a gradient is wanted.

    Args:
        vectors: At least one tensor (..., width).
    """
    if torch.compiler.is_compiling() or any(vector.dim() != 2 for vector in vectors):
        return torch.cat(tuple(vectors), dim=-1)
    runs: list[list[Tensor]] = []
    for vector in vectors:
        if runs and _follows(runs[-1][-1], vector):
            runs[-1].append(vector)
        else:
            runs.append([vector])
    parts: list[Tensor] = [run[0] if len(run) == 1 else _Join.apply(*run) for run in runs]  # type: ignore[no-untyped-call]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def unbind_columns(vectors: Tensor) -> tuple[Tensor, ...]:
    """The F parts (B, D) of (B, F, D); their gradients come back as one view where they are neighbours."""
    if torch.compiler.is_compiling() or not vectors.requires_grad:
        return vectors.unbind(1)
    parts: tuple[Tensor, ...] = _Unbind.apply(vectors)  # type: ignore[no-untyped-call]
    return parts


def side_by_side(columns: Sequence[Tensor]) -> Tensor | None:
    """(B, sum of widths) view of columns (B, width) that lie side by side in one matrix; None where they do not."""
    first = columns[0]
    if len(columns) == 1:
        return first
    width = sum(column.shape[1] for column in columns)
    if not all(_follows(left, right) for left, right in pairwise(columns)):
        return None
    if first.stride(0) < width:
        return None
    return first.as_strided((first.shape[0], width), (first.stride(0), 1))


def _follows(left: Tensor, right: Tensor) -> bool:
    return (
        left.shape[0] == right.shape[0]
        and left.dtype == right.dtype
        and left.stride() == (right.stride(0), 1)
        and right.stride(1) == 1
        and left.stride(0) > left.shape[1]
        and left.data_ptr() + left.shape[1] * left.element_size() == right.data_ptr()
        and left.untyped_storage().data_ptr() == right.untyped_storage().data_ptr()
    )


class _Unbind(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> tuple[Tensor, ...]:
        return vectors.unbind(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        joined = side_by_side(grads)
        if joined is None:
            return torch.stack(grads, dim=1)
        return joined.view(joined.shape[0], len(grads), grads[0].shape[1])


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *columns: Tensor) -> Tensor:
        ctx.widths = [column.shape[1] for column in columns]
        joined = side_by_side(columns)
        return torch.cat(columns, dim=1) if joined is None else joined

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad.split_with_sizes(ctx.widths, dim=1))
