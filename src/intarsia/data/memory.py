"""How much memory a process may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

UNKNOWN = 8 << 30
"""Assumed where the system does not tell."""


def available_memory(root: str | Path = "/") -> int:
    """Bytes that this process may take: the machine's memory, or less where a container or `ulimit` sets a bound.

    What other processes use does not count, so that the answer is the same in each run.

    Args:
        root: Where the system's files are.
    """
    return max(min([_physical(), *_of_groups(Path(root)), *_of_process(Path(root))]), 0)


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN


def _of_groups(root: Path) -> Iterator[int]:
    """Bounds of the control groups that the process is in, as containers and batch systems set them (Linux)."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / controllers
        file = "memory.limit_in_bytes" if controllers else "memory.max"
        group = base / name.lstrip("/")
        # In a container the name may be that outside of it, which does not exist inside: then only the base does.
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):
                yield from _number(folder / file)


def _number(file: Path) -> Iterator[int]:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return
    if text.isdigit():  # otherwise `max`
        yield int(text)


def _of_process(root: Path) -> Iterator[int]:
    """Bounds on address space and data, less what is taken."""
    try:
        import resource
    except ImportError:
        return
    pages = os.sysconf("SC_PAGE_SIZE")
    try:
        taken = [int(text) * pages for text in (root / "proc/self/statm").read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        taken = [0] * 7
    for kind, place in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield limit - taken[place]
