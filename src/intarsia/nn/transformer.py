"""Self-attention layers for sequences of item vectors.

Tokens of a batch are packed: (S, H), real ones only, with their row and position aside. Dense layers, norms and
dropout never touch padding; only the attention itself pads.

    row 0: a b      tokens   a b c d e f      slots  0 1 4 8 9 10     (T = 4)
    row 1: c
    row 2: d e f
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intarsia.core.errors import BuildError
from intarsia.nn.activations import activation as activation_named
from intarsia.nn.dropout import Dropout, dropout
from intarsia.nn.initializers import truncated_normal_
from intarsia.nn.sequence import length_mask

NORM_EPSILON = 1e-12


@dataclass(frozen=True)
class Packing:
    """Where packed tokens stand in the padded batch.

    Attributes:
        slots: (S,) int64 row * T + position, each at most once.
        batch: B.
        length: T.
        mask: (B, 1, 1, T) bool, True where a query may look at a token; None when causal: tokens fill the first
            positions of their rows, so those before a token are real.
    """

    slots: Tensor
    batch: int
    length: int
    mask: Tensor | None

    @classmethod
    def of(cls, row: Tensor, position: Tensor, lengths: Tensor, length: int, causal: bool = False) -> Packing:
        """The packing of tokens that fill the first positions of their rows.

        Args:
            row: (S,) int64 rows of the tokens.
            position: (S,) int64 positions of the tokens.
            lengths: (B,) int64 tokens of each row.
            length: T, at least the greatest of them.
            causal: Whether a token sees only itself and those before it.
        """
        # A row without tokens looks at its own padding, so that its softmax is defined. Nobody reads the result.
        mask = None if causal else length_mask(lengths.clamp(min=1), length)[:, None, None, :]
        return cls(row * length + position, len(lengths), length, mask)

    def pad(self, tokens: Tensor) -> Tensor:
        """(S, H) to (B, T, H), zero where there is no token."""
        out = tokens.new_zeros(self.batch * self.length, tokens.shape[-1]).index_copy(0, self.slots, tokens)
        return out.view(self.batch, self.length, -1)

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, T, H) to (S, H)."""
        return padded.flatten(0, 1).index_select(0, self.slots)


class TransformerLayer(nn.Module):
    """Multi-head attention and a feed-forward net, each with dropout, residual and layer norm.

    The norm comes after the residual as in BERT, or before the sub-layer with `norm_first`.

    Args:
        hidden_size: Width of a token, a multiple of `num_heads`.
        num_heads: Attention heads.
        intermediate_size: Width inside the feed-forward net.
        activation: Name of its activation.
        dropout: Dropout of each sub-layer's output.
        attention_dropout: Dropout of attention weights.
        initializer_range: Standard deviation of the kernels at the start.
        norm_first: Whether norms come before the sub-layers.

    Raises:
        BuildError: `hidden_size` is no multiple of `num_heads`.

    Source: Vaswani et al., Attention Is All You Need (2017); Devlin et al., BERT (2019).
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        activation: str = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        initializer_range: float = 0.02,
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise BuildError(
                "a transformer's hidden size has to be a multiple of its number of heads. "
                f"Received: hidden_size = {hidden_size}, heads = {num_heads}."
            )
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.norm_first = norm_first
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=NORM_EPSILON)
        self.intermediate = nn.Linear(hidden_size, intermediate_size)
        self.activation = activation_named(activation, num_features=intermediate_size)
        self.output = nn.Linear(intermediate_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=NORM_EPSILON)
        self.dropout = Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                truncated_normal_(module.weight.data, initializer_range)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, packing: Packing, read: Tensor | None = None) -> Tensor:
        """Encodes all tokens, or one of each row.

        Args:
            tokens: (S, H) the real tokens of all rows.
            packing: Where they stand.
            read: (B,) int64, the only token of each row whose output is wanted; not with a causal packing.

        Returns:
            (S, H), or (B, H) with `read`.
        """
        keys = self.attention_norm(tokens) if self.norm_first else tokens
        key, value = (packing.pad(part) for part in self.key_value(keys).chunk(2, dim=-1))  # (B, T, H)
        if read is None:
            residual = tokens
            attended = packing.unpad(self._attend(packing.pad(self.query(keys)), key, value, packing.mask))
        else:
            residual = tokens.index_select(0, read)
            query = self.query(keys.index_select(0, read)).unsqueeze(1)
            attended = self._attend(query, key, value, packing.mask).squeeze(1)
        hidden: Tensor = residual + self.dropout(self.attention_output(attended))
        if self.norm_first:
            return hidden + self._feed_forward(self.output_norm(hidden))
        hidden = self.attention_norm(hidden)
        out: Tensor = self.output_norm(hidden + self._feed_forward(hidden))
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = self._heads(query), self._heads(key), self._heads(value)
        rate = self.attention_dropout if self.training else 0.0
        if rate > 0 and query.device.type == "cpu" and not torch.compiler.is_compiling():
            attended = _attend_in_part(query, key, value, mask, rate)
        else:
            attended = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=rate, is_causal=mask is None
            )
        return attended.transpose(1, 2).flatten(2)  # (B, Q, H)

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.output(self.activation(self.intermediate(hidden))))
        return out

    def _heads(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        return tokens.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)


def _attend_in_part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """Attention with dropout of its weights by `intarsia.nn.dropout`: (B, heads, Q, d) and (B, heads, T, d)."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, heads, Q, T)
    hidden = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1) if mask is None else ~mask
    weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    return dropout(weights, rate, training=True) @ value
