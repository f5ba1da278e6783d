"""Self-attention without a feed-forward net."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from intarsia.core.errors import BuildError
from intarsia.nn.dropout import Dropout
from intarsia.nn.transformer import NORM_EPSILON, Packing


class SelfAttention(nn.Module):
    """Multi-head self-attention, a dense layer, dropout, residual and layer norm.

        Q, K, V = tokens W_q + b_q, tokens W_k + b_k, tokens W_v + b_v, each cut into heads
        context = softmax(Q K' / sqrt(D / heads) + mask) V
        out = norm(tokens + dropout(context W_o + b_o))

    Tokens are packed as in `intarsia.nn.transformer`: only real ones, and only the attention itself pads.

    Args:
        hidden_size: D, a multiple of `num_heads`.
        num_heads: Attention heads.
        dropout: Dropout after the dense layer.
        initializer_range: Standard deviation of the kernels at the start.

    Raises:
        BuildError: `hidden_size` is no multiple of `num_heads`.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.2.2, without the feed-forward sub-layer.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, dropout: float, initializer_range: float = 0.02) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise BuildError(
                "self-attention needs a hidden size that is a multiple of its number of heads. "
                f"Received: hidden_size = {hidden_size}, num_heads = {num_heads}."
            )
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=NORM_EPSILON)
        for module in (self.query, self.key, self.value, self.dense):
            nn.init.normal_(module.weight, std=initializer_range)
            nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, packing: Packing) -> Tensor:
        """(S, D) of the real tokens to (S, D)."""
        query, key, value = (self._heads(packing.pad(layer(tokens))) for layer in (self.query, self.key, self.value))
        context = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=packing.mask, is_causal=packing.mask is None
        )  # (B, heads, L, D / heads)
        attended = packing.unpad(context.transpose(1, 2).flatten(2))
        out: Tensor = self.norm(tokens + self.dropout(self.dense(attended)))
        return out

    def _heads(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        return tokens.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)
