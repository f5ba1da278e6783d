"""Assembles a backbone: every component is sized by the example that flows into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from intarsia.backbone.graph import BlockModule, Graph, InputOperation, Run, merge
from intarsia.backbone.groups import Group, GroupEmbedder, resolve_groups
from intarsia.backbone.inputs import GroupReader, InputLayer, Memo, RawInput
from intarsia.backbone.names import module_name
from intarsia.backbone.operations import operation
from intarsia.backbone.plan import MAIN, ROOT, GraphPlan, Planner
from intarsia.config.schema import Backbone as BackboneConfig
from intarsia.config.schema import Block, FeatureGroup
from intarsia.config.schema import InputLayer as InputLayerConfig
from intarsia.config.schema.model import EmbeddingLayerConfig
from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.errors import BuildError, ConfigError, IntarsiaError, Problem
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.nn.component import options
from intarsia.nn.embedding import Lookup, TableSpec
from intarsia.nn.embedding.spec import Pooling
from intarsia.nn.mlp import MLP
from intarsia.nn.shapes import describe, is_shape, shape_of, width

EXAMPLE_ROWS = 2
EXAMPLE_STEPS = 3


class Backbone(nn.Module):
    """A graph of blocks over feature groups.

    Args:
        config: The graph.
        feature_groups: The groups that blocks may read.
        schema: Sizes of the features.
        backend: Implementation of the tables.

    Attributes:
        out_shape: Shape of the output as an example gave it, or a list of shapes.

    Raises:
        BuildError: Names, cycles or shapes do not fit; names the block and the shapes of its inputs.
    """

    def __init__(
        self,
        *,
        config: BackboneConfig,
        feature_groups: Sequence[FeatureGroup],
        schema: Schema,
        backend: str = "torch",
    ) -> None:
        super().__init__()
        self.groups = resolve_groups(feature_groups, schema, _wide_width(config))
        plans = Planner(config, self.groups).plan()
        used = _used_groups(plans, self.groups)
        self.readers = nn.ModuleDict(_readers(used))
        self.embedder = GroupEmbedder(groups=used, extra=_fused_layers(plans, self.groups), backend=backend)
        self.graphs = nn.ModuleDict()
        graphs: dict[str, Graph] = {}
        for name, plan in plans.items():
            graphs[name] = Graph(plan=plan, graphs=graphs)
            self.graphs[module_name(name)] = graphs[name]
        self.main = [graphs[MAIN]]
        output = Builder(self).run(schema)
        # What was sized by the length of the example's sequences fails here, at the block, not in the first epoch.
        Builder(self, EXAMPLE_ROWS + 1, EXAMPLE_STEPS - 1).run(schema)
        for graph in graphs.values():
            graph.skip_losses()
        self.top_mlp: MLP | None = None
        if config.top_mlp is not None:
            self.top_mlp, output = _top_mlp(config.top_mlp, output)
        self.out_shape = shape_of(output)
        self.train()

    @property
    def out_features(self) -> int:
        """Width of the output; 1 where it is one number a row, without an axis for it.

        Raises:
            BuildError: The output is not one vector a row.
        """
        shape = self.out_shape
        if isinstance(shape, list):
            message = (
                "the backbone gives a list of tensors, and this model needs one: name blocks that give a tensor in "
                "concat_blocks, or join the list in a block with the lambda `lambda x: tf.concat(x, axis=1)`"
            )
            raise BuildError([Problem("", ROOT, message)])
        if not is_shape(shape) or len(shape) > 2:
            message = f"the backbone must give one vector a row, (B, D). Received: {describe(shape)}"
            raise BuildError([Problem("", ROOT, f"{message}. Flatten or sum it up in a last block")])
        return 1 if len(shape) == 1 else width("backbone", shape)

    def forward(self, batch: Batch) -> tuple[Any, Run]:
        """The output, and the run with auxiliary losses and extra predictions.

        Args:
            batch: B rows.

        Returns:
            (B, D), or a list of tensors for `output_blocks` without a top MLP; and the run.
        """
        run = Run(batch, self.embedder(batch), skip_losses=not self.training)
        output = self.main[0](run)
        if self.top_mlp is not None:
            output = self.top_mlp(join_outputs(output))
        return output, run


class Builder:
    """Sends an example of zeros through the graphs and creates each block's operation where it arrives.

    Args:
        backbone: The backbone.
        rows: Rows of the example.
        steps: Length of its sequences, at most their `max_length`.

    Attributes:
        shapes: By block, the shapes of the merged inputs and of the output, in running order.
    """

    def __init__(self, backbone: Backbone, rows: int = EXAMPLE_ROWS, steps: int = EXAMPLE_STEPS) -> None:
        self.backbone = backbone
        self.rows, self.steps = rows, steps
        self.shapes: dict[str, tuple[Any, Any]] = {}

    def run(self, schema: Schema) -> Any:
        """The example's output."""
        embedded: dict[str, Tensor | Jagged] = {}
        for group in self.backbone.groups.values():
            for spec in group.specs():
                sequence = spec.sequence and not group.wide
                embedded[group.key(spec)] = self._vectors(spec, group.width(spec), sequence)
        for key, dim in _fused_widths(self.backbone.embedder):
            embedded.setdefault(key, torch.zeros(self.rows, dim))
        features = {spec.name: self._feature(spec) for spec in schema.features.values()}
        run = Run(Batch(features, size=self.rows), embedded, builder=self)
        with torch.no_grad():
            self.backbone.eval()
            return self.backbone.main[0](run)

    def visit(self, graph: Graph, block: BlockModule, values: dict[str, Any], run: Run, argument: Any) -> Any:
        """Fetches a block's inputs, then `assemble`; an error of a transform of an input names the block."""
        with _named(block):
            inputs = graph.inputs_of(block, values, run, argument)
        return self.assemble(block, run, inputs)

    def assemble(self, block: BlockModule, run: Run, inputs: list[Any]) -> Any:
        """Creates a block's operation where it is missing, and computes its value for the example."""
        with _named(
            block, "" if block.reads_group else f" Its inputs: {', '.join(describe(shape_of(x)) for x in inputs)}"
        ):
            merged = None if block.reads_group else block.merge_inputs(inputs)
            if block.reads_group:
                self._assemble_input(block, run)
            elif block.operation is None:
                block.operation = operation(block.node.block, merged)
            if block.operation is not None:
                block.eval()
            value = block.apply_operation(run, merged)
        self.shapes.setdefault(block.full_name, (sizes(merged), sizes(value)))
        return value

    def merge_outputs(self, plan: GraphPlan, outputs: list[Any]) -> Any:
        """The output of a graph, joined from those of its `concat_blocks`."""
        try:
            return merge(outputs, -1)
        except (RuntimeError, TypeError, IndexError) as error:
            told = ", ".join(f"`{name}` {describe(shape_of(x))}" for name, x in zip(plan.concat, outputs, strict=True))
            message = (
                f"the outputs of `{plan.name}` cannot be concatenated: {_first_line(error)}. Its concat_blocks: {told}"
            )
            raise BuildError([Problem("", plan.path, message)]) from error

    def _vectors(self, spec: FeatureSpec, width: int, sequence: bool) -> Tensor | Jagged:
        if not sequence:
            return torch.zeros(self.rows, width)
        return self._jagged(spec, torch.zeros(self.rows * self._length(spec), width))

    def _feature(self, spec: FeatureSpec) -> Feature:
        several = spec.sequence or spec.multi
        count = self.rows * self._length(spec) if several else self.rows
        values = torch.zeros(count, dtype=torch.int64) if spec.kind == "id" else torch.zeros(count, spec.width)
        return self._jagged(spec, values) if several else Dense(values)

    def _jagged(self, spec: FeatureSpec, values: Tensor) -> Jagged:
        return Jagged(values, torch.arange(self.rows + 1) * self._length(spec))

    def _length(self, spec: FeatureSpec) -> int:
        return min(self.steps, spec.max_length or self.steps)

    def _assemble_input(self, block: BlockModule, run: Run) -> None:
        config = block.node.block
        group = self.backbone.groups[block.node.group]
        if block.operation is None:
            block.operation = self._input_operation(config, group, block.full_name)
        number = run.variants.get(block.graph, 0)
        if number and config.input_layer is not None and str(number) not in block.variants:
            graph = self.backbone.graphs[module_name(block.graph)]
            assert isinstance(graph, Graph)
            reset = config.model_copy(update={"input_layer": graph.variants[number - 1]})
            block.variants[str(number)] = self._input_operation(reset, group, "")

    def _input_operation(self, config: Block, group: Group, name: str) -> nn.Module:
        if config.raw_input is not None:
            return InputOperation(module=RawInput(group=group), raw=True)
        if config.embedding_layer is not None:
            return InputOperation(module=FusedRead(group=group, name=name, config=config.embedding_layer), raw=False)
        reader = self.backbone.readers[module_name(group.name)]
        assert isinstance(reader, GroupReader)
        layer = InputLayer(reader=reader, config=config.input_layer or InputLayerConfig())
        return InputOperation(module=layer, raw=False)


