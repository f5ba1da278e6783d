"""Sessions as graphs: each distinct item is a node, each step from one item to the next an edge.

session  a b c b d        nodes  a b c d        edges  a>b  b>c  c>b  b>d
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SessionGraph:
    """The graphs of all sessions of a batch, without a matrix of nodes by nodes.

    Attributes:
        node_of_step: (S,) int64 node of each step.
        num_nodes: M, nodes of all sessions together.
        sources: (E,) int64 node that an edge leaves, one edge for each pair of steps.
        targets: (E,) int64 node that it reaches.
        in_weights: (E,) 1 / edges that reach its target.
        out_weights: (E,) 1 / edges that leave its source.
    """

    node_of_step: Tensor
    num_nodes: int
    sources: Tensor
    targets: Tensor
    in_weights: Tensor
    out_weights: Tensor

    @classmethod
    def of(cls, items: Tensor, offsets: Tensor, num_items: int) -> SessionGraph:
        """The graphs of sessions.

        Args:
            items: (S,) int64 items of all sessions, one after the other.
            offsets: (B + 1,) int64 steps of each session.
            num_items: N.
        """
        count = len(items)
        rows = torch.repeat_interleave(
            torch.arange(len(offsets) - 1, device=items.device), offsets.diff(), output_size=count
        )
        found, nodes = torch.unique(rows * num_items + items, return_inverse=True)
        same = rows[1:] == rows[:-1]
        sources, targets = nodes[:-1][same], nodes[1:][same]
        left = torch.bincount(sources, minlength=len(found)).clamp(min=1)
        reached = torch.bincount(targets, minlength=len(found)).clamp(min=1)
        return cls(nodes, len(found), sources, targets, 1.0 / reached[targets], 1.0 / left[sources])

    def mean_of_steps(self, steps: Tensor) -> Tensor:
        """(M, D): for each node the mean of its steps (S, D)."""
        counts = torch.bincount(self.node_of_step, minlength=self.num_nodes).to(steps.dtype)
        sums = steps.new_zeros(self.num_nodes, steps.shape[1]).index_add(0, self.node_of_step, steps)
        return sums / counts.unsqueeze(1)

    def from_before(self, nodes: Tensor) -> Tensor:
        """(M, D): what comes along the edges that reach each node, a mean of the nodes (M, D) that they leave."""
        messages = self.in_weights.to(nodes.dtype).unsqueeze(1) * nodes[self.sources]
        return torch.zeros_like(nodes).index_add(0, self.targets, messages)

    def from_behind(self, nodes: Tensor) -> Tensor:
        """(M, D): what comes against the edges that leave each node, a mean of the nodes (M, D) that they reach."""
        messages = self.out_weights.to(nodes.dtype).unsqueeze(1) * nodes[self.targets]
        return torch.zeros_like(nodes).index_add(0, self.sources, messages)


class GatedGraph(nn.Module):
    """Nodes that update themselves by gated recurrent units fed with messages of their neighbours.

        a = [A_in (v W_in + b_in) + c_in;  A_out (v W_out + b_out) + c_out]
        v <- GRU(a, v)

    Args:
        width: D.
        num_steps: Updates.

    Source: Li et al., Gated Graph Sequence Neural Networks (ICLR 2016), in the form of Wu et al. (AAAI 2019),
    equations 1 to 5.
    """

    def __init__(self, width: int, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.incoming, self.outgoing = nn.Linear(width, width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.cell = nn.GRUCell(2 * width, width)

    def forward(self, nodes: Tensor, graph: SessionGraph) -> Tensor:
        """(M, D) to (M, D)."""
        for _ in range(self.num_steps):
            messages = [graph.from_before(self.incoming(nodes)), graph.from_behind(self.outgoing(nodes))]
            nodes = self.cell(torch.cat(messages, dim=1) + self.bias, nodes)
        return nodes
