"""New items after training: vocabulary and tables grow, and what was learned stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
from torch import Tensor

from intarsia.config.schema import PipelineConfig
from intarsia.core.batch import Feature
from intarsia.core.errors import DataError
from intarsia.data.columns import JaggedColumn
from intarsia.data.schema import Schema
from intarsia.models.catalogue import build
from intarsia.models.retriever import ItemScorer
from intarsia.nn.side_features import CatalogueFeatures
from intarsia.recommender.log_data import SideEncoders
from intarsia.recommender.memory import Memory


def grown_memory(memory: Memory, items: Any) -> Memory:
    """The memory with more items at the end of the catalogue.

    Args:
        memory: What is remembered.
        items: Raw ids, or a data frame with the item column and columns of the item table.

    Raises:
        DataError: The frame lacks the item column, or no item is new.
    """
    key = memory.names[1]
    frame = items if isinstance(items, pl.DataFrame) else pl.DataFrame({key: [str(i) for i in items]})
    if key not in frame.columns:
        raise DataError(f"new items need the column `{key}`. Received: {', '.join(frame.columns)}.")
    frame = frame.with_columns(pl.col(key).cast(pl.String)).unique(key, keep="first", maintain_order=True)
    frame = frame.filter(~pl.col(key).is_in(memory.item_ids.ids.implode()))
    if not frame.height:
        raise DataError("extend_items takes items that the model does not know. Received: none that is new.")
    ids = memory.item_ids.grown(frame[key].to_list())
    table = memory.catalogue
    if table is not None:
        fresh = frame.select(pl.col(c).cast(table.schema[c]) for c in frame.columns if c in table.columns)
        table = pl.concat([table, fresh], how="diagonal")
    return memory.grown(ids, table)


def grown_model(
    config: PipelineConfig, schema: Schema, model: ItemScorer, encoders: SideEncoders, memory: Memory
) -> tuple[Schema, ItemScorer]:
    """A model for the grown catalogue of `memory`.

    Rows of known items are kept. Rows of new items are the mean of the known ones, so that nothing is said for or
    against an item of which nothing is known; its side features speak for it where the model reads such.

    Raises:
        DataError: The model has a tensor that cannot grow.
    """
    old, new = schema.num_items, len(memory.item_ids)
    columns = encoders.columns("item", memory.catalogue)
    sizes = {name: len(column.values) for name, column in columns.items() if isinstance(column, JaggedColumn)}
    schema = replace(schema, num_items=new, item_sizes=sizes)
    larger = build(config.model, schema, backend=config.train_config.embedding_backend)
    assert isinstance(larger, ItemScorer)
    state = {name: grow(name, value, model.state_dict(), old) for name, value in larger.state_dict().items()}
    larger.load_state_dict(state)
    features: dict[str, Feature] = {name: column.take(slice(0, new)) for name, column in columns.items()}
    for module in larger.modules():
        if isinstance(module, CatalogueFeatures):
            module.fill(features)
    return schema, larger.eval()


def grow(name: str, fresh: Tensor, state: Mapping[str, Tensor], old: int) -> Tensor:
    """A tensor of the larger model with the values of the smaller one."""
    known = state[name]
    if known.shape == fresh.shape:
        return known
    out = fresh.clone()
    if ".features.values_" in name or ".features.offsets_" in name:
        return out  # filled from the table of the items
    axes = [axis for axis, (a, b) in enumerate(zip(known.shape, fresh.shape)) if a != b]
    if known.dim() != fresh.dim() or any(known.shape[axis] != old for axis in axes):
        raise DataError(
            f"the model cannot take in new items: `{name}` has the shape {tuple(known.shape)}, and would need "
            f"{tuple(fresh.shape)}. Train it anew on a log with these items."
        )
    out.zero_()
    out[tuple(slice(0, size) for size in known.shape)] = known
    if axes == [0] and known.is_floating_point() and known.dim() == 2:
        out[old:] = known.mean(dim=0)
    return out