class FusedRead(nn.Module):
    """The `embedding_layer` of a block: every feature of a group through tables of one width of the block's own."""

    def __init__(self, *, group: Group, name: str, config: EmbeddingLayerConfig) -> None:
        super().__init__()
        self.keys = [_fused_key(name, spec) for spec in group.features]
        self.concat = config.concat

    def forward(self, embedded: Mapping[str, Tensor], memo: Memo) -> Any:
        """(B, F * D), or a list of (B, D)."""
        vectors = [embedded[key] for key in self.keys]
        return torch.cat(vectors, dim=-1) if self.concat else vectors


def _fused_layers(plans: Mapping[str, GraphPlan], groups: Mapping[str, Group]) -> list[tuple[TableSpec, Lookup]]:
    """Tables and lookups of all `embedding_layer` blocks."""
    out = []
    problems = []
    for plan in plans.values():
        for node in plan.nodes:
            config = node.block.embedding_layer
            if config is None or not node.group:
                continue
            name = node.name if plan.name == MAIN else f"{plan.name}.{node.name}"
            for spec in groups[node.group].features:
                if spec.kind != "id":
                    message = f"`embedding_layer` reads ids, and the feature `{spec.name}` is a number"
                    cure = "Give it boundaries or num_buckets"
                    problems.append(Problem("", node.path, f"block `{node.name}`: {message}. {cure}"))
                    continue
                key = _fused_key(name, spec)
                pooling: Pooling = "mean" if config.combiner == "weight" else config.combiner
                table = TableSpec(key, spec.num_ids, config.embedding_dim, spec.initializer, "deep")
                out.append((table, Lookup(key, spec.name, key, pooling, pooling)))
    if problems:
        raise BuildError(problems)
    return out


