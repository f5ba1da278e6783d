"""A picture of a backbone: blocks in layers from top to bottom, packages shaded, a box for each way of calling them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbone.build import Backbone
from intarsia.backbone.infos import TOP_MLP, BlockInfo, operation_name, source_name
from intarsia.backbone.layout import Layout, Point, lay_out
from intarsia.backbone.plan import MAIN, GraphPlan, Source, is_loss
from intarsia.core.pictures import check_ending, drawing, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE, TEXT = 9.0, 7.5
LINE = 11.5
PAD = 8.0
INNER = 14.0
"""Space between a package's border and its blocks."""

COLOURS = {
    "input": ("#e3eefa", "#5b8cc0"),
    "block": ("#ffffff", "#7a7f87"),
    "loss": ("#fdebdd", "#d08a4e"),
    "output": ("#e4f3e6", "#5f9e6b"),
    "package": ("#f1f1f4", "#c3c5cc"),
}
EDGE = "#8a8f98"
ARGUMENT = "@argument"
FROM_MAIN = "@main:"
OUT = "@out"


@dataclass
class Box:
    """A block, or a package with a graph of its own inside.

    Attributes:
        title: Name.
        lines: What stands beneath it.
        kind: Key of `COLOURS`.
        inside: The package's graph.
        entries: Of a package: by the box that an edge comes from, the port of `inside` that it goes to.
    """

    title: str
    lines: list[str]
    kind: str = "block"
    inside: Picture | None = None
    entries: dict[str, str] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


@dataclass
class Picture:
    """Boxes and edges; edges of a package's graph may begin at `@argument` or `@main:<block>`, and end at `@out`.

    Attributes:
        boxes: By name, in running order.
        edges: Pairs of names, with the label of each connection between the two.
        is_main: Whether this is the backbone itself, not a package.
        layout: Where everything is, once it has been arranged.
    """

    boxes: dict[str, Box] = field(default_factory=dict)
    edges: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    is_main: bool = False
    layout: Layout = field(default_factory=Layout)

    def connect(self, source: str, target: str, label: str = "") -> None:
        """Adds an edge; a second one between the same boxes adds its label to the first."""
        self.edges.setdefault((source, target), []).append(label)

    @property
    def needs(self) -> list[str]:
        """Where edges come in from outside."""
        return list(dict.fromkeys(source for source, _ in self.edges if source.startswith("@")))


def draw(
    backbone: Backbone, infos: Sequence[BlockInfo], path: str | Path, *, title: str = "", prediction: str = ""
) -> Picture:
    """Draws a backbone into a file.

    Args:
        backbone: The backbone.
        infos: Its blocks, see `block_infos`; those named `head` and `top_mlp` follow its output.
        path: The file; its ending says the format: .svg, .png, .pdf.
        title: Stands above the graph.
        prediction: What the last box says.

    Returns:
        What was drawn, with its layout.

    Raises:
        MissingExtraError: matplotlib is not installed.
        BuildError: Another ending.
    """
    path = check_ending(path)
    with drawing("Drawing a model") as Figure:
        picture = picture_of(backbone, {info.name: info for info in infos}, prediction)
        _arrange(picture)
        head = 26.0 if title else 0.0
        width = max(picture.layout.width, _text_width(title, TITLE + 1, bold=True)) + 2 * INNER
        height = picture.layout.height + 2 * INNER + head
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        if title:
            axes.text(INNER, INNER + 4, title, size=TITLE + 1, weight="bold", va="center", color="#333333")
        _paint(axes, picture, (width - picture.layout.width) / 2, INNER + head)
        save_picture(figure, path)
    return picture


# From plans to boxes


def picture_of(backbone: Backbone, infos: Mapping[str, BlockInfo], prediction: str = "") -> Picture:
    """The boxes and edges of a backbone, with the top MLP, the head and the prediction at the end."""
    maker = _Maker(backbone, infos)
    plan = backbone.main[0].plan
    picture = maker.graph(plan)
    ends = list(plan.as_list or plan.concat)
    for name, kind in ((TOP_MLP, "block"), ("head", "block")):
        if name in infos:
            picture.boxes[name] = Box(name.replace("_", " "), _facts(infos[name]), kind)
            for end in ends:
                picture.connect(end, name)
            ends = [name]
    for copies in maker.copies.values():
        for box in copies if len(copies) > 1 else ():
            box.lines = ["shared weights"]
    if prediction:
        picture.boxes["@prediction"] = Box(prediction, [], "output")
        for end in ends:
            picture.connect(end, "@prediction")
    return picture


