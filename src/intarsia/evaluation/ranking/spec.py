"""Which metrics of ranked lists are measured, under which protocol, and what they need to know of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import torch
from torch import Tensor

from intarsia.config.schema.evaluation import QueryGroup, RankingProtocol, ranking_metric
from intarsia.core.batch import Jagged
from intarsia.core.errors import ConfigError, Problem

DEFAULT_METRICS = ("hit_rate@10", "recall@10", "ndcg@10", "mrr@10", "coverage@10")
"""Metrics where a pipeline names none."""
SMALLER_IS_BETTER = frozenset({"rmse", "mae", "gini", "popularity", "calibration"})
_ITEM_COUNTS = frozenset({"popularity", "novelty", "serendipity"})
_OF_LISTS = frozenset({"coverage", "gini", "popularity", "novelty", "diversity", "serendipity", "calibration"})
_OF_ALL = frozenset({"coverage", "gini", "rmse", "mae"})


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: As printed: stem, depth, and the protocol where not all items are ranked.
        stem: Such as `ndcg`.
        depth: Places that count; None: all.
    """

    name: str
    stem: str
    depth: int | None

    @property
    def bigger(self) -> bool:
        """Whether a larger value is better (of popularity and Gini: the usual wish)."""
        return self.stem not in SMALLER_IS_BETTER

    @property
    def of_lists(self) -> bool:
        """Whether the metric describes lists, whatever the targets."""
        return self.stem in _OF_LISTS

    @property
    def of_all(self) -> bool:
        """Whether the metric is one number of all queries, and not a mean over them."""
        return self.stem in _OF_ALL


@dataclass(frozen=True)
class LogFacts:
    """What metrics and groups need to know of a log. All of it is optional, and asked for where a metric needs it.

    Attributes:
        item_counts: (N,) training interactions of each item.
        trained: (U,) bool, whether training saw a user.
        categories: Numbers of the categories of each item.
        vectors: (N, D) vectors of the items that say how like they are, for diversity without categories.
        item_codes: (N,) int64 numbers that stand for the items in every run, whatever their order; see `code_ids`.
    """

    item_counts: Tensor | None = None
    trained: Tensor | None = None
    categories: Jagged | None = None
    vectors: Tensor | None = None
    item_codes: Tensor | None = None


@dataclass(frozen=True)
class RankingMetrics:
    """What `evaluate_ranking` measures; made by `build_ranking_metrics`.

    Attributes:
        specs: The metrics, in the order of the file.
        protocol: What the targets are ranked against.
        facts: Of the log.
        groups: Breakdowns of the metrics.
        confidence: Level of the confidence intervals.
    """

    specs: tuple[MetricSpec, ...]
    protocol: RankingProtocol = field(default_factory=RankingProtocol)
    facts: LogFacts = LogFacts()
    groups: tuple[QueryGroup, ...] = ()
    confidence: float = 0.95

    @property
    def depth(self) -> int:
        """Places that have to be remembered."""
        return max((spec.depth for spec in self.specs if spec.depth), default=0)

    @property
    def list_depth(self) -> int:
        """Items of a list that metrics look at."""
        return max((spec.depth for spec in self.specs if spec.depth and spec.of_lists), default=0)

    @property
    def exact(self) -> bool:
        """Whether a metric needs the places of all targets, however far down."""
        return any(spec.depth is None and spec.stem in ("mrr", "map", "auc") for spec in self.specs)

    @property
    def rates(self) -> bool:
        """Whether a metric compares scores with ratings."""
        return any(spec.stem in ("rmse", "mae") for spec in self.specs)


