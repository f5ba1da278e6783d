"""Products of float32 matrices by oneDNN on AMD processors, where PyTorch's own choice is less than half as fast.

PyTorch leaves float32 products to MKL, whose kernels for AMD use vectors of 256 bits. oneDNN's use all 512 that recent
processors have: measured on an EPYC, 250 GFLOP/s a core instead of 100, with the same rounding errors. But oneDNN makes
a kernel for every shape that it meets, and keeps it, so that only shapes that come again and again gain.

The way to oneDNN is the precision `medium`, which allows factors to be rounded to bf16. Only matrix units of Intel's
processors (AMX) make use of that, and whether this processor does is tried before anything relies on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

_EXACT = 1e-6  # Relative error above which factors must have been rounded.


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Computes float32 products on a processor by its fastest exact kernels inside of the block.

    Nothing happens on another device, on other processors, or where somebody has chosen a precision already.

    Args:
        device: Where the products are computed.
    """
    if device.type != "cpu" or torch.get_float32_matmul_precision() != "highest" or not _exact_by_onednn():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def exact_products(device: torch.device) -> bool:
    """Whether float32 products are computed in full single precision."""
    if torch.get_float32_matmul_precision() == "highest":
        return True
    return device.type == "cpu" and _exact_by_onednn()


@cache
def fast_int8() -> bool:
    """Whether products of int8 matrices on the processor are by oneDNN, and faster than those of float32."""
    named = hasattr(torch, "_int_mm")  # not a public name; without it there are other ways
    return named and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _exact_by_onednn() -> bool:
    """Whether this is a processor that the detour pays on, and its products stay exact."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512" and _is_amd()):
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(128, 256, generator=generator), torch.randn(256, 128, generator=generator)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = (a @ b).double()
    finally:
        torch.set_float32_matmul_precision(before)
    expected = a.double() @ b.double()
    return float((found - expected).norm() / expected.norm()) < _EXACT


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return False
