"""Attention of a target over a history (DIN)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from intarsia.core.errors import BuildError
from intarsia.core.params import Param
from intarsia.nn.attention_pool import masked_softmax
from intarsia.nn.component import Component, options
from intarsia.nn.mlp import MLP, MLPOptions
from intarsia.nn.sequence import length_mask
from intarsia.nn.shapes import ShapeTree, refuse, sequence, width

_RULE = "reads three tensors: keys (B, L, D), their lengths (B,) and a query (B, D)"


class DIN(Component):
    """Pools a history with weights that depend on the target item.

    score_l = MLP([q, k_l, q - k_l, q * k_l]); output = sum over l of weight_l k_l with weight = softmax(score) over the
    real steps, or sigmoid(score / sqrt(D)), which keeps the intensity of the interest. A query narrower than the keys
    is padded with zeros, and the output is cut to the query's width.

    Args:
        dim: Width of a key.
        query_dim: Width of the query, at most `dim`.

    Raises:
        BuildError: The query is wider than the keys, or attention_dnn does not end in one score.

    Source: Zhou et al., Deep Interest Network for Click-Through Rate Prediction (2018), section 4.3. Departures from
    EasyRec: the MLP sees the real steps only, so padding changes no batch statistics; a row without steps pools to
    zeros; the appended query is not padded.
    """

    def __init__(
        self,
        *,
        dim: int,
        query_dim: int,
        attention_dnn: Annotated[
            MLPOptions, Param("MLP of the score; its last layer is one unit, linear, with bias, without norm.")
        ],
        need_target_feature: Annotated[bool, Param("Whether the query is appended to the output.")] = True,
        attention_normalizer: Annotated[Literal["softmax", "sigmoid"], Param("How scores become weights.")] = "softmax",
    ) -> None:
        super().__init__()
        if query_dim > dim:
            received: ShapeTree = ((None, None, dim), (None,), (None, query_dim))
            refuse("DIN", "needs a query that is not wider than the keys", received)
        if attention_normalizer not in ("softmax", "sigmoid"):
            raise BuildError(f"`attention_normalizer` is softmax or sigmoid. Received: {attention_normalizer!r}.")
        settings = options(MLP, attention_dnn, "attention_dnn")
        if list(settings["hidden_units"])[-1:] != [1]:
            raise BuildError(
                "`DIN` needs an attention_dnn whose last layer gives one score. "
                f"Received: hidden_units = {list(settings['hidden_units'])}. End them with 1."
            )
        settings |= {"use_final_bn": False, "use_final_bias": True, "final_activation": "linear"}
        self.attention_dnn = MLP(in_features=4 * dim, **settings)
        self.dim = dim
        self.query_dim = query_dim
        self.need_target_feature = need_target_feature
        self.attention_normalizer = attention_normalizer
        self.out_features = query_dim * (2 if need_target_feature else 1)

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`dim` and `query_dim` from ((B, L, D), (B,), (B, D))."""
        keys, _, query = sequence(cls.__name__, inputs, _RULE)
        if query is None:
            refuse(cls.__name__, _RULE, inputs, "Add the target's features to the feature group.")
        return {"dim": width(cls.__name__, keys, inputs), "query_dim": width(cls.__name__, query, inputs)}

    def forward(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Keys (B, L, D), lengths (B,) int64, query (B, D') to (B, D'), or (B, 2 D') with the query appended."""
        keys, lengths, query = inputs
        weight = self.weights(keys, lengths, query)
        # Padding may hold anything, also numbers that are not finite, which a weight of 0 would not silence.
        real = keys.masked_fill(~length_mask(lengths, keys.shape[1]).unsqueeze(-1), 0.0)
        pooled = (weight.unsqueeze(1) @ real[..., : self.query_dim]).squeeze(1)
        return torch.cat([pooled, query], dim=-1) if self.need_target_feature else pooled

    def weights(self, keys: Tensor, lengths: Tensor, query: Tensor) -> Tensor:
        """(B, L) weight of each step, 0 where there is none; for pooling further sequences by the same attention."""
        mask = length_mask(lengths, keys.shape[1])  # (B, L)
        row, step = mask.nonzero(as_tuple=True)  # (S,), (S,) the real steps, row by row
        k = keys.flatten(0, 1).index_select(0, row * keys.shape[1] + step)  # (S, D)
        q = torch.nn.functional.pad(query, (0, self.dim - self.query_dim)).index_select(0, row)
        score: Tensor = self.attention_dnn(torch.cat([q, k, q - k, q * k], dim=-1)).squeeze(-1)  # (S,)
        if self.attention_normalizer == "softmax":
            return masked_softmax(score.new_zeros(mask.shape).masked_scatter(mask, score), mask)
        return score.new_zeros(mask.shape).masked_scatter(mask, torch.sigmoid(score / self.dim**0.5))
