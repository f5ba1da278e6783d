"""What every block reads, computes and owns: shapes in letters, numbers of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from intarsia.backbone.build import EXAMPLE_ROWS, EXAMPLE_STEPS, Backbone, Builder, join_outputs, sizes
from intarsia.backbone.graph import BlockModule, Graph
from intarsia.backbone.plan import Source
from intarsia.config.schema import Block
from intarsia.config.schema.model import LayerStep
from intarsia.core.errors import BuildError
from intarsia.data.schema import Schema

TOP_MLP = "top_mlp"


@dataclass(frozen=True)
class BlockInfo:
    """One block of a backbone.

    Attributes:
        name: `block`, or `package.block`.
        package: Its package; empty for the backbone's own blocks.
        operation: Component or kind of operation.
        inputs: Names of the blocks, groups and packages that it reads.
        input_shape: Shapes of the merged input as text, empty for blocks that read a group.
        output_shape: Shapes of the output as text.
        parameters: Number of parameters of its own (those of tables and of target attentions belong to the group).
    """

    name: str
    package: str
    operation: str
    inputs: tuple[str, ...]
    input_shape: str
    output_shape: str
    parameters: int


def block_infos(backbone: Backbone, schema: Schema) -> list[BlockInfo]:
    """The blocks in running order, and the top MLP.

    Shapes are told in letters: examples with more rows, and with shorter sequences, show which sizes follow the batch
    (B) and which the length of a history (L).

    Args:
        backbone: The backbone.
        schema: The schema that it was built with.
    """
    was_training = backbone.training
    with torch.random.fork_rng(devices=[]):
        runs = [_measure(backbone, schema, *size) for size in _EXAMPLES]
    backbone.train(was_training)
    first = runs[0]
    assert first is not None
    later = [run if run is not None else first for run in runs[1:]]
    out = []
    for block in _blocks(backbone):
        if block.full_name not in first:
            continue
        shapes = [[run[block.full_name][part] for run in (first, *later)] for part in (0, 1)]
        out.append(
            BlockInfo(
                block.full_name,
                "" if block.full_name == block.node.name else block.graph,
                operation_name(block.node.block),
                (f"group {block.node.group}",)
                if block.reads_group
                else tuple(source_name(s) for s in block.node.sources),
                "" if block.reads_group else shape_text(shapes[0]),
                shape_text(shapes[1]),
                sum(p.numel() for p in block.parameters()),
            )
        )
    if backbone.top_mlp is not None:
        read, made = ([run[TOP_MLP][part] for run in (first, *later)] for part in (0, 1))
        count = sum(p.numel() for p in backbone.top_mlp.parameters())
        plan = backbone.main[0].plan
        out.append(
            BlockInfo(TOP_MLP, "", "MLP", plan.as_list or plan.concat, shape_text(read), shape_text(made), count)
        )
    return out


_EXAMPLES = ((EXAMPLE_ROWS, EXAMPLE_STEPS), (EXAMPLE_ROWS + 1, EXAMPLE_STEPS), (EXAMPLE_ROWS, EXAMPLE_STEPS - 1))


def _measure(backbone: Backbone, schema: Schema, rows: int, steps: int) -> dict[str, tuple[Any, Any]] | None:
    """Shapes of an example's way through the blocks; None where a graph cannot take an example of this size."""
    builder = Builder(backbone, rows, steps)
    try:
        output = builder.run(schema)
        if backbone.top_mlp is not None:
            joined = join_outputs(output)
            with torch.no_grad():
                builder.shapes[TOP_MLP] = (sizes(joined), sizes(backbone.top_mlp.eval()(joined)))
    except BuildError:
        if (rows, steps) == _EXAMPLES[0]:
            raise
        return None
    return builder.shapes


def _blocks(backbone: Backbone) -> list[BlockModule]:
    """Packages first, in the order in which they are called, each with its blocks in running order."""
    graphs = [g for g in backbone.graphs.values() if isinstance(g, Graph) and g is not backbone.main[0]]
    return [graph.block(node.name) for graph in (*graphs, backbone.main[0]) for node in graph.plan.nodes]


def shape_text(shapes: Sequence[Any]) -> str:
    """A shape in letters: `(B, L, 32)`, `[3 x (B, 16)]`, `scalar`.

    Args:
        shapes: The same value's sizes in the examples: the first, one with a row more, one with a step less.
    """
    first = shapes[0]
    if first is None:
        return "none"
    if isinstance(first, torch.Size):
        if not first:
            return "scalar"
        same = [shape if isinstance(shape, torch.Size) and len(shape) == len(first) else first for shape in shapes]
        letters = [_size_text(*axis) for axis in zip(*same, strict=True)]
        return f"({letters[0]},)" if len(letters) == 1 else f"({', '.join(letters)})"
    parts = [shape_text(part) for part in zip(*(s if _as_long(s, first) else first for s in shapes), strict=True)]
    text = ", ".join(_repeated(parts))
    return f"({text})" if isinstance(first, tuple) else f"[{text}]"


def _as_long(shape: Any, first: Any) -> bool:
    return isinstance(shape, list | tuple) and not isinstance(shape, torch.Size) and len(shape) == len(first)


def _repeated(parts: Sequence[str]) -> list[str]:
    """Equal neighbours as `3 x part`."""
    out: list[str] = []
    counts: list[int] = []
    for part in parts:
        if out and out[-1] == part:
            counts[-1] += 1
        else:
            out.append(part)
            counts.append(1)
    return [part if count == 1 else f"{count} x {part}" for part, count in zip(out, counts, strict=True)]


def _size_text(size: int, with_more_rows: int, with_less_steps: int) -> str:
    """`16`, `B`, `L`, `L+1`, `16*L`, `2*B`; `?` for what is none of them."""
    per_row, per_step = with_more_rows - size, size - with_less_steps
    if not per_row and not per_step:
        return str(size)
    if per_row and per_step:
        times, rest = divmod(size, EXAMPLE_ROWS * EXAMPLE_STEPS)
        right = not rest and per_row == times * EXAMPLE_STEPS and per_step == times * EXAMPLE_ROWS
        return _product(times, "B*L") if right else "?"
    letter, slope, at = ("B", per_row, EXAMPLE_ROWS) if per_row else ("L", per_step, EXAMPLE_STEPS)
    constant = size - slope * at
    return _product(slope, letter) + (f"{constant:+d}" if constant else "")


def _product(factor: int, letter: str) -> str:
    return letter if factor == 1 else f"{factor}*{letter}"


def operation_name(config: Block) -> str:
    """The block's operation in a few words."""
    if config.layers:
        return " > ".join(_kind(step) for step in config.layers)
    return _kind(config)


def _kind(config: Block | LayerStep) -> str:
    if config.layer is not None:
        return config.layer.class_name
    if config.recurrent is not None:
        return f"{config.recurrent.num_steps} x {config.recurrent.layer.class_name} in a row"
    if config.repeat is not None:
        return f"{config.repeat.num_repeat} x {config.repeat.layer.class_name} side by side"
    if config.kinds:
        return config.kinds[0].rstrip("_").replace("_", " ")
    if isinstance(config, LayerStep):
        return "identity"
    return "list" if config.merge_inputs_into_list else "concat" if len(config.inputs) > 1 else "identity"


def source_name(source: Source) -> str:
    """`block`, `block[0]`, `package(block)`."""
    if source.kind == "argument":
        name = "package input"
    elif source.kind == "call":
        name = source.name + (f"({source_name(source.argument)})" if source.argument else "")
    else:
        name = source.name
    config = source.config
    return name + (config.input_slice or "" if config is not None else "")
