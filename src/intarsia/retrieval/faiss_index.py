"""Indexes of FAISS: lists, graphs and compressed vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
import xxhash
from torch import Tensor

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.batch import Jagged
from intarsia.core.errors import BuildError, CheckpointError, IntarsiaError
from intarsia.retrieval.exhaustive import ROWS, exhaustive_top_k, filled, in_order, part_of, rows_of
from intarsia.retrieval.fingerprint import Fingerprint
from intarsia.retrieval.index import Index, within

FILE = "index.faiss"
NPROBE = 64
TRAINED_PER_LIST = 64
"""Vectors a list that lists are learned from, at most. More of them change recall little and cost time."""
LEAST_PER_LIST = 39
"""Vectors a list below which FAISS warns that lists are badly learned."""
WIDENING = 4
"""Factor by which more is fetched for queries that have too few items left."""
SHARE = 0.25
"""Share of the catalogue beyond which all items are scored rather than fetched and filtered."""


class FaissIndex(Index):
    """An index of FAISS.

    Items that a query must not get are taken out of more items than were asked for: k plus the number of excluded ones
    (at most 3k + 64 of them at first) are fetched, and four times as many for those queries that have fewer than k
    left, until all have k. Where that would be more than a quarter of the catalogue, or where a quarter or less of the
    catalogue are candidates, all of them are scored. So a query gets k items whenever there are k. Lists and graphs are
    searched more widely, too, when more is fetched.

    With K vectors a query, items are fetched for each, and an item counts with the largest of its scores. Were the
    index exact, the merged list would be: an item that is not fetched for the vector it scores best with is behind
    enough others.

    Scores of compressed vectors (`pq`, `ivf_pq`) are approximate.

    Args:
        index: The index of FAISS.
        config: Settings.
        fingerprint: Of the vectors.
    """

    def __init__(self, index: Any, config: IndexConfig, fingerprint: Fingerprint) -> None:
        super().__init__(config, fingerprint)
        self.index = index

    @classmethod
    def build(cls, vectors: Tensor, config: IndexConfig) -> Self:
        """The index of (N, D) float32 vectors.

        Raises:
            BuildError: The settings do not fit the vectors.
        """
        count, dim = vectors.shape
        fingerprint = Fingerprint.of(vectors)
        with _threads(config.build_threads):
            index = _empty(config, count, dim)
            data = torch.nn.functional.normalize(vectors, dim=1) if config.metric == "cosine" else vectors
            values = data.cpu().contiguous().numpy()
            if not index.is_trained:
                index.train(values)
            index.add(values)
            if config.kind.startswith("ivf"):
                index.make_direct_map(True)  # Finds the vectors of given items; 8 bytes an item.
        return cls(index, config, fingerprint)

    def _search(
        self, queries: Tensor, k: int, excluded: Jagged | None, numbers: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        queries = queries.cpu()
        excluded = None if excluded is None else excluded.to("cpu")
        numbers = None if numbers is None else numbers.cpu()
        scores, items = filled(len(queries), k, queries.device)
        for start in range(0, len(queries), ROWS):
            stop = min(start + ROWS, len(queries))
            found = self._fetched(queries[start:stop], k, part_of(excluded, start, stop), numbers)
            scores[start:stop], items[start:stop] = found
        return scores, items

    def _fetched(
        self, queries: Tensor, k: int, excluded: Jagged | None, numbers: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Fetches more and more until every query has its items."""
        total = self.num_items
        count = total if numbers is None else len(numbers)
        scores, items = filled(len(queries), k, queries.device)
        rows = torch.arange(len(queries))
        longest = 0 if excluded is None or not len(excluded) else int(excluded.lengths.max())
        fetch = math.ceil((k + min(longest, 3 * k + 64)) * total / max(count, 1))
        allowed = None
        if numbers is not None:
            allowed = torch.zeros(total, dtype=torch.bool)
            allowed[numbers] = True
        breadth, most = 1, total if self.config.kind == "faiss_flat" else SHARE * total
        while len(rows) and count > SHARE * total and fetch <= most:
            own = None if excluded is None else rows_of(excluded, rows)
            best, order = self._kept(queries[rows], fetch, breadth, own, allowed)
            width = min(k, best.shape[1])
            scores[rows, :width], items[rows, :width] = best[:, :width], order[:, :width]
            rows = rows[items[rows, -1] < 0]
            fetch, breadth = fetch * WIDENING, breadth * WIDENING
        if len(rows):
            own = None if excluded is None else rows_of(excluded, rows)
            scores[rows], items[rows] = self._exhaustive(queries[rows], k, own, numbers)
        return scores, items

    def _kept(
        self, queries: Tensor, fetch: int, breadth: int, excluded: Jagged | None, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(B, K * fetch) what FAISS finds, without what may not be."""
        found, ids = self.index.search(
            queries.flatten(0, 1).contiguous().numpy(), fetch, params=self._parameters(fetch, breadth)
        )
        scores = torch.from_numpy(found).view(len(queries), -1)
        items = torch.from_numpy(ids).view(len(queries), -1)
        if self.config.metric == "euclidean":
            scores = -scores
        dropped = items < 0
        if allowed is not None:
            dropped |= ~allowed[items.clamp(min=0)]
        if excluded is not None:
            own = torch.repeat_interleave(torch.arange(len(excluded)), excluded.lengths)
            keys = items + torch.arange(len(items)).unsqueeze(1) * self.num_items
            dropped |= torch.isin(keys, excluded.values + own * self.num_items)
        return in_order(scores.masked_fill(dropped, -torch.inf), items)

    def _parameters(self, fetch: int, breadth: int) -> Any:
        """How thoroughly to search."""
        faiss = import_faiss()
        config = self.config
        if config.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(config.ef_search, fetch))
        if config.kind.startswith("ivf"):
            return faiss.SearchParametersIVF(nprobe=min((config.nprobe or NPROBE) * breadth, self.index.nlist))
        return None

    def _exhaustive(
        self, queries: Tensor, k: int, excluded: Jagged | None, numbers: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """All items, or all candidates, scored by the vectors that the index holds."""

        def rows(start: int, stop: int) -> Tensor:
            wanted = torch.arange(start, stop) if numbers is None else numbers[start:stop]
            return torch.from_numpy(self.index.reconstruct_batch(wanted.numpy()))

        count = self.num_items if numbers is None else len(numbers)
        own = within(excluded, numbers, self.num_items)
        scores, items = exhaustive_top_k(queries, rows, count, k, metric=self.config.metric, excluded=own)
        if numbers is not None and count:
            items = torch.where(items < 0, -1, numbers[items.clamp(min=0)])
        return scores, items

    # Saving

    def _write(self, folder: Path) -> dict[str, Tensor]:
        import_faiss().write_index(self.index, str(folder / FILE))
        return {}

    def _files(self, folder: Path) -> dict[str, str]:
        return {FILE: _digest(folder / FILE)}

    @classmethod
    def _read(
        cls,
        folder: Path,
        config: IndexConfig,
        fingerprint: Fingerprint,
        tensors: dict[str, Tensor],
        files: dict[str, str],
    ) -> Self:
        faiss = import_faiss()
        path = folder / FILE
        cure = "Build the index again."
        # A wrong link in a graph would be followed out of memory, so that a damaged file is never read.
        if not path.is_file():
            raise CheckpointError(f"the index in {folder} is damaged: {FILE} is missing. {cure}")
        if _digest(path) != files.get(FILE):
            raise CheckpointError(f"the index in {folder} is damaged: {FILE} is not the file that was saved. {cure}")
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise CheckpointError(
                f"the index in {folder} cannot be read by the installed FAISS {faiss.__version__}. {cure}"
            ) from error
        if (index.ntotal, index.d) != (fingerprint.num_items, fingerprint.dim):
            raise CheckpointError(
                f"the index in {folder} is damaged: {FILE} holds {index.ntotal} vectors of width {index.d}, "
                f"its JSON file says {fingerprint.num_items} of width {fingerprint.dim}. {cure}"
            )
        return cls(index, config, fingerprint)


def import_faiss() -> Any:
    """The module `faiss`, imported when it is first needed.

    Raises:
        IntarsiaError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise IntarsiaError(
            "An index of this kind needs `faiss`, which is not installed. Run: pip install faiss-cpu; "
            "or use kind: flat, which is exact and needs nothing"
        ) from error
    return faiss


def check_settings(config: IndexConfig, count: int, dim: int) -> None:
    """Refuses settings that do not fit N vectors of width D.

    Raises:
        BuildError: They do not fit.
        IntarsiaError: FAISS is not installed.
    """
    _empty(config, count, dim)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of FAISS inside of the block."""
    faiss = import_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _empty(config: IndexConfig, count: int, dim: int) -> Any:
    """The index without vectors."""
    faiss = import_faiss()
    metric = faiss.METRIC_L2 if config.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    if config.kind == "faiss_flat":
        return faiss.IndexFlat(dim, metric)
    if config.kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dim, config.m, metric)
        graph.hnsw.efConstruction = config.ef_construction
        graph.hnsw.rng = faiss.RandomGenerator(config.seed)
        return graph
    parts = _parts(config, count, dim) if config.kind.endswith("pq") else 0
    if config.kind == "pq":
        index = faiss.IndexPQ(dim, parts, config.bits, metric)
        _learn_quietly(index.pq.cp, config.seed)
        return index
    nlist = _lists(config, count)
    coarse = faiss.IndexFlat(dim, metric)
    if config.kind == "ivf":
        index = faiss.IndexIVFFlat(coarse, dim, nlist, metric)
    else:
        index = faiss.IndexIVFPQ(coarse, dim, nlist, parts, config.bits, metric)
        _learn_quietly(index.pq.cp, config.seed)
    coarse.this.disown()  # The index frees it.
    index.own_fields = True
    _learn_quietly(index.cp, config.seed)
    index.cp.max_points_per_centroid = TRAINED_PER_LIST
    return index


def _learn_quietly(clustering: Any, seed: int) -> None:
    """Seeds a clustering; that a catalogue is small is no reason for a warning on standard error."""
    clustering.seed = seed
    clustering.min_points_per_centroid = 1


def _lists(config: IndexConfig, count: int) -> int:
    if config.nlist is None:
        return max(1, min(round(4 * math.sqrt(count)), count // LEAST_PER_LIST))
    if config.nlist > count:
        raise BuildError(
            f"lists are learned from the items, so that there are at least as many items as lists. Received: "
            f"nlist = {config.nlist} for {count} items. Leave nlist out, or use kind: flat."
        )
    return config.nlist


def _parts(config: IndexConfig, count: int, dim: int) -> int:
    divisors = [m for m in range(1, dim + 1) if dim % m == 0]
    if config.pq_m is not None and config.pq_m not in divisors:
        raise BuildError(
            f"compressed vectors are cut into pq_m equal parts, so that pq_m divides their width. Received: pq_m = "
            f"{config.pq_m} for width {dim}. Use one of {', '.join(map(str, divisors))}."
        )
    if count < 1 << config.bits:
        fitting = int(math.log2(count))
        cure = f"Lower bits to {fitting}, or use kind: flat." if fitting >= 4 else "Use kind: flat."
        raise BuildError(
            f"compressed vectors need at least 2^bits items to learn from. Received: {count} items for bits = "
            f"{config.bits} ({1 << config.bits}). {cure}"
        )
    return config.pq_m or min(divisors, key=lambda m: abs(m - dim / 4))


def _digest(path: Path) -> str:
    hashed = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            hashed.update(block)
    return str(hashed.hexdigest())
