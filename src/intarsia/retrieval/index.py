"""What all indexes share: checks, saving, loading, and refusing the vectors of another model."""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.batch import Jagged
from intarsia.core.errors import CheckpointError, DataError
from intarsia.core.files import filling, write_json
from intarsia.retrieval.exhaustive import renumbered
from intarsia.retrieval.fingerprint import Fingerprint

LOG = logging.getLogger("intarsia")
VERSION = 1
ABOUT, TENSORS = "index.json", "index.safetensors"

Vectors = Tensor | npt.NDArray[np.floating[Any]]
Candidates = Tensor | npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """What an index finds of what exact search finds, and how fast.

    Attributes:
        recall: By k, the share of the k best items that are among the k items of the index.
        queries: Number of queries.
        of: What the queries were: `queries` (given ones) or `items` (item vectors with noise).
        ms_per_query: Milliseconds for one of many queries that are asked together.
        exact_ms_per_query: The same of exact search.
    """

    recall: dict[int, float]
    queries: int
    of: str
    ms_per_query: float
    exact_ms_per_query: float

    def __str__(self) -> str:
        recall = ", ".join(f"recall@{k} {value:.4f}" for k, value in self.recall.items())
        return f"{recall}; {self.ms_per_query:.3f} ms a query, exact search {self.exact_ms_per_query:.3f} ms"


