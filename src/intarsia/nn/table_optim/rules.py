"""The update rules. g is the summed gradient of a row, w the row; all state belongs to the row."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated

import torch
from torch import Tensor

from intarsia.core.params import Param
from intarsia.nn.embedding.rows import read_rows, write_rows
from intarsia.nn.table_optim.base import TableOptimizer
from intarsia.nn.table_optim.gradients import Collections
from intarsia.nn.table_optim.state import Slot

Groups = Collection[str] | None


def _subtract(weight: Tensor, rows: Tensor, change: Tensor, lr: float) -> None:
    """Subtracts lr * change, which is overwritten, from rows that are all different."""
    write_rows(weight, rows, change.mul_(-lr).add_(read_rows(weight, rows)))


class SparseSGD(TableOptimizer):
    """Stochastic gradient descent: w = w - lr g. Equal to the dense form.

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
    """

    def slot(self, name: str) -> Slot:
        """It has none."""
        raise KeyError(name)

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        _subtract(weight, rows, grads, self.lr)


class SparseMomentum(TableOptimizer):
    """Stochastic gradient descent with momentum: b = momentum b + g; w = w - lr b.

    Departs from the dense form in rows that a batch does not read: they do not coast, and b does not decay.

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
        momentum: Share of the last step's b that is kept.
    """

    slots = ("buffer",)

    def __init__(
        self,
        collections: Collections,
        *,
        lr: float,
        groups: Groups = None,
        momentum: Annotated[float, Param("Share of the last step that is kept.", ge=0, lt=1)] = 0.9,
    ) -> None:
        super().__init__(collections, lr=lr, groups=groups)
        self.momentum = momentum

    def slot(self, name: str) -> Slot:
        """Zeros for every entry."""
        return Slot()

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        buffer = read_rows(state["buffer"], at).mul_(self.momentum).add_(grads)
        write_rows(state["buffer"], at, buffer)
        _subtract(weight, rows, buffer, self.lr)


class SparseAdagrad(TableOptimizer):
    """Adagrad: s = s + g^2; w = w - lr g / (sqrt(s) + eps). Equal to the dense form.

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
        initial_accumulator_value: Start of s.
        eps: Keeps the quotient finite.

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    JMLR 2011, figure 1, diagonal form.
    """

    slots = ("sum",)

    def __init__(
        self,
        collections: Collections,
        *,
        lr: float,
        groups: Groups = None,
        initial_accumulator_value: Annotated[float, Param("Start of the sum of squares.", ge=0)] = 0.1,
        eps: Annotated[float, Param("Added to the root of the sum of squares.", ge=0)] = 1e-8,
    ) -> None:
        super().__init__(collections, lr=lr, groups=groups)
        self.initial_accumulator_value = initial_accumulator_value
        self.eps = eps

    def slot(self, name: str) -> Slot:
        """The sum of squares of every entry."""
        return Slot(self.initial_accumulator_value)

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        total = read_rows(state["sum"], at).add_(grads.square())
        write_rows(state["sum"], at, total)
        _subtract(weight, rows, grads.div_(total.sqrt_().add_(self.eps)), self.lr)


class RowWiseAdagrad(SparseAdagrad):
    """Adagrad with one sum for each row: s = s + mean of g^2; w = w - lr g / (sqrt(s) + eps).

    Takes 1/D of the memory of Adagrad's state. FBGEMM's and TorchRec's definition.

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
        initial_accumulator_value: Start of s.
        eps: Keeps the quotient finite.
    """

    def slot(self, name: str) -> Slot:
        """The sum of mean squares of every row."""
        return Slot(self.initial_accumulator_value, row_wise=True)

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        total = read_rows(state["sum"], at).add_(grads.square().mean(1))
        write_rows(state["sum"], at, total)
        _subtract(weight, rows, grads.div_(total.sqrt_().add_(self.eps).unsqueeze(1)), self.lr)


class LazyAdam(TableOptimizer):
    """Adam on the rows of the batch.

        m = beta1 m + (1 - beta1) g                      w = w - lr m^ / (sqrt(v^) + eps)
        v = beta2 v + (1 - beta2) g^2                    m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t)

    t counts all steps of the optimizer, not those in which a row occurred (FBGEMM's Adam does the same). Departs from
    the dense form in rows that a batch does not read: m and v do not decay, and w does not coast.

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
        beta1: Decay of m.
        beta2: Decay of v.
        eps: Keeps the quotient finite.

    Source: Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
    """

    slots = ("mean", "variance")

    def __init__(
        self,
        collections: Collections,
        *,
        lr: float,
        groups: Groups = None,
        beta1: Annotated[float, Param("Decay of the mean.", ge=0, lt=1)] = 0.9,
        beta2: Annotated[float, Param("Decay of the variance.", ge=0, lt=1)] = 0.999,
        eps: Annotated[float, Param("Added to the root of the variance.", gt=0)] = 1e-8,
    ) -> None:
        super().__init__(collections, lr=lr, groups=groups)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def slot(self, name: str) -> Slot:
        """Zeros for every entry."""
        return Slot()

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        mean = read_rows(state["mean"], at).mul_(self.beta1).add_(grads, alpha=1 - self.beta1)
        write_rows(state["mean"], at, mean)
        variance = read_rows(state["variance"], at).mul_(self.beta2)
        variance.add_(grads.square_(), alpha=1 - self.beta2)
        write_rows(state["variance"], at, variance)
        root = variance.sqrt_().div_(math.sqrt(1 - self.beta2**self.num_steps)).add_(self.eps)
        _subtract(weight, rows, mean.div_(root), self.lr / (1 - self.beta1**self.num_steps))


class SparseRMSProp(TableOptimizer):
    """RMSProp: s = decay s + (1 - decay) g^2; b = momentum b + g / (sqrt(s) + eps); w = w - lr b.

    Departs from the dense form in rows that a batch does not read: s and b do not decay. As in torch, eps stands
    outside of the root and s starts at 0 (TensorFlow: inside, and at 1).

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
        decay: Decay of s.
        momentum: Share of the last step's b that is kept.
        eps: Keeps the quotient finite.
    """

    slots = ("square", "buffer")

    def __init__(
        self,
        collections: Collections,
        *,
        lr: float,
        groups: Groups = None,
        decay: Annotated[float, Param("Decay of the mean square.", ge=0, le=1)] = 0.9,
        momentum: Annotated[float, Param("Share of the last step that is kept.", ge=0, lt=1)] = 0.9,
        eps: Annotated[float, Param("Added to the root of the mean square.", gt=0)] = 1.0,
    ) -> None:
        super().__init__(collections, lr=lr, groups=groups)
        self.decay = decay
        self.momentum = momentum
        self.eps = eps

    def slot(self, name: str) -> Slot:
        """Zeros for every entry."""
        return Slot()

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        square = read_rows(state["square"], at).mul_(self.decay)
        square.add_(grads.square(), alpha=1 - self.decay)
        write_rows(state["square"], at, square)
        change = grads.div_(square.sqrt_().add_(self.eps))
        if self.momentum > 0:
            change.add_(read_rows(state["buffer"], at), alpha=self.momentum)
            write_rows(state["buffer"], at, change)
        _subtract(weight, rows, change, self.lr)


class SparseFtrl(TableOptimizer):
    """FTRL-proximal, which sets weights that matter little to exactly 0. With p = -learning_rate_power:

        n' = n + g^2                                            w = 0                             where |z| <= l1
        z = z + g + 2 l2_shrinkage w - (n'^p - n^p) / lr w      w = (sign(z) l1 - z) / (n'^p / lr + 2 l2) elsewhere

    As in TensorFlow, z starts at 0 whatever the weights are, so the first update of a row forgets most of its initial
    value; wide tables that start at 0 are what it is made for. Nothing happens while lr is 0.

    Args:
        collections: Tables.
        lr: Learning rate.
        groups: Groups of tables to train. Default: all.
        learning_rate_power: Exponent of the rate; -0.5 is Adagrad's root.
        initial_accumulator_value: Start of n.
        l1_reg: L1 strength.
        l2_reg: L2 strength.
        l2_shrinkage_reg: L2 strength that acts on the gradient only, not on n.

    Source: McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, algorithm 1.
    """

    slots = ("sum", "linear")

    def __init__(
        self,
        collections: Collections,
        *,
        lr: float,
        groups: Groups = None,
        learning_rate_power: Annotated[float, Param("Exponent of the rate.", le=0)] = -0.5,
        initial_accumulator_value: Annotated[float, Param("Start of the sum of squares.", ge=0)] = 0.1,
        l1_reg: Annotated[float, Param("L1 strength.", ge=0)] = 0.0,
        l2_reg: Annotated[float, Param("L2 strength.", ge=0)] = 0.0,
        l2_shrinkage_reg: Annotated[float, Param("L2 shrinkage strength.", ge=0)] = 0.0,
    ) -> None:
        super().__init__(collections, lr=lr, groups=groups)
        self.power = -learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_reg = l1_reg
        self.l2_reg = l2_reg
        self.l2_shrinkage_reg = l2_shrinkage_reg

    def slot(self, name: str) -> Slot:
        """The sum of squares, and z, of every entry."""
        return Slot(self.initial_accumulator_value if name == "sum" else 0.0)

    def update(self, weight: Tensor, state: Mapping[str, Tensor], rows: Tensor, at: Tensor, grads: Tensor) -> None:
        """One update."""
        lr = self.lr
        if lr == 0.0:
            return
        old = read_rows(weight, rows)
        before = read_rows(state["sum"], at)
        after = before + grads.square()
        write_rows(state["sum"], at, after)
        rate = self._powered(after)
        linear = read_rows(state["linear"], at).add_(grads).add_(old, alpha=2 * self.l2_shrinkage_reg)
        linear.sub_((rate - self._powered(before)).mul_(old).div_(lr))
        write_rows(state["linear"], at, linear)
        # Soft threshold: -sign(z) max(|z| - l1, 0).
        threshold = linear.clamp(-self.l1_reg, self.l1_reg).sub_(linear)
        write_rows(weight, rows, threshold.div_(rate.div_(lr).add_(2 * self.l2_reg)))

    def _powered(self, total: Tensor) -> Tensor:
        if self.power == 0.5:
            return total.sqrt()
        if total.device.type != "cpu":
            return total.pow(self.power)
        # torch's pow rounds differently where it splits the work between threads.
        return torch.from_numpy(total.numpy() ** self.power)
