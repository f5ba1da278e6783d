"""The order of the blocks: names resolved, packages expanded into edges, cycles refused. No tensors here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from intarsia.backbone.groups import Group, nearest
from intarsia.config.schema import Backbone, Block, BlockInput, InputLayer, Package
from intarsia.core.errors import BuildError, Problem

MAIN = "backbone"


@dataclass(frozen=True)
class Source:
    """Where one input of a block comes from.

    Attributes:
        kind: `block` of the same graph, `main` block seen from a package, the package's own `argument`, or a `call`
            of the package `name`.
        name: Block or package.
        argument: What a called package receives.
        config: The input's message, None for inputs that the planner made.
    """

    kind: Literal["block", "main", "argument", "call"]
    name: str = ""
    argument: Source | None = None
    config: BlockInput | None = None


@dataclass(frozen=True)
class Node:
    """A block in its place.

    Attributes:
        name: Unique in its graph.
        block: The block's message.
        group: Feature group that an input block reads.
        sources: Inputs of the other blocks.
        path: Place in the pipeline file.
    """

    name: str
    block: Block
    group: str
    sources: tuple[Source, ...]
    path: str


@dataclass(frozen=True)
class GraphPlan:
    """The nodes of a package (or of the backbone itself) in an order in which they can run."""

    name: str
    nodes: tuple[Node, ...]
    concat: tuple[str, ...]
    as_list: tuple[str, ...]


def is_input(block: Block) -> bool:
    """Whether a block reads a feature group directly."""
    return not block.layers and any(x is not None for x in (block.input_layer, block.raw_input, block.embedding_layer))


class Planner:
    """Plans the backbone and its packages.

    Args:
        config: The backbone.
        groups: Feature groups by name.

    Raises:
        BuildError: Unknown names, cycles, blocks without inputs; all of them at once.
    """

    def __init__(self, config: Backbone, groups: Mapping[str, Group]) -> None:
        self.config = config
        self.groups = groups
        self.packages = {package.name: package for package in config.packages}
        self.main = Package(
            name=MAIN, blocks=config.blocks, concat_blocks=config.concat_blocks, output_blocks=config.output_blocks
        )
        self.main_names = {block.name for block in config.blocks}
        self.problems: list[Problem] = []
        self._path = {id(block): f"model_config.backbone.blocks[{i}]" for i, block in enumerate(config.blocks)}
        for p, package in enumerate(config.packages):
            for i, block in enumerate(package.blocks):
                self._path[id(block)] = f"model_config.backbone.packages[{p}].blocks[{i}]"

    def plan(self) -> dict[str, GraphPlan]:
        """Plans by package name; the backbone's own is called `backbone`."""
        nodes = {package.name: self._nodes(package) for package in (*self.packages.values(), self.main)}
        self._check_outputs()
        self._stop_if_wrong()
        self._refuse_package_cycles(nodes)
        reads = {name: self._main_reads(name, nodes) for name in nodes}
        plans = {}
        for name, unordered in nodes.items():
            ordered = self._order(name, unordered, reads)
            package = self.packages.get(name, self.main)
            concat = tuple(package.concat_blocks)
            if not concat and not package.output_blocks:
                read_by_packages = set().union(*(reads[other] for other in self.packages)) if name == MAIN else set()
                concat = tuple(leaf for leaf in _leaves(ordered) if leaf not in read_by_packages)
            plans[name] = GraphPlan(name, tuple(ordered), concat, tuple(package.output_blocks))
        self._stop_if_wrong()
        return plans

    def _nodes(self, package: Package) -> list[Node]:
        """The package's blocks with resolved inputs, and input blocks for feature groups that they name."""
        own = {block.name: block for block in package.blocks}
        nodes: dict[str, Node] = {}
        for block in package.blocks:
            path = self._path[id(block)]
            if block.name in nodes:
                self._problem(path, f"the name `{block.name}` is taken by another block; names of blocks are unique")
            if is_input(block):
                nodes[block.name] = Node(block.name, block, self._group_of(block, path), (), path)
                continue
            if block.name in self.groups:
                self._problem(
                    path, f"`{block.name}` is the name of a feature group; only a block that reads a group may have it"
                )
            if not block.inputs:
                self._problem(path, f"the block `{block.name}` needs at least one entry in `inputs`")
            sources = [self._source(i, block, path, own, nodes) for i in block.inputs]
            nodes[block.name] = Node(block.name, block, "", tuple(s for s in sources if s is not None), path)
        return list(nodes.values())

    def _group_of(self, block: Block, path: str) -> str:
        names = [i.feature_group_name or i.block_name for i in block.inputs]
        if len(names) != 1 or not names[0]:
            self._problem(path, f"the input block `{block.name}` reads exactly one feature group. Received: {names}")
        elif names[0] not in self.groups:
            self._problem(path, f"there is no feature group `{names[0]}`{nearest(names[0], self.groups)}")
        return names[0] or "" if names else ""

    def _source(
        self, config: BlockInput, block: Block, path: str, own: Mapping[str, Block], nodes: dict[str, Node]
    ) -> Source | None:
        given = [
            key
            for key in ("feature_group_name", "block_name", "package_name", "use_package_input")
            if getattr(config, key)
        ]
        if len(given) != 1:
            self._problem(
                path,
                f"an input of `{block.name}` must set exactly one of feature_group_name, block_name, package_name, "
                f"use_package_input. Received: {given or 'none of them'}",
            )
            return None
        if config.use_package_input:
            return Source("argument", config=config)
        if config.package_name:
            if config.package_name not in self.packages:
                hint = nearest(config.package_name, self.packages)
                self._problem(path, f"`{block.name}` calls the package `{config.package_name}`, which is not defined{hint}")
                return None
            argument = self._argument(config, block, path, own, nodes)
            return Source("call", config.package_name, argument, config)
        name = config.block_name or config.feature_group_name or ""
        found = self._resolve(name, own, nodes, allow_group=bool(config.feature_group_name))
        if found is None:
            known = [*own, *self.groups, *self.main_names]
            what = "block" if config.block_name else "feature group"
            self._problem(path, f"`{block.name}` reads the {what} `{name}`, which is not defined{nearest(name, known)}")
            return None
        return Source(found.kind, found.name, None, config)

    def _argument(
        self, config: BlockInput, block: Block, path: str, own: Mapping[str, Block], nodes: dict[str, Node]
    ) -> Source | None:
        name = config.package_input
        if not name:
            return None
        found = self._resolve(name, own, nodes, allow_group=True)
        if found is None and name in self.packages:
            found = Source("call", name)
        if found is None:
            hint = nearest(name, [*own, *self.packages, *self.groups])
            self._problem(path, f"package_input of `{block.name}` names `{name}`, which is no block or package{hint}")
        return found

    def _resolve(self, name: str, own: Mapping[str, Block], nodes: dict[str, Node], allow_group: bool) -> Source | None:
        """The package's own blocks first, then feature groups (where allowed), then the backbone's blocks."""
        if name in own:
            return Source("block", name)
        if allow_group and name in self.groups:
            if name not in nodes:
                block = Block(name=name, inputs=[BlockInput(feature_group_name=name)], input_layer=InputLayer())
                nodes[name] = Node(name, block, name, (), self.groups[name].path)
            return Source("block", name)
        return Source("main", name) if name in self.main_names else None

    def _check_outputs(self) -> None:
        for path, package in [("model_config.backbone", self.main)] + [
            (f"model_config.backbone.packages[{i}]", p) for i, p in enumerate(self.packages.values())
        ]:
            names = [block.name for block in package.blocks]
            for key in ("concat_blocks", "output_blocks"):
                for name in getattr(package, key):
                    if name not in names:
                        self._problem(path, f"{key} names `{name}`, which is no block{nearest(name, names)}")

    def _refuse_package_cycles(self, nodes: Mapping[str, Sequence[Node]]) -> None:
        calls = {name: {s.name for n in ns for s in _calls(n.sources)} for name, ns in nodes.items()}
        cycle = _find_cycle(calls)
        if cycle:
            self._problem("model_config.backbone.packages", f"packages call each other in a circle: {' -> '.join(cycle)}")
            self._stop_if_wrong()

    def _main_reads(self, name: str, nodes: Mapping[str, Sequence[Node]]) -> set[str]:
        """Blocks of the backbone that a package reads, through the packages that it calls as well."""
        out: set[str] = set()
        for node in nodes[name]:
            for source in _all_sources(node.sources):
                if source.kind == "main":
                    out.add(source.name)
                elif source.kind == "call":
                    out |= self._main_reads(source.name, nodes)
        return out

    def _order(self, graph: str, nodes: Sequence[Node], reads: Mapping[str, set[str]]) -> list[Node]:
        """The nodes so that each comes after what it reads, otherwise in the order of the file."""
        before: dict[str, set[str]] = {}
        for node in nodes:
            needs: set[str] = set()
            for source in _all_sources(node.sources):
                if source.kind in ("block", "main"):
                    needs.add(source.name)
                elif source.kind == "call" and graph == MAIN:
                    needs |= reads[source.name]
            before[node.name] = needs & {n.name for n in nodes}
        cycle = _find_cycle(before)
        if cycle:
            self._problem("model_config.backbone", f"blocks read each other in a circle: {' -> '.join(cycle)}")
            return []
        ordered: list[Node] = []
        done: set[str] = set()
        waiting = list(nodes)
        while waiting:
            ready = next(node for node in waiting if before[node.name] <= done)
            waiting.remove(ready)
            ordered.append(ready)
            done.add(ready.name)
        return ordered

    def _problem(self, path: str, message: str) -> None:
        self.problems.append(Problem("", path, message))

    def _stop_if_wrong(self) -> None:
        if self.problems:
            raise BuildError(list(dict.fromkeys(self.problems)))


