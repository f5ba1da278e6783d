"""Convolutions over a sequence, pooled by their maxima."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.nn.activations import activation as activation_named
from intarsia.nn.component import Component, options
from intarsia.nn.initializers import initialize_
from intarsia.nn.mlp import MLP, MLPOptions
from intarsia.nn.sequence import length_mask
from intarsia.nn.shapes import ShapeTree, sequence, width


class TextCNN(Component):
    """Filters of several widths slide over the steps; the strongest answer of each filter is the output.

    Sequences are cut or zero padded to `pad_sequence_length` steps; windows over padding count as well.

    Args:
        dim: Width of a step.

    Raises:
        BuildError: There is not one number of filters for each width, or a filter is longer than the sequence.

    Source: Kim, Convolutional Neural Networks for Sentence Classification (2014), section 2.
    """

    def __init__(
        self,
        *,
        dim: int,
        filter_sizes: Annotated[list[PositiveInt], Param("Widths of the filters, in steps.")],
        num_filters: Annotated[list[PositiveInt], Param("Number of filters of each width.")],
        pad_sequence_length: Annotated[int, Param("Steps that every sequence is cut or padded to.", ge=1)],
        activation: Annotated[str, Param("Activation of the filters.")] = "relu",
        mlp: Annotated[MLPOptions | None, Param("MLP on the output.")] = None,
    ) -> None:
        super().__init__()
        if not filter_sizes or len(filter_sizes) != len(num_filters):
            raise BuildError(
                "`TextCNN` needs one number of filters for each filter size. "
                f"Received: filter_sizes = {list(filter_sizes)}, num_filters = {list(num_filters)}."
            )
        if max(filter_sizes) > pad_sequence_length:
            raise BuildError(
                "`TextCNN` needs filters that fit into the sequence. Received: filter_sizes = "
                f"{list(filter_sizes)}, pad_sequence_length = {pad_sequence_length}. Lengthen the latter."
            )
        self.pad_sequence_length = pad_sequence_length
        self.filters = nn.ModuleList(nn.Conv1d(dim, count, size) for size, count in zip(filter_sizes, num_filters))
        self.activations = nn.ModuleList(activation_named(activation, num_features=count) for count in num_filters)
        for conv in self.filters:
            assert isinstance(conv, nn.Conv1d)
            initialize_(conv.weight, "glorot_uniform")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.out_features = sum(num_filters)
        self.mlp: MLP | None = None
        if mlp is not None:
            self.mlp = MLP(in_features=self.out_features, **options(MLP, mlp, "mlp"))
            self.out_features = self.mlp.out_features

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim` from ((B, L, D), (B,))."""
        steps, _, _ = sequence(cls.__name__, inputs, "reads a pair: a sequence (B, L, D) and its lengths (B,)")
        return {"dim": width(cls.__name__, steps, inputs)}

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """((B, L, D), (B,) int64) to (B, sum of num_filters), or to (B, width of the MLP)."""
        steps, lengths = inputs[0][:, : self.pad_sequence_length], inputs[1]
        steps = steps.masked_fill(~length_mask(lengths, steps.shape[1]).unsqueeze(-1), 0.0)
        steps = nn.functional.pad(steps, (0, 0, 0, self.pad_sequence_length - steps.shape[1]))
        channels = steps.transpose(1, 2)  # (B, D, L)
        pooled = [act(conv(channels).transpose(1, 2)).amax(dim=1) for conv, act in zip(self.filters, self.activations)]
        out = torch.cat(pooled, dim=-1)
        return out if self.mlp is None else self.mlp(out)
