"""From `metrics_set` to metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from intarsia.config.schema.evaluation import GroupedAuc, MetricConfig, SessionAuc
from intarsia.config.schema.model import LossType
from intarsia.core.errors import ConfigError, Problem
from intarsia.core.params import StrictModel
from intarsia.evaluation.metrics.base import LabelKind, Metric, Source
from intarsia.evaluation.metrics.pointwise import (
    Accuracy,
    LogLoss,
    MeanAbsoluteError,
    MeanSquaredError,
    Precision,
    Recall,
    RootMeanSquaredError,
)
from intarsia.evaluation.metrics.ranking import Auc, GroupedAucMetric, MaxF1
from intarsia.objectives import Task, task_of


@dataclass(frozen=True)
class _Kind:
    """How a metric of `metrics_set` is made.

    `reads` tells for each task what labels the metric accepts, `scalar` that it needs one score a row: of two
    classes it reads the probability of class 1, and more classes it cannot do.
    """

    name: str
    make: Callable[[str, Source, StrictModel], Metric]
    reads: Mapping[Task, LabelKind]
    bigger_is_better: bool
    scalar: bool = True


def _plain(metric: Callable[[str, Source], Metric]) -> Callable[[str, Source, StrictModel], Metric]:
    return lambda name, source, options: metric(name, source)


def _by_user(name: str, source: Source, options: StrictModel) -> Metric:
    assert isinstance(options, GroupedAuc)
    return GroupedAucMetric(name, source, field=options.uid_field, reduction=options.reduction)


def _by_session(name: str, source: Source, options: StrictModel) -> Metric:
    assert isinstance(options, SessionAuc)
    return GroupedAucMetric(name, source, field=options.session_id_field, reduction=options.reduction)


_BINARY: Mapping[Task, LabelKind] = {"binary": "binary", "multiclass": "binary"}
_CLASSES: Mapping[Task, LabelKind] = {"binary": "binary", "multiclass": "class"}
_LIKELIHOOD: Mapping[Task, LabelKind] = {"binary": "share", "multiclass": "class"}
_NUMBERS: Mapping[Task, LabelKind] = {"binary": "share", "multiclass": "share", "regression": "number"}

KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "auc": _Kind("auc", _plain(Auc), _CLASSES, True, scalar=False),
        "gauc": _Kind("gauc", _by_user, _BINARY, True),
        "session_auc": _Kind("session_auc", _by_session, _BINARY, True),
        "logloss": _Kind("logloss", _plain(LogLoss), _LIKELIHOOD, False, scalar=False),
        "accuracy": _Kind("accuracy", _plain(Accuracy), _CLASSES, True, scalar=False),
        "precision": _Kind("precision", _plain(Precision), _BINARY, True),
        "recall": _Kind("recall", _plain(Recall), _BINARY, True),
        "max_f1": _Kind("max_f1", _plain(MaxF1), _BINARY, True),
        "mean_absolute_error": _Kind("mae", _plain(MeanAbsoluteError), _NUMBERS, False),
        "mean_squared_error": _Kind("mse", _plain(MeanSquaredError), _NUMBERS, False),
        "root_mean_squared_error": _Kind("rmse", _plain(RootMeanSquaredError), _NUMBERS, False),
    }
)
"""Metrics of sample data by their field in `metrics_set`."""

DEFAULTS: Mapping[Task, tuple[str, ...]] = MappingProxyType(
    {"binary": ("auc", "logloss"), "multiclass": ("accuracy", "logloss"), "regression": ("rmse", "mae")}
)
"""Metrics where `metrics_set` is empty."""

_DIRECTIONS: Mapping[str, bool] = {
    **{field: kind.bigger_is_better for field, kind in KINDS.items()},
    **{kind.name: kind.bigger_is_better for kind in KINDS.values()},
    "loss": False,
}


def build_metrics(
    configs: Sequence[MetricConfig], *, loss_type: LossType, num_class: int = 1, suffix: str = ""
) -> list[Metric]:
    """The metrics of one head, in the order of the file.

    Args:
        configs: `metrics_set`; empty: the defaults of the task.
        loss_type: The loss of the head; decides what is predicted.
        num_class: Classes; 1: one logit.
        suffix: End of the names of predictions and metrics, such as `_ctr` for a task tower.

    Raises:
        ConfigError: A metric does not fit the predictions; an entry sets no metric or several; the same metric
            twice. All such problems at once.
    """
    task = task_of(loss_type, num_class)
    if not configs:
        configs = [MetricConfig.model_validate(field) for field in DEFAULTS[task]]
    problems: list[Problem] = []
    metrics: dict[str, Metric] = {}
    for index, config in enumerate(configs):
        found = _build(config, loss_type, num_class, task, suffix, taken=metrics)
        if isinstance(found, str):
            problems.append(Problem("", f"metrics_set[{index}]", found))
        else:
            metrics[found.name] = found
    if problems:
        raise ConfigError(problems)
    return list(metrics.values())


def _build(
    config: MetricConfig,
    loss_type: LossType,
    num_class: int,
    task: Task,
    suffix: str,
    taken: Mapping[str, Metric],
) -> Metric | str:
    """The metric, or what is wrong."""
    fields = [field for field in MetricConfig.model_fields if getattr(config, field) is not None]
    if len(fields) != 1:
        return f"an entry must set exactly one metric. Received: {', '.join(fields) or 'none'}. Write one entry each."
    field = fields[0]
    kind = KINDS.get(field)
    if kind is None:
        return f"a rank model is not measured by {field}, which is for match models. Choose from: {', '.join(KINDS)}."
    if not _fits(kind, task, num_class):
        choices = [name for name, other in KINDS.items() if _fits(other, task, num_class)]
        return (
            f"{field} does not apply to the predictions of {loss_type.value} with num_class {num_class} ({task}). "
            f"Choose from: {', '.join(choices)}."
        )
    name = kind.name + suffix
    options: StrictModel = getattr(config, field)
    if name in taken and isinstance(options, GroupedAuc | SessionAuc):
        column = options.uid_field if isinstance(options, GroupedAuc) else options.session_id_field
        name = f"{name}_{column}"
    if name in taken:
        return f"each metric must be listed once. Received: {field} again. Remove one of the two."
    return kind.make(name, _source(kind, task, num_class, suffix), options)


def _fits(kind: _Kind, task: Task, num_class: int) -> bool:
    return task in kind.reads and not (kind.scalar and task == "multiclass" and num_class > 2)


def _source(kind: _Kind, task: Task, num_class: int, suffix: str) -> Source:
    key = ("y" if task == "regression" else "probs") + suffix
    labels = kind.reads[task]
    if task != "multiclass":
        return Source(key, labels)
    # Two classes are a binary problem in another guise: the score is the probability of class 1.
    if num_class == 2:
        return Source(key, kind.reads["binary"], column=1, num_class=2)
    return Source(key, labels, num_class=num_class)


def bigger_is_better(name: str) -> bool:
    """Whether a larger value of the metric is better; for early stops and for keeping the best checkpoint.

    Args:
        name: As printed, such as `auc`, `max_f1` or, with a tower's or column's name at the end, `auc_ctr`.

    Raises:
        ConfigError: No such metric.
    """
    stem = name
    while stem:
        if stem in _DIRECTIONS:
            return _DIRECTIONS[stem]
        stem = stem.rpartition("_")[0]
    raise ConfigError(
        f"the name of a metric must start with one of: {', '.join(sorted(_DIRECTIONS))}. Received: {name}. "
        "Use a name as it is printed."
    )
