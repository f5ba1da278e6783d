"""Memory for large tables."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

_LARGE = 1 << 25  # Bytes from which on huge pages pay.


def table_zeros(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Zeros, float32; large ones on the CPU lie in huge pages where the system has them (Linux).

    A batch reads rows all over a table. With ordinary pages of 4 KiB nearly every read of a table of a gigabyte also
    has to look up where the page is, which makes reading and updating rows slower by half or more.

    Args:
        shape: Shape.
        device: Where to. Default: torch's default device.
    """
    place = torch.get_default_device() if device is None else device
    size = 4 * math.prod(shape)
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if place.type != "cpu" or size < _LARGE or advice is None:
        return torch.zeros(tuple(shape), dtype=torch.float32, device=place)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # A kernel without huge pages: the memory is as good as any other.
        memory.madvise(advice)
    return torch.frombuffer(memory, dtype=torch.float32).view(tuple(shape))
