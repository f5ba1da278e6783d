"""Random views of sequences for contrastive learning."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Generator, Tensor, nn

from intarsia.core.params import Param
from intarsia.nn.component import Component
from intarsia.nn.sequence import length_mask
from intarsia.nn.shapes import ShapeTree, sequence, width

CROP, MASK, REORDER = range(3)


class SeqAugment(Component):
    """Changes each sequence of a training batch in one random way.

    Each row draws one of the enabled operations, all equally likely:
    - crop (enabled if crop_rate < 1): keeps a random window of max(1, floor(length * crop_rate)) steps;
    - mask (enabled if mask_rate > 0): puts a learned vector on floor(length * mask_rate) random steps;
    - reorder (enabled if reorder_rate > 0): shuffles a random window of floor(length * reorder_rate) steps.
    The rest of a row is padded with zeros. In evaluation sequences pass unchanged.

    Args:
        dim: Width of a step.

    Source: Xie et al., Contrastive Learning for Sequential Recommendation (2022), section 3.2. Departures from
    EasyRec: off in evaluation; a crop leaves at least one step.
    """

    def __init__(
        self,
        *,
        dim: int,
        mask_rate: Annotated[float, Param("Share of the steps that the mask replaces; 0: never.", ge=0, le=1)] = 0.6,
        crop_rate: Annotated[float, Param("Share of the steps that a crop keeps; 1: never.", ge=0, le=1)] = 0.2,
        reorder_rate: Annotated[float, Param("Share of the steps that are shuffled; 0: never.", ge=0, le=1)] = 0.6,
    ) -> None:
        super().__init__()
        self.mask_rate = mask_rate
        self.crop_rate = crop_rate
        self.reorder_rate = reorder_rate
        enabled = [(CROP, crop_rate < 1), (MASK, mask_rate > 0), (REORDER, reorder_rate > 0)]
        self.operations = tuple(operation for operation, on in enabled if on)
        self.mask: nn.Parameter | None = None
        if mask_rate > 0:
            self.mask = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, dim)).squeeze(0))

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim` from ((B, L, D), (B,), ...)."""
        head = tuple(inputs[:2]) if isinstance(inputs, (list, tuple)) else inputs
        rule = "reads a sequence (B, L, D) and its lengths (B,); what follows them is left out"
        steps, _, _ = sequence(cls.__name__, head, rule)
        return {"dim": width(cls.__name__, steps, inputs)}

    def forward(self, inputs: tuple[Tensor, ...], generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draws one view of each row.

        Args:
            inputs: Sequence (B, L, D), lengths (B,) int64, and anything else, which is left out.
            generator: Source of random numbers. Default: torch's global one.

        Returns:
            Sequence (B, L, D) and lengths (B,).
        """
        steps, lengths = inputs[0], inputs[1]
        batch, limit, dim = steps.shape
        if not self.training or not self.operations or not limit:
            return steps, lengths
        draws = torch.rand(batch, limit + 2, device=steps.device, generator=generator)
        operation = self._draw_operation(draws[:, 0])
        size = self._sizes(operation, lengths)
        start = (draws[:, 1] * (lengths - size + 1)).long().clamp(max=lengths - size)
        cropped = operation == CROP
        kept = torch.where(cropped, size, lengths)

        position = torch.arange(limit, device=steps.device)
        order = self._order(position, operation, start, size, lengths, draws[:, 2:])
        source = torch.where(cropped.unsqueeze(1), (start.unsqueeze(1) + position).clamp(max=limit - 1), order)
        source = torch.where((operation == MASK).unsqueeze(1), position, source)
        flat = source + torch.arange(batch, device=steps.device).unsqueeze(1) * limit
        out = steps.reshape(batch * limit, dim)[flat.view(-1)].view(batch, limit, dim)
        if self.mask is not None:
            first = (position < size.unsqueeze(1)) & (operation == MASK).unsqueeze(1)
            masked = torch.zeros_like(first).scatter(1, order, first)
            out = torch.where(masked.unsqueeze(-1), self.mask.to(out.dtype), out)
        out = out.masked_fill(~length_mask(kept, limit).unsqueeze(-1), 0.0)
        return out, kept

    def _draw_operation(self, draw: Tensor) -> Tensor:
        index = (draw * len(self.operations)).long().clamp(max=len(self.operations) - 1)
        return torch.tensor(self.operations, device=draw.device)[index]

    def _sizes(self, operation: Tensor, lengths: Tensor) -> Tensor:
        """Number of steps (B,) that a row's operation works on."""
        rates = torch.tensor(
            [self.crop_rate, self.mask_rate, self.reorder_rate], dtype=torch.float64, device=lengths.device
        )
        # The small term undoes the rounding of products such as 100 * 0.29, just below 29.
        size = (lengths * rates[operation] + 1e-9).floor().to(lengths.dtype)
        at_least_one = torch.where(operation == CROP, lengths.clamp(max=1), 0)
        return torch.maximum(size, at_least_one)

    @staticmethod
    def _order(
        position: Tensor, operation: Tensor, start: Tensor, size: Tensor, lengths: Tensor, noise: Tensor
    ) -> Tensor:
        """Steps (B, L) in the order of a random key.

        Rows that reorder draw keys inside their window from [start, start + size), so only the window is shuffled. Rows
        that mask draw the keys of all real steps, so their first `size` steps are a random choice.
        """
        begin, end = start.unsqueeze(1), (start + size).unsqueeze(1)
        inside = (position >= begin) & (position < end)
        key = torch.where(inside, begin + noise * size.unsqueeze(1), position.to(noise.dtype))
        chosen = torch.where(position < lengths.unsqueeze(1), noise - 1, position.to(noise.dtype))
        key = torch.where((operation == MASK).unsqueeze(1), chosen, key)
        return key.argsort(dim=1, stable=True)
