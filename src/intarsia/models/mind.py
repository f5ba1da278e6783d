"""MIND: as many interests as the history has room for, by dynamic routing with one shared matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.core.params import Param
from intarsia.data.schema import Schema
from intarsia.models.next_item import NextItemRetriever
from intarsia.models.retriever import Spec, history_of
from intarsia.models.sides import Sides
from intarsia.nn.capsules import SharedVotes, dynamic_routing
from intarsia.nn.sequence import length_mask, to_padded
from intarsia.nn.towers import tower
from intarsia.objectives.retrieval import Objective


class MIND(NextItemRetriever):
    """Up to K interests: capsules over the history, each refined by dense layers with what is known of the user.

    For people who want several unrelated things at once, most of all where histories differ much in length: a short
    one gets fewer interests.

        K' = max(1, min(K, floor(log2(steps))))
        vote_i = S item_i                          one matrix for all positions and interests
        b ~ N(0, 1), drawn once and never learned; r times:
            w_ki = softmax_{k <= K'}(b_ki);  u_k = squash(sum_i w_ki vote_i);  b_ki += <u_k, vote_i>
        v_k = layers([u_k, user])
        training:  v = sum_k softmax_k(<v_k, target>^p) v_k          label-aware attention
        serving:   score(u, i) = max_k <v_k, item_i>

    Shapes: histories of at most L = max_history steps, padded inside to (B, L, D) and masked; queries (B, K, D). Of the
    K queries of a user those beyond K' repeat the first, which changes neither a maximum nor what an index finds.

    Source: Li et al., Multi-Interest Network with Dynamic Routing for Recommendation at Tmall (CIKM 2019), equations
    1 to 9 and algorithm 1.

    Departures: a power keeps the sign of a product, so that an even one does not turn the worst interest into the best;
    repeated interests share the weight of one in the label-aware attention; the layers end in a linear one, since
    interests without negative numbers would leave half of the space unused.
    """

    pads = True
    default_objective: ClassVar[Spec] = {"sampled_softmax": {"shared": True}}

    def __init__(
        self,
        *,
        schema: Schema,
        objective: Objective,
        sides: Sides,
        hidden_size: Annotated[int, Param("D, width of items and interests.", ge=1)] = 64,
        num_interests: Annotated[int, Param("K, most interests of a user.", ge=1)] = 4,
        max_history: Annotated[int, Param("L, latest steps that are read.", ge=1)] = 50,
        routing_iterations: Annotated[int, Param("r, rounds of the routing.", ge=1)] = 3,
        routing_std: Annotated[float, Param("Standard deviation of the routing logits at the start.", gt=0)] = 1.0,
        hidden_units: Annotated[list[PositiveInt], Param("ReLU layers that refine an interest; none: none.")] = [128],  # noqa: B006 - read, never changed
        power: Annotated[
            float | None,
            Param("p of the label-aware attention, 0: all interests alike; none: the nearest alone.", ge=0),
        ] = None,
    ) -> None:
        super().__init__(
            schema=schema,
            objective=objective,
            sides=sides,
            hidden_size=hidden_size,
            item_std=hidden_size**-0.5,
            reads_user=True,
        )
        self.max_history = max_history
        self.num_interests = num_interests
        self.routing_iterations = routing_iterations
        self.power = power
        self.votes = SharedVotes(hidden_size)
        self.register_buffer("routing_start", torch.randn(num_interests, max_history) * routing_std)
        width = hidden_size * (1 + self.num_side_vectors)
        self.refine = tower(width, hidden_units, hidden_size)

    def interests_of(self, lengths: Tensor) -> Tensor:
        """K' (B,) of histories of the given lengths."""
        # The exponent of a binary floating-point number is the floor of its logarithm, exactly.
        exponent = torch.frexp(lengths.clamp(min=1).double())[1].long() - 1
        return exponent.clamp(min=1, max=self.num_interests)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, K, D)."""
        steps, lengths = to_padded(self.step_vectors(batch), history_of(batch).offsets)
        length, count = steps.shape[1], self.interests_of(lengths)
        capsules = dynamic_routing(
            self.votes(steps),
            length_mask(lengths, length),
            self.get_buffer("routing_start")[:, :length].unsqueeze(0),
            iterations=self.routing_iterations,
            interests=count,
        )
        sides = [vector.unsqueeze(1).expand_as(capsules) for vector in self.side_vectors(batch)]
        refined: Tensor = self.refine(torch.cat([capsules, *sides], dim=2))
        beyond = torch.arange(self.num_interests, device=count.device) >= count.unsqueeze(1)
        return torch.where(beyond.unsqueeze(2), refined[:, :1], refined)

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The objective on the user's vector as the target sees it."""
        if self.power is None:
            return super().losses(predictions, batch)
        targets = self.encode_items(self.positives(batch).items)
        count = self.interests_of(history_of(batch).lengths)
        queries = label_aware(predictions["queries"], targets, count, self.power)
        return super().losses({**predictions, "queries": queries}, batch)


def label_aware(interests: Tensor, targets: Tensor, count: Tensor, power: float) -> Tensor:
    """(B, D): the first `count` (B,) of interests (B, K, D), weighted by their products with the targets (B, D)."""
    products = torch.einsum("bkd,bd->bk", interests, targets)
    # Kept away from 0, where roots have no slope, and from overflow, where a softmax has no value.
    powers = products.sign() * (products.abs().clamp(min=1e-12) ** power).clamp(max=1e30)
    if not power:
        powers = torch.zeros_like(powers)
    beyond = torch.arange(interests.shape[1], device=count.device) >= count.unsqueeze(1)
    weights = powers.masked_fill(beyond, -torch.inf).softmax(dim=1)
    return torch.einsum("bk,bkd->bd", weights, interests)


MODEL = MIND
