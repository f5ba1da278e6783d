# ruff: noqa: RUF012 (pydantic copies the defaults of its fields)
"""`eval_config` and `export_config`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from intarsia.config.schema.base import cloud
from intarsia.config.schema.retrieval import IndexConfig
from intarsia.config.suggest import Suggester
from intarsia.core.params import StrictModel

Reduction = Literal["mean", "mean_by_sample_num", "mean_by_positive_num"]


class Auc(StrictModel):
    """Area under the ROC curve, exact."""

    num_thresholds: int | None = cloud("the area is exact")


class GroupedAuc(StrictModel):
    """AUC of each user, averaged; users with one class only are left out and counted."""

    uid_field: str
    """Column that names the user."""
    reduction: Reduction = "mean"
    """Weight of a user: equal, rows, or positive rows."""


class SessionAuc(StrictModel):
    """AUC of each session, averaged."""

    session_id_field: str
    """Column that names the session."""
    reduction: Reduction = "mean"
    """Weight of a session: equal, rows, or positive rows."""


class TopK(StrictModel):
    """A metric at one depth."""

    topk: int = Field(default=5, ge=1)
    """Depth."""


class NoOptions(StrictModel):
    """A metric without options."""


METRIC_SHORTHANDS = {"mae": "mean_absolute_error", "mse": "mean_squared_error", "rmse": "root_mean_squared_error"}


class MetricConfig(StrictModel):
    """One metric; set one of the fields. A bare word such as `auc` will do."""

    auc: Auc | None = None
    """Area under the ROC curve."""
    gauc: GroupedAuc | None = None
    """AUC by user, averaged."""
    session_auc: SessionAuc | None = None
    """AUC by session, averaged."""
    logloss: NoOptions | None = None
    """Mean negative log likelihood. Not in EasyRec."""
    accuracy: NoOptions | None = None
    """Share of right classes (binary: threshold 0.5)."""
    precision: NoOptions | None = None
    """True positives among predicted positives at threshold 0.5."""
    recall: NoOptions | None = None
    """True positives among positives at threshold 0.5."""
    max_f1: NoOptions | None = None
    """Highest F1 over all thresholds of the probability."""
    mean_absolute_error: NoOptions | None = None
    """Mean absolute error; `mae` for short."""
    mean_squared_error: NoOptions | None = None
    """Mean squared error; `mse` for short."""
    root_mean_squared_error: NoOptions | None = None
    """Root of the mean squared error; `rmse` for short."""
    recall_at_topk: TopK | None = None
    """Recall of match models at a depth."""
    precision_at_topk: TopK | None = None
    """Precision of match models at a depth."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {data: {}}
        if isinstance(data, dict):
            return {METRIC_SHORTHANDS.get(k, k): {} if v is None else v for k, v in data.items()}
        return data


RANKING_METRICS: Mapping[str, Literal["needed", "allowed", "none"]] = MappingProxyType(
    {
        **dict.fromkeys(("hit_rate", "recall", "precision", "f1", "ndcg", "map_by_targets"), "needed"),
        **dict.fromkeys(("mrr", "map"), "allowed"),
        **dict.fromkeys(("auc", "rmse", "mae"), "none"),
        **dict.fromkeys(("coverage", "gini", "popularity", "novelty"), "needed"),
        **dict.fromkeys(("diversity", "serendipity", "calibration"), "needed"),
    }
)
"""Metrics of ranked lists, and whether a depth (`@10`) belongs to the name."""
_RANKING_NAME = re.compile(r"(?P<stem>[a-z_0-9]+)(@(?P<depth>[0-9]+))?(?P<protocol>\[.*\])?")
QueryGroup = Literal["new_users", "popularity", "history"]


def ranking_metric(name: str) -> tuple[str, int | None, str]:
    """A metric's name taken apart: `ndcg@10[fixed 99]` is `ndcg`, 10, `[fixed 99]`.

    Raises:
        ValueError: There is no such metric, or its depth is missing, superfluous or 0.
    """
    found = _RANKING_NAME.fullmatch(name)
    stem = found["stem"] if found else name.partition("@")[0]
    if found is None or stem not in RANKING_METRICS:
        hint = Suggester().hint(stem, RANKING_METRICS, "metrics")
        raise ValueError(f"no metric of ranked lists is called {name!r}.{hint}")
    depth = int(found["depth"]) if found["depth"] else None
    if depth == 0:
        raise ValueError(f"the depth of a metric is at least 1, such as {stem}@10. Received: {name!r}.")
    if depth is None and RANKING_METRICS[stem] == "needed":
        raise ValueError(f"{stem} needs a depth, such as {stem}@10. Received: {name!r}.")
    if depth is not None and RANKING_METRICS[stem] == "none":
        raise ValueError(f"{stem} has no depth. Received: {name!r}. Write {stem}.")
    return stem, depth, found["protocol"] or ""


