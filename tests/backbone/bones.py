"""Small schemas, batches and backbones for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from intarsia.backbone.build import Backbone
from intarsia.config.schema import Backbone as BackboneConfig
from intarsia.config.schema import FeatureGroup
from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.errors import BuildError, Problem
from intarsia.data.schema import FeatureSpec, Schema


def ids(name: str, rows: int = 10, dim: int = 4, **more: Any) -> FeatureSpec:
    return FeatureSpec(name, "id", num_ids=rows, embedding_dim=dim, **more)


def numbers(name: str, width: int = 1, dim: int = 0, **more: Any) -> FeatureSpec:
    return FeatureSpec(name, "dense", width=width, embedding_dim=dim, **more)


def sequence(name: str, rows: int = 10, dim: int = 4, **more: Any) -> FeatureSpec:
    return ids(name, rows, dim, sequence=True, **more)


def schema_of(*specs: FeatureSpec) -> Schema:
    return Schema({spec.name: spec for spec in specs}, {"label": 1})


def bone(
    blocks: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Any],
    *specs: FeatureSpec,
    seed: int = 0,
    **more: Any,
) -> Backbone:
    """A backbone; `groups` maps a name to its features, or to a whole message. In evaluation mode."""
    torch.manual_seed(seed)
    messages = [
        FeatureGroup.model_validate(
            {"group_name": name, **(value if isinstance(value, dict) else {"feature_names": value})}
        )
        for name, value in groups.items()
    ]
    config = BackboneConfig.model_validate({"blocks": list(blocks), **more})
    return Backbone(config=config, feature_groups=messages, schema=schema_of(*specs)).eval()


# Plain numbers pass a group as they are, so the values of a graph over them can be told by hand.
A = numbers("a", 2)
B = numbers("b", 2)
AB = {"ga": ["a"], "gb": ["b"]}
A_VALUES = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
B_VALUES = [[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]]


def plain(blocks: Sequence[Mapping[str, Any]], groups: Mapping[str, Any] = AB, **more: Any) -> Backbone:
    """A backbone over the numbers a and b."""
    return bone(blocks, groups, A, B, **more)


def ab(rows: int = 3) -> Batch:
    """The rows of A_VALUES and B_VALUES."""
    return batch_of({"a": dense(A_VALUES[:rows]), "b": dense(B_VALUES[:rows])})


def dense(values: Sequence[Any]) -> Dense:
    """Ids for whole numbers, numbers (B, D) for lists of floats."""
    return Dense(torch.tensor(values))


def jagged(rows: Sequence[Sequence[Any]], weights: Sequence[float] | None = None) -> Jagged:
    """One list of ids (or of vectors) a row."""
    flat = [value for row in rows for value in row]
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    values = torch.tensor(flat) if flat else torch.zeros(0, dtype=torch.int64)
    return Jagged(values, offsets, None if weights is None else torch.tensor(weights))


def batch_of(features: Mapping[str, Feature]) -> Batch:
    return Batch(features, size=len(next(iter(features.values()))))


def output(backbone: Backbone, batch: Batch) -> Any:
    """The backbone's value as nested lists."""
    return lists(backbone(batch)[0])


def lists(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, tuple):
        return tuple(lists(part) for part in value)
    return [lists(part) for part in value] if isinstance(value, list) else value


def problems(*args: Any, **more: Any) -> tuple[Problem, ...]:
    """What `bone` says is wrong."""
    with pytest.raises(BuildError) as caught:
        bone(*args, **more)
    return caught.value.problems


def plain_problems(blocks: Sequence[Mapping[str, Any]], groups: Mapping[str, Any] = AB, **more: Any) -> list[str]:
    """The problems of `plain`, as `path: message`."""
    return [str(problem) for problem in problems(blocks, groups, A, B, **more)]


def table(backbone: Backbone, name: str) -> Tensor:
    """One table's weight."""
    assert backbone.embedder.collection is not None
    return backbone.embedder.collection.weight(name)


def fill(backbone: Backbone, name: str, values: Any) -> None:
    """Sets one table."""
    table(backbone, name).copy_(torch.as_tensor(values, dtype=torch.float32))


def group(name: str, **more: Any) -> dict[str, Any]:
    return {"feature_group_name": name, **more}


def block(name: str, **more: Any) -> dict[str, Any]:
    return {"block_name": name, **more}


def package(name: str, given: str | None = None, **more: Any) -> dict[str, Any]:
    return {"package_name": name, **({"package_input": given} if given else {}), **more}


def node(name: str, *inputs: Mapping[str, Any], **operation: Any) -> dict[str, Any]:
    return {"name": name, "inputs": list(inputs), **operation}


def function(text: str) -> dict[str, Any]:
    return {"lambda": {"expression": text}}


def layer(class_name: str, **options: Any) -> dict[str, Any]:
    return {"layer": {"class_name": class_name, "st_params": options}}
