"""How the C library handles the memory that a step on the CPU takes and gives back."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

# Of glibc's mallopt, by malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20  # What mallopt takes on 64-bit machines.
_KEPT = 1 << 30


def release_freed_memory() -> None:
    """Hands all freed memory back to the kernel, where `keep_freed_memory` has kept it.

    For the border between two kinds of work, whose blocks would not fit into the gaps that the other has left.
    """
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)


@cache
def keep_freed_memory() -> bool:
    """Asks glibc to keep up to a gigabyte of freed memory for the next step; once for a process.

    A step takes and frees the same tens of megabytes every time. By default blocks above 128 KiB go back to the kernel,
    which hands them out again as pages of zeros: thousands of page faults a step. Does nothing with other C libraries,
    and where `MALLOC_TRIM_THRESHOLD_` or `MALLOC_MMAP_THRESHOLD_` says what the user wants.

    Returns:
        Whether glibc took it.
    """
    if not sys.platform.startswith("linux") or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
