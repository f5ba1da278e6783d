"""Indexes of FAISS: exact where they are exact, full lists always."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from vector_cases import by_hand, drawn, jagged, lists, score

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.errors import BuildError, CheckpointError, IntarsiaError
from intarsia.retrieval import build_index, load_index

COUNT, DIM = 400, 8
KINDS: dict[str, dict[str, Any]] = {
    "faiss_flat": {},
    "ivf": {"nlist": 10, "nprobe": 2},
    "hnsw": {"m": 6, "ef_search": 16},
    "pq": {"bits": 4, "pq_m": 4},
    "ivf_pq": {"nlist": 4, "nprobe": 2, "bits": 4, "pq_m": 4},
}


def settings(kind: str, **more: Any) -> IndexConfig:
    return IndexConfig.model_validate({"kind": kind, "measure_queries": 50, **KINDS[kind], **more})


@pytest.fixture(scope="module")
def items() -> torch.Tensor:
    return drawn(0, COUNT, DIM)


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "euclidean"])
@pytest.mark.parametrize("shape", [(5, DIM), (5, 3, DIM)])
def test_the_flat_one_is_exact(metric: str, shape: tuple[int, ...], items: torch.Tensor) -> None:
    index, queries = build_index(items, settings("faiss_flat", metric=metric)), drawn(1, *shape)
    out = [[], [1, 2, 3], list(range(390)), list(range(0, 400, 2)), [7]]
    scores, found = index.search(queries, 12, excluded=jagged(out))
    assert lists(found) == by_hand(queries, items, 12, metric, out)
    for row, query in enumerate(queries if queries.dim() == 3 else queries.unsqueeze(1)):
        expected = [score(query, items[one], metric) for one in lists(found)[row]]
        assert scores[row, : len(expected)].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "more"), [("ivf", {"nprobe": 10}), ("hnsw", {"m": 32, "ef_search": 400, "ef_construction": 400})]
)
@pytest.mark.parametrize("metric", ["inner_product", "cosine", "euclidean"])
def test_searched_throughout_lists_and_graphs_are_exact(
    kind: str, more: dict[str, int], metric: str, items: torch.Tensor
) -> None:
    index, queries = build_index(items, settings(kind, metric=metric, **more)), drawn(1, 6, 2, DIM)
    out = [[one] for one in range(6)]
    found = index.search(queries, 8, excluded=jagged(out))[1]
    assert lists(found) == by_hand(queries, items, 8, metric, out)
    assert index.measured is not None
    assert index.measured.recall == {10: 1.0, 100: 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_is_filled_as_long_as_there_are_items(kind: str, items: torch.Tensor) -> None:
    index, queries = build_index(items, settings(kind)), drawn(1, 4, DIM)
    best = by_hand(queries, items, COUNT)
    out = [best[0][:60], best[1][:300], [], best[3][: COUNT - 3]]  # the best are taken away
    for among in (None, list(range(0, COUNT, 2)), list(range(15))):
        candidates = None if among is None else torch.tensor(among)
        scores, found = index.search(queries, 10, excluded=jagged(out), candidates=candidates)
        for row, taken in enumerate(out):
            allowed = set(range(COUNT) if among is None else among) - set(taken)
            got = lists(found)[row]
            assert len(set(got)) == len(got) == min(10, len(allowed))
            assert set(got) <= allowed
            assert scores[row].tolist() == sorted(scores[row].tolist(), reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_is_saved_and_loaded(kind: str, items: torch.Tensor, tmp_path: Path) -> None:
    index, queries = build_index(items, settings(kind)), drawn(1, 9, DIM)
    index.save(tmp_path / "index")
    again = load_index(tmp_path / "index", vectors=items)
    assert again.config == index.config
    assert again.measured == index.measured
    for one, two in zip(index.search(queries, 20), again.search(queries, 20)):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_same_when_it_is_built_again(kind: str, items: torch.Tensor) -> None:
    one, two = (build_index(items, settings(kind)).search(drawn(1, 9, DIM), 20) for _ in range(2))
    assert torch.equal(one[1], two[1])


def test_scores_of_compressed_vectors_are_near_the_true_ones(items: torch.Tensor) -> None:
    queries = drawn(1, 5, DIM)
    scores, found = build_index(items, settings("pq", pq_m=8, bits=8)).search(queries, 10)
    true = (queries @ items.t()).gather(1, found)
    assert (scores - true).abs().mean() < 0.2 * true.abs().mean()


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("ivf", {"nlist": 401}, r"nlist = 401 for 400 items. Leave nlist out"),
        ("pq", {"pq_m": 3}, r"pq_m = 3 for width 8. Use one of 1, 2, 4, 8"),
        ("pq", {"bits": 8, "count": 100}, r"100 items for bits = 8 \(256\). Lower bits to 6"),
        ("pq", {"bits": 4, "count": 10}, r"10 items for bits = 4 \(16\). Use kind: flat"),
    ],
)
def test_settings_that_do_not_fit_are_refused(kind: str, more: dict[str, int], told: str, items: torch.Tensor) -> None:
    vectors = items[: more.pop("count", COUNT)]
    with pytest.raises(BuildError, match=told):
        build_index(vectors, settings(kind, **more))


def test_a_damaged_file_is_never_read(items: torch.Tensor, tmp_path: Path) -> None:
    build_index(items, settings("hnsw")).save(tmp_path)
    path = tmp_path / "index.faiss"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"index.faiss is not the file that was saved. Build the index again"):
        load_index(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"damaged: index.faiss is missing"):
        load_index(tmp_path)


def test_without_faiss_the_exact_index_is_named(monkeypatch: pytest.MonkeyPatch, items: torch.Tensor) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        IntarsiaError, match=r"needs `faiss`, which is not installed. Run: pip install faiss-cpu; or use"
    ):
        build_index(items, "hnsw")
    assert build_index(items, "flat").search(drawn(1, 1, DIM), 1)[1].shape == (1, 1)
