"""Assembles a backbone: every component is sized by the example that flows into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from intarsia.backbone.graph import BlockModule, Graph, InputOperation, Lambda, Recurrent, Repeat, Run, merge
from intarsia.backbone.groups import Group, GroupEmbedder, resolve_groups
from intarsia.backbone.inputs import GroupReader, InputLayer, RawInput
from intarsia.backbone.plan import MAIN, GraphPlan, Planner
from intarsia.config.schema import Backbone as BackboneConfig
from intarsia.config.schema import Block, FeatureGroup, Layer
from intarsia.config.schema import InputLayer as InputLayerConfig
from intarsia.config.schema.model import EmbeddingLayerConfig, LayerStep
from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.errors import BuildError, ConfigError, IntarsiaError, Problem
from intarsia.core.expressions.tensors import compile_lambda, compile_slice
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.nn import catalogue
from intarsia.nn.embedding import Lookup, TableSpec
from intarsia.nn.mlp import MLP
from intarsia.nn.shapes import describe, shape_of

EXAMPLE_ROWS = 2
EXAMPLE_STEPS = 3


@dataclass(frozen=True)
class BlockInfo:
    """What `show` tells about one block.

    Attributes:
        name: `block`, or `package.block`.
        operation: Component or kind of operation.
        inputs: Names of the blocks, groups and packages that it reads.
        input_shape: Shapes of the merged input as text.
        output_shape: Shapes of the output as text.
        parameters: Number of parameters of its own (tables are counted with their group).
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    input_shape: str
    output_shape: str
    parameters: int


class Backbone(nn.Module):
    """A graph of blocks over feature groups.

    Args:
        config: The graph.
        feature_groups: The groups that blocks may read.
        schema: Sizes of the features.
        backend: Implementation of the tables.

    Attributes:
        out_shape: Shape of the output as an example gave it, or a list of shapes.
        infos: One entry a block, in running order.

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
        self.readers = nn.ModuleDict({_safe(group.name): GroupReader(group=group) for group in used})
        self.embedder = GroupEmbedder(groups=used, extra=_fused_layers(plans, self.groups), backend=backend)
        self.graphs = nn.ModuleDict()
        graphs: dict[str, Graph] = {}
        for name, plan in plans.items():
            graphs[name] = Graph(plan=plan, graphs=graphs)
            self.graphs[_safe(name)] = graphs[name]
        self.main = [graphs[MAIN]]
        builder = Builder(self)
        output = builder.run(schema)
        self.top_mlp: MLP | None = None
        if config.top_mlp is not None:
            joined = _join(output)
            options = _options(catalogue.resolve("MLP"), config.top_mlp, "model_config.backbone.top_mlp")
            self.top_mlp = MLP.from_inputs(shape_of(joined), **options)
            with torch.no_grad():
                output = self.top_mlp.eval()(joined)
        self.out_shape = shape_of(output)
        self.infos = builder.infos
        self.train()

    @property
    def out_features(self) -> int:
        """Width of the output.

        Raises:
            BuildError: The output is a list.
        """
        if isinstance(self.out_shape, list):
            raise BuildError("the backbone gives a list (output_blocks); this model needs one tensor: use concat_blocks")
        return int(self.out_shape[-1])  # type: ignore[arg-type]

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
            output = self.top_mlp(_join(output))
        return output, run


class Builder:
    """Sends an example of zeros through the graphs and creates each block's operation where it arrives."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.infos: list[BlockInfo] = []

    def run(self, schema: Schema) -> Any:
        """The example's output."""
        embedded: dict[str, Tensor | Jagged] = {}
        for group in self.backbone.groups.values():
            for spec in group.specs():
                embedded[group.key(spec)] = _example_vectors(spec, group.width(spec), sequence=spec.sequence and not group.wide)
        for key, width in _fused_widths(self.backbone.embedder):
            embedded.setdefault(key, torch.zeros(EXAMPLE_ROWS, width))
        features = {spec.name: _example_feature(spec) for spec in schema.features.values()}
        run = Run(Batch(features, size=EXAMPLE_ROWS), embedded, builder=self)
        with torch.no_grad():
            return self.backbone.main[0].eval()(run)

    def assemble(self, block: BlockModule, run: Run, inputs: list[Any]) -> Any:
        """Creates a block's operation on its first visit, and computes its value for the example."""
        seen = any(info.name == block.full_name for info in self.infos)
        received = "" if block.reads_group else f" Its inputs: {', '.join(describe(shape_of(x)) for x in inputs)}"
        try:
            merged = None if block.reads_group else block.merge_inputs(inputs)
            if block.reads_group:
                self._assemble_input(block, run)
            elif not seen:
                block.operation = _operation(block.node.block, merged)
            if block.operation is not None:
                block.eval()
            value = block.apply_operation(run, merged)
        except IntarsiaError as error:
            raise BuildError([_in_block(block, p.message, received) for p in _problems(error)]) from error
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BuildError([_in_block(block, str(error).splitlines()[0], received)]) from error
        if not seen:
            self.infos.append(_info(block, merged, value))
        return value

    def _assemble_input(self, block: BlockModule, run: Run) -> None:
        config = block.node.block
        group = self.backbone.groups[block.node.group]
        if block.operation is None:
            block.operation = self._input_operation(config, group, block.full_name)
        number = run.variants.get(block.graph, 0)
        if number and str(number) not in block.variants:
            options = self.backbone.graphs[_safe(block.graph)].variants[number - 1]  # type: ignore[index,union-attr]
            block.variants[str(number)] = self._input_operation(Block(name=config.name, input_layer=options), group, "")  # type: ignore[arg-type]

    def _input_operation(self, config: Block, group: Group, name: str) -> nn.Module:
        if config.raw_input is not None:
            return InputOperation(module=RawInput(group=group), raw=True)
        if config.embedding_layer is not None:
            return InputOperation(module=FusedRead(group=group, name=name, config=config.embedding_layer), raw=False)
        reader = self.backbone.readers[_safe(group.name)]
        assert isinstance(reader, GroupReader)
        layer = InputLayer(reader=reader, config=config.input_layer or InputLayerConfig())
        return InputOperation(module=layer, raw=False)


