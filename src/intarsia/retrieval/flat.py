"""The exact index: vectors in memory, every item scored."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.batch import Jagged
from intarsia.core.errors import CheckpointError
from intarsia.retrieval.exhaustive import exhaustive_top_k
from intarsia.retrieval.fingerprint import Fingerprint
from intarsia.retrieval.index import Index, within


class FlatIndex(Index):
    """Scores every item; its answers are those of double precision, rounded to single.

    Searches on the device of the vectors.

    Args:
        vectors: (N, D) float32.
        config: Settings.
        fingerprint: Of the vectors.
    """

    def __init__(self, vectors: Tensor, config: IndexConfig, fingerprint: Fingerprint) -> None:
        super().__init__(config, fingerprint)
        self.vectors = vectors
        self._unit = torch.nn.functional.normalize(vectors, dim=1) if config.metric == "cosine" else vectors
        self._largest = float(self._unit.double().square().sum(dim=1).max().sqrt())

    @classmethod
    def build(cls, vectors: Tensor, config: IndexConfig) -> Self:
        """The index of (N, D) float32 vectors."""
        return cls(vectors, config, Fingerprint.of(vectors))

    def _search(
        self, queries: Tensor, k: int, excluded: Jagged | None, numbers: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        device, table = self._unit.device, self._unit
        numbers = None if numbers is None else numbers.to(device)
        own = within(None if excluded is None else excluded.to(device), numbers, self.num_items)

        def rows(start: int, stop: int) -> Tensor:
            return table[start:stop] if numbers is None else table[numbers[start:stop]]

        def take(places: Tensor) -> Tensor:
            return table[places if numbers is None else numbers[places]]

        count = self.num_items if numbers is None else len(numbers)
        metric, largest = self.config.metric, self._largest
        scores, items = exhaustive_top_k(
            queries.to(device), rows, count, k, metric=metric, excluded=own, take=take, largest=largest
        )
        if numbers is not None and len(numbers):
            items = torch.where(items < 0, -1, numbers[items.clamp(min=0)])
        return scores, items

    def _write(self, folder: Path) -> dict[str, Tensor]:
        return {"vectors": self.vectors.cpu().contiguous()}

    @classmethod
    def _read(
        cls,
        folder: Path,
        config: IndexConfig,
        fingerprint: Fingerprint,
        tensors: dict[str, Tensor],
        files: dict[str, str],
    ) -> Self:
        vectors = tensors.get("vectors")
        if vectors is None or vectors.shape != (fingerprint.num_items, fingerprint.dim):
            raise CheckpointError(f"the index in {folder} is damaged: its vectors are missing. Build the index again.")
        return cls(vectors, config, fingerprint)