class _Maker:
    def __init__(self, backbone: Backbone, infos: Mapping[str, BlockInfo]) -> None:
        self.plans: dict[str, GraphPlan] = {}
        for graph in backbone.graphs.values():
            plan = graph.plan
            assert isinstance(plan, GraphPlan)
            self.plans[plan.name] = plan
        self.groups = backbone.groups
        self.infos = infos
        self.copies: dict[str, list[Box]] = {}

    def graph(self, plan: GraphPlan) -> Picture:
        """The blocks of a graph, and a box for each different call that they make."""
        picture = Picture(is_main=plan.name == MAIN)
        prefix = "" if plan.name == MAIN else f"{plan.name}."
        for node in plan.nodes:
            info = self.infos.get(prefix + node.name)
            lines = [operation_name(node.block)] if info is None else _facts(info)
            kind = "input" if node.group else "loss" if is_loss(node.block) else "block"
            if node.group:
                count = len(self.groups[node.group].specs())
                lines[0] = f"{count} feature{'s' if count != 1 else ''} of group {node.group}"
            for source in node.sources:
                self.connect(picture, source, node.name)
            picture.boxes[node.name] = Box(node.name, lines, kind)
        for name in (*plan.concat, *plan.as_list) if prefix else ():
            picture.connect(name, OUT)
        return picture

    def connect(self, picture: Picture, source: Source, target: str) -> None:
        config = source.config
        label = "" if config is None else (config.input_slice or "") + (" fn" if config.input_fn else "")
        picture.connect(self.origin(picture, source), target, label.strip())

    def origin(self, picture: Picture, source: Source) -> str:
        """The box, or the place in the border, that a source stands for."""
        if source.kind == "block":
            return source.name
        if source.kind == "argument":
            return ARGUMENT
        if source.kind == "main":
            return source.name if picture.is_main else FROM_MAIN + source.name
        config = source.config
        key = source_name(Source("call", source.name, source.argument))
        if config is not None and (config.package_input_fn or config.reset_input is not None):
            key += f" {config.package_input_fn or ''}{config.reset_input or ''}"
        key = f"call {key}"
        if key in picture.boxes:
            return key
        inside = self.graph(self.plans[source.name])
        box = picture.boxes[key] = Box(f"package {source.name}", [], "package", inside)
        self.copies.setdefault(source.name, []).append(box)
        for need in inside.needs:
            if need != ARGUMENT:
                origin = need.removeprefix(FROM_MAIN) if picture.is_main else need
            elif source.argument is not None:
                origin = self.origin(picture, source.argument)
            else:
                continue
            box.entries[origin] = need
            picture.connect(origin, key)
        return key


def _facts(info: BlockInfo) -> list[str]:
    lines = [info.operation, info.output_shape]
    if info.parameters:
        lines.append(f"{info.parameters:,} parameters")
    return lines


# Sizes and places


def _arrange(picture: Picture) -> None:
    """Sizes of the boxes, from the inside out, and their places."""
    for box in picture.boxes.values():
        if box.inside is not None:
            _arrange(box.inside)
            header = _text_width(box.title, TEXT, bold=True) + sum(_text_width(x, TEXT) + INNER for x in box.lines)
            box.width = max(box.inside.layout.width, header) + 2 * INNER
            box.height = box.inside.layout.height + INNER + LINE + PAD
        else:
            box.title = _shortened(box.title)
            box.lines = [_shortened(line) for line in box.lines]
            box.width = max([_text_width(box.title, TITLE, True), *(_text_width(x, TEXT) for x in box.lines)]) + 2 * PAD
            box.height = LINE * (1 + len(box.lines)) + PAD
    sizes: dict[str, Point] = dict.fromkeys(picture.needs, (1.0, 0.0))
    sizes |= {name: (box.width, box.height) for name, box in picture.boxes.items()}
    sinks = [OUT] if any(target == OUT for _, target in picture.edges) else []
    sizes |= dict.fromkeys(sinks, (1.0, 0.0))
    picture.layout = lay_out(sizes, list(picture.edges), picture.needs, sinks)


def _shortened(text: str, limit: int = 46) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text_width(text: str, size: float, bold: bool = False) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text:
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width)


# Ink


def _paint(axes: Axes, picture: Picture, left: float, top: float, depth: int = 0) -> None:
    for name, box in picture.boxes.items():
        x, y = picture.layout.boxes[name]
        _paint_box(axes, box, left + x, top + y, depth)
    for number, ((source, target), labels) in enumerate(picture.edges.items()):
        _paint_edge(axes, picture, number, source, target, labels, (left, top), depth)


