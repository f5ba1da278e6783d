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

from intarsia.backbone.names import module_name
from intarsia.backbone.plan import MAIN, GraphPlan, Node, Source, flatten, is_input, is_loss
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
        memo: What several input layers share.
        skip_losses: Whether blocks that only serve auxiliary losses are left out.
        builder: Assembles blocks on the way; None once they are all there.
    """

    batch: Batch
    embedded: dict[str, Tensor | Jagged]
    values: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, int] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    memo: dict[tuple[str, str], Any] = field(default_factory=dict)
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
            self.blocks[module_name(node.name)] = BlockModule(node=node, graph=plan.name)
        self._steps: list[BlockModule] = [self.block(node.name) for node in plan.nodes]
        self._without_losses = self._steps

    def block(self, name: str) -> BlockModule:
        """The block of a name."""
        module = self.blocks[module_name(name)]
        assert isinstance(module, BlockModule)
        return module

    def forward(self, run: Run, argument: Any = None) -> Any:
        """Runs the blocks; gives a list for `output_blocks`, else the concatenation of `concat_blocks`."""
        values: dict[str, Any] = run.values if self.plan.name == MAIN else {}
        for step in self._without_losses if run.skip_losses else self._steps:
            if run.builder is not None:
                values[step.node.name] = run.builder.visit(self, step, values, run, argument)
            else:
                values[step.node.name] = step(run, self.inputs_of(step, values, run, argument))
        if self.plan.as_list:
            return [values[name] for name in self.plan.as_list]
        outputs = [values[name] for name in self.plan.concat]
        return merge(outputs, -1) if run.builder is None else run.builder.merge_outputs(self.plan, outputs)

    def inputs_of(self, step: BlockModule, values: dict[str, Any], run: Run, argument: Any) -> list[Any]:
        """The values that a block reads; packages that it calls are run."""
        inputs = [(self._fetch(source, values, run, argument), source) for source in step.node.sources]
        return [_transform(source, value) for value, source in inputs if _kept(source)]

    def skip_losses(self) -> None:
        """Finds the blocks that predictions need, once all are assembled; the others run in training only.

        Where a call resets a package's input layers, no block is left out, because later calls depend on it.
        """
        if any(_resets(graph.plan) for graph in self._graphs.values()):
            return
        waiting = [*self.plan.concat, *self.plan.as_list]
        waiting += [step.node.name for step in self._steps if self._adds_output(step)]
        needed: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += self.plan.needs[name]
        self._without_losses = [step for step in self._steps if step.node.name in needed]

    def _adds_output(self, step: BlockModule) -> bool:
        """Whether a block, or a package that it calls, has a value that joins the predictions."""
        calls = [s.name for source in step.node.sources for s in flatten(source) if s.kind == "call"]
        return step.adds_output or any(
            callee._adds_output(inner) for callee in (self._graphs[name] for name in calls) for inner in callee._steps
        )

    def _fetch(self, source: Source, values: dict[str, Any], run: Run, argument: Any) -> Any:
        if source.kind == "block":
            return values[source.name]
        if source.kind == "main":
            return run.values[source.name]
        return argument if source.kind == "argument" else self._call(source, values, run, argument)

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
    return compile_slice(text, with_number=False)


class BlockModule(nn.Module):
    """A block: merges its inputs and applies its operation."""

    def __init__(self, *, node: Node, graph: str) -> None:
        super().__init__()
        self.node = node
        self.graph = graph
        self.operation: nn.Module | None = None
        self.variants = nn.ModuleDict()
        self.reads_group = is_input(node.block)
        self.adds_loss = is_loss(node.block)

    @property
    def full_name(self) -> str:
        """`block`, or `package.block`."""
        return self.node.name if self.graph == MAIN else f"{self.graph}.{self.node.name}"

    def forward(self, run: Run, inputs: list[Any]) -> Any:
        """The block's value, from the values of its inputs."""
        return self.apply_operation(run, None if self.reads_group else self.merge_inputs(inputs))

    def merge_inputs(self, inputs: list[Any]) -> Any:
        """What the operation receives."""
        block = self.node.block
        merged = inputs if block.merge_inputs_into_list else merge(inputs, block.input_concat_axis)
        return _function(block.extra_input_fn)(merged) if block.extra_input_fn else merged

    def apply_operation(self, run: Run, merged: Any) -> Any:
        """Runs the operation on merged inputs (input blocks read the run instead)."""
        if self.operation is None:
            return merged
        if self.reads_group:
            variant = run.variants.get(self.graph, 0)
            return (self.variants[str(variant)] if str(variant) in self.variants else self.operation)(run)  # noqa: SIM401
        value = self.operation(merged)
        if self.adds_loss:
            # A package that is called several times adds its loss several times.
            run.losses[self.loss_name] = value + run.losses[self.loss_name] if self.loss_name in run.losses else value
        elif self.adds_output:
            run.outputs[self.node.name] = value.squeeze(-1)
        return value

    @property
    def loss_name(self) -> str:
        """Name of the auxiliary loss in logs."""
        return f"{self.full_name}_{getattr(self._last, 'loss_name', 'auxiliary_loss')}"

    @property
    def adds_output(self) -> bool:
        """Whether the block's value joins the predictions."""
        return bool(getattr(self._last, "add_to_outputs", False))

    @property
    def _last(self) -> nn.Module | None:
        """The component that makes the block's value."""
        return self.operation[-1] if isinstance(self.operation, nn.Sequential) else self.operation


class InputOperation(nn.Module):
    """Reads a feature group: an input layer, the raw tensors, or a fused embedding layer."""

    def __init__(self, *, module: nn.Module, raw: bool) -> None:
        super().__init__()
        self.module = module
        self.raw = raw

    def forward(self, run: Run) -> Any:
        """The group's value in the form that the block asks for."""
        return self.module(run.batch) if self.raw else self.module(run.embedded, run.memo)


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
        """The next copy's input: the new outputs in the places of the old ones, one output in all of them."""
        if self.fixed is None:
            return outputs
        free = [i for i in range(len(inputs)) if i != self.fixed]
        several = isinstance(outputs, list | tuple)
        if several and len(outputs) != len(free):
            raise ValueError(f"every input but the fixed one gets an output. Received: {len(outputs)} for {len(free)}")
        following = list(inputs)
        for place, i in enumerate(free):
            following[i] = outputs[place] if several else outputs
        return following

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


def _resets(plan: GraphPlan) -> bool:
    configs = [s.config for node in plan.nodes for source in node.sources for s in flatten(source)]
    return any(config is not None and config.reset_input is not None for config in configs)
