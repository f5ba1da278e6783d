"""A bar at the terminal for files that are downloaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def bar(wanted: bool = True) -> Iterator[None]:
    """Shows downloads that happen in the block on standard error; elsewhere than at a terminal a line a file."""
    from intarsia.data.catalogue.fetch import listening

    if not wanted:
        yield
        return
    shown = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        with listening(shown):
            yield
    finally:
        shown.end()


class _Lines:
    """One line for each file that begins, and one for each pause."""

    def begin(self, name: str, done: int, total: int | None) -> None:
        from intarsia.cli.output import note, size

        whole = "" if total is None else f", {size(total)}"
        note(f"fetching {name}{whole}" + (f"; {size(done)} are here" if done else ""))

    def advance(self, done: int) -> None:
        """Says nothing."""

    def wait(self, reason: str, seconds: float) -> None:
        from intarsia.cli.output import note

        note(f"{reason}; next attempt in {seconds:.0f} s")

    def end(self) -> None:
        """Says nothing."""


class _Bar:
    """A bar with size, speed and the time that is left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, name: str, done: int, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        if self._progress is None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._progress = Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True))
            self._progress.start()
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total, completed=done)

    def advance(self, done: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def wait(self, reason: str, seconds: float) -> None:
        if self._progress is not None:
            self._progress.console.print(f"{reason}; next attempt in {seconds:.0f} s", style="dim", markup=False)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