class Index(ABC):
    """Finds the items whose vectors score best for a query.

    Attributes:
        config: Kind, metric and settings.
        fingerprint: Of the vectors that it was built from.
        measured: What it finds and how fast, None where that was not measured.
        build_seconds: Time that it took to build.
    """

    def __init__(self, config: IndexConfig, fingerprint: Fingerprint) -> None:
        self.config, self.fingerprint = config, fingerprint
        self.measured: Measured | None = None
        self.build_seconds = 0.0

    @property
    def num_items(self) -> int:
        """N."""
        return self.fingerprint.num_items

    @property
    def dim(self) -> int:
        """D."""
        return self.fingerprint.dim

    @classmethod
    @abstractmethod
    def build(cls, vectors: Tensor, config: IndexConfig) -> Self:
        """The index of (N, D) float32 vectors."""

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        excluded: Jagged | None = None,
        candidates: Candidates | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best items of each query.

        With several vectors a query an item's score is the largest over them.

        Args:
            queries: (B, D), or (B, K, D) for K interests.
            k: Items for each query, at least 1.
            excluded: Item numbers that a query must not get, for instance those that its user took already.
            candidates: Items to choose from: (N,) bool, or (C,) item numbers. Default: all. Candidates that are few
                are all scored, whatever the kind of index.

        Returns:
            (B, k) float32 scores, largest first, and (B, k) int64 item numbers, none of them twice in a row. Where
            there are fewer than k items to choose from, scores of -inf and items of -1 at the end.

        Raises:
            DataError: k is below 1, the shape or the values of the queries do not fit, an item number is out of range.
        """
        if k < 1:
            raise DataError(f"k must be at least 1. Received: {k}.")
        asked = _as_tensor(queries, "queries")
        if asked.dim() not in (2, 3) or asked.shape[-1] != self.dim or 0 in asked.shape[1:]:
            raise DataError(
                f"queries must be (B, {self.dim}) or (B, K, {self.dim}) for this index. "
                f"Received: {_shape(asked)}. Encode them by the model that the index was built for."
            )
        if asked.dim() == 2:
            asked = asked.unsqueeze(1)
        if self.config.metric == "cosine":
            asked = torch.nn.functional.normalize(asked, dim=-1)
        if excluded is not None:
            if len(excluded) != len(asked):
                raise DataError(
                    f"`excluded` must have one list a query, {len(asked)} here. Received: {len(excluded)} lists."
                )
            self._check_items(excluded.values, "excluded items")
        numbers = None if candidates is None else self._numbers(candidates)
        with torch.no_grad():
            return self._search(asked, k, excluded, numbers)

    @abstractmethod
    def _search(
        self, queries: Tensor, k: int, excluded: Jagged | None, numbers: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `search`, of checked (B, K, D) queries and sorted unique candidates."""

    def rebuild(self, vectors: Vectors, *, queries: Vectors | None = None) -> Index:
        """The index of other vectors, with the same settings: after items were added, or after further training."""
        return build_index(vectors, self.config, queries=queries)

    # Saving

    def save(self, folder: str | Path) -> None:
        """Writes the index into a folder: settings and measurements as JSON, and the files that search needs."""
        with filling(folder, ABOUT) as aside:
            own = self._write(aside)
            save_file({"projection": self.fingerprint.projection.contiguous(), **own}, aside / TENSORS)
            about = {
                "version": VERSION,
                **self.config.model_dump(mode="json"),
                "num_items": self.num_items,
                "dim": self.dim,
                "digest": self.fingerprint.digest,
                "measured": None if self.measured is None else asdict(self.measured),
                "build_seconds": round(self.build_seconds, 3),
                "files": self._files(aside),
            }
            write_json(aside / ABOUT, about)

    @abstractmethod
    def _write(self, folder: Path) -> dict[str, Tensor]:
        """Writes the kind's own files and gives its own tensors."""

    def _files(self, folder: Path) -> dict[str, str]:
        """Hashes of the kind's own files, by name."""
        return {}

    @classmethod
    @abstractmethod
    def _read(
        cls,
        folder: Path,
        config: IndexConfig,
        fingerprint: Fingerprint,
        tensors: dict[str, Tensor],
        files: dict[str, str],
    ) -> Self:
        """The index out of what `_write` wrote."""

    # Checks

    def _numbers(self, candidates: Candidates) -> Tensor:
        """Sorted unique item numbers of a mask or of numbers."""
        given = torch.as_tensor(candidates)
        if given.dtype != torch.bool:
            if given.dim() != 1 or given.is_floating_point():
                raise DataError(
                    "candidates must be one list of item numbers, or a mask. "
                    f"Received: {_shape(given)} of {str(given.dtype).removeprefix('torch.')}."
                )
            self._check_items(given, "candidates")
            numbers = given.long()
            given = torch.zeros(self.num_items, dtype=torch.bool, device=given.device)
            given[numbers] = True
        if given.shape != (self.num_items,):
            raise DataError(
                f"a mask of candidates must have one value an item, {self.num_items} here. Received: {_shape(given)}."
            )
        return given.nonzero().squeeze(1)

    def _check_items(self, items: Tensor, what: str) -> None:
        wrong = (items < 0) | (items >= self.num_items)
        if bool(wrong.any()):
            count = int(wrong.sum())
            raise DataError(
                f"{what} must be numbers from 0 to {self.num_items - 1}. Received: {count} outside, the first is "
                f"{int(items[wrong][0])}. Leave out items that the index does not hold."
            )


def build_index(vectors: Vectors, config: IndexConfig | str | None = None, *, queries: Vectors | None = None) -> Index:
    """Builds the index of a catalogue and measures what an approximate one misses.

    Args:
        vectors: (N, D) item vectors.
        config: Settings, or the kind alone. Default: `flat`.
        queries: (Q, D) or (Q, K, D) queries to measure with, best those of real users. Default: item vectors, each
            with a random vector of half its length added.

    Raises:
        DataError: There are no vectors, or some of their numbers are not finite.
        BuildError: The settings do not fit the vectors.
    """
    from intarsia.retrieval.measure import measure

    settings = _settings(config)
    given = checked_vectors(vectors)
    started = time.perf_counter()
    index: Index = _class_of(settings.kind).build(given, settings)
    index.build_seconds = time.perf_counter() - started
    if settings.measure_queries and settings.kind not in ("flat", "faiss_flat"):
        index.measured = measure(index, given, queries)
        LOG.info("index %s of %s items: %s", settings.kind, f"{index.num_items:,}", index.measured)
    return index


