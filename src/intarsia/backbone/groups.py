"""Feature groups: which tables they own, and how a batch becomes one vector or sequence for each feature.

A group owns its tables: the same feature in two groups has two tables, unless features share one by `embedding_name`.
All groups of a model are looked up together, in one fused pass per batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.backbone.names import module_name
from intarsia.config.schema import FeatureGroup, WideOrDeep
from intarsia.config.schema.model import SeqAttentionGroup
from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.errors import BuildError, Problem
from intarsia.core.names import close_names, did_you_mean
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec
from intarsia.nn.embedding.initial import initialize_table_
from intarsia.nn.embedding.pooling import segment_pool
from intarsia.nn.embedding.spec import Pooling

SHARED = "shared"
WIDE_INITIALIZER = {"truncated_normal_initializer": {"mean": 0.0, "stddev": 0.01}}


@dataclass(frozen=True)
class Attention:
    """A target attention of a group: `hist` is pooled by its likeness to `keys`, `aux` by the same scores."""

    name: str
    keys: tuple[FeatureSpec, ...]
    hist: tuple[FeatureSpec, ...]
    aux: tuple[FeatureSpec, ...]
    config: SeqAttentionGroup


@dataclass(frozen=True)
class Group:
    """A feature group with its features' specifications.

    Attributes:
        name: Name that blocks refer to.
        wide: Width of its tables where the group is WIDE, else 0.
        features: In the order of the group.
        attentions: Target attentions whose output joins the group's.
        path: Its place in the pipeline file.
    """

    name: str
    wide: int
    features: tuple[FeatureSpec, ...]
    attentions: tuple[Attention, ...] = ()
    path: str = ""

    def width(self, spec: FeatureSpec) -> int:
        """Width of the vector (or of one step) that a feature becomes in this group."""
        if self.wide:
            return self.wide
        return spec.embedding_dim or spec.width

    def is_embedded(self, spec: FeatureSpec) -> bool:
        """Whether the feature enters through a table or a projection, not as plain numbers."""
        return bool(self.wide) or spec.embedding_dim > 0

    def is_sequence(self, spec: FeatureSpec) -> bool:
        """Whether the feature stays a sequence when it is looked up. A WIDE group adds up the weights of its steps."""
        return spec.sequence and not self.wide

    def combiner(self, spec: FeatureSpec) -> Pooling:
        """How several values of the feature become one vector; a WIDE group always adds them up."""
        return "sum" if self.wide else spec.combiner

    def key(self, spec: FeatureSpec) -> str:
        """Name of the feature's vectors among all looked-up vectors."""
        return f"{self.name}/{spec.name}"

    def initializer(self, spec: FeatureSpec) -> Mapping[str, Any] | None:
        """How the feature's table starts. Weights of a wide group start near zero unless the feature says otherwise.

        (EasyRec starts them as any other table, with standard deviation 1 where they are one number wide, so that a
        linear model begins by forgetting noise.)
        """
        return WIDE_INITIALIZER if self.wide and spec.initializer is None else spec.initializer

    def table(self, spec: FeatureSpec) -> str:
        """Name of the feature's table."""
        if not spec.table:
            return self.key(spec)
        return f"{SHARED}/wide/{spec.table}" if self.wide else f"{SHARED}/{spec.table}"

    def specs(self) -> list[FeatureSpec]:
        """All features that the group looks up, those of its attentions included, each once."""
        attended = [spec for a in self.attentions for spec in (*a.keys, *a.hist, *a.aux)]
        return list({spec.name: spec for spec in (*self.features, *attended)}.values())


def resolve_groups(configs: Sequence[FeatureGroup], schema: Schema, wide_output_dim: int) -> dict[str, Group]:
    """The groups of a model configuration by name.

    `*` among the feature names stands for all features of the schema that no other entry of the group names.

    Raises:
        BuildError: A group names a feature that the schema lacks.
    """
    problems: list[Problem] = []
    groups = {}
    for position, config in enumerate(configs):
        path = f"model_config.feature_groups[{position}]"

        def find(names: Iterable[str], path: str = path, group: str = config.group_name) -> tuple[FeatureSpec, ...]:
            for name in names:
                if name not in schema.features:
                    hint = nearest(name, schema.features)
                    problems.append(
                        Problem(
                            "",
                            path,
                            f"group `{group}` names the feature `{name}`, which is not defined{hint}",
                        )
                    )
            return tuple(schema.features[name] for name in names if name in schema.features)

        if config.group_name in groups:
            problems.append(Problem("", path, f"the name `{config.group_name}` is taken by another group"))
        if config.group_name == SHARED:
            problems.append(
                Problem("", path, f"no group may be called `{SHARED}`, which tables with an embedding_name are")
            )
        groups[config.group_name] = Group(
            config.group_name,
            wide_output_dim if config.wide_deep is WideOrDeep.WIDE else 0,
            find(_expand_star(config.feature_names, schema)),
            tuple(
                Attention(
                    seq.group_name or config.group_name,
                    find([name for m in seq.seq_att_map for name in m.key]),
                    find([name for m in seq.seq_att_map for name in m.hist_seq]),
                    find([name for m in seq.seq_att_map for name in m.aux_hist_seq]),
                    seq,
                )
                for seq in config.sequence_features
            ),
            path,
        )
        for attention in groups[config.group_name].attentions:
            outside = [key.name for key in attention.keys if key.name not in config.feature_names]
            if outside and "*" not in config.feature_names and not attention.config.allow_key_search:
                problems.append(
                    Problem(
                        "",
                        path,
                        f"keys {outside} of the attention `{attention.name}` are not in the group. "
                        "Add them, or set allow_key_search",
                    )
                )
    if problems:
        raise BuildError(problems)
    return groups