def _checked(name: str) -> str:
    ranking_metric(name)
    return name


class RankingProtocol(StrictModel):
    """Which items the targets are ranked against. The bare words `full`, `fixed` and `sampled` will do."""

    candidates: Literal["full", "fixed", "sampled"] = "full"
    """All items; the negatives that the data came with; negatives drawn at random among those the user never had.
    Other values than `full` are written into the names of the metrics."""
    num_negatives: int = Field(default=100, ge=1)
    """`sampled`: negatives of each user, all different."""
    sampler: Literal["uniform", "popularity"] = "uniform"
    """`sampled`: every item alike, or in proportion to its training interactions."""
    alpha: float = Field(default=1.0, gt=0)
    """`sampled` by popularity: exponent of the number of interactions."""
    seed: int = Field(default=0, ge=0)
    """`sampled`: of the draws, which depend on it and on the user alone."""
    filter_seen: bool = True
    """`full`: whether items of the user's history are left out of the lists."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {"candidates": data} if isinstance(data, str) else data


class EvalConfig(StrictModel):
    """Evaluation."""

    metrics_set: list[MetricConfig] = []
    """The metrics of rows. Default: auc and logloss for classification, rmse and mae for regression."""
    metrics: list[Annotated[str, AfterValidator(_checked)]] = []
    """The metrics of ranked lists, such as `ndcg@10`. Default: hit_rate@10, recall@10, ndcg@10, mrr@10, coverage@10."""
    protocol: RankingProtocol = Field(default_factory=RankingProtocol)
    """Which items the targets are ranked against."""
    groups: list[QueryGroup] = []
    """Break the metrics down by users new to the model, by popularity of the targets, by length of the history."""
    category: str = ""
    """Column of the item table that diversity and calibration read, such as genres."""
    category_separator: str = "|"
    """Between several categories of an item."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the confidence intervals."""
    num_examples: int = Field(default=0, ge=0)
    """Rows to evaluate; 0: all."""
    eval_interval_secs: int | None = cloud("evaluation follows checkpoints")
    max_evals: int | None = cloud("evaluation follows checkpoints")
    save_graph: bool | None = cloud("there is no graph file")
    eval_online: bool | None = cloud("metrics over training batches are not comparable")


class MultiValueFields(StrictModel):
    """Columns that hold several values in an exported model."""

    input_name: list[str] = []
    """Names of the columns."""


class ExportConfig(StrictModel):
    """What is kept of a run."""

    refit: bool = False
    """Whether, once the model is measured, a fresh one is trained on all interactions (validation and test included)
    for as many passes as the best evaluation had, and exported instead. Metrics stay those of the split. Retrievers and
    solvers only. Not in EasyRec."""
    index: IndexConfig | None = None
    """An index of the item vectors that the bundle holds, and that `recommend` searches. Default: all items are scored.
    Retrievers only. Not in EasyRec."""
    batch_size: int | None = cloud("exported models take any batch size")
    exporter_type: Literal["final", "latest", "best", "none"] | None = None
    """Weights that the bundle holds: of the last step, or of the best evaluation. Default: `best` with an early stop,
    else `final`. (`latest` and `none` mean `final` here.)"""
    best_exporter_metric: str | None = None
    """Metric that `best` and enable_early_stop follow. Default: that of train_config.early_stop, or else auc."""
    metric_bigger: bool | None = None
    """Whether a larger best_exporter_metric is better. Default: told by the metric."""
    enable_early_stop: bool = False
    """Whether training stops when the metric stops improving."""
    max_check_steps: int = Field(default=10000, ge=1)
    """Early stop: steps without improvement."""
    exports_to_keep: int = Field(default=1, ge=1)
    """Best checkpoints that are kept."""
    early_stop_func: str | None = cloud("functions of the user's own code are not loaded from a file")
    early_stop_params: str | None = cloud("functions of the user's own code are not loaded from a file")
    multi_placeholder: bool | None = cloud("inputs of an exported model are named columns")
    placeholder_named_by_input: bool | None = cloud("inputs of an exported model are named columns")
    multi_value_fields: MultiValueFields | None = cloud("told by the features")
    auto_multi_value: bool | None = cloud("told by the features")
    filter_inputs: bool | None = cloud("only the columns that features read are inputs")
    export_features: bool | None = cloud("an option of a closed server")
    export_rtp_outputs: bool | None = cloud("an option of a closed server")
    asset_files: list[str] | None = cloud("the bundle holds all that it needs")
