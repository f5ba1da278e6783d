"""Vectors of users and items in one file, with raw ids: what another system needs to recommend.

    user_ids      (U,)   text of fixed width, or int64
    user_vectors  (U, D) or (U, K, D) float32
    item_ids      (N,)
    item_vectors  (N, D) float32

The file is a NumPy archive (.npz) without Python objects in it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.batch import Jagged
from intarsia.core.errors import DataError
from intarsia.core.files import replacing
from intarsia.retrieval.index import Index, Vectors, build_index

Ids = Sequence[object] | pl.Series | npt.NDArray[Any]
ARRAYS = ("user_ids", "user_vectors", "item_ids", "item_vectors")


@dataclass(frozen=True)
class SavedVectors:
    """The content of a file of vectors.

    Attributes:
        user_ids: (U,) text or int64.
        user_vectors: (U, D), or (U, K, D) for K interests; float32.
        item_ids: (N,) text or int64.
        item_vectors: (N, D) float32.
    """

    user_ids: npt.NDArray[Any]
    user_vectors: npt.NDArray[np.float32]
    item_ids: npt.NDArray[Any]
    item_vectors: npt.NDArray[np.float32]


def save_vectors(path: str | Path, user_ids: Ids, user_vectors: Vectors, item_ids: Ids, item_vectors: Vectors) -> None:
    """Writes the vectors of users and items with their raw ids.

    Args:
        path: The file; its name ends in .npz.
        user_ids: (U,) raw ids. Whole numbers are kept as int64, everything else becomes text.
        user_vectors: (U, D), or (U, K, D) for K interests.
        item_ids: (N,) raw ids.
        item_vectors: (N, D).

    Raises:
        DataError: The ending is another, numbers are not finite, shapes do not fit, an id is missing or twice there.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise DataError(f"a file of vectors ends in .npz. Received: {path.name}.")
    saved = SavedVectors(_ids(user_ids, "user"), _numbers(user_vectors), _ids(item_ids, "item"), _numbers(item_vectors))
    _check(saved, "vectors to save")
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **{name: getattr(saved, name) for name in ARRAYS})


