"""Side features of retrievers: which features a pipeline's groups `user`, `item` and `context` hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from intarsia.config.schema import ModelConfig
from intarsia.core.errors import BuildError, Problem
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.nn.side_features import SideFeature

GROUPS = ("user", "item", "context")


@dataclass(frozen=True)
class Sides:
    """Features beside the ids.

    Attributes:
        user: Of users.
        item: Of items.
        context: Of interactions: the moment, the place.
    """

    user: Sequence[SideFeature] = ()
    item: Sequence[SideFeature] = ()
    context: Sequence[SideFeature] = ()


def names_by_group(config: ModelConfig) -> dict[str, list[str]]:
    """Names of the features in each group.

    Raises:
        BuildError: A group has another name.
    """
    out: dict[str, list[str]] = {}
    for index, group in enumerate(config.feature_groups):
        if group.group_name not in GROUPS:
            path = f"model_config.feature_groups[{index}].group_name"
            text = f"feature groups of `{config.model_class}` are user, item and context. Received: {group.group_name}"
            raise BuildError([Problem("", path, text)])
        out[group.group_name] = list(group.feature_names)
    return out


def sides_of(config: ModelConfig, schema: Schema) -> Sides:
    """The features of a pipeline's groups, as the modules that embed them want them.

    Raises:
        BuildError: A feature is unknown, or is a sequence.
    """
    groups: dict[str, Any] = {}
    for name, features in names_by_group(config).items():
        groups[name] = [_side(schema, feature, schema.item_sizes.get(feature, 0)) for feature in features]
    return Sides(**groups)


def without_users(sides: Sides, model: str) -> Sides:
    """The features, for models that read none of users.

    Raises:
        BuildError: There are such.
    """
    if sides.user:
        names = ", ".join(feature.name for feature in sides.user)
        text = f"`{model}` reads no features of users. Received: {names}. Remove the group, or use TwoTower or DSSM"
        raise BuildError([Problem("", "model_config.feature_groups", text)])
    return sides


def _side(schema: Schema, name: str, size: int) -> SideFeature:
    spec: FeatureSpec | None = schema.features.get(name)
    if spec is None or spec.sequence or spec.step_multi or spec.weighted:
        kind = "no feature of the pipeline" if spec is None else "a sequence, or has weights"
        text = f"side features are single values or tags without weights. Received: `{name}`, which is {kind}"
        raise BuildError([Problem("", "model_config.feature_groups", text)])
    dim = spec.embedding_dim or 16
    if spec.kind == "id":
        pooling = spec.combiner if spec.multi else "sum"
        return SideFeature(name, spec.num_ids, 1, spec.multi, dim, pooling, size)
    return SideFeature(name, 0, spec.width)
