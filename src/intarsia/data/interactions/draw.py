"""A picture of a log: popularity of the items, interactions of the users, time, ratings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from intarsia.core.errors import DataError
from intarsia.core.pictures import check_ending, drawing, save_picture
from intarsia.data.interactions.describe import Description
from intarsia.data.interactions.interactions import Interactions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _BROWN = "#2a6f97", "#b5651d"


def check_picture(path: str | Path) -> Path:
    """Refuses a file that is no picture.

    Raises:
        DataError: Another ending than .svg, .png, .pdf.
    """
    return check_ending(path, ". Rename it.", DataError)


def draw_log(log: Interactions, facts: Description, path: str | Path, *, title: str = "") -> None:
    """Draws a log into a file.

    Args:
        log: The log.
        facts: Its description.
        path: The file; its ending says the format: .svg, .png, .pdf.
        title: Stands above.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: Another ending.
    """
    path = check_picture(path)
    panels = [_popularity, _lengths]
    panels += [_times] if log.times is not None and facts.span is not None and facts.span[0] < facts.span[1] else []
    panels += [_ratings] if log.ratings is not None else []
    with drawing("Drawing a log", text_size=9) as Figure:
        rows = (len(panels) + 1) // 2
        figure = Figure(figsize=(9.0, 3.4 * rows), layout="constrained")
        places = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, panel in zip(places, panels):
            panel(axes, log, facts)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        text = f"{facts.users:,} users, {facts.items:,} items, {facts.interactions:,} interactions"
        figure.suptitle(f"{title}\n{text}" if title else text, size=9)
        save_picture(figure, path)


def _popularity(axes: Axes, log: Interactions, facts: Description) -> None:
    counts = np.sort(np.bincount(log.items, minlength=log.num_items))[::-1]
    counts = counts[counts > 0]
    # A curve of a few hundred points looks the same as one of a million.
    ranks = np.unique(np.geomspace(1, len(counts), 400).astype(np.int64))
    axes.loglog(ranks, counts[ranks - 1], color=_BLUE)
    axes.set_xlabel("rank of the item")
    axes.set_ylabel("interactions of the item")


def _lengths(axes: Axes, log: Interactions, facts: Description) -> None:
    lengths = log.lengths[log.lengths > 0]
    axes.hist(lengths, bins=np.geomspace(1, int(lengths.max()) + 1, 40).tolist(), color=_BROWN)
    axes.set_xscale("log")
    axes.axvline(facts.lengths[3], linestyle="--", linewidth=0.8, color="#555555")
    axes.annotate(
        f"median {facts.lengths[3]:g}", (facts.lengths[3], 0.95), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", size=8,
    )  # fmt: skip
    axes.set_xlabel("interactions of the user")
    axes.set_ylabel("users")


def _times(axes: Axes, log: Interactions, facts: Description) -> None:
    assert log.times is not None
    counts, edges = np.histogram(log.times, bins=60)
    middle = (edges[1:] + edges[:-1]) / 2
    moments = facts.moments()
    if moments is not None and "-" in moments[0]:
        axes.plot((middle * 1e6).astype("datetime64[us]"), counts, color=_BLUE)
        axes.tick_params(axis="x", rotation=25)
    else:
        axes.plot(middle, counts, color=_BLUE)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time")
    axes.set_ylabel("interactions")


def _ratings(axes: Axes, log: Interactions, facts: Description) -> None:
    assert log.ratings is not None
    values, counts = np.unique(log.ratings, return_counts=True)
    if len(values) <= 20:
        axes.bar([f"{value:g}" for value in values], counts, color=_BROWN)
    else:
        axes.hist(log.ratings, bins=40, color=_BROWN)
    axes.set_xlabel("rating")
    axes.set_ylabel("interactions")
