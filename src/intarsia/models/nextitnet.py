"""NextItNet: dilated convolutions over the history."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.retriever import rows_and_steps
from intarsia.models.sequential import SequentialRetriever
from intarsia.models.sides import Sides
from intarsia.nn.dropout import Dropout
from intarsia.nn.sequence import to_padded
from intarsia.objectives.retrieval import Objective


class DilatedBlock(nn.Module):
    """Two causal convolutions, the second twice as dilated, and the input beside them.

        out = x + relu(norm(conv_{2d}(relu(norm(conv_d(x))))))

    Args:
        width: D, channels.
        kernel_size: k, steps that a filter sees.
        dilation: d, distance of these steps.

    Source: Yuan et al. 2019, figure 3 (b).
    """

    def __init__(self, width: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        self.first = nn.Conv1d(width, width, kernel_size, dilation=dilation)
        self.second = nn.Conv1d(width, width, kernel_size, dilation=2 * dilation)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        for conv in (self.first, self.second):
            nn.init.trunc_normal_(conv.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.constant_(conv.bias, 0.1)  # type: ignore[arg-type]

    def forward(self, steps: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D); what a step sees ends with that step."""
        hidden = self.first_norm(self._convolve(self.first, steps, self.reach)).relu()
        hidden = self.second_norm(self._convolve(self.second, hidden, 2 * self.reach)).relu()
        out: Tensor = steps + hidden
        return out

    @staticmethod
    def _convolve(conv: nn.Conv1d, steps: Tensor, reach: int) -> Tensor:
        before = functional.pad(steps.transpose(1, 2), (reach, 0))
        out: Tensor = conv(before)
        return out.transpose(1, 2)


class NextItNet(SequentialRetriever):
    """Stacked convolutions whose filters skip ever more steps, so that few layers see a long history.

    For long sessions where recurrent nets are slow: all steps are computed at once, and memory grows linearly.

        h^0_t = item_t;   h^n = block_{d_n}(h^{n-1})                   see `DilatedBlock`
        score(t, i) = <h_t, item_i>

    A step sees 1 + 3 (k - 1) (d_1 + d_2 + ...) steps, itself among them.

    Shapes: histories of at most L = max_history steps (S, D), padded behind to (B, L, D); queries (B, D).

    Source: Yuan et al., A Simple Convolutional Generative Network for Next Item Recommendation (WSDM 2019), section 3
    with the blocks of figure 3 (b).

    Departures: items to predict share the vectors of those that go in, unless `separate_output`; padding stands behind
    the steps, where no filter looks.
    """

    pads = True

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and channels.", ge=1)] = 64,
        kernel_size: Annotated[int, Param("k, steps that a filter sees.", ge=2)] = 3,
        dilations: Annotated[list[PositiveInt], Param("d of each block; its second filter skips 2d.")] = [1, 4, 1, 4],  # noqa: B006 - read, never changed
        max_history: Annotated[int, Param("Latest steps that are read.", ge=1)] = 50,
        dropout: Annotated[float, Param("Dropout of the items that go in.", ge=0, lt=1)] = 0.2,
        separate_output: Annotated[bool, Param("Whether items to predict have vectors of their own.")] = False,
    ) -> None:
        super().__init__(
            schema=schema, objective=objective, sides=sides, hidden_size=hidden_size, separate_output=separate_output
        )
        self.max_history = max_history
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(DilatedBlock(hidden_size, kernel_size, d) for d in dilations)
        self.receptive_field = 1 + 3 * (kernel_size - 1) * sum(dilations)

    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """(S, D) outputs of all steps (S, D)."""
        if not len(steps):
            return steps
        hidden, _ = to_padded(self.dropout(steps), offsets)
        for block in self.blocks:
            hidden = block(hidden)
        row, place = rows_and_steps(offsets, len(steps))
        slots = row * hidden.shape[1] + place
        out: Tensor = torch.index_select(hidden.flatten(0, 1), 0, slots)
        return out


MODEL = NextItNet
