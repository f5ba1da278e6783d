"""Towers: what is known of one side, a user or an item, becomes one vector."""

from __future__ import annotations

from collections.abc import Sequence

from intarsia.nn.mlp import MLP


def tower(
    in_features: int, hidden_units: Sequence[int], out_features: int, *, activation: str = "relu", dropout: float = 0.0
) -> MLP:
    """Hidden layers with an activation and dropout, then a linear layer; all with biases, none normed.

    Args:
        in_features: Width of the input.
        hidden_units: Widths of the hidden layers; none: the linear layer alone.
        out_features: D, width of the vector.
        activation: Of the hidden layers.
        dropout: Of the hidden layers.
    """
    return MLP(
        in_features=in_features,
        hidden_units=[*hidden_units, out_features],
        dropout_ratio=[dropout] * len(hidden_units),
        activation=activation,
        use_bn=False,
        use_final_bn=False,
        final_activation="linear",
        use_bias=True,
        use_final_bias=True,
    )
