"""FBGEMM's tables: the optimizer runs inside the backward pass, and no gradient is ever stored."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.core.errors import MissingExtraError, TrainingError
from intarsia.nn.embedding.fused import Bags, Engine, torch_engine

# Kinds of `make_table_optimizer` that FBGEMM's processor kernels know, and FBGEMM's names for them.
_KINDS = {"sgd": "EXACT_SGD", "adagrad": "EXACT_ADAGRAD", "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD"}


def fbgemm_installed() -> bool:
    """Whether FBGEMM can be imported."""
    return importlib.util.find_spec("fbgemm_gpu") is not None


def fbgemm_problem(*, dim: int, kind: str | None = None, device: torch.device | None = None) -> str | None:
    """Why FBGEMM cannot hold tables of this width with this optimizer on this device; None when it can.

    Args:
        dim: D.
        kind: Kind of `make_table_optimizer`, or None when it is not known yet.
        device: Where the tables are, or None when that is not known yet.

    Raises:
        MissingExtraError: It is not installed.
    """
    if not fbgemm_installed():
        raise MissingExtraError("fbgemm-gpu-cpu", "fbgemm", "The table backend `fbgemm`")
    if dim % 4 != 0:
        return f"FBGEMM's rows are multiples of 4 numbers wide. Received dim={dim}. Use backend `auto` or `torch`"
    if kind is not None and kind not in _KINDS:
        known = ", ".join(_KINDS)
        return f"FBGEMM updates tables with one of {known}. Received `{kind}`. Use backend `auto` or `torch`"
    if device is not None and device.type != "cpu":
        return f"FBGEMM is supported on the CPU. The tables are on `{device.type}`. Use backend `auto` or `torch`"
    return None


class FbgemmEngine:
    """Reads and trains one fused weight, which stays where it is: FBGEMM works on the same memory.

    All lookups become bags of one call, so that ids that occur in several features are summed before the update.
    The update happens in the backward pass. There can therefore be one backward pass for each `step`.

    Args:
        weight: (rows + 1, D) float32 on the CPU.
        kind: sgd, adagrad or rowwise_adagrad.
        lr: Gives the learning rate of the coming update.
        eps: Added to the root of the sum of squares.
    """

    def __init__(self, weight: nn.Parameter, kind: str, lr: Callable[[], float], eps: float) -> None:
        self._lr = lr
        self._shown_lr = lr()
        self._pending = False
        self._module = _fbgemm_module(weight, kind, self._shown_lr, eps)
        self._address = weight.data_ptr()

    def __call__(
        self, weight: Tensor, gathers: Sequence[Tensor], bags: Bags | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Looks up rows and bags; see `Engine`."""
        if weight.data_ptr() != self._address:
            raise TrainingError(
                "the tables were moved after their optimizer was made, and FBGEMM still works on the old place. "
                "Move the model first, then call make_table_optimizer"
            )
        if self._lr() != self._shown_lr:
            self._shown_lr = self._lr()
            self._module.set_learning_rate(self._shown_lr)
        ids, offsets, weights = _as_bags(gathers, bags, missing=weight.shape[0] - 1)
        out: Tensor = self._module(ids, offsets, weights)
        if out.requires_grad:
            out.register_hook(self._before_update)
        sizes = [gather.numel() for gather in gathers]
        parts = out.split_with_sizes([*sizes, out.shape[0] - sum(sizes)])
        rows = [part.view(*gather.shape, -1) for part, gather in zip(parts[:-1], gathers, strict=True)]
        return rows, parts[-1] if bags is not None else None

    def stepped(self) -> None:
        """The optimizer's `step` was called: the next backward pass may come."""
        self._pending = False

    def accumulators(self) -> Tensor | None:
        """FBGEMM's own sums of squares, (rows + 1,) or (rows + 1, D); None for SGD."""
        if self._module.optimizer.name == "EXACT_SGD":
            return None
        state: Tensor = self._module.split_optimizer_states()[0][0]
        return state.detach()

    def _before_update(self, grad: Tensor) -> None:
        if self._pending:
            raise TrainingError(
                "FBGEMM updates tables in the backward pass, so there is one lookup and one backward pass for each "
                "step of the optimizer. Received a second one. For gradient accumulation, clipping, or a model that "
                "looks up twice, use backend `torch`"
            )
        self._pending = True

    def __deepcopy__(self, memo: dict[int, object]) -> Engine:
        # A copy of the model has its own memory and no optimizer yet.
        return torch_engine


def _as_bags(gathers: Sequence[Tensor], bags: Bags | None, missing: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Every gathered id becomes a bag of one, or an empty bag where it is missing."""
    flat = [gather.reshape(-1) for gather in gathers]
    single = flat[0] if len(flat) == 1 else torch.cat(flat) if flat else torch.empty(0, dtype=torch.int64)
    present = single != missing
    if bool(present.all()):
        offsets = torch.arange(len(single) + 1)
        ids = single
    else:
        offsets = torch.cat([present.new_zeros(1, dtype=torch.int64), present.cumsum(0)])
        ids = single[present]
    if bags is None:
        return ids, offsets, None
    weights = None if bags.weights is None else torch.cat([torch.ones(len(ids)), bags.weights])
    return torch.cat([ids, bags.ids]), torch.cat([offsets, bags.offsets[1:] + len(ids)]), weights


def _fbgemm_module(weight: nn.Parameter, kind: str, lr: float, eps: float) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        module = SplitTableBatchedEmbeddingBagsCodegen(
            [(weight.shape[0], weight.shape[1], EmbeddingLocation.HOST, ComputeDevice.CPU)],
            optimizer=EmbOptimType[_KINDS[kind]],
            learning_rate=lr,
            eps=eps,
        )
    # Its own weight was never written to, so it has cost address space only.
    module.weights_host = nn.Parameter(weight.detach().view(-1))
    return module
