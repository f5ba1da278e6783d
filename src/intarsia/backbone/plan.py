"""The order of the blocks: names resolved, packages expanded into edges, cycles refused. No tensors here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from intarsia.backbone.groups import Group, nearest
from intarsia.config.schema import Backbone, Block, BlockInput, InputLayer, Package
from intarsia.core.errors import BuildError, Problem

MAIN = "backbone"
ROOT = "model_config.backbone"


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
    """The nodes of a package (or of the backbone itself) in an order in which they can run.

    Attributes:
        name: Name of the package, `backbone` for the backbone itself.
        nodes: In running order.
        needs: By node, the nodes of this graph that must run before it, those that its packages read included.
        concat: Nodes whose concatenation is the output.
        as_list: Nodes whose list is the output.
        path: Place in the pipeline file.
    """

    name: str
    nodes: tuple[Node, ...]
    needs: Mapping[str, frozenset[str]]
    concat: tuple[str, ...]
    as_list: tuple[str, ...]
    path: str


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
        self._place = {MAIN: ROOT} | {p.name: f"{ROOT}.packages[{i}]" for i, p in enumerate(config.packages)}
        self._path = {id(block): f"{ROOT}.blocks[{i}]" for i, block in enumerate(config.blocks)}
        for p, package in enumerate(config.packages):
            for i, block in enumerate(package.blocks):
                self._path[id(block)] = f"{ROOT}.packages[{p}].blocks[{i}]"

    def plan(self) -> dict[str, GraphPlan]:
        """Plans by package name; the backbone's own is called `backbone`. Packages that nothing calls are left out."""
        self._check_names()
        nodes = {MAIN: self._nodes(self.main)}
        # A package may also read the input layers that the backbone was given without asking.
        self.main_names |= {node.name for node in nodes[MAIN]}
        nodes |= {package.name: self._nodes(package) for package in self.packages.values()}
        self._check_outputs(nodes)
        self._stop_if_wrong()
        self._refuse_package_cycles(nodes)
        self._check_arguments(nodes)
        called = _reachable(nodes)
        reads = {name: self._main_reads(name, nodes) for name in called}
        plans = {}
        for name in called:
            needs = self._needs(name, nodes[name], reads)
            ordered = self._order(name, nodes[name], needs)
            package = self.packages.get(name, self.main)
            concat = tuple(package.concat_blocks)
            if not concat and not package.output_blocks:
                read_by_packages = set().union(*(reads[other] for other in called)) if name == MAIN else set()
                concat = tuple(leaf for leaf in _leaves(ordered) if leaf not in read_by_packages)
                if not concat and ordered:
                    self._problem(
                        self._place[name],
                        f"nothing comes out of `{name}`: all its blocks are read by others or add a loss. Name its "
                        "concat_blocks",
                    )
            as_list = tuple(package.output_blocks)
            plans[name] = GraphPlan(name, tuple(ordered), needs, concat, as_list, self._place[name])
        self._stop_if_wrong()
        return plans

    def _check_names(self) -> None:
        if not self.config.blocks:
            self._problem(ROOT, "a backbone needs at least one entry in `blocks`")
        names = [package.name for package in self.config.packages]
        for i, name in enumerate(names):
            if name == MAIN or name in names[:i]:
                whose = "the backbone itself" if name == MAIN else "another package"
                self._problem(f"{ROOT}.packages[{i}]", f"the name `{name}` is taken by {whose}; names are unique")

    def _nodes(self, package: Package) -> list[Node]:
        """The package's blocks with resolved inputs, and input blocks for feature groups that they name."""
        own = {block.name: block for block in package.blocks}
        nodes: dict[str, Node] = {}
        for block in package.blocks:
            path = self._path[id(block)]
            if block.name in nodes:
                self._problem(path, f"the name `{block.name}` is taken by another block; names of blocks are unique")
            if is_input(block):
                self._check_input_block(block, path)
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

    def _check_input_block(self, block: Block, path: str) -> None:
        if len(block.kinds) > 1:
            self._problem(path, f"the block `{block.name}` has one operation. Received: {_kinds(block)}")
        ignored = [key for i in block.inputs for key in ("input_slice", "input_fn") if getattr(i, key)]
        ignored += ["extra_input_fn"] if block.extra_input_fn else []
        if ignored:
            self._problem(
                path,
                f"the input block `{block.name}` gives its group as it is. Received: {', '.join(ignored)}. "
                "Set it where the block is read",
            )

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
                self._problem(
                    path, f"`{block.name}` calls the package `{config.package_name}`, which is not defined{hint}"
                )
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

    def _check_outputs(self, nodes: Mapping[str, Sequence[Node]]) -> None:
        for package in (self.main, *self.packages.values()):
            names = [node.name for node in nodes[package.name]]
            for key in ("concat_blocks", "output_blocks"):
                for name in getattr(package, key):
                    if name not in names:
                        hint = nearest(name, names)
                        self._problem(self._place[package.name], f"{key} names `{name}`, which is no block{hint}")

    def _check_arguments(self, nodes: Mapping[str, Sequence[Node]]) -> None:
        """Packages that read their package input are given one at every call."""
        readers = {name for name, ns in nodes.items() for n in ns if any(s.kind == "argument" for s in n.sources)}
        if MAIN in readers:
            self._problem(ROOT, "only a package has a package input; a block of the backbone cannot use_package_input")
        for node in (n for ns in nodes.values() for n in ns):
            for call in _calls(node.sources):
                if call.name in readers and call.argument is None:
                    self._problem(
                        node.path,
                        f"`{node.name}` calls the package `{call.name}`, whose blocks use_package_input, without a "
                        "package_input. Name the block or package that it receives",
                    )

    def _refuse_package_cycles(self, nodes: Mapping[str, Sequence[Node]]) -> None:
        calls = {name: {s.name for n in ns for s in _calls(n.sources)} for name, ns in nodes.items()}
        cycle = _find_cycle(calls)
        if cycle:
            place = self._place[cycle[0]]
            self._problem(place, f"packages call each other in a circle: {' -> '.join(cycle)}")
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

    def _needs(self, graph: str, nodes: Sequence[Node], reads: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
        own = {node.name for node in nodes}
        out = {}
        for node in nodes:
            needs: set[str] = set()
            for source in _all_sources(node.sources):
                if source.kind == "block" or (source.kind == "main" and graph == MAIN):
                    needs.add(source.name)
                elif source.kind == "call" and graph == MAIN:
                    needs |= reads[source.name]
            out[node.name] = frozenset(needs & own)
        return out

    def _order(self, graph: str, nodes: Sequence[Node], needs: Mapping[str, frozenset[str]]) -> list[Node]:
        """The nodes so that each comes after what it needs, otherwise in the order of the file."""
        cycle = _find_cycle(needs)
        if cycle:
            path = next(node.path for node in nodes if node.name == cycle[0])
            self._problem(path, f"blocks read each other in a circle: {' -> '.join(cycle)}")
            return []
        ordered: list[Node] = []
        done: set[str] = set()
        waiting = list(nodes)
        while waiting:
            ready = next(node for node in waiting if needs[node.name] <= done)
            waiting.remove(ready)
            ordered.append(ready)
            done.add(ready.name)
        return ordered

    def _problem(self, path: str, message: str) -> None:
        self.problems.append(Problem("", path, message))

    def _stop_if_wrong(self) -> None:
        if self.problems:
            raise BuildError(list(dict.fromkeys(self.problems)))


def _kinds(block: Block) -> str:
    return ", ".join(kind.rstrip("_") for kind in block.kinds)


def flatten(source: Source) -> list[Source]:
    """A source and, of a call, what the package receives."""
    return [source] if source.argument is None else [source, *flatten(source.argument)]


def _all_sources(sources: Iterable[Source]) -> list[Source]:
    return [s for source in sources for s in flatten(source)]


def _calls(sources: Iterable[Source]) -> list[Source]:
    return [s for s in _all_sources(sources) if s.kind == "call"]


def _reachable(nodes: Mapping[str, Sequence[Node]]) -> list[str]:
    """Packages that are called, directly or by others, and the backbone at the end."""
    found = {MAIN}
    waiting = [MAIN]
    while waiting:
        calls = {s.name for node in nodes[waiting.pop()] for s in _calls(node.sources)}
        waiting.extend(calls - found)
        found |= calls
    return [*(name for name in nodes if name in found and name != MAIN), MAIN]


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
