"""The contract of models that rank a catalogue: retrievers, which embed, and solvers, which compute."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.config.schema import ModelConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, RATING, SEEN, TARGET, USER
from intarsia.core.errors import BuildError, Problem
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.data.interactions.views import ViewKind
from intarsia.data.schema import Schema
from intarsia.models.base import AUXILIARY, Model
from intarsia.models.blocks import message
from intarsia.nn.by_length import ByLength
from intarsia.objectives.retrieval import FactorScorer, Objective, Positives, Scorer, build_objective

Spec = str | Mapping[str, Any]


def needs_log(config: ModelConfig, schema: Schema) -> None:
    """Refuses data that are no interaction log.

    Raises:
        BuildError: They are none.
    """
    if not schema.num_items:
        text = f"`{config.model_class}` learns from an interaction log. Name it by data_config.dataset or log"
        raise BuildError([Problem("", "model_config.model_class", text)])


class ItemScorer(Model):
    """Scores any item of the catalogue for a user or a history.

    Attributes:
        max_history: Latest steps of a history that the model reads.
        reads: What of a query the model reads: `user` numbers, `history`, or nothing.
        answers_empty: Whether a query without a known user and without a history still gets an answer of the model's
            own. Otherwise popular items are recommended.
        indexable: Whether scores are inner products of vectors, so that an index can search them.
        num_biases: Numbers at the end of item vectors that are biases or constants, and do not say what items are like.
    """

    reads: frozenset[str] = frozenset({"history"})
    answers_empty: ClassVar[bool] = False
    indexable: ClassVar[bool] = False
    max_history: int = 1_000_000
    num_biases: int = 0
    num_items: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.Config = config_from_signature(cls)

    @classmethod
    def options_given(cls, config: ModelConfig) -> dict[str, Any]:
        """Options of the constructor that a pipeline's message sets, with the defaults of the others."""
        options: StrictModel = message(config, cls)
        return {name: getattr(options, name) for name in type(options).model_fields}

    def catalogue(self) -> Any:
        """What scoring needs to know of all items, computed once for many queries."""
        return None

    @abstractmethod
    def queries(self, batch: Batch) -> Any:
        """What scoring needs to know of the batch's B queries."""

    @abstractmethod
    def score_block(self, queries: Any, catalogue: Any, start: int, stop: int) -> Tensor:
        """(B, stop - start) scores of the items `start` to `stop - 1`."""

    def score_pairs(self, queries: Any, catalogue: Any, items: Tensor) -> Tensor:
        """(B, M) scores of each query's own items (B, M); what is said of item -1 means nothing."""
        scores = self.score_block(queries, catalogue, 0, self.num_items)
        return scores.gather(1, items.clamp(min=0))

    def finish(self, division: Any) -> None:
        """Called once after training with the divided log, to remember what queries of strangers need."""


@dataclass(frozen=True)
class Vectors:
    """Vectors of all items.

    Attributes:
        single: (N, D) as the model has them.
    """

    single: Tensor

    @cached_property
    def items(self) -> Tensor:
        """(N, D) in double precision; see `VectorScorer.score_block`."""
        return self.single.double()

    @cached_property
    def by_length(self) -> ByLength:
        """The same vectors, the longest first."""
        return ByLength.of(self.single)

    @cached_property
    def longest(self) -> float:
        """Length of the longest vector; not finite where one of them is not."""
        return float(self.single.double().square().sum(dim=1).amax().sqrt()) if len(self.single) else 0.0


class VectorScorer(ItemScorer):
    """A score is the inner product of a query's and an item's vector, with several vectors a query the largest.

    Products are computed in double precision and rounded to single, so that the size of a block cannot change them.
    """

    indexable = True

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines: both vectors are scaled to length 1."""
        return False

    @abstractmethod
    def encode_queries(self, batch: Batch) -> Tensor:
        """(B, D), or (B, K, D) for K interests."""

    @abstractmethod
    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """(..., D) vectors of the given items, or (N, D) of the whole catalogue."""

    def catalogue(self) -> Vectors:
        """Vectors of all items, of length 1 where scores are cosines."""
        return Vectors(self._directed(self.encode_items()).detach().float())

    def queries(self, batch: Batch) -> Tensor:
        """Vectors of the queries in double precision."""
        return self._directed(self.encode_queries(batch)).double()

    def _directed(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1) if self.cosine else vectors

    def score_block(self, queries: Tensor, catalogue: Vectors, start: int, stop: int) -> Tensor:
        """(B, stop - start) products."""
        return interest_scores(queries, catalogue.items[start:stop])

    def score_pairs(self, queries: Tensor, catalogue: Vectors, items: Tensor) -> Tensor:
        """(B, M) scores of each query's own items."""
        vectors = catalogue.items[items.clamp(min=0)]  # (B, M, D)
        if queries.dim() == 2:
            return torch.einsum("bd,bmd->bm", queries, vectors).float()
        return torch.einsum("bkd,bmd->bkm", queries, vectors).amax(dim=1).float()


