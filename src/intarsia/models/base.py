"""The contract of every gradient model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from intarsia.core.batch import Batch
from intarsia.nn.embedding import EmbeddingCollection

AUXILIARY = "losses/"
"""Names of predictions that start so are scalars that `Model.losses` adds to the loss."""


class Model(nn.Module, ABC):
    """A batch goes in, named tensors come out.

    A model is built from its configuration and a `Schema` alone. It holds no data, no paths and no training state, so
    it loads, exports and serves anywhere.
    """

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named predictions, each (B,) or (B, C). In training also the auxiliary losses, named `losses/...`."""

    @abstractmethod
    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Named scalars whose sum is minimised."""

    @property
    def tables(self) -> list[EmbeddingCollection]:
        """Collections whose weights get sparse gradients; the other parameters are dense."""
        return [module for module in self.modules() if isinstance(module, EmbeddingCollection)]

    def kernels(self) -> Iterator[Tensor]:
        """Weight matrices of layers, which L2 regularization applies to. Biases, norms and tables are not among them."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                yield module.weight
