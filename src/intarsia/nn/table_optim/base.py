"""What all table optimizers share: finding the touched rows, their state, and checkpoints of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from intarsia.core.errors import BuildError, CheckpointError, TrainingError
from intarsia.nn.embedding.collection import EmbeddingCollection
from intarsia.nn.embedding.fbgemm import FbgemmEngine
from intarsia.nn.embedding.fused import FusedTable
from intarsia.nn.embedding.rows import read_rows
from intarsia.nn.table_optim.gradients import Collections, gradient, listed
from intarsia.nn.table_optim.state import RowState, Slot

_PAID = "l2_paid"  # The last step for which a row has paid its share of `regularize`.
_CACHED = 1 << 17  # Numbers of one kind (weights, or one slot of state) that fit the cache beside the others.


@dataclass(frozen=True)
class Target:
    """A fused weight that an optimizer trains."""

    collection: EmbeddingCollection
    table: FusedTable

    @property
    def weight(self) -> nn.Parameter:
        """The weight; looked up anew, because a module may replace it."""
        return self.collection.fused_weight(self.table.name)

    @property
    def engine(self) -> FbgemmEngine | None:
        """FBGEMM, where it trains this weight."""
        engine = self.collection.engine(self.table.name)
        return engine if isinstance(engine, FbgemmEngine) else None


class TableOptimizer(ABC):
    """Updates the rows of embedding tables that a batch has read, and no others.

    A step sums the gradients of repeated ids and changes each touched row once; its cost does not depend on the size
    of the tables. Rows that no batch reads keep their values and their state to the last bit, whatever momentum or
    decay the optimizer has. Weight decay is not applied to tables; `regularize` is the L2 penalty that is.

    Args:
        collections: One collection, or several whose tables have different names.
        lr: Learning rate.
        groups: Groups of tables to train (`TableSpec.group`). Default: all.

    Raises:
        BuildError: Two tables have one name, or a group has no tables.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, collections: Collections, *, lr: float, groups: Collection[str] | None = None) -> None:
        self.targets = _targets(listed(collections), groups)
        self.param_groups: list[dict[str, Any]] = [{"params": [target.weight for target in self.targets], "lr": lr}]
        self.num_steps = 0
        self._state: dict[int, RowState] = {}
        self._l2 = 0.0
        for target in self.targets:
            target.collection.set_engine(target.table.name, None)

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.param_groups[0]["lr"])

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate of the next update."""
        self.param_groups[0]["lr"] = lr

    def regularize(self, l2: float) -> None:
        """Adds l2 / 2 * sum of w^2 over whole tables to what is minimized. To be called before the first step.

        A row pays when it is read, for all steps since it was read last: with n such steps its gradient becomes

            g + c w,   c = (1 - (1 - lr l2)^n) / lr,   which is about n l2

        so that a row is pulled to 0 as often as the dense penalty would, however rarely it occurs, and rows that
        nobody reads cost nothing. c w is what n steps of gradient descent at the present rate take away. Each row's
        last step is part of the state (one number a row; exact for 2^24 steps). Gradients that are measured or scaled
        before the step do not contain the penalty.

        Args:
            l2: Strength.

        Raises:
            BuildError: l2 is negative, or FBGEMM updates a table.
        """
        if l2 < 0:
            raise BuildError(f"the strength of L2 regularization is at least 0. Received l2={l2:g}")
        if l2 > 0 and any(target.engine is not None for target in self.targets):
            raise BuildError(
                "FBGEMM applies gradients in the backward pass, so L2 regularization of whole tables cannot be added. "
                f"Received l2={l2:g}. Use backend `torch` or `auto`"
            )
        self._l2 = l2

    def step(self) -> None:
        """One update of the rows that have a gradient.

        Raises:
            TrainingError: A table has a dense gradient, or lr * l2 is not below 1.
        """
        self.num_steps += 1
        with torch.no_grad():
            for place, target in enumerate(self.targets):
                if target.engine is not None:
                    target.engine.stepped()
                    continue
                found = gradient(target.weight, target.table)
                if found is not None:
                    self._update_in_parts(target.weight.detach(), self._rows(place), *found)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for target in self.targets:
            target.weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Step, learning rate and, by table name, the state of its rows; see `RowState.saved`."""
        tables = {
            spec.name: self._rows(place).saved(*target.table.span(spec))
            for place, target in enumerate(self.targets)
            for spec in target.table.tables
        }
        return {"kind": type(self).__name__, "step": self.num_steps, "lr": self.lr, "tables": tables}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of an optimizer of the same kind; how tables were fused does not matter.

        Raises:
            CheckpointError: Kind, tables or shapes differ. Nothing is changed then.
        """
        problems = self._mismatches(state)
        if problems:
            raise CheckpointError("this is the state of other tables or of another optimizer: " + "; ".join(problems))
        self.num_steps = int(state["step"])
        self.set_lr(float(state["lr"]))
        for place, target in enumerate(self.targets):
            self._rows(place).forget()
            for spec in target.table.tables:
                self._rows(place).load(*target.table.span(spec), state["tables"][spec.name])

    @abstractmethod
    def slot(self, name: str) -> Slot:
        """Shape and start of one of `slots`."""

    @abstractmethod
    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """Updates the given rows of one weight and of its state.

        Args:
            weight: (num_rows + 1, D); the last row belongs to nobody.
            state: (num_rows + 1, D) or (num_rows + 1,) by slot.
            rows: (R,) int64, rising.
            at: (R,) int64 entries of the state that belong to them.
            grads: (R, D); may be overwritten.
        """

    def adopt(self, target: Target, state: dict[str, Tensor]) -> None:
        """Lets state that lives elsewhere, (num_rows + 1, ...) by slot, be this optimizer's state of a weight."""
        adopted = RowState(target.weight.detach(), {name: self.slot(name) for name in state}, state)
        adopted.forget()
        self._state[self.targets.index(target)] = adopted

    def _regularize(self, weight: Tensor, paid: Tensor, rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """Adds to the gradients what the rows owe, and notes that they have paid."""
        share = self.lr * self._l2
        if share >= 1:
            raise TrainingError(
                "learning rate * embedding_l2 is the share of a row that one step of gradient descent takes away, and "
                f"must be below 1. Received {self.lr:g} * {self._l2:g}. Lower one of them"
            )
        steps = self.num_steps - read_rows(paid, at)
        paid.index_fill_(0, at, float(self.num_steps))
        strength = -torch.expm1(steps * math.log1p(-share)) / self.lr if share > 0 else steps * self._l2
        grads.addcmul_(read_rows(weight, rows), strength.unsqueeze(1))

    def _update_in_parts(self, weight: Tensor, state: RowState, rows: Tensor, grads: Tensor) -> None:
        """Updates so many rows at a time that what is read is still in the cache when it is written back."""
        part = rows.shape[0] if weight.device.type != "cpu" else max(1, _CACHED // weight.shape[1])
        places = state.places(rows)
        for start in range(0, rows.shape[0], part):
            some, at, their = (values[start : start + part] for values in (rows, places, grads))
            if self._l2 > 0:
                self._regularize(weight, state.arrays[_PAID], some, at, their)
            self.update(weight, state.arrays, some, at, their)

    def _rows(self, place: int) -> RowState:
        if place not in self._state:
            kinds = {name: self.slot(name) for name in self.slots}
            if self._l2 > 0:
                kinds[_PAID] = Slot(row_wise=True)
            self._state[place] = RowState(self.targets[place].weight.detach(), kinds)
        return self._state[place]

    def _mismatches(self, state: Mapping[str, Any]) -> list[str]:
        kind = type(self).__name__
        if state.get("kind") != kind:
            return [f"expected the state of {kind}, found that of {state.get('kind')}"]
        found = dict(state["tables"])
        out = []
        for place, target in enumerate(self.targets):
            for spec in target.table.tables:
                slots = found.pop(spec.name, None)
                if slots is None:
                    out.append(f"no state of the table `{spec.name}`")
                    continue
                problems = self._rows(place).mismatches(*target.table.span(spec), slots)
                out += [f"table `{spec.name}`, {problem}" for problem in problems]
        return out + [f"state of an unknown table `{name}`" for name in found]


def _targets(collections: list[EmbeddingCollection], groups: Collection[str] | None) -> list[Target]:
    seen: set[str] = set()
    for collection in collections:
        for name in collection.table_names:
            if name in seen:
                raise BuildError(
                    f"tables of one optimizer have different names. Received `{name}` twice: rename one, or make one "
                    "optimizer for each collection"
                )
            seen.add(name)
    targets = [Target(collection, table) for collection in collections for table in collection.fused.values()]
    if groups is None:
        return targets
    known = sorted({target.table.group for target in targets})
    for group in groups:
        if group not in known:
            raise BuildError(f"no table is in the group `{group}`. Groups: {', '.join(known) or 'none'}")
    return [target for target in targets if target.table.group in groups]
