"""What an approximate index finds of what exact search finds."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.retrieval.flat import FlatIndex
from intarsia.retrieval.index import Index, Measured, Vectors

DEPTHS = (10, 100)
NOISE = 0.5
"""Length of the random vector that makes a query of an item, as a share of the item's own length."""


def measure(index: Index, vectors: Tensor, queries: Vectors | None = None) -> Measured:
    """Recall of an index against exact search, and the time of both.

        recall@k = mean over queries of |index's k best & exact k best| / k

    Args:
        index: The index.
        vectors: (N, D) float32 vectors that it was built from.
        queries: (Q, D) or (Q, K, D), of which `measure_queries` are drawn. Default: item vectors with noise.
    """
    of = "items" if queries is None else "queries"
    asked = sample_queries(vectors, index.config) if queries is None else _some(queries, index.config)
    exact = FlatIndex(vectors, IndexConfig(metric=index.config.metric), index.fingerprint)
    depths = sorted({min(depth, len(vectors)) for depth in DEPTHS})
    expected, exact_time = _timed(exact, asked, depths[-1])
    found, own_time = _timed(index, asked, depths[-1])
    recall = {depth: round(_recall(found[:, :depth], expected[:, :depth]), 6) for depth in depths}
    return Measured(recall, len(asked), of, round(own_time, 4), round(exact_time, 4))


def sample_queries(vectors: Tensor, config: IndexConfig) -> Tensor:
    """(Q, D) item vectors, each with a random vector of about half its length added."""
    rng = np.random.default_rng(config.seed)
    count = min(config.measure_queries, len(vectors))
    chosen: Tensor = vectors[torch.from_numpy(np.sort(rng.permutation(len(vectors))[:count])).to(vectors.device)]
    noise = torch.from_numpy(rng.standard_normal(chosen.shape, dtype=np.float32)).to(vectors.device)
    lengths = torch.linalg.vector_norm(chosen, dim=1, keepdim=True)
    out: Tensor = chosen + noise * (NOISE / chosen.shape[1] ** 0.5) * lengths
    return out


def _some(queries: Vectors, config: IndexConfig) -> Vectors:
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(len(queries))[: config.measure_queries])
    return queries[torch.from_numpy(chosen).to(queries.device)] if isinstance(queries, Tensor) else queries[chosen]


def _timed(index: Index, queries: Vectors, k: int) -> tuple[Tensor, float]:
    """(Q, k) items, and milliseconds a query."""
    index.search(queries[:8], k)  # Threads start and memory is touched for the first time.
    started = time.perf_counter()
    items = index.search(queries, k)[1].cpu()
    return items, 1000 * (time.perf_counter() - started) / len(queries)


def _recall(found: Tensor, expected: Tensor) -> float:
    """Share of the expected items that are found; both (Q, k) without repetition in a row."""
    rows = torch.arange(len(found)).unsqueeze(1)
    width = int(expected.max()) + 1
    # -1 (nothing found) may not meet the last item of the row before.
    keys = (found + rows * width)[(found >= 0) & (found < width)]
    return float(torch.isin(expected + rows * width, keys).double().mean())