def load_vectors(path: str | Path) -> SavedVectors:
    """Reads what `save_vectors` wrote. Files with Python objects in them are refused.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file.files]
            if missing:
                raise DataError(
                    f"a file of vectors holds {', '.join(ARRAYS)}. Received: {path} without {', '.join(missing)}. "
                    "Write it by `save_vectors`."
                )
            saved = SavedVectors(*(file[name] for name in ARRAYS))
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a file of vectors: {error}. Write it by `save_vectors`.") from error
    _check(saved, str(path))
    return saved


def recall_from_vectors(
    path: str | Path,
    k: int,
    seen: pl.DataFrame | None = None,
    *,
    index: IndexConfig | str = "faiss_flat",
    batch_size: int = 512,
) -> pl.DataFrame:
    """The k best items of every user of a file of vectors, without those that the user took.

    Builds an inner-product index of the items and searches it for each user; items that a user took are taken out of
    more items than k, as many more as are needed.

    Args:
        path: A file that `save_vectors` wrote.
        k: Items for each user.
        seen: Interactions to leave out: a data frame whose first two columns are raw user and item ids. Rows of users
            or items that the file does not hold are passed over.
        index: The index, or its kind.
        batch_size: Users searched at a time.

    Returns:
        Columns: `user`, `rank` from 1, `item`, `score`; raw ids. Fewer than k rows for a user who took almost all.

    Raises:
        DataError: The file is no file of vectors, or k is below 1.
    """
    if k < 1:
        raise DataError(f"k must be at least 1. Received: {k}.")
    saved = load_vectors(path)
    config = index if isinstance(index, IndexConfig) else IndexConfig(kind=index, measure_queries=0)
    built = build_index(saved.item_vectors, config)
    excluded = None if seen is None else _seen(saved, seen)
    frames = [_answers(saved, 0, *_nothing())]
    for start in range(0, len(saved.user_ids), batch_size):
        frames.append(_answers(saved, start, *_search(built, saved, start, batch_size, k, excluded)))
    return pl.concat(frames)


def _nothing() -> tuple[Tensor, Tensor]:
    return torch.zeros(0, 1), torch.zeros(0, 1, dtype=torch.int64)


def _search(
    index: Index, saved: SavedVectors, start: int, size: int, k: int, excluded: Jagged | None
) -> tuple[Tensor, Tensor]:
    queries = saved.user_vectors[start : start + size]
    if excluded is None:
        return index.search(queries, k)
    offsets = excluded.offsets[start : start + len(queries) + 1]
    own = Jagged(excluded.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])
    return index.search(queries, k, excluded=own)


def _answers(saved: SavedVectors, start: int, scores: Tensor, items: Tensor) -> pl.DataFrame:
    """Rows of recommendations for the users from `start` on."""
    who, place = np.nonzero(items.numpy() >= 0)
    return pl.DataFrame(
        {
            "user": _series(saved.user_ids[start + who]),
            "rank": pl.Series(place + 1, dtype=pl.Int64),
            "item": _series(saved.item_ids[items.numpy()[who, place]]),
            "score": pl.Series(scores.numpy()[who, place], dtype=pl.Float32),
        }
    )


def _seen(saved: SavedVectors, seen: pl.DataFrame) -> Jagged:
    """Item positions that each user took."""
    if seen.width < 2:
        raise DataError(
            f"`seen` needs two columns, raw user and item ids. Received: {', '.join(seen.columns) or 'no columns'}."
        )
    user, item = seen.columns[:2]
    users = _positions(saved.user_ids, "user").rename({"place": "__user"})
    items = _positions(saved.item_ids, "item").rename({"place": "__item"})
    pairs = seen.select(user=pl.col(user).cast(pl.String), item=pl.col(item).cast(pl.String))
    found = pairs.join(users, on="user").join(items, on="item").select("__user", "__item").unique().sort("__user")
    counts = np.bincount(found["__user"].to_numpy(), minlength=len(saved.user_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Jagged(torch.from_numpy(found["__item"].to_numpy().astype(np.int64)), torch.from_numpy(offsets))


def _positions(ids: npt.NDArray[Any], name: str) -> pl.DataFrame:
    return pl.DataFrame({name: _series(ids).cast(pl.String), "place": np.arange(len(ids))})


def _series(ids: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(ids) if ids.dtype.kind == "i" else pl.Series(ids.tolist(), dtype=pl.String)


def _ids(ids: Ids, what: str) -> npt.NDArray[Any]:
    """Raw ids as int64 or as text of fixed width."""
    values = ids.to_list() if isinstance(ids, pl.Series) else list(ids.tolist() if isinstance(ids, np.ndarray) else ids)
    missing = sum(value is None for value in values)
    if missing:
        raise DataError(f"{what} ids must all be there. Received: {missing} of {len(values)} missing.")
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            pass  # larger than 64 bits: kept as text
    text = [str(value) for value in values]
    if any(value.endswith("\0") for value in text):
        raise DataError(f"{what} ids may not end in a zero character: text of fixed width cannot keep it.")
    return np.array(text, dtype=np.str_) if text else np.zeros(0, dtype="U1")


def _numbers(vectors: Vectors) -> npt.NDArray[np.float32]:
    values = vectors.detach().cpu().numpy() if isinstance(vectors, Tensor) else np.asarray(vectors)
    return np.ascontiguousarray(values, dtype=np.float32)


def _check(saved: SavedVectors, what: str) -> None:
    shapes = ", ".join(f"{name} {getattr(saved, name).shape}" for name in ARRAYS)
    fits = (
        saved.item_vectors.ndim == 2
        and saved.user_vectors.ndim in (2, 3)
        and saved.user_ids.shape == saved.user_vectors.shape[:1]
        and saved.item_ids.shape == saved.item_vectors.shape[:1]
        and saved.user_vectors.shape[-1] == saved.item_vectors.shape[1]
    )
    if not fits:
        raise DataError(
            "vectors of users (U, D) or (U, K, D) and of items (N, D) have one id a row and the same width. "
            f"Received: {what}: {shapes}."
        )
    for name in ("user_ids", "item_ids"):
        ids = getattr(saved, name)
        if ids.dtype.kind not in "iU":
            raise DataError(f"{name} must be text or whole numbers. Received: {what}: {ids.dtype}.")
        twice = len(ids) - len(np.unique(ids))
        if twice:
            raise DataError(f"{name} must differ from each other. Received: {what}: {twice} of {len(ids)} repeated.")
    for name in ("user_vectors", "item_vectors"):
        values = getattr(saved, name)
        wrong = values.size - int(np.isfinite(values).sum()) if values.dtype.kind == "f" else values.size
        if wrong:
            raise DataError(f"{name} must be finite numbers. Received: {what}: {wrong} of {values.size} that are not.")
