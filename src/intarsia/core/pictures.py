"""Files that hold a drawing: which endings they may have, how one is begun and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.core.errors import BuildError, IntarsiaError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".png", ".pdf")


def check_ending(path: str | Path, cure: str = "", error: type[IntarsiaError] = BuildError) -> Path:
    """Refuses a file that is no picture, before any work is done.

    Args:
        path: The file.
        cure: What to do about it, at the end of the message.
        error: What is raised.

    Returns:
        The file.

    Raises:
        IntarsiaError: Another ending than .svg, .png, .pdf.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise error(f"a picture ends in {', '.join(ENDINGS)}. Received: {path.name}{cure}")
    return path


@contextmanager
def drawing(what: str, text_size: float | None = None) -> Iterator[type[Figure]]:
    """The class of figures, inside of a block with settings by which the same drawing makes the same bytes.

    Args:
        what: What is done, as in `Drawing a log`.
        text_size: Of text, in points. Default: matplotlib's.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", what) from error
    settings: dict[Any, Any] = {"svg.hashsalt": "intarsia", "font.family": "DejaVu Sans"}
    if text_size is not None:
        settings["font.size"] = text_size
    with rc_context(settings):
        yield Figure


def save_picture(figure: Figure, path: Path) -> None:
    """Writes a figure, with the folders that lead to it. To be called inside of `drawing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    figure.savefig(path, dpi=160, facecolor="white", metadata=metadata)
