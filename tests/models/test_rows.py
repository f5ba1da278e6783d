"""Tests for training interactions as matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from intarsia.models import rows as module
from intarsia.models.rows import co_occurrences


def taken(users: int = 30, items: int = 13) -> Any:
    return (np.random.default_rng(0).random((users, items)) < 0.3).astype(np.float32)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("block", "room"), [(1024, 1 << 26), (5, 7 * 13), (1, 1)])
def test_co_occurrences_are_counted(
    monkeypatch: pytest.MonkeyPatch, dense: bool, dtype: torch.dtype, block: int, room: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "DENSE_BYTES", room)
    monkeypatch.setattr(module, "fast_int8", lambda: dense)
    found = co_occurrences(csr_array(taken()), dtype)
    assert found.dtype == dtype
    assert np.array_equal(found.numpy(), taken().T @ taken())


def test_counts_of_many_users_are_exact_in_a_dense_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what int8 holds."""
    monkeypatch.setattr(module, "fast_int8", lambda: True)
    found = co_occurrences(csr_array(np.ones((1000, 3), dtype=np.float32)), torch.float32)
    assert bool((found == 1000).all())


def test_a_sparse_matrix_is_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fast_int8", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", lambda *_: pytest.fail("a dense product"))
    found = co_occurrences(csr_array(np.eye(1000, dtype=np.float32)), torch.float32)
    assert torch.equal(found, torch.eye(1000))
