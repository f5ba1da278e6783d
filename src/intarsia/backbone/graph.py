"""The graph at work: blocks run in their planned order, packages are called like functions.

A block is assembled when an example first reaches it (`Builder`), so every component is sized by what really flows
into it, and an error names the block and the shapes of its inputs. Afterwards the same code runs real batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from intarsia.backbone.plan import MAIN, GraphPlan, Node, Source, is_input, is_loss
from intarsia.config.schema import InputLayer
from intarsia.core.batch import Batch, Jagged
from intarsia.core.expressions.tensors import compile_lambda, compile_slice

if TYPE_CHECKING:
    from intarsia.backbone.build import Builder

Function = Callable[..., Any]


@dataclass
class Run:
    """What one forward pass shares between the graphs.

    Attributes:
        batch: The batch.
        embedded: Looked-up vectors by `group/feature`.
        values: Outputs of the backbone's own blocks so far.
        variants: Which input-layer options each package uses (0: its own; `reset_input` selects others).
        losses: Auxiliary losses by name.
        outputs: Extra predictions by block name.
        skip_losses: Whether blocks that only serve auxiliary losses are left out.
        builder: Assembles blocks on the way; None once they are all there.
    """

    batch: Batch
    embedded: dict[str, Tensor | Jagged]
    values: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, int] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    skip_losses: bool = False
    builder: Builder | None = None


class Graph(nn.Module):
    """A package, or the backbone itself.

    Args:
        plan: Nodes in running order and what comes out.
        graphs: All graphs by name, for calls. Held by the backbone, not owned by this one.
    """

    def __init__(self, *, plan: GraphPlan, graphs: dict[str, Graph]) -> None:
        super().__init__()
        self.plan = plan
        self._graphs = graphs
        self.variants: list[InputLayer] = []
        self.blocks = nn.ModuleDict()
        for node in plan.nodes:
            self.blocks[_module_name(node.name)] = BlockModule(node=node, graph=plan.name)
        self._steps: list[BlockModule] = [self.block(node.name) for node in plan.nodes]
        self._without_losses = [step for step in self._steps if step.node.name in _needed(plan)]

    def block(self, name: str) -> BlockModule:
        """The block of a name."""
        module = self.blocks[_module_name(name)]
        assert isinstance(module, BlockModule)
        return module

    def forward(self, run: Run, argument: Any = None) -> Any:
        """Runs the blocks; gives a list for `output_blocks`, else the concatenation of `concat_blocks`."""
        values: dict[str, Any] = run.values if self.plan.name == MAIN else {}
        skip = run.skip_losses and self.plan.name == MAIN
        for step in self._without_losses if skip else self._steps:
            inputs = [self._fetch(source, values, run, argument) for source in step.node.sources]
            values[step.node.name] = step(run, [x for x, s in zip(inputs, step.node.sources, strict=True) if _kept(s)])
        if self.plan.as_list:
            return [values[name] for name in self.plan.as_list]
        return merge([values[name] for name in self.plan.concat], -1)

    def _fetch(self, source: Source, values: dict[str, Any], run: Run, argument: Any) -> Any:
        if source.kind == "block":
            value = values[source.name]
        elif source.kind == "main":
            value = run.values[source.name]
        elif source.kind == "argument":
            value = argument
        else:
            value = self._call(source, values, run, argument)
        return _transform(source, value)

    def _call(self, source: Source, values: dict[str, Any], run: Run, argument: Any) -> Any:
        config = source.config
        given = None if source.argument is None else self._fetch(source.argument, values, run, argument)
        if config is not None and config.package_input_fn:
            given = _function(config.package_input_fn)(given)
        callee = self._graphs[source.name]
        if config is not None and config.reset_input is not None:
            run.variants[source.name] = callee.variant(config.reset_input)
        return callee(run, given)

    def variant(self, options: InputLayer) -> int:
        """Number of the input-layer options that a `reset_input` selects; 0 are the package's own."""
        for number, known in enumerate(self.variants, start=1):
            if known is options:
                return number
        self.variants.append(options)
        return len(self.variants)


def _kept(source: Source) -> bool:
    return source.config is None or not source.config.ignore_input


def _transform(source: Source, value: Any) -> Any:
    config = source.config
    if config is None:
        return value
    if config.input_slice:
        value = _slice(config.input_slice)(value)
    if config.input_fn:
        value = _function(config.input_fn)(value)
    return value


@cache
def _function(text: str) -> Function:
    return compile_lambda(text, 1)


@cache
def _slice(text: str) -> Function:
    return compile_slice(text)


