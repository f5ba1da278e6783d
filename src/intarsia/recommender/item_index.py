"""The index of a retriever's item vectors: what it may be, built from the model, kept in the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.errors import CheckpointError, ConfigError, Problem
from intarsia.core.files import write_json
from intarsia.models.retriever import ItemScorer, VectorScorer
from intarsia.recommender.recommender import find_bundle, read_json
from intarsia.recommender.requests import Requests
from intarsia.recommender.search import Searcher
from intarsia.retrieval.index import Index, build_index, load_index

if TYPE_CHECKING:
    from intarsia.recommender.retrieval import RetrievalRecommender

FOLDER = "index"
"""Folder of the index inside of a bundle."""


def check_config(options: Mapping[str, Any]) -> IndexConfig:
    """Settings of an index.

    Raises:
        ConfigError: A value is out of range.
    """
    try:
        return IndexConfig.model_validate(options)
    except ValidationError as error:
        problems = [Problem("", f"index.{'.'.join(map(str, one['loc']))}", one["msg"]) for one in error.errors()]
        raise ConfigError(problems) from None


def check_index(model: ItemScorer, config: IndexConfig, name: str) -> None:
    """Refuses an index that could not be built or would find other items than the model, before anything is trained.

    Raises:
        ConfigError: The model has no item vectors, or ranks by something else than the index; the settings do not fit
            the number of items or the width of their vectors.
        IntarsiaError: FAISS is not installed.
    """
    if not (model.indexable and isinstance(model, VectorScorer)):
        raise ConfigError(
            f"an index needs a model whose scores are products of vectors. Received: {name}. Remove "
            "export_config.index; all items are scored then."
        )
    if config.metric != "inner_product" and not (model.cosine and config.metric == "cosine"):
        raise ConfigError(
            f"an index must rank items as the model does, by inner product. Received: metric {config.metric} for "
            f"{name}. Remove `metric`."
        )
    if config.kind != "flat":
        from intarsia.retrieval.faiss_index import check_settings

        with torch.no_grad():
            width = model.encode_items(torch.zeros(1, dtype=torch.int64)).shape[-1]
        check_settings(config, model.num_items, width)


def build_item_index(searcher: Searcher, config: IndexConfig, name: str) -> Index:
    """Builds the index of a model's items; what an approximate one finds is measured with the queries of known users.

    Args:
        searcher: The model and what it remembers.
        config: Kind and settings.
        name: What errors call the model.

    Raises:
        ConfigError: As `check_index`.
    """
    check_index(searcher.model, config, name)
    return build_index(searcher.item_vectors(), config, queries=_queries(searcher, config))


def _queries(searcher: Searcher, config: IndexConfig) -> Tensor | None:
    """Vectors of some known users, drawn by the seed; None where nobody is known."""
    users = np.arange(len(searcher.memory.user_ids))
    drawn = np.random.default_rng(config.seed).permutation(users[searcher.answerable(users)])[: config.measure_queries]
    if not len(drawn):
        return None
    return searcher.query_vectors(Requests.of_users(searcher.memory, np.sort(drawn)))


def told(index: Index) -> dict[str, Any]:
    """What a bundle says of its index."""
    measured = None if index.measured is None else asdict(index.measured)
    return {
        "kind": index.config.kind,
        "num_items": index.num_items,
        "dim": index.dim,
        "measured": measured,
        "build_seconds": round(index.build_seconds, 3),
    }


def read_index(folder: Path, searcher: Searcher) -> Index:
    """The index of a bundle.

    Raises:
        CheckpointError: It is damaged or missing, or of another model.
        IntarsiaError: FAISS is not installed.
    """
    try:
        return load_index(folder / FOLDER, vectors=searcher.item_vectors())
    except CheckpointError as error:
        raise CheckpointError(f"{error} `intarsia index {folder}` does so; exact=True does without.") from error


def replace_index(recommender: RetrievalRecommender, config: IndexConfig) -> Index:
    """Builds an index and puts it into the recommender's bundle in the place of the one that was there.

    Raises:
        CheckpointError: The recommender was never saved.
        ConfigError: As `check_index`.
    """
    if recommender.folder is None:
        raise CheckpointError("the recommender has no bundle yet. Save it first.")
    bundle = find_bundle(recommender.folder)
    index = recommender.build_index(config)
    about = read_json(bundle / "bundle.json")
    index.save(bundle / FOLDER)
    write_json(bundle / "bundle.json", {**about, "index": told(index)})
    return index


def size_of(folder: Path) -> int:
    """Bytes of the files of a bundle's index."""
    return sum(path.stat().st_size for path in (find_bundle(folder) / FOLDER).iterdir() if path.is_file())
