"""Places the boxes of a directed graph: in layers from top to bottom, so that edges are short and seldom cross.

1. Layers: the longest path from a source; sources move down to just above what reads them.
2. Edges that pass a layer hold a place in it, so that they run between boxes.
3. Order inside layers: sweeps that sort by the mean place of the neighbours; the order with the fewest crossings wins.
4. Positions: sweeps towards the mean position of the neighbours, keeping order and distances (isotonic regression).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

GAP_X = 26.0
GAP_Y = 34.0
LANE = 10.0
"""Width that an edge takes where it passes between boxes."""
SWEEPS = 24

Point = tuple[float, float]
Edge = tuple[str, str]
F64 = npt.NDArray[np.float64]


@dataclass
class Layout:
    """Where everything is; y grows downwards, the upper left corner is (0, 0).

    Attributes:
        boxes: Upper left corner of each box.
        lanes: Of each edge, by number, the upper and lower points of the places that it passes.
        width: Width of the whole.
        height: Height of the whole.
    """

    boxes: dict[str, Point] = field(default_factory=dict)
    lanes: dict[int, list[Point]] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


@dataclass
class _Cell:
    """A box, or a place that an edge holds in a layer."""

    width: float
    layer: int
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    x: float = 0.0
    is_lane: bool = False


def lay_out(
    sizes: Mapping[str, Point], edges: Sequence[Edge], first: Sequence[str] = (), last: Sequence[str] = ()
) -> Layout:
    """Places boxes.

    Args:
        sizes: Width and height of each box, in an order in which boxes may stand side by side.
        edges: Pairs (from, to) of a graph without cycles.
        first: Boxes without incoming edges that stay in the first layer.
        last: Boxes without outgoing edges that belong into the last layer.
    """
    if not sizes:
        return Layout()
    layers = _layers(list(sizes), edges, first, last)
    cells, rows, place, chains = _cells(sizes, edges, layers)
    rows = _order(cells, rows)
    _positions(cells, rows)
    return _finished(sizes, cells, rows, place, chains, layers)


def _layers(names: Sequence[str], edges: Sequence[Edge], first: Sequence[str], last: Sequence[str]) -> dict[str, int]:
    before: dict[str, list[str]] = {name: [] for name in names}
    after: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    layer: dict[str, int] = {}
    waiting = {name: len(before[name]) for name in names}
    ready = [name for name in names if not waiting[name]]
    while ready:
        name = ready.pop()
        layer[name] = max((layer[b] + 1 for b in before[name]), default=0)
        for target in after[name]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    deepest = max(layer.values())
    for name in last:
        layer[name] = deepest
    for name in sorted(layer, key=lambda n: -layer[n]):
        if not before[name] and after[name] and name not in first:
            layer[name] = min(layer[a] for a in after[name]) - 1
    top = min(layer.values())
    return {name: layer[name] - top for name in names}


def _cells(
    sizes: Mapping[str, Point], edges: Sequence[Edge], layers: Mapping[str, int]
) -> tuple[list[_Cell], list[list[int]], dict[str, int], list[list[int]]]:
    cells: list[_Cell] = []
    rows: list[list[int]] = [[] for _ in range(max(layers.values()) + 1)]
    place: dict[str, int] = {}

    def add(cell: _Cell) -> int:
        cells.append(cell)
        rows[cell.layer].append(len(cells) - 1)
        return len(cells) - 1

    for name in sizes:
        place[name] = add(_Cell(sizes[name][0], layers[name]))
    chains: list[list[int]] = []
    for source, target in edges:
        chain = [add(_Cell(LANE, k, is_lane=True)) for k in range(layers[source] + 1, layers[target])]
        whole = [place[source], *chain, place[target]]
        for one, other in itertools.pairwise(whole):
            cells[one].after.append(other)
            cells[other].before.append(one)
        chains.append(chain)
    return cells, rows, place, chains


def _order(cells: Sequence[_Cell], rows: list[list[int]]) -> list[list[int]]:
    best, fewest = [list(row) for row in rows], _crossings(cells, rows)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        rank: dict[int, float] = {}
        for row in rows if down else rows[::-1]:
            own = {cell: float(k) for k, cell in enumerate(row)}
            near = {cell: cells[cell].before if down else cells[cell].after for cell in row}
            wish = {c: float(np.mean([rank[n] for n in near[c]])) if near[c] else own[c] for c in row}
            row.sort(key=lambda c: (wish[c], own[c]))
            # Places as shares of the row, so that long and short rows are comparable.
            rank.update({cell: (k + 0.5) * 100 / len(row) for k, cell in enumerate(row)})
        count = _crossings(cells, rows)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    return best


def _crossings(cells: Sequence[_Cell], rows: Sequence[Sequence[int]]) -> int:
    total = 0
    for upper, lower in itertools.pairwise(rows):
        at = {cell: k for k, cell in enumerate(lower)}
        ends = [sorted(at[a] for a in cells[cell].after) for cell in upper]
        flat = np.array([e for row in ends for e in row])
        owner = np.repeat(np.arange(len(ends)), [len(row) for row in ends])
        if len(flat):
            total += int(((flat[:, None] > flat[None, :]) & (owner[:, None] < owner[None, :])).sum())
    return total


def _positions(cells: Sequence[_Cell], rows: Sequence[Sequence[int]]) -> None:
    """Centres of all cells, in `x`."""
    gaps = [_distances(cells, row) for row in rows]
    for row, gap in zip(rows, gaps, strict=True):
        for cell, x in zip(row, gap - gap.mean(), strict=True):
            cells[cell].x = float(x)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        _move(cells, rows, gaps, down=down, both=sweep >= SWEEPS // 2)
    # Chains become straight, and sources stand above what reads them.
    _move(cells, rows, gaps, down=True)
    _move(cells, rows, gaps, down=False, only_sources=True)


def _move(
    cells: Sequence[_Cell],
    rows: Sequence[Sequence[int]],
    gaps: Sequence[F64],
    *,
    down: bool,
    both: bool = False,
    only_sources: bool = False,
) -> None:
    """Moves the cells of each layer towards the mean of what they read (`down`), of what reads them, or of both."""
    for k in range(len(rows)) if down else range(len(rows) - 1, -1, -1):
        row = rows[k]
        wish, weight = np.empty(len(row)), np.empty(len(row))
        for n, number in enumerate(row):
            cell = cells[number]
            near = [*cell.before, *cell.after] if both else cell.before if down else cell.after
            stays = not near or (only_sources and bool(cell.before))
            wish[n] = cell.x if stays else np.mean([cells[i].x for i in near])
            weight[n] = 100.0 if stays and only_sources else 6.0 if cell.is_lane else 0.1 if stays else 1.0
        for number, x in zip(row, _apart(wish, weight, gaps[k]), strict=True):
            cells[number].x = float(x)


def _distances(cells: Sequence[_Cell], row: Sequence[int]) -> F64:
    """Least position of each cell's centre behind the first one's."""
    out = np.zeros(len(row))
    for k in range(1, len(row)):
        left, right = cells[row[k - 1]], cells[row[k]]
        gap = GAP_X / 2 if left.is_lane or right.is_lane else GAP_X
        out[k] = out[k - 1] + (left.width + right.width) / 2 + gap
    return out


def _apart(wish: F64, weight: F64, gaps: F64) -> F64:
    """The positions nearest to the wishes (weighted least squares) with at least the given distances, in order."""
    blocks: list[list[float]] = []  # mean, weight, length
    for value, w in zip(wish - gaps, weight, strict=True):
        blocks.append([float(value), float(w), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, total, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * total) / (last[1] + total)
            last[1] += total
            last[2] += count
    level = np.concatenate([np.full(int(count), mean) for mean, _, count in blocks])
    return np.asarray(level + gaps)


def _finished(
    sizes: Mapping[str, Point],
    cells: Sequence[_Cell],
    rows: Sequence[Sequence[int]],
    place: Mapping[str, int],
    chains: Sequence[Sequence[int]],
    layers: Mapping[str, int],
) -> Layout:
    heights = [max((sizes[n][1] for n in sizes if layers[n] == k), default=0.0) for k in range(len(rows))]
    # Ports of a border have no height and stand closer.
    gaps = [GAP_Y if above and below else GAP_Y / 2 for above, below in itertools.pairwise(heights)]
    tops = np.concatenate([[0.0], np.cumsum(np.array(heights[:-1]) + np.array(gaps))])
    left = min(cell.x - cell.width / 2 for cell in cells)
    out = Layout()
    for name, (width, height) in sizes.items():
        cell = cells[place[name]]
        # Low boxes stand in the middle of their layer, those without edges on one side near what they belong to.
        free = heights[cell.layer] - height
        share = 1.0 if not cell.before else 0.0 if not cell.after else 0.5
        out.boxes[name] = (cell.x - width / 2 - left, float(tops[cell.layer]) + free * share)
    for number, chain in enumerate(chains):
        points: list[Point] = []
        for cell_number in chain:
            cell = cells[cell_number]
            top = float(tops[cell.layer])
            points += [(cell.x - left, top), (cell.x - left, top + heights[cell.layer])]
        out.lanes[number] = points
    out.width = max(cell.x + cell.width / 2 for cell in cells) - left
    out.height = float(tops[-1]) + heights[-1]
    return out
