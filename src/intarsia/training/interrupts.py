"""SIGINT (Ctrl-C) and SIGTERM as a wish to stop after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupts:
    """Takes the two signals while its block runs, and gives them back afterwards.

    The first signal sets `received`; a second SIGINT raises KeyboardInterrupt at once. Outside the main thread, where
    Python takes no handlers, it does nothing.

    Args:
        say: Called once with a line for the person at the terminal.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.received: str | None = None
        self._say = say
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = name
            self._say(f"{name}: finishing the step and saving a checkpoint. Press Ctrl-C again to stop at once.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