class BlockModule(nn.Module):
    """A block: merges its inputs and applies its operation."""

    def __init__(self, *, node: Node, graph: str) -> None:
        super().__init__()
        self.node = node
        self.graph = graph
        self.operation: nn.Module | None = None
        self.variants = nn.ModuleDict()
        self.extra: Function | None = None
        if node.block.extra_input_fn:
            self.extra = compile_lambda(node.block.extra_input_fn, 1)
        self.reads_group = is_input(node.block)
        self.adds_loss = is_loss(node.block)

    @property
    def full_name(self) -> str:
        """`block`, or `package.block`."""
        return self.node.name if self.graph == MAIN else f"{self.graph}.{self.node.name}"

    def forward(self, run: Run, inputs: list[Any]) -> Any:
        """The block's value, from the values of its inputs."""
        if run.builder is not None:
            return run.builder.assemble(self, run, inputs)
        return self.apply_operation(run, None if self.reads_group else self.merge_inputs(inputs))

    def merge_inputs(self, inputs: list[Any]) -> Any:
        """What the operation receives."""
        block = self.node.block
        merged = inputs if block.merge_inputs_into_list else merge(inputs, block.input_concat_axis)
        return merged if self.extra is None else self.extra(merged)

    def apply_operation(self, run: Run, merged: Any) -> Any:
        """Runs the operation on merged inputs (input blocks read the run instead)."""
        if self.operation is None:
            return merged
        if self.reads_group:
            variant = run.variants.get(self.graph, 0)
            operation = self.variants[str(variant)] if str(variant) in self.variants else self.operation
            return operation(run)
        value = self.operation(merged)
        if self.adds_loss:
            run.losses[self.loss_name] = value
        elif self.adds_output:
            run.outputs[self.node.name] = value.squeeze(-1)
        return value

    @property
    def loss_name(self) -> str:
        """Name of the auxiliary loss in logs."""
        kind = getattr(self.operation, "loss_name", "auxiliary_loss")
        return f"{self.node.name}_{kind}"

    @property
    def adds_output(self) -> bool:
        """Whether the block's value joins the predictions."""
        return bool(getattr(self.operation, "add_to_outputs", False))


class InputOperation(nn.Module):
    """Reads a feature group: an input layer, the raw tensors, or a fused embedding layer."""

    def __init__(self, *, module: nn.Module, raw: bool) -> None:
        super().__init__()
        self.module = module
        self.raw = raw

    def forward(self, run: Run) -> Any:
        """The group's value in the form that the block asks for."""
        return self.module(run.batch if self.raw else run.embedded)


class Lambda(nn.Module):
    """A function written in the pipeline file."""

    def __init__(self, *, expression: str) -> None:
        super().__init__()
        self.expression = expression
        self.function = compile_lambda(expression, 1)

    def forward(self, inputs: Any) -> Any:
        """The function's value."""
        return self.function(inputs)


class Recurrent(nn.Module):
    """Distinct copies of a component, each fed with the output of the one before; one input may stay fixed."""

    def __init__(self, *, steps: list[nn.Module], fixed: int | None) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.fixed = fixed

    def forward(self, inputs: Any) -> Any:
        """The last copy's output."""
        for step in self.steps:
            inputs = self.advance(inputs, step(inputs))
        return self.finish(inputs)

    def advance(self, inputs: Any, outputs: Any) -> Any:
        """The next copy's input."""
        if self.fixed is None:
            return outputs
        rest = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        return [*rest[: self.fixed], inputs[self.fixed], *rest[self.fixed :]]

    def finish(self, inputs: Any) -> Any:
        """The output without the fixed input; a list of one becomes its element."""
        if self.fixed is None:
            return inputs
        rest = [x for i, x in enumerate(inputs) if i != self.fixed]
        return rest[0] if len(rest) == 1 else rest


class Repeat(nn.Module):
    """Distinct copies of a component side by side, each on the whole input or on its own part of it."""

    def __init__(self, *, copies: list[nn.Module], select: Function, axis: int | None) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.select = select
        self.axis = axis

    def forward(self, inputs: Any) -> Any:
        """One output, their concatenation, or their list."""
        return self.join([copy(self.select(inputs, i)) for i, copy in enumerate(self.copies)])

    def join(self, outputs: list[Any]) -> Any:
        """One output as it is, several concatenated on the axis or as a list."""
        if len(outputs) == 1:
            return outputs[0]
        return outputs if self.axis is None else torch.cat(outputs, dim=self.axis)


def merge(values: list[Any], axis: int) -> Any:
    """Joins the inputs of a block.

    One input passes through as it is. Lists are joined to one list, tensors among lists become its elements, and
    tensors alone are concatenated on `axis`.
    """
    if len(values) == 1:
        return values[0]
    if any(isinstance(value, list) for value in values):
        return [x for value in values for x in (value if isinstance(value, list) else [value])]
    if not all(isinstance(value, Tensor) for value in values):
        kinds = ", ".join(type(value).__name__ for value in values)
        raise TypeError(
            f"several inputs are concatenated, so each must be a tensor or a list. Received: {kinds}. Pick one element "
            "with `input_slice`, or set `merge_inputs_into_list: true`"
        )
    return torch.cat(values, dim=axis)


def _needed(plan: GraphPlan) -> set[str]:
    """Blocks that the output or an extra prediction depends on."""
    by_name = {node.name: node for node in plan.nodes}
    waiting = [*plan.concat, *plan.as_list]
    waiting += [node.name for node in plan.nodes if not is_loss(node.block) and not _only_for_losses(node.name, plan)]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in needed or name not in by_name:
            continue
        needed.add(name)
        waiting += [s.name for source in by_name[name].sources for s in _flatten(source) if s.kind in ("block", "main")]
    return needed


def _only_for_losses(name: str, plan: GraphPlan) -> bool:
    """Whether everything that reads a block is an auxiliary loss (and something does)."""
    readers = [n for n in plan.nodes if any(s.name == name for source in n.sources for s in _flatten(source))]
    return bool(readers) and all(is_loss(n.block) or _only_for_losses(n.name, plan) for n in readers)


def _flatten(source: Source) -> list[Source]:
    return [source] if source.argument is None else [source, *_flatten(source.argument)]


def _module_name(name: str) -> str:
    return name.replace(".", "_") + "_" if name in _RESERVED else name.replace(".", "_")


_RESERVED = set(dir(nn.ModuleDict))