def load_index(folder: str | Path, *, vectors: Vectors | None = None) -> Index:
    """Reads an index that `Index.save` wrote.

    Args:
        folder: The folder.
        vectors: (N, D) item vectors of the model that the index is to be used with. With them an index of another model
            is refused.

    Raises:
        CheckpointError: Files are missing or damaged, of another version, or of another model.
    """
    place = Path(folder)
    about = _about(place)
    cure = "Build the index again."
    try:
        tensors = load_file(place / TENSORS)
        own = {name: about[name] for name in IndexConfig.model_fields if name in about}
        config = IndexConfig.model_validate(own)
        count, dim, projection = int(about["num_items"]), int(about["dim"]), tensors.pop("projection")
        kept = Fingerprint(count, dim, str(about["digest"]), projection)
        told = about["measured"]
        if told is not None:
            told = Measured(**{**told, "recall": {int(k): float(v) for k, v in told["recall"].items()}})
        seconds = float(about["build_seconds"])
        files = {str(name): str(digest) for name, digest in about["files"].items()}
    except (OSError, SafetensorError, ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"the index in {place} is damaged: {reason}. {cure}") from error
    if len(projection) != count:
        raise CheckpointError(f"the index in {place} is damaged: {TENSORS} is not that of {ABOUT}. {cure}")
    if vectors is not None:
        kept.check(Fingerprint.of(checked_vectors(vectors)), f"the index in {place}")
    index: Index = _class_of(config.kind)._read(place, config, kept, tensors, files)
    index.build_seconds, index.measured = seconds, told
    return index


def checked_vectors(vectors: Vectors) -> Tensor:
    """(N, D) float32 vectors without gradients.

    Raises:
        DataError: Another shape, no vectors, or numbers that are not finite.
    """
    given = _as_tensor(vectors, "item vectors")
    if given.dim() != 2 or 0 in given.shape:
        raise DataError(
            f"an index needs item vectors (N, D), at least one. Received: {_shape(given)}. "
            "Give the vectors of the whole catalogue."
        )
    return given.contiguous()


def within(excluded: Jagged | None, numbers: Tensor | None, count: int) -> Jagged | None:
    """Excluded items as positions among the candidates (C,), those that are no candidates left out."""
    return excluded if excluded is None or numbers is None else renumbered(excluded, numbers, count)


def _as_tensor(values: Vectors, what: str) -> Tensor:
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(values if values.flags.writeable else values.copy())
    tensor = values.detach().float()
    wrong = tensor.numel() - int(tensor.isfinite().sum())
    if wrong:
        rows = int((~tensor.isfinite()).reshape(len(tensor), -1).any(dim=1).sum())
        raise DataError(
            f"{what} must be finite. Received: {wrong} numbers in {rows} of {len(tensor)} that are not. "
            "Find out why the model gives them; lower the learning rate if training went wrong."
        )
    return tensor


def _settings(config: IndexConfig | str | None) -> IndexConfig:
    if isinstance(config, IndexConfig):
        return config
    return IndexConfig.model_validate(config or {})


def _about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if not path.is_file():
        raise CheckpointError(f"there is no index in {folder}: {ABOUT} is missing. Build one.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"the index in {folder} is damaged: {ABOUT} is no JSON. Build the index again."
        ) from error
    if not isinstance(about, dict) or about.get("version") != VERSION:
        version = about.get("version") if isinstance(about, dict) else None
        raise CheckpointError(
            f"the index in {folder} is of version {version}, this program reads version {VERSION}. "
            "Build the index again."
        )
    return about


def _class_of(kind: str) -> type[Index]:
    if kind == "flat":
        from intarsia.retrieval.flat import FlatIndex

        return FlatIndex
    from intarsia.retrieval.faiss_index import FaissIndex

    return FaissIndex


def _shape(tensor: Tensor) -> str:
    return "(" + ", ".join(map(str, tensor.shape)) + ("," if tensor.dim() == 1 else "") + ")"