class FusedRead(nn.Module):
    """The `embedding_layer` of a block: every feature of a group through tables of one width of the block's own."""

    def __init__(self, *, group: Group, name: str, config: EmbeddingLayerConfig) -> None:
        super().__init__()
        self.keys = [f"{name}/{spec.name}" for spec in group.features]
        self.concat = config.concat

    def forward(self, embedded: Mapping[str, Tensor]) -> Any:
        """(B, F * D), or a list of (B, D)."""
        vectors = [embedded[key] for key in self.keys]
        return torch.cat(vectors, dim=-1) if self.concat else vectors


def _fused_layers(plans: Mapping[str, GraphPlan], groups: Mapping[str, Group]) -> list[tuple[TableSpec, Lookup]]:
    """Tables and lookups of all `embedding_layer` blocks."""
    out = []
    for plan in plans.values():
        for node in plan.nodes:
            config = node.block.embedding_layer
            if config is None:
                continue
            name = node.name if plan.name == MAIN else f"{plan.name}.{node.name}"
            for spec in groups[node.group].features:
                if spec.kind != "id":
                    message = f"`embedding_layer` reads ids, and the feature `{spec.name}` is a number"
                    raise BuildError([Problem("", node.path, f"block `{node.name}`: {message}. Give it boundaries or num_buckets")])
                key = f"{name}/{spec.name}"
                pooling = "mean" if config.combiner == "weight" else config.combiner
                table = TableSpec(key, spec.num_ids, config.embedding_dim, spec.initializer, "deep")
                out.append((table, Lookup(key, spec.name, key, pooling, pooling)))
    return out


def _fused_widths(embedder: GroupEmbedder) -> Iterable[tuple[str, int]]:
    if embedder.collection is None:
        return []
    return [(lookup.key, embedder.collection.spec(lookup.table).dim) for lookup in embedder.collection.lookups]


def _operation(config: Block | LayerStep, value: Any) -> nn.Module | None:
    """The operation of a block or of one of its steps, sized by `value`; None passes the value on."""
    if isinstance(config, Block) and config.layers:
        steps: list[nn.Module] = []
        for step in config.layers:
            module = _operation(step, value) or nn.Identity()
            value = module.eval()(value)
            steps.append(module)
        return nn.Sequential(*steps)
    if len(config.kinds) > 1:
        raise BuildError(f"a block has one operation. Received: {', '.join(config.kinds)}")
    if config.layer is not None:
        return component(config.layer, value)
    if config.lambda_ is not None:
        return Lambda(expression=config.lambda_.expression)
    if config.recurrent is not None:
        return _recurrent(config.recurrent.layer, value, config.recurrent.num_steps, config.recurrent.fixed_input_index)
    if config.repeat is not None:
        repeat = config.repeat
        select = _selector(repeat.input_slice, repeat.input_fn)
        copies = [component(repeat.layer, select(value, i)) for i in range(repeat.num_repeat)]
        return Repeat(copies=copies, select=select, axis=repeat.output_concat_axis)
    return None


def _recurrent(layer: Layer, value: Any, num_steps: int, fixed: int | None) -> Recurrent:
    if fixed is not None and not (isinstance(value, list | tuple) and 0 <= fixed < len(value)):
        raise BuildError(
            f"fixed_input_index {fixed} needs a list of inputs with such an element. Received: {describe(shape_of(value))}"
        )
    chain = Recurrent(steps=[], fixed=fixed)
    for _ in range(num_steps):
        step = component(layer, value)
        chain.steps.append(step)
        value = chain.advance(value, step.eval()(value))
    return chain


