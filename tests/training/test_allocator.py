"""Freed memory is kept for the next step."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import resource, torch
from intarsia.training.allocator import keep_freed_memory

torch.set_num_threads(1)
kept = keep_freed_memory()
faults = []
for _ in range(20):
    blocks = [torch.ones(2 << 20) for _ in range(6)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(kept, faults[-1] - faults[5])
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def told(**environment: str) -> tuple[bool, int]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], env=environment, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@glibc
def test_blocks_that_are_taken_again_and_again_cost_few_page_faults():
    """48 MiB are 12,288 pages, which would be faults in each of 14 turns."""
    kept, faults = told()
    assert kept
    assert faults < 14 * (48 << 20) // resource.getpagesize() / 10


@glibc
def test_the_users_own_setting_is_left_alone():
    assert not told(MALLOC_TRIM_THRESHOLD_="131072")[0]


RELEASE = """
import resource, torch
from pathlib import Path
from intarsia.training.allocator import keep_freed_memory, release_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

torch.set_num_threads(1)
keep_freed_memory()
blocks = [torch.ones(2 << 20) for _ in range(12)]
del blocks
before = resident()
release_freed_memory()
print(before - resident())
"""


@glibc
def test_what_was_kept_can_be_handed_back():
    """Twelve blocks of 8 MiB."""
    done = subprocess.run([sys.executable, "-c", RELEASE], env={}, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 80
