"""Recurrent nets over jagged steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intarsia.nn.initializers import initialize_
from intarsia.nn.sequence import to_padded


class RecurrentSteps(nn.Module):
    """Gated recurrent units over the steps of each row, from a state of zeros.

        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Rows are padded at their ends, behind every real step, so padding reaches no output. Kernels start uniform by Glorot
    and Bengio (2010), each gate by itself, biases at 0.

    Args:
        in_features: D, width of a step.
        hidden_size: H, width of a state.
        num_layers: Layers, each over the outputs of the one before.
        dropout: Dropout between layers.

    Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014), section 2.3. The reset gate
    comes after the product with U_n, as in cuDNN.
    """

    def __init__(self, in_features: int, hidden_size: int, *, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        # torch warns of a dropout between layers where there is one layer.
        between = dropout if num_layers > 1 else 0.0
        self.gru = nn.GRU(in_features, hidden_size, num_layers, batch_first=True, dropout=between)
        for name, parameter in self.gru.named_parameters():
            for gate in parameter.data.chunk(3):
                initialize_(gate, "zeros" if name.startswith("bias") else "glorot_uniform")

    def forward(self, steps: Tensor, offsets: Tensor) -> Tensor:
        """Outputs of all steps.

        Args:
            steps: (S, D), those of row b at `offsets[b]:offsets[b + 1]`.
            offsets: (B + 1,) int64.

        Returns:
            (S, H) states after each step.
        """
        count = steps.shape[0]
        if not count:
            return steps.new_zeros(0, self.gru.hidden_size)
        padded, _ = to_padded(steps, offsets)
        states, _ = self.gru(padded)  # (B, L, H)
        row = torch.repeat_interleave(
            torch.arange(padded.shape[0], device=steps.device), offsets.diff(), output_size=count
        )
        slots = row * padded.shape[1] + torch.arange(count, device=steps.device) - offsets[row]
        out: Tensor = states.flatten(0, 1).index_select(0, slots)
        return out
