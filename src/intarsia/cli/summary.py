"""A model in numbers: blocks, tables, parameters. Tables are counted without being made, however large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbone.build import Backbone
from intarsia.backbone.infos import BlockInfo, block_infos
from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import DataError
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.models.base import Model
from intarsia.models.catalogue import build
from intarsia.recommender.options import feature_configs
from intarsia.recommender.pipeline import located
from intarsia.recommender.prepare import prepare, schema_without_data

if TYPE_CHECKING:
    from intarsia.config.load import LoadedConfig

BYTES = 4
"""Bytes of one parameter."""


@dataclass(frozen=True)
class TableInfo:
    """One embedding table.

    Attributes:
        name: `group/feature`, `shared/name`, or `block/feature`.
        rows: Rows.
        dim: Width.
        features: Features that read it.
    """

    name: str
    rows: int
    dim: int
    features: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Numbers in it."""
        return self.rows * self.dim


@dataclass(frozen=True)
class ModelSummary:
    """A model as `show` tells it.

    Attributes:
        model: The model, whose tables have a few rows only.
        schema: The schema with the real sizes.
        title: Name of the model.
        blocks: Blocks in running order, packages first; the top MLP and the head at the end.
        tables: Tables with their real sizes.
        dense_parameters: Parameters outside tables.
        notes: Features, groups and packages that nothing reads.
    """

    model: Model
    schema: Schema
    title: str
    blocks: tuple[BlockInfo, ...]
    tables: tuple[TableInfo, ...]
    dense_parameters: int
    notes: tuple[str, ...]

    @property
    def table_parameters(self) -> int:
        """Numbers in all tables."""
        return sum(table.parameters for table in self.tables)

    @property
    def bytes(self) -> int:
        """Memory of all weights."""
        return BYTES * (self.table_parameters + self.dense_parameters)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "model": self.title,
            "blocks": [
                {
                    "name": block.name,
                    "package": block.package or None,
                    "operation": block.operation,
                    "inputs": list(block.inputs),
                    "input_shape": block.input_shape or None,
                    "output_shape": block.output_shape,
                    "parameters": block.parameters,
                }
                for block in self.blocks
            ],
            "tables": [
                {"name": t.name, "rows": t.rows, "dim": t.dim, "features": list(t.features)} for t in self.tables
            ],
            "dense_parameters": self.dense_parameters,
            "table_parameters": self.table_parameters,
            "bytes": self.bytes,
            "notes": list(self.notes),
        }


def summarize(loaded: LoadedConfig, schema: Schema) -> ModelSummary:
    """Builds the model of a pipeline with tiny tables and tells what it is made of.

    Raises:
        BuildError: The model does not fit together, with file and line.
    """
    config = loaded.config
    with located(loaded.source):
        model = build(config.model, _tiny(schema))
    backbone = next((module for module in model.modules() if isinstance(module, Backbone)), None)
    blocks = [] if backbone is None else block_infos(backbone, _tiny(schema))
    blocks += _head(model, blocks)
    table_weights = sum(p.numel() for collection in model.tables for p in collection.parameters())
    return ModelSummary(
        model,
        schema,
        config.model.model_name or config.model.model_class,
        tuple(blocks),
        tuple(_tables(model, schema)),
        sum(p.numel() for p in model.parameters()) - table_weights,
        tuple(_unused(config, schema, backbone)),
    )


def schema_of(loaded: LoadedConfig, path: str | Path = "") -> Schema:
    """Sizes of a pipeline's features: from the file where that is enough, from a run's bundle, or from the data.

    Args:
        loaded: The pipeline.
        path: File or run folder that it came from.

    Raises:
        DataError: The data are needed and cannot be had.
    """
    import json

    for folder in (Path(path), Path(path) / "bundle"):
        if (folder / "bundle.json").exists():
            return Schema.from_json(json.loads((folder / "schema.json").read_text(encoding="utf-8")))
    schema = schema_without_data(loaded.config)
    if schema is not None:
        return schema
    try:
        return prepare(loaded.config).schema
    except DataError as error:
        learned = [f.name for f in feature_configs(loaded.config) if f.vocab == "auto"]
        shown = ", ".join(learned[:8]) + (", ..." if len(learned) > 8 else "")
        raise DataError(
            f"the size of some tables is learned from the training data (`vocab: auto` of {shown}), and these cannot "
            f"be read: {error}"
        ) from error


def _tiny(schema: Schema) -> Schema:
    """The schema with table sizes 1, 2, 3, ... in the place of the real ones: equal sizes stay equal.

    No shape inside a model depends on the number of rows of a table, so the graph is the same and costs no memory.
    """
    place = {n: k for k, n in enumerate(sorted({spec.num_ids for spec in schema.features.values()}), start=1)}
    features: dict[str, FeatureSpec] = {}
    for name, spec in schema.features.items():
        initial = spec.initializer
        if initial is not None and "constant_initializer" in initial:
            initial = None  # its values may be one a row
        features[name] = replace(spec, num_ids=place[spec.num_ids] if spec.kind == "id" else 0, initializer=initial)
    return Schema(features, schema.labels, schema.ids)


def _tables(model: Model, schema: Schema) -> list[TableInfo]:
    out = []
    for collection in model.tables:
        for name in collection.table_names:
            readers = tuple(dict.fromkeys(k.feature for k in collection.lookups if k.table == name))
            out.append(TableInfo(name, schema.features[readers[0]].num_ids, collection.spec(name).dim, readers))
    return out


def _head(model: Model, blocks: Sequence[BlockInfo]) -> list[BlockInfo]:
    """The dense layer from the backbone's width to the logits, where a model has one."""
    from torch import nn

    head = getattr(model, "head", None)
    if not isinstance(head, nn.Linear) or not blocks:
        return []
    count = sum(p.numel() for p in head.parameters())
    read = f"(B, {head.in_features})"
    return [BlockInfo("head", "", "Dense", (), read, f"(B, {head.out_features})", count)]


def _unused(config: PipelineConfig, schema: Schema, backbone: Backbone | None) -> list[str]:
    if backbone is None:
        return []
    graphs = [getattr(backbone.graphs[name], "plan", None) for name in backbone.graphs]
    read = {node.group for plan in graphs if plan is not None for node in plan.nodes if node.group}
    called = {s.name for plan in graphs if plan is not None for node in plan.nodes for s in _calls(node.sources)}
    notes = []
    used: set[str] = set()
    for name, group in backbone.groups.items():
        if name in read:
            used |= {spec.name for spec in group.specs()}
        else:
            notes.append(f"feature group `{name}` is read by no block")
    idle = [name for name in schema.features if name not in used]
    if idle:
        notes.append(f"features that no block reads: {', '.join(idle)}")
    packages = config.model.backbone.packages if config.model.backbone is not None else []
    notes += [f"package `{p.name}` is never called" for p in packages if p.name not in called]
    return notes


def _calls(sources: Any) -> list[Any]:
    out = []
    for source in sources:
        while source is not None:
            if source.kind == "call":
                out.append(source)
            source = source.argument
    return out
