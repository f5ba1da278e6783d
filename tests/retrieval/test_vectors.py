"""Vectors of users and items in one file, and recommendations from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from vector_cases import by_hand, drawn

from intarsia.core.errors import DataError
from intarsia.retrieval import load_vectors, recall_from_vectors, save_vectors


def write(path: Path, *, users: Any = ("ü", "b c", "x"), items: Any = (10, 7, 300, 4), interests: int = 0) -> Path:
    shape = (len(users), interests, 3) if interests else (len(users), 3)
    save_vectors(path, users, drawn(0, *shape), items, drawn(1, len(items), 3))
    return path


@pytest.mark.parametrize("interests", [0, 2])
def test_what_is_written_is_read(interests: int, tmp_path: Path) -> None:
    saved = load_vectors(write(tmp_path / "new" / "v.npz", interests=interests))
    assert saved.user_ids.tolist() == ["ü", "b c", "x"]
    assert saved.item_ids.tolist() == [10, 7, 300, 4]
    assert saved.item_ids.dtype == np.int64
    assert saved.user_vectors.shape == ((3, 2, 3) if interests else (3, 3))
    assert saved.user_vectors.dtype == np.float32
    assert np.array_equal(saved.item_vectors, drawn(1, 4, 3).numpy())


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pl.Series(["1", "01"]), ["1", "01"]),
        (np.array([3, 1]), [3, 1]),
        ([3, "a"], ["3", "a"]),
        ([True, False], ["True", "False"]),
        ([2**70, 1], [str(2**70), "1"]),
    ],
)
def test_raw_ids_come_back_as_they_were(ids: Any, expected: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    save_vectors(path, ids, drawn(0, 2, 3), [1], drawn(1, 1, 3))
    assert load_vectors(path).user_ids.tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"user_ids": ["a", None]}, r"user ids must all be there. Received: 1 of 2 missing"),
        ({"user_ids": ["a", "a"]}, r"user_ids must differ from each other. .* 1 of 2 repeated"),
        ({"user_ids": ["a\0", "b"]}, r"may not end in a zero character"),
        ({"user_ids": ["a"]}, r"have one id a row and the same width. .*user_ids \(1,\), user_vectors \(2, 3\)"),
        ({"item_vectors": drawn(1, 2, 4)}, r"the same width. .*item_vectors \(2, 4\)"),
        ({"item_vectors": torch.full((2, 3), torch.nan)}, r"item_vectors must be finite numbers. .*6 of 6"),
        ({"path": "v.csv"}, r"a file of vectors ends in .npz. Received: v.csv"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(arguments: dict[str, Any], told: str, tmp_path: Path) -> None:
    given = {"user_ids": ["a", "b"], "user_vectors": drawn(0, 2, 3), "item_ids": [1, 2], "item_vectors": drawn(1, 2, 3)}
    path = tmp_path / arguments.pop("path", "v.npz")
    with pytest.raises(DataError, match=told):
        save_vectors(path, **{**given, **arguments})
    assert not path.exists()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    with pytest.raises(DataError, match=r"cannot be read as a file of vectors"):
        load_vectors(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"cannot be read as a file of vectors"):
        load_vectors(path)
    np.savez(path, user_ids=np.array([1]))
    with pytest.raises(DataError, match=r"without user_vectors, item_ids, item_vectors"):
        load_vectors(path)
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(path, user_ids=objects, user_vectors=objects, item_ids=objects, item_vectors=objects)
    with pytest.raises(DataError, match=r"cannot be read"):
        load_vectors(path)


@pytest.mark.parametrize("kind", ["flat", "faiss_flat"])
@pytest.mark.parametrize("interests", [0, 2])
def test_recommends_without_what_was_clicked(kind: str, interests: int, tmp_path: Path) -> None:
    users, items = [f"u{k}" for k in range(7)], [f"i{k}" for k in range(40)]
    path = write(tmp_path / "v.npz", users=users, items=items, interests=interests)
    clicks = {"u0": [1, 2, 3], "u3": [*range(38)], "u6": [5, 5]}
    pairs = [(user, f"i{item}") for user, row in clicks.items() for item in row]
    pairs += [("stranger", "i1"), ("u1", "gone")]
    seen = pl.DataFrame(pairs, schema=["who", "what"], orient="row")
    found = recall_from_vectors(path, 5, seen, index=kind, batch_size=3)
    shape = (7, interests, 3) if interests else (7, 3)
    out = [clicks.get(user, []) for user in users]
    expected = by_hand(drawn(0, *shape), drawn(1, 40, 3), 5, excluded=out)
    assert found.columns == ["user", "rank", "item", "score"]
    for user, row in zip(users, expected):
        own = found.filter(pl.col("user") == user)
        assert own["item"].to_list() == [f"i{item}" for item in row]
        assert own["rank"].to_list() == list(range(1, len(row) + 1))
    assert len(found.filter(pl.col("user") == "u3")) == 2


def test_whole_numbers_as_ids_stay_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "v.npz", users=(5, 6), items=(10, 11, 12))
    found = recall_from_vectors(path, 2, pl.DataFrame({"u": [5], "i": [10]}))
    assert found.schema["user"] == found.schema["item"] == pl.Int64
    assert set(found.filter(pl.col("user") == 5)["item"]) == {11, 12}
    with pytest.raises(DataError, match=r"k must be at least 1. Received: 0"):
        recall_from_vectors(path, 0)
    with pytest.raises(DataError, match=r"`seen` needs two columns, raw user and item ids. Received: u"):
        recall_from_vectors(path, 1, pl.DataFrame({"u": [5]}))
