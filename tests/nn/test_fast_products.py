"""Products by other kernels, where they are exact, and nothing left behind."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from intarsia.nn import fast_products as module
from intarsia.nn.fast_products import exact_products, fast_products

CPU = torch.device("cpu")


@pytest.fixture
def exact(monkeypatch):
    """This processor is one where the detour pays, and is exact."""
    monkeypatch.setattr(module, "_exact_by_onednn", lambda: True)


def test_only_inside_of_the_block(exact):
    with fast_products(CPU):
        assert torch.get_float32_matmul_precision() == "medium"
        assert exact_products(CPU)
        with fast_products(CPU):
            assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"


def test_an_error_leaves_nothing_behind(exact):
    with suppress(KeyError), fast_products(CPU):
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_precision_that_somebody_has_chosen_stays(exact):
    torch.set_float32_matmul_precision("high")
    try:
        with fast_products(CPU):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_other_devices_and_processors(exact, monkeypatch):
    with fast_products(torch.device("meta")):
        assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.setattr(module, "_exact_by_onednn", lambda: False)
    with fast_products(CPU):
        assert torch.get_float32_matmul_precision() == "highest"


def test_rounded_products_are_not_exact(monkeypatch):
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(module, "_exact_by_onednn", lambda: False)
    assert not exact_products(CPU)
    monkeypatch.setattr(module, "_exact_by_onednn", lambda: True)
    assert exact_products(CPU)
    assert not exact_products(torch.device("meta"))


def test_what_is_called_exact_is_exact():
    a, b = torch.randn(300, 500), torch.randn(500, 200)
    expected = a.double() @ b.double()
    with fast_products(CPU):
        found = (a @ b).double()
    assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_processors_that_round_are_found_out(monkeypatch):
    module._exact_by_onednn.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(module, "_is_amd", lambda: True)
    monkeypatch.setattr(module, "_EXACT", 0.0)  # as if the products were off
    try:
        assert not module._exact_by_onednn()
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        module._exact_by_onednn.cache_clear()
