"""Several processes as one: each computes its share of every global batch, and all make the same update.

A process's mean loss counts by its share of the rows, so gradients are those of the whole batch, also when the parts
are not equally large. Dense gradients are summed in buckets. Of tables only the rows that somebody touched travel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from intarsia.core.errors import TrainingError
from intarsia.training.encoding import Tree, flatten, unflatten

BUCKET_BYTES = 25_000_000
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank: Number of this process; 0 writes files and talks.
        size: Number of processes.
        device: Where tensors travel from: the GPU with NCCL, the CPU with Gloo.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.size == 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def row_share(self, rows: int) -> float:
        """This process's part of the rows of the global batch: the weight of its mean loss."""
        if self.alone:
            return 1.0
        total = self.sum([float(rows)])[0]
        return rows / total if total else 0.0

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all processes."""
        if self.alone:
            return list(numbers)
        tensor = torch.tensor(list(numbers), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(x) for x in tensor.tolist()]

    def any(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return wish if self.alone else self.sum([float(wish)])[0] > 0

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Gives all processes the tensors of process 0."""
        if not self.alone:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def sum_dense(self, parameters: Sequence[Tensor]) -> None:
        """Sums dense gradients. A parameter without a gradient here counts as zero, and gets one if others have it."""
        if self.alone:
            return
        for bucket in _buckets(parameters):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = torch.cat([g.reshape(-1) for g in grads] + [_have_gradient(bucket)])
            dist.all_reduce(flat)
            have = flat[-len(bucket) :].tolist()
            for p, piece, known in zip(bucket, torch.split(flat, [p.numel() for p in bucket] + [len(bucket)]), have):
                p.grad = piece.view_as(p).clone() if known else None

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Gives all processes the mean of small floating-point tensors, such as running statistics."""
        if self.alone or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        with torch.no_grad():
            for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors])):
                tensor.copy_(mean.view_as(tensor))

    def gather_rows(self, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All processes' (R,) row numbers and (R, D) values, in the order of the ranks."""
        if self.alone:
            return rows, values
        counts = self._counts(len(rows))
        if not any(counts):
            return rows, values
        return self._all_gather(rows, counts), self._all_gather(values, counts)

    def _counts(self, mine: int) -> list[int]:
        sizes = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = mine
        dist.all_reduce(sizes)
        return [int(n) for n in sizes.tolist()]

    def _all_gather(self, mine: Tensor, counts: Sequence[int]) -> Tensor:
        longest = max(counts)
        padded = mine.new_zeros((longest, *mine.shape[1:]))
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    def gather_trees(self, tree: Tree) -> list[Tree]:
        """Every process's tree of numbers and small tensors, by rank. Text travels, nothing pickled."""
        if self.alone:
            return [tree]
        plain, tensors = flatten(tree)
        text = json.dumps([plain, {name: [str(t.dtype), t.tolist()] for name, t in tensors.items()}]).encode()
        mine = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.device)
        counts = self._counts(len(mine))
        pieces = torch.split(self._all_gather(mine, counts).cpu(), counts)
        return [_read_tree(bytes(piece.tolist())) for piece in pieces]


def _read_tree(text: bytes) -> Tree:
    plain, tensors = json.loads(text)
    types: Mapping[str, Any] = {"torch.uint8": torch.uint8, "torch.int64": torch.int64}
    return unflatten(plain, {name: torch.tensor(data, dtype=types[kind]) for name, (kind, data) in tensors.items()})


def _have_gradient(parameters: Sequence[Tensor]) -> Tensor:
    first = parameters[0]
    return torch.tensor([float(p.grad is not None) for p in parameters], dtype=first.dtype, device=first.device)


def _buckets(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parameters of one type together, up to BUCKET_BYTES."""
    buckets: list[list[Tensor]] = []
    filling: dict[torch.dtype, tuple[list[Tensor], int]] = {}
    for p in parameters:
        bucket, size = filling.get(p.dtype, ([], 0))
        if bucket and size + p.nbytes > BUCKET_BYTES:
            bucket, size = [], 0
        if not bucket:
            buckets.append(bucket)
        bucket.append(p)
        filling[p.dtype] = (bucket, size + p.nbytes)
    return buckets


def join_world(device: torch.device | str = "auto") -> World:
    """The world that torchrun describes in the environment; a world of one process without it.

    Joins the process group (NCCL on GPUs, Gloo on CPUs) where that has not been done.

    Args:
        device: `train_config.device`; `auto` is a GPU for each process where there are GPUs.

    Raises:
        TrainingError: The environment is incomplete.
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return World()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise TrainingError(
            f"Several processes need what torchrun sets. Received WORLD_SIZE={os.environ['WORLD_SIZE']} without "
            f"{', '.join(missing)}. Start with: torchrun --nproc-per-node 2 -m intarsia train ..."
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size(), device)


def leave_world(world: World) -> None:
    """Leaves the process group."""
    if not world.alone and dist.is_initialized():
        dist.destroy_process_group()
