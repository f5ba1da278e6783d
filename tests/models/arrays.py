"""Layers in NumPy, and histories of strangers: what hand-computed values of sequential models are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER

Array = npt.NDArray[np.float64]


def batch_of(*histories: Sequence[int]) -> Batch:
    """People whom training never saw, with what they took."""
    lengths = torch.tensor([0, *map(len, histories)])
    values = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    users = Dense(torch.full((len(histories),), -1))
    return Batch({USER: users, HISTORY: Jagged(values, lengths.cumsum(0))}, size=len(histories))


def array(tensor: Tensor) -> Array:
    """In double precision."""
    return tensor.detach().double().numpy()


def normed(values: Array, norm: nn.LayerNorm) -> Array:
    centred = values - values.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.eps)
    out: Array = scaled * array(norm.weight) + array(norm.bias)
    return out


def linear(values: Array, layer: nn.Linear) -> Array:
    out: Array = values @ array(layer.weight).T + array(layer.bias)
    return out