def _all_sources(sources: Iterable[Source]) -> list[Source]:
    """The sources and, of calls, their arguments."""
    out = []
    for source in sources:
        out.append(source)
        if source.argument is not None:
            out.extend(_all_sources([source.argument]))
    return out


def _calls(sources: Iterable[Source]) -> list[Source]:
    return [s for s in _all_sources(sources) if s.kind == "call"]


def _leaves(nodes: Sequence[Node]) -> list[str]:
    """Blocks that no other block reads, blocks that only add a loss aside."""
    read = {s.name for node in nodes for s in _all_sources(node.sources) if s.kind in ("block", "main")}
    return [node.name for node in nodes if node.name not in read and not is_loss(node.block)]


def is_loss(block: Block) -> bool:
    """Whether a block adds an auxiliary loss instead of computing a value."""
    last = block.layers[-1] if block.layers else block
    return last.layer is not None and last.layer.class_name == "AuxiliaryLoss"


def _find_cycle(before: Mapping[str, Collection[str]]) -> list[str]:
    """One cycle as a closed path of names, or nothing."""
    state: dict[str, int] = {}
    for start in before:
        path: list[str] = []
        stack = [(start, iter(before[start]))] if state.get(start) is None else []
        if stack:
            state[start] = 1
            path.append(start)
        while stack:
            name, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                state[name] = 2
                stack.pop()
                path.pop()
            elif state.get(step) == 1:
                return [*path[path.index(step) :], step]
            elif state.get(step) is None:
                state[step] = 1
                path.append(step)
                stack.append((step, iter(before.get(step, ()))))
    return []
