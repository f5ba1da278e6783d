"""Tests for the inverse in place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from intarsia.nn.inverse import invert_


def positive(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    factor = torch.randn(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    return (factor @ factor.t() / count + 0.1 * torch.eye(count)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 23, 64])
def test_inverts_in_place_whatever_the_halves(count: int, dtype: torch.dtype) -> None:
    matrix = positive(count, dtype)
    expected = torch.linalg.inv(matrix.double())
    assert invert_(matrix, leaf=4)
    assert float((matrix.double() - expected).abs().max()) < expected.abs().max() * torch.finfo(dtype).eps * 1000
    assert torch.allclose(matrix, matrix.t(), rtol=1e-4)


@pytest.mark.parametrize("place", [0, 4, 8, 15])
def test_a_matrix_that_is_not_positive_definite_is_told(place: int) -> None:
    matrix = positive(16)
    matrix[place, place] = -1.0
    assert not invert_(matrix, leaf=4)


def test_a_schur_complement_that_is_not_positive_definite_is_told() -> None:
    """Both blocks on the diagonal are, the whole is not."""
    assert not invert_(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), leaf=1)
