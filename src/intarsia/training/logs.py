"""What a run writes down while it trains: `metrics.jsonl`, and TensorBoard's files where that is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from intarsia.core.errors import CheckpointError, MissingExtraError


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, `{"kind": "train", ...}` or `{"kind": "eval", ...}`.

    A checkpoint stores the file's length, and resuming cuts the file back to it, so a resumed run leaves the rows
    that an uninterrupted one would have left (times and speeds aside).

    Args:
        path: The file.
        length: Bytes to keep of what is there.

    Raises:
        CheckpointError: The file is shorter than `length`.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = path.stat().st_size if path.exists() else 0
        if found < length:
            raise CheckpointError(
                f"{path} should hold at least the {length} bytes that it had when the checkpoint was written. "
                f"Received {found} bytes. Restore the file, or start the run anew in another folder."
            )
        self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row, and hands it to the operating system at once so that others can follow the file."""
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def settle(self) -> int:
        """Flushes to the disk and returns the length."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Summaries(Protocol):
    """The part of TensorBoard's writer that is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """One number."""

    def close(self) -> None:
        """Closes the file."""


def open_tensorboard(folder: Path, resumed_at: int) -> Summaries:
    """TensorBoard's writer; entries after `resumed_at` that an interrupted run left are dropped from the display.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard", "Writing TensorBoard files") from error
    writer: Summaries = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)
    return writer