def _paint_box(axes: Axes, box: Box, x: float, y: float, depth: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, border = COLOURS[box.kind]
    style = "round,pad=0,rounding_size=5"
    axes.add_patch(
        FancyBboxPatch((x, y), box.width, box.height, boxstyle=style, fc=fill, ec=border, lw=0.9, zorder=2 * depth)
    )
    text: dict[str, Any] = {"va": "center", "zorder": 2 * depth + 1.5}
    if box.inside is not None:
        axes.text(x + PAD, y + LINE * 0.75, box.title, size=TEXT, weight="bold", color="#666a73", **text)
        if box.lines:
            axes.text(
                x + box.width - PAD, y + LINE * 0.75, box.lines[0], size=TEXT - 1, ha="right", color="#888c95", **text
            )
        inner_x = x + (box.width - box.inside.layout.width) / 2
        _paint(axes, box.inside, inner_x, y + LINE + PAD, depth + 1)
        return
    middle = x + box.width / 2
    axes.text(
        middle, y + PAD / 2 + LINE * 0.55, box.title, size=TITLE, weight="bold", ha="center", color="#22252b", **text
    )
    for k, line in enumerate(box.lines, start=1):
        colour = "#3c4f66" if k == 1 else "#6b7079"
        axes.text(middle, y + PAD / 2 + LINE * (k + 0.55), line, size=TEXT, ha="center", color=colour, **text)


def _paint_edge(
    axes: Axes,
    picture: Picture,
    number: int,
    source: str,
    target: str,
    labels: Sequence[str],
    corner: Point,
    depth: int,
) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    points = [_port(picture, number, source, below=True), *picture.layout.lanes[number]]
    points.append(_port(picture, number, target, below=False))
    points = [(x + corner[0], y + corner[1]) for x, y in points]
    if source.startswith("@"):  # from the border, beneath the header
        points[0] = (points[0][0], points[0][1] - PAD / 2)
    if target == OUT:
        points[-1] = (points[-1][0], points[-1][1] + INNER)
    vertices, codes = [points[0]], [Curve.MOVETO]
    for k, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
        if k % 2:  # through a layer, straight
            vertices.append((x1, y1))
            codes.append(Curve.LINETO)
        else:
            bend = (y1 - y0) * 0.5
            vertices += [(x0, y0 + bend), (x1, y1 - bend), (x1, y1)]
            codes += [Curve.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(vertices, codes),
            arrowstyle="-" if target == OUT else "-|>,head_length=3.2,head_width=2",
            mutation_scale=1,
            fc=EDGE,
            ec=EDGE,
            lw=1.0,
            shrinkA=0,
            shrinkB=0,
            zorder=2 * depth + 0.6,
        )
    )
    shown = _label(labels)
    if shown:
        (x, y), side = points[-1], -1 if points[-2][0] > points[-1][0] else 1
        where: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center", "zorder": 2 * depth + 1.6}
        axes.text(x + 5 * side, y - 8, shown, size=TEXT - 1, color="#6b7079", **where)


def _label(labels: Sequence[str]) -> str:
    """Slices and functions of the edges between two boxes, and how many they are."""
    told = ", ".join(dict.fromkeys(label for label in labels if label))
    count = f"x {len(labels)}" if len(labels) > 1 else ""
    return _shortened(" ".join(part for part in (told, count) if part), 20)


def _port(picture: Picture, number: int, name: str, *, below: bool) -> Point:
    """Where an edge touches a box: edges of one side are spread, in the order of where they lead."""
    x, y = picture.layout.boxes[name]
    box = picture.boxes.get(name)
    if box is None:
        return (x + 0.5, y)
    edges = list(picture.edges)
    port = _inner_port(box, edges[number], below)
    own = [
        k for k, edge in enumerate(edges) if edge[0 if below else 1] == name and _inner_port(box, edge, below) == port
    ]
    own.sort(key=lambda k: _heading(picture, k, edges[k], below))
    place = own.index(number)
    step = min(16.0, box.width * 0.6 / max(len(own) - 1, 1))
    middle = box.width / 2
    if box.inside is not None and port in box.inside.layout.boxes:
        middle = box.inside.layout.boxes[port][0] + 0.5 + (box.width - box.inside.layout.width) / 2
    return (x + middle + (place - (len(own) - 1) / 2) * step, y + (box.height if below else 0))


def _inner_port(box: Box, edge: tuple[str, str], below: bool) -> str:
    """The port of a package that an edge leads to; empty for a block."""
    return "" if box.inside is None else OUT if below else box.entries.get(edge[0], "")


def _heading(picture: Picture, number: int, edge: tuple[str, str], below: bool) -> float:
    lanes = picture.layout.lanes[number]
    if lanes:
        return lanes[0][0] if below else lanes[-1][0]
    other = edge[1] if below else edge[0]
    box = picture.boxes.get(other)
    return picture.layout.boxes[other][0] + (box.width / 2 if box is not None else 0)