def _selector(slice_text: str | None, function_text: str | None) -> Callable[[Any, int], Any]:
    cut = compile_slice(slice_text) if slice_text else None
    function = compile_lambda(function_text, 2) if function_text else None

    def select(value: Any, i: int) -> Any:
        if cut is not None:
            value = cut(value, i)
        return value if function is None else function(value, i)

    return select


def component(layer: Layer, value: Any) -> nn.Module:
    """The component that a `layer` message names, sized by `value`.

    Raises:
        BuildError: No such component, or its options or inputs do not fit.
    """
    entry = catalogue.resolve(layer.class_name)
    given = (layer.model_extra or {}).get(entry.field) if entry.field else None
    if given is None:
        given = layer.st_params or {}
    module: nn.Module = entry.cls.from_inputs(shape_of(value), **_options(entry, given, layer.class_name))
    return module


def _options(entry: catalogue.ComponentEntry, given: Any, where: str) -> dict[str, Any]:
    """Checked hyperparameters of a component."""
    if not isinstance(given, BaseModel):
        try:
            given = catalogue.config_of(entry).model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(x) for x in first["loc"])
            raise BuildError(f"{where}: `{at}`: {first['msg']}. Received: {first.get('input')!r}") from None
    return {name: getattr(given, name) for name in type(given).model_fields}


def _join(value: Any) -> Tensor:
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
        if block.input_layer is not None and block.input_layer.wide_output_dim:
            widths.setdefault(block.input_layer.wide_output_dim, block.name)
    if len(widths) > 1:
        told = ", ".join(f"{width} in `{name}`" for width, name in widths.items())
        raise BuildError(f"wide_output_dim has one value in the whole model. Received: {told}")
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


def _example_vectors(spec: FeatureSpec, width: int, sequence: bool) -> Tensor | Jagged:
    if not sequence:
        return torch.zeros(EXAMPLE_ROWS, width)
    steps = min(EXAMPLE_STEPS, spec.max_length or EXAMPLE_STEPS)
    return Jagged(torch.zeros(EXAMPLE_ROWS * steps, width), torch.arange(EXAMPLE_ROWS + 1) * steps)


def _example_feature(spec: FeatureSpec) -> Feature:
    if spec.sequence or spec.multi:
        steps = min(EXAMPLE_STEPS, spec.max_length or EXAMPLE_STEPS)
        shape = (EXAMPLE_ROWS * steps,) if spec.kind == "id" else (EXAMPLE_ROWS * steps, spec.width)
        values = torch.zeros(shape, dtype=torch.int64 if spec.kind == "id" else torch.float32)
        return Jagged(values, torch.arange(EXAMPLE_ROWS + 1) * steps)
    if spec.kind == "id":
        return Dense(torch.zeros(EXAMPLE_ROWS, dtype=torch.int64))
    return Dense(torch.zeros(EXAMPLE_ROWS, spec.width))


def _problems(error: IntarsiaError) -> Sequence[Problem]:
    return error.problems if isinstance(error, ConfigError) else [Problem("", "", str(error))]


def _in_block(block: BlockModule, message: str, received: str) -> Problem:
    return Problem("", block.node.path, f"block `{block.full_name}`: {message.rstrip('.')}.{received}")


def _info(block: BlockModule, merged: Any, value: Any) -> BlockInfo:
    config = block.node.block
    if block.reads_group:
        names: tuple[str, ...] = (f"group {block.node.group}",)
    else:
        names = tuple(
            "package input" if s.kind == "argument" else f"{s.name}({s.argument.name})" if s.argument else s.name
            for s in block.node.sources
        )
    kinds = [step.layer.class_name if step.layer else (step.kinds or ["identity"])[0] for step in config.layers]
    if config.layer is not None:
        kinds = [config.layer.class_name]
    elif config.recurrent is not None:
        kinds = [f"{config.recurrent.num_steps} x {config.recurrent.layer.class_name}, recurrent"]
    elif config.repeat is not None:
        kinds = [f"{config.repeat.num_repeat} x {config.repeat.layer.class_name}"]
    elif not kinds:
        kinds = [(config.kinds or ["merge"])[0].rstrip("_")]
    return BlockInfo(
        block.full_name,
        " > ".join(kinds),
        names,
        "" if merged is None else describe(shape_of(merged)),
        describe(shape_of(value)),
        sum(p.numel() for p in block.parameters()),
    )


def _safe(name: str) -> str:
    return name.replace(".", "_") + "_" if name in set(dir(nn.ModuleDict)) else name.replace(".", "_")
