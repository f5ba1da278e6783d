"""FTRL-proximal for dense parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Ftrl(torch.optim.Optimizer):
    """FTRL-proximal: sparse weights through L1, with a rate for each coordinate.

    Per coordinate, with gradient g, weight w, sum of squares n, and z (both start at 0 but for n):

        g' = g + 2 * l2_shrinkage * w
        n' = n + g ** 2
        z  = z + g' - (n' ** -p - n ** -p) / lr * w
        w  = 0                                                        where |z| <= l1
             (sign(z) * l1 - z) / (n' ** -p / lr + 2 * l2)            elsewhere

    McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", algorithm 1, in TensorFlow's form, which
    has no beta, counts l2 twice, and adds the shrinkage.

    Args:
        parameters: Dense parameters.
        lr: Rate.
        lr_power: p, at most 0; -0.5 is the paper's.
        initial_accumulator: Start of n.
        l1: L1 strength.
        l2: L2 strength.
        l2_shrinkage: L2 strength that acts on the gradient only.

    Raises:
        ValueError: lr_power is positive.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.002,
        lr_power: float = -0.5,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        l2_shrinkage: float = 0.0,
    ) -> None:
        if lr_power > 0:
            raise ValueError(f"`learning_rate_power` of FTRL must be at most 0. Received {lr_power}. Try -0.5.")
        options = {
            "lr": lr,
            "lr_power": lr_power,
            "initial_accumulator": initial_accumulator,
            "l1": l1,
            "l2": l2,
            "l2_shrinkage": l2_shrinkage,
        }
        super().__init__(parameters, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            if group["lr"] > 0:
                self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if p not in self.state:
                self.state[p] = {
                    "square_sum": torch.full_like(p, group["initial_accumulator"]),
                    "linear": torch.zeros_like(p),
                }
        grads = [p.grad for p in params]
        squares = [self.state[p]["square_sum"] for p in params]
        linear = [self.state[p]["linear"] for p in params]
        lr, power = group["lr"], -group["lr_power"]

        before = torch._foreach_pow(squares, power)
        torch._foreach_addcmul_(squares, grads, grads)
        after = torch._foreach_pow(squares, power)
        torch._foreach_add_(linear, grads)
        if group["l2_shrinkage"]:
            torch._foreach_add_(linear, params, alpha=2 * group["l2_shrinkage"])
        shift = torch._foreach_div(torch._foreach_sub(after, before), lr)
        torch._foreach_addcmul_(linear, shift, params, value=-1)

        quadratic = torch._foreach_add(torch._foreach_div(after, lr), 2 * group["l2"])
        for p, z, q in zip(params, linear, quadratic):
            torch.div(torch.nn.functional.softshrink(z, group["l1"]), q, out=p).neg_()