def _fused_key(block: str, spec: FeatureSpec) -> str:
    """Name of a table of an `embedding_layer`; the block may be called like its group, whose tables are others."""
    return f"{block}:embedding_layer/{spec.name}"


def _fused_widths(embedder: GroupEmbedder) -> Iterable[tuple[str, int]]:
    if embedder.collection is None:
        return []
    return [(lookup.key, embedder.collection.spec(lookup.table).dim) for lookup in embedder.collection.lookups]


def join_outputs(value: Any) -> Tensor:
    """What the top MLP reads: the output, or its parts side by side.

    Raises:
        BuildError: The parts cannot be concatenated.
    """
    joined = merge(list(value), -1) if isinstance(value, list | tuple) and len(value) > 1 else value
    if isinstance(joined, list | tuple):
        joined = torch.cat(list(joined), dim=-1)
    if not isinstance(joined, Tensor):
        raise BuildError(f"the top_mlp needs tensors that can be concatenated. Received: {describe(shape_of(joined))}")
    return joined


def _wide_width(config: BackboneConfig) -> int:
    """The one width of wide tables in a model; 1 where nothing sets it."""
    widths: dict[int, str] = {}
    for block in (*config.blocks, *(b for package in config.packages for b in package.blocks)):
        for layer in (block.input_layer, *(i.reset_input for i in block.inputs)):
            if layer is not None and layer.wide_output_dim:
                widths.setdefault(layer.wide_output_dim, block.name)
    if len(widths) > 1:
        told = ", ".join(f"{width} in `{name}`" for width, name in widths.items())
        raise BuildError([Problem("", ROOT, f"wide_output_dim has one value in the whole model. Received: {told}")])
    return next(iter(widths), 1)


def _used_groups(plans: Mapping[str, GraphPlan], groups: Mapping[str, Group]) -> list[Group]:
    """Groups that some block reads through their own tables."""
    names = {
        node.group
        for plan in plans.values()
        for node in plan.nodes
        if node.group and node.block.raw_input is None and node.block.embedding_layer is None
    }
    return [group for name, group in groups.items() if name in names]


def _readers(groups: Iterable[Group]) -> dict[str, GroupReader]:
    readers: dict[str, GroupReader] = {}
    problems: list[Problem] = []
    for group in groups:
        try:
            readers[module_name(group.name)] = GroupReader(group=group)
        except BuildError as error:
            problems.extend(error.problems)
    if problems:
        raise BuildError(problems)
    return readers


def _top_mlp(config: Mapping[str, Any] | BaseModel, output: Any) -> tuple[MLP, Any]:
    """The MLP on the backbone's output, and the example's way through it."""
    try:
        joined = join_outputs(output)
        mlp = MLP.from_inputs(shape_of(joined), **options(MLP, config, "top_mlp"))
        with torch.no_grad():
            return mlp, mlp.eval()(joined)
    except (ConfigError, RuntimeError) as error:
        told = _told(error.problems[0]) if isinstance(error, ConfigError) else _first_line(error)
        message = f"{_sentence(told)} Its input: {describe(shape_of(output))}"
        raise BuildError([Problem("", f"{ROOT}.top_mlp", message)]) from error


@contextmanager
def _named(block: BlockModule, received: str = "") -> Iterator[None]:
    """Turns whatever goes wrong into an error that names the block and the shapes of its inputs."""
    try:
        yield
    except IntarsiaError as error:
        problems = _problems(error)
        if not received and all(p.path.startswith(ROOT) for p in problems):
            raise  # a block of a package that this block calls
        raise BuildError([_in_block(block, _told(p), received) for p in problems]) from error
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BuildError([_in_block(block, _first_line(error), received)]) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _problems(error: IntarsiaError) -> Sequence[Problem]:
    return error.problems if isinstance(error, ConfigError) else [Problem("", "", str(error))]


def _in_block(block: BlockModule, message: str, received: str) -> Problem:
    return Problem("", block.node.path, f"block `{block.full_name}`: {_sentence(message)}{received}")


def _told(problem: Problem) -> str:
    """The message, with the option that it is about."""
    option = problem.path and not problem.path.startswith("model_config")
    return f"{problem.path}: {problem.message}" if option else problem.message


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else text.rstrip(".") + "."


def sizes(value: Any) -> Any:
    """Shapes of nested tensors: `torch.Size` for a tensor, lists and tuples as they are, None for None."""
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, list | tuple):
        parts = [sizes(part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return None
