"""Which vectors an index was built from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import xxhash
from torch import Tensor

from intarsia.core.errors import CheckpointError

TOLERANCE = 1e-4
"""How far two models' vectors may be apart, as a share of their size, and still be the same model's: the same weights
give vectors that differ in the last digits on another machine."""


@dataclass(frozen=True)
class Fingerprint:
    """What is remembered of (N, D) vectors to know them again.

    Attributes:
        num_items: N.
        dim: D.
        digest: Hash of the float32 values.
        projection: (N,) each vector along one fixed direction. Where digests differ it tells rounding from another
            model.
    """

    num_items: int
    dim: int
    digest: str
    projection: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Fingerprint:
        """The fingerprint of (N, D) float32 vectors."""
        values = vectors.detach().cpu().contiguous()
        count, dim = values.shape
        hashed = xxhash.xxh3_128_hexdigest(values.numpy().data)
        # No part of a vector is left out, and no random generator has to stay the same from version to version.
        direction = torch.cos(torch.arange(1.0, dim + 1, dtype=torch.float64) * math.sqrt(2)) + 2
        return cls(count, dim, hashed, (values.double() @ direction).float())

    def check(self, other: Fingerprint, where: str) -> None:
        """Refuses the vectors of another model.

        Args:
            other: Of the model's vectors.
            where: What the message calls the index.

        Raises:
            CheckpointError: N, D or the vectors differ.
        """
        cure = "Build the index again from the model's vectors; nothing has to be trained."
        if (self.num_items, self.dim) != (other.num_items, other.dim):
            raise CheckpointError(
                f"{where} is of another model: it holds {self.num_items} vectors of width {self.dim}, the model has "
                f"{other.num_items} of width {other.dim}. {cure}"
            )
        if self.digest == other.digest:
            return
        apart = (self.projection - other.projection).abs()
        allowed = TOLERANCE * float(self.projection.double().square().mean().sqrt())
        count = int((~(apart <= allowed)).sum())
        if count:
            raise CheckpointError(
                f"{where} is of another model: {count} of its {self.num_items} vectors are not the model's (digest "
                f"{self.digest[:8]}, the model's {other.digest[:8]}). {cure}"
            )
