"""The contract of every gradient model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

from torch import Tensor, nn

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch
from intarsia.core.params import StrictModel
from intarsia.data.schema import Schema
from intarsia.nn.embedding import EmbeddingCollection

AUXILIARY = "losses/"
"""Names of predictions that start so are scalars that `Model.losses` adds to the loss."""


class Model(nn.Module, ABC):
    """A batch goes in, named tensors come out.

    A model is built from its configuration and a `Schema` alone. It holds no data, no paths and no training state, so
    it loads, exports and serves anywhere.
    """

    Config: ClassVar[type[StrictModel] | None] = None
    """The model's own message in a pipeline file, where it has one."""

    summed_losses: ClassVar[frozenset[str]] = frozenset()
    """Losses that are sums over the rows of a batch. The others are means, which several processes weigh by rows."""

    _layers: list[nn.Linear | nn.Conv1d | nn.Conv2d] | None = None

    @classmethod
    def from_config(cls, config: ModelConfig, schema: Schema, *, backend: str = "torch") -> Self:
        """Builds the model of a pipeline file.

        Args:
            config: The `model_config`.
            schema: Features and labels.
            backend: Implementation of the tables.

        Raises:
            BuildError: The model does not fit together.
        """
        raise NotImplementedError(f"{cls.__name__} is not built from a pipeline file")

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
        """Weight matrices of layers, which L2 regularization applies to; no biases, norms or tables."""
        # The modules are found once. Their weights are read anew each time, because loading may replace them.
        if self._layers is None:
            self._layers = [m for m in self.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
        for layer in self._layers:
            yield layer.weight