class Retriever(VectorScorer):
    """Learns the vectors of queries and items, and scores by them.

    What a model adds is `encode_queries` and `encode_items`. Objectives, negatives, full ranking, indexes, filters of
    seen items and re-ranking are written once for all.

    Attributes:
        view: Training rows that the model learns from; see `intarsia.data.interactions.views`.
        pads: Whether the model pads histories, so that batches should hold histories of like length.
        default_objective: Objective where the pipeline names none.
        objective: What is minimised.
    """

    view: ClassVar[ViewKind] = "next"
    pads: ClassVar[bool] = False
    default_objective: ClassVar[Spec] = "softmax"
    default_negatives: ClassVar[Spec] = "uniform"
    objective: Objective

    @classmethod
    def from_config(cls, config: ModelConfig, schema: Schema, *, backend: str = "torch") -> Self:
        """Builds the model of a pipeline file.

        Raises:
            BuildError: The data are no interaction log, or the model does not fit together.
        """
        needs_log(config, schema)
        if config.feature_groups and "sides" not in signature(cls).parameters:
            text = f"`{config.model_class}` reads ids alone. Remove the groups, or use TwoTower or DSSM"
            raise BuildError([Problem("", "model_config.feature_groups", text)])
        given = cls.options_given(config)
        objective = build_objective(
            _spec(config.objective) or cls.default_objective,
            negatives=_spec(config.negatives) or cls.default_negatives,
            num_items=schema.num_items,
        )
        return cls(schema=schema, objective=objective, **cls.parts(config, schema), **given)

    @classmethod
    def parts(cls, config: ModelConfig, schema: Schema) -> dict[str, Any]:
        """Further arguments of the constructor that the configuration decides."""
        return {}

    def scorer(self, queries: Tensor) -> Scorer:
        """The scores of (P, D) queries, as objectives ask for them."""
        return FactorScorer(queries, self.encode_items, num_items=self.num_items)

    # Training

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`queries`: (P, D), one for each positive of the batch; or (P, K, D)."""
        return {"queries": self.encode_queries(batch)}

    def losses(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The objective's losses and the auxiliary ones."""
        positives = self.positives(batch)
        queries = predictions["queries"]
        if queries.dim() == 3:
            queries = nearest_interest(queries, self.encode_items(positives.items))
        out: dict[str, Tensor] = self.objective(self.scorer(queries), positives)
        out.update({k.removeprefix(AUXILIARY): v for k, v in predictions.items() if k.startswith(AUXILIARY)})
        return out

    def positives(self, batch: Batch) -> Positives:
        """The items to find, in the order of the queries."""
        return positives_of(batch)

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines: the objective is one of them."""
        return self.objective.similarity == "cosine"


def interest_scores(queries: Tensor, items: Tensor) -> Tensor:
    """(B, n) float32 products of (B, D) queries with (n, D) items; the largest over K for (B, K, D)."""
    if queries.dim() == 2:
        return (queries @ items.t()).float()
    best = queries[:, 0] @ items.t()
    for k in range(1, queries.shape[1]):
        best = torch.maximum(best, queries[:, k] @ items.t())
    return best.float()


def nearest_interest(interests: Tensor, items: Tensor) -> Tensor:
    """Of K interests (P, K, D) the one whose product with the item (P, D) is largest: (P, D)."""
    best = torch.einsum("pkd,pd->pk", interests, items).argmax(dim=1)
    return interests[torch.arange(len(best), device=best.device), best]


def positives_of(batch: Batch) -> Positives:
    """The `target` of a batch: one for each row, or one for each step of its histories."""
    target, user, seen = batch.features[TARGET], batch.features.get(USER), batch.features.get(SEEN)
    users = user.values if isinstance(user, Dense) else None
    known = seen if isinstance(seen, Jagged) else None
    if isinstance(target, Dense):
        return Positives(target.values, ratings=batch.labels.get(RATING), users=users, seen=known)
    rows, steps = rows_and_steps(target.offsets, len(target.values))
    return Positives(target.values, rows, steps, users=None if users is None else users[rows], seen=known)


def rows_and_steps(offsets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(S,) the row that each of S jagged values belongs to, and its position in that row."""
    row = torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff(), output_size=count
    )
    return row, torch.arange(count, device=offsets.device) - offsets[row]


def history_of(batch: Batch) -> Jagged:
    """The histories of a batch."""
    history = batch.features[HISTORY]
    assert isinstance(history, Jagged)
    return history


def _spec(config: StrictModel | None) -> Spec | None:
    """An objective or a sampler of a pipeline file: its name and options."""
    if config is None:
        return None
    extra = config.model_extra or {}
    return {name: m.model_dump() if isinstance(m, StrictModel) else m for name, m in extra.items()}
