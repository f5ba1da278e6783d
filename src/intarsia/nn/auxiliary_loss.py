"""A loss between two views, as a block of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.nn.component import Component
from intarsia.nn.shapes import ShapeTree, refuse, tensor_list


def l2_loss(x1: Tensor, x2: Tensor) -> Tensor:
    """Mean over rows of the squared distance of two (B, D)."""
    return (x1 - x2).square().sum(dim=1).mean()


def info_nce(x1: Tensor, x2: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding row b of the second (B, D) among all its rows, given row b of the first.

    Logits are x1 x2^T / temperature; vectors are taken as they are.

    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding (2018), equation 4.
    """
    logits = x1 @ x2.T / temperature
    return F.cross_entropy(logits, torch.arange(len(x1), device=x1.device))


def nce_loss(x1: Tensor, x2: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding a row's other view among the 2B - 1 other views of the batch.

    Logits are z z^T / temperature with z the 2B views; vectors are taken as they are.

    Source: Chen et al., A Simple Framework for Contrastive Learning (2020), equation 1, without the normalisation, as
    in Xie et al., Contrastive Learning for Sequential Recommendation (2022), equation 4.
    """
    batch = len(x1)
    views = torch.cat([x1, x2])
    itself = torch.eye(2 * batch, dtype=torch.bool, device=views.device)
    logits = (views @ views.T / temperature).masked_fill(itself, -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * batch, device=views.device).roll(batch))


class AuxiliaryLoss(Component):
    """A weighted loss between two views of the same rows, added to the model's loss.

    `l2_loss` draws the views together; `info_nce` and `nce_loss` also push the views of different rows apart.

    Raises:
        BuildError: The loss is unknown, or the inputs are not two tensors of one shape (B, D).
    """

    def __init__(
        self,
        *,
        loss_type: Annotated[Literal["l2_loss", "info_nce", "nce_loss"], Param("The loss.")],
        loss_weight: Annotated[float, Param("Factor of the loss.", ge=0)] = 1.0,
        temperature: Annotated[float, Param("Divisor of the logits of info_nce and nce_loss.", gt=0)] = 0.1,
    ) -> None:
        super().__init__()
        if loss_type not in ("l2_loss", "info_nce", "nce_loss"):
            raise BuildError(f"`loss_type` is l2_loss, info_nce or nce_loss. Received: {loss_type!r}.")
        self.loss_type = loss_type
        self.loss_weight = loss_weight
        self.temperature = temperature

    @property
    def loss_name(self) -> str:
        """What the loss is called after its block's name: l2_loss, info_nce_loss or nce_loss."""
        return self.loss_type if self.loss_type.endswith("_loss") else f"{self.loss_type}_loss"

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """Nothing follows from the inputs, two (B, D)."""
        shapes = tensor_list(cls.__name__, inputs, at_least=2)
        if len(shapes) != 2 or len(shapes[0]) != 2 or shapes[0] != shapes[1]:
            refuse(cls.__name__, "reads a list of two tensors of one shape (B, D)", inputs)
        return {}

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """[(B, D), (B, D)] to a scalar, the weight included."""
        x1, x2 = inputs
        if self.loss_type == "l2_loss":
            loss = l2_loss(x1, x2)
        elif self.loss_type == "info_nce":
            loss = info_nce(x1, x2, self.temperature)
        else:
            loss = nce_loss(x1, x2, self.temperature)
        return self.loss_weight * loss
