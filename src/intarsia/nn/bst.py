"""A transformer over a behaviour sequence and a target item (BST)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from intarsia.core.errors import BuildError, DataError
from intarsia.core.params import Param
from intarsia.nn.component import Component
from intarsia.nn.dropout import Dropout
from intarsia.nn.initializers import truncated_normal_
from intarsia.nn.mlp import DenseLayer
from intarsia.nn.sequence import length_mask
from intarsia.nn.shapes import ShapeTree, describe, refuse, sequence, shape_of, width
from intarsia.nn.transformer import NORM_EPSILON, Packing, TransformerLayer

_RULE = "reads a sequence (B, L, D), its lengths (B,) and, if there is one, a target (B, D)"


class BST(Component):
    """Behaviour sequence transformer: a BERT encoder over the steps of a sequence and a target item.

    Tokens narrower or wider than `hidden_size` are projected (dense, relu), the sequence and the target each by its
    own kernel. The target becomes the first token (`head`), the one after the last real step (`tail`), or is left out
    (`ignore`). Learned positions are added, then norm, dropout and the encoder layers.

    The output is all tokens one after another, zero where there is none and always as wide as all positions; or, with
    `output_all_token_embeddings: false`, one token: the first (`head`, `ignore`) or the last real one (`tail`), so the
    target where there is one. A row without any token gives zeros.

    Args:
        dim: Width of a step.
        target_dim: Width of the target; None: no target.

    Raises:
        BuildError: `hidden_size` is no multiple of `num_attention_heads`, or an option has an unknown value.
        DataError: A sequence has more steps than there are positions.

    Source: Chen et al., Behavior Sequence Transformer for E-commerce Recommendation in Alibaba (2019). Departures from
    EasyRec: `use_position_embeddings: false` is honoured; a target at the tail follows the last real step, not the
    padding; padding neither attends nor appears in the output.
    """

    def __init__(
        self,
        *,
        dim: int,
        target_dim: int | None = None,
        hidden_size: Annotated[int, Param("Width of a token.", ge=1)],
        num_hidden_layers: Annotated[int, Param("Encoder layers.", ge=1)],
        num_attention_heads: Annotated[int, Param("Attention heads.", ge=1)],
        intermediate_size: Annotated[int, Param("Width inside the feed-forward nets.", ge=1)],
        hidden_act: Annotated[str, Param("Activation of the feed-forward nets.")] = "gelu",
        hidden_dropout_prob: Annotated[float, Param("Dropout of tokens and sub-layers.", ge=0, lt=1)] = 0.1,
        attention_probs_dropout_prob: Annotated[float, Param("Dropout of attention weights.", ge=0, lt=1)] = 0.1,
        max_position_embeddings: Annotated[int, Param("Longest sequence, in steps.", ge=1)] = 512,
        use_position_embeddings: Annotated[bool, Param("Whether positions are added to tokens.")] = True,
        initializer_range: Annotated[float, Param("Standard deviation of kernels at the start.", gt=0)] = 0.02,
        output_all_token_embeddings: Annotated[bool, Param("Whether all tokens are the output, or one.")] = True,
        target_item_position: Annotated[
            Literal["head", "tail", "ignore"], Param("Where the target joins the sequence.")
        ] = "head",
        reserve_target_position: Annotated[
            bool, Param("Whether the target has a position of its own besides max_position_embeddings.")
        ] = True,
    ) -> None:
        super().__init__()
        if target_item_position not in ("head", "tail", "ignore"):
            raise BuildError(f"`target_item_position` is head, tail or ignore. Received: {target_item_position!r}.")
        self.hidden_size = hidden_size
        self.output_all = output_all_token_embeddings
        self.target_position = target_item_position
        self.max_steps = max_position_embeddings
        self.reserved = reserve_target_position
        self.num_positions = max_position_embeddings + int(reserve_target_position)
        self.out_features = hidden_size * (self.num_positions if self.output_all else 1)
        self.takes_target = target_dim is not None and target_item_position != "ignore"

        self.steps_projection = _projection(dim, hidden_size)
        self.target_projection: nn.Module | None = None
        if target_dim is not None and self.takes_target:
            self.target_projection = _projection(target_dim, hidden_size)
        self.positions: nn.Parameter | None = None
        if use_position_embeddings:
            table = torch.empty(self.num_positions, hidden_size)
            self.positions = nn.Parameter(truncated_normal_(table, initializer_range))
        self.norm = nn.LayerNorm(hidden_size, eps=NORM_EPSILON)
        self.dropout = Dropout(hidden_dropout_prob)
        self.layers = nn.ModuleList(
            TransformerLayer(
                hidden_size=hidden_size,
                num_heads=num_attention_heads,
                intermediate_size=intermediate_size,
                activation=hidden_act,
                dropout=hidden_dropout_prob,
                attention_dropout=attention_probs_dropout_prob,
                initializer_range=initializer_range,
            )
            for _ in range(num_hidden_layers)
        )

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim` and `target_dim` from ((B, L, D), (B,)[, (B, D)])."""
        steps, _, target = sequence(cls.__name__, inputs, _RULE)
        return {
            "dim": width(cls.__name__, steps, inputs),
            "target_dim": None if target is None else width(cls.__name__, target, inputs),
        }

    def forward(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        """((B, L, D), (B,) int64[, (B, D')]) to (B, hidden_size), or (B, positions * hidden_size)."""
        steps, lengths, target = self._parts(inputs)
        steps = self._fit(steps, lengths, target)
        row, step = length_mask(lengths, steps.shape[1]).nonzero(as_tuple=True)  # (S,), (S,) row by row
        slots = row * steps.shape[1] + step
        tokens: Tensor = self.steps_projection(steps.flatten(0, 1).index_select(0, slots))  # (S, H)
        position, ends = step, lengths.cumsum(0)
        if target is not None and self.target_projection is not None:
            # The targets are the first B of the packed tokens; their positions say where they stand in the row.
            at_head = self.target_position == "head"
            item = torch.zeros_like(lengths) if at_head else lengths
            tokens = torch.cat([self.target_projection(target), tokens])
            position = torch.cat([item, step + 1 if at_head else step])
            row = torch.cat([torch.arange(len(lengths), device=row.device), row])
            read, count = row[: len(lengths)], lengths + 1
        else:
            read, count = ends - 1 if self.target_position == "tail" else ends - lengths, lengths
        if not len(tokens):
            return steps.new_zeros(len(lengths), self.out_features)
        if self.positions is not None:
            tokens = tokens + nn.functional.embedding(position, self.positions)
        tokens = self.dropout(self.norm(tokens))

        packing = Packing.of(row, position, count, steps.shape[1] + int(target is not None))
        for layer in self.layers[:-1]:
            tokens = layer(tokens, packing)
        last = self.layers[-1]
        if not self.output_all:
            # A row without tokens reads another's, and is set to zero.
            one: Tensor = last(tokens, packing, read.clamp(0, len(tokens) - 1))
            return one.masked_fill((count == 0).unsqueeze(1), 0.0)
        padded = packing.pad(last(tokens, packing))
        return nn.functional.pad(padded, (0, 0, 0, self.num_positions - padded.shape[1])).flatten(1)

    def _parts(self, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
        target = inputs[2] if len(inputs) > 2 and self.target_position != "ignore" else None
        if inputs[0] is None or inputs[1] is None:
            refuse("BST", _RULE, shape_of(inputs))
        if target is not None and not self.takes_target:
            refuse(
                "BST",
                "was built for a sequence without a target",
                shape_of(inputs),
                "Set target_item_position: ignore.",
            )
        return inputs[0], inputs[1], target

    def _fit(self, steps: Tensor, lengths: Tensor, target: Tensor | None) -> Tensor:
        """Cuts padding that has no position, and refuses steps that have none."""
        limit = self.max_steps - int(target is not None and not self.reserved)
        if steps.shape[1] <= limit:
            return steps
        longest = int(lengths.max()) if len(lengths) else 0
        if longest > limit:
            raise DataError(
                f"`BST` has positions for {limit} steps. Received: a sequence of {longest} steps, padded to "
                f"{describe(shape_of(steps))}. Raise max_position_embeddings = {self.max_steps}, or lower max_seq_len."
            )
        return steps[:, :limit]


def _projection(dim: int, hidden_size: int) -> nn.Module:
    if dim == hidden_size:
        return nn.Identity()
    return DenseLayer(
        in_features=dim,
        out_features=hidden_size,
        bias=True,
        norm=False,
        activation="relu",
        dropout=0.0,
        initializer="glorot_uniform",
    )