def build_ranking_metrics(
    names: Sequence[str],
    *,
    protocol: RankingProtocol | None = None,
    facts: LogFacts | None = None,
    groups: Sequence[QueryGroup] = (),
    confidence: float = 0.95,
    num_fixed: int | None = None,
) -> RankingMetrics:
    """The metrics of ranked lists.

    Args:
        names: `eval_config.metrics`; empty: `DEFAULT_METRICS`, of those what the protocol allows.
        protocol: What the targets are ranked against. Default: all items.
        facts: What is known of the log.
        groups: Breakdowns.
        confidence: Level of the confidence intervals.
        num_fixed: Negatives of a query that the data came with, for the names.

    Raises:
        ConfigError: A name is wrong or is there twice, or a metric or group needs what is not known. All at once.
    """
    protocol, facts = protocol or RankingProtocol(), facts or LogFacts()
    suffix = protocol_suffix(protocol, num_fixed)
    if not names:
        names = [name for name in DEFAULT_METRICS if not suffix or ranking_metric(name)[0] not in _OF_LISTS]
    specs: dict[str, MetricSpec] = {}
    problems = []
    for place, name in enumerate(names):
        try:
            spec = _spec(name, suffix)
            if spec.name in specs:
                raise ValueError(f"a metric is named once. Received: {spec.name} twice.")
            _refuse_unknown(spec, protocol, facts)
            specs[spec.name] = spec
        except ValueError as error:
            problems.append(Problem("", f"eval_config.metrics[{place}]", str(error)))
    needs = {"new_users": facts.trained, "popularity": facts.item_counts}
    for place, group in enumerate(groups):
        if group in needs and needs[group] is None:
            what = {"new_users": "who was in training", "popularity": "how often items were taken"}[group]
            text = (
                f"the group {group} needs to know {what}. Received nothing. Leave it out, or give LogFacts that say so."
            )
            problems.append(Problem("", f"eval_config.groups[{place}]", text))
    if problems:
        raise ConfigError(problems)
    return RankingMetrics(tuple(specs.values()), protocol, facts, tuple(groups), confidence)


def protocol_suffix(protocol: RankingProtocol, num_fixed: int | None = None) -> str:
    """What a protocol adds to the names of metrics: nothing where all items are ranked."""
    if protocol.candidates == "full":
        return ""
    if protocol.candidates == "fixed":
        return "[fixed]" if num_fixed is None else f"[fixed {num_fixed}]"
    by: str = protocol.sampler
    if by == "popularity" and protocol.alpha != 1:
        by = f"popularity^{protocol.alpha:g}"
    return f"[sampled {protocol.num_negatives} {by}]"


def code_ids(ids: pl.Series) -> Tensor:
    """(N,) int64: a number for each raw id that is the same in every run and on every machine."""
    from xxhash import xxh3_64_intdigest

    codes = [xxh3_64_intdigest(raw.encode()) >> 1 for raw in ids.cast(pl.String).to_list()]
    return torch.tensor(codes, dtype=torch.int64)


def categories_of(column: pl.Series, separator: str = "|") -> tuple[Jagged, list[str]]:
    """Categories of the items from a raw column, and their names by number.

    Args:
        column: (N,) text with the separator between categories, lists of text, or single values; may be missing.
        separator: Between categories of a text.
    """
    if not isinstance(column.dtype, pl.List):
        column = column.cast(pl.String).str.split(separator)
    rows = pl.DataFrame(
        {"item": pl.Series(range(len(column)), dtype=pl.Int64), "name": column.cast(pl.List(pl.String))}
    )
    rows = rows.explode("name").with_columns(pl.col("name").str.strip_chars())
    rows = rows.filter(pl.col("name").is_not_null() & (pl.col("name") != "")).unique(maintain_order=True)
    names = rows["name"].unique().sort()
    codes: Any = names.search_sorted(rows["name"]).to_numpy().astype("int64") if len(rows) else []
    counts = torch.bincount(torch.from_numpy(rows["item"].to_numpy().copy()), minlength=len(column))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Jagged(torch.tensor(codes, dtype=torch.int64), offsets), names.to_list()


def _spec(name: str, suffix: str) -> MetricSpec:
    stem, depth, written = ranking_metric(name)
    if written and written != suffix:
        raise ValueError(
            f"the protocol in a metric's name is that of eval_config.protocol, {suffix or 'full ranking'}. Received: "
            f"{name!r}. Write {name.removesuffix(written)}, or set the protocol."
        )
    plain = stem if depth is None else f"{stem}@{depth}"
    return MetricSpec(plain if stem in ("rmse", "mae") else f"{plain}{suffix}", stem, depth)


def _refuse_unknown(spec: MetricSpec, protocol: RankingProtocol, facts: LogFacts) -> None:
    if spec.of_lists and protocol.candidates != "full":
        raise ValueError(
            f"{spec.stem} describes lists of recommendations, which need all items. Received the protocol "
            f"{protocol.candidates}. Set eval_config.protocol to full, or leave the metric out."
        )
    if spec.stem in _ITEM_COUNTS and facts.item_counts is None:
        raise ValueError(f"{spec.stem} needs to know how often items were taken. Received nothing. Leave it out.")
    if spec.stem == "diversity" and facts.categories is None and facts.vectors is None:
        raise ValueError(
            "diversity compares the categories of items. Received none. Set eval_config.category to a column of the "
            "item table."
        )
    if spec.stem == "calibration" and facts.categories is None:
        raise ValueError(
            "calibration compares categories of the list with those of the history. Received none. Set "
            "eval_config.category to a column of the item table."
        )