def nearest(name: str, known: Iterable[str]) -> str:
    """`. Did you mean ...?` with the nearest known names, or an empty text."""
    hint = did_you_mean(close_names(name, known))
    return f". {hint}" if hint else ""


def _expand_star(names: Sequence[str], schema: Schema) -> list[str]:
    named = set(names)
    out: list[str] = []
    for name in names:
        out.extend([f for f in schema.features if f not in named] if name == "*" else [name])
    return out


class GroupEmbedder(nn.Module):
    """Looks up every feature of every group that the model reads, in one pass.

    Args:
        groups: The groups that some block reads.
        extra: Further tables and lookups (blocks with a fused embedding layer bring theirs).
        backend: Implementation of the tables.
    """

    def __init__(
        self,
        *,
        groups: Iterable[Group],
        extra: Iterable[tuple[TableSpec, Lookup]] = (),
        backend: str = "torch",
    ) -> None:
        super().__init__()
        tables: dict[str, TableSpec] = {}
        lookups: dict[str, Lookup] = {}
        self._numbers: dict[str, tuple[Group, FeatureSpec]] = {}
        self.projections = nn.ParameterDict()
        for group in groups:
            for spec in group.specs():
                key = group.key(spec)
                if spec.kind == "id" and key not in lookups:
                    table = group.table(spec)
                    wanted = TableSpec(
                        table,
                        spec.num_ids,
                        group.width(spec),
                        group.initializer(spec),
                        "wide" if group.wide else "deep",
                    )
                    _check_same(tables.setdefault(table, wanted), wanted, group, spec)
                    combiner = group.combiner(spec)
                    lookups[key] = Lookup(
                        key, spec.name, table, "none" if group.is_sequence(spec) else combiner, combiner
                    )
                elif spec.kind == "dense" and key not in self._numbers:
                    self._numbers[key] = group, spec
                    if group.is_embedded(spec):
                        weight = torch.empty(spec.width, group.width(spec))
                        initialize_table_(
                            weight, TableSpec(key, spec.width, group.width(spec), group.initializer(spec))
                        )
                        self.projections[module_name(key)] = nn.Parameter(weight)
        for table_spec, lookup in extra:
            tables.setdefault(table_spec.name, table_spec)
            lookups[lookup.key] = lookup
        # In a fixed order: what is summed over them must not depend on the hashes of a process.
        self.learned = (*lookups, *(k for k, (g, s) in self._numbers.items() if g.is_embedded(s)))
        """Keys of the vectors that come out of tables and projections, not out of the data as they are."""
        self.collection = (
            EmbeddingCollection(tables=list(tables.values()), lookups=list(lookups.values()), backend=backend)  # type: ignore[arg-type]
            if lookups
            else None
        )

    def forward(self, batch: Batch) -> dict[str, Tensor | Jagged]:
        """Every feature's vectors by `group/feature`: (B, D), or `Jagged` steps (S, D) for sequences."""
        out: dict[str, Tensor | Jagged] = {}
        if self.collection is not None:
            out.update(self.collection(batch.features))
        for key, (group, spec) in self._numbers.items():
            name = module_name(key)
            weight = self.projections[name] if name in self.projections else None  # noqa: SIM401 - keeps its type
            out[key] = _project(batch.features[spec.name], group, spec, weight)
        return out


def _project(feature: Feature, group: Group, spec: FeatureSpec, weight: Tensor | None) -> Tensor | Jagged:
    values = feature.values
    if weight is not None:
        values = values @ weight
    if isinstance(feature, Dense):
        return values
    if group.is_sequence(spec):
        return replace(feature, values=values)
    return segment_pool(values, feature.offsets, group.combiner(spec))


def _check_same(have: TableSpec, want: TableSpec, group: Group, spec: FeatureSpec) -> None:
    if (have.num_rows, have.dim) != (want.num_rows, want.dim):
        raise BuildError(
            [
                Problem(
                    "",
                    group.path,
                    f"`{spec.name}` shares the table `{spec.table}` and must have its size. Received: "
                    f"{want.num_rows} rows x {want.dim} here, {have.num_rows} rows x {have.dim} elsewhere",
                )
            ]
        )
