"""A look at the data of a pipeline before anything is trained: what is in them, and what does not fit the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.cli.output import percent
from intarsia.cli.parts import Finding, Kind, Level, Part, PartReader
from intarsia.config.schema import FeatureConfig, FeatureType
from intarsia.core.errors import BuildError, ConfigError, DataError, IntarsiaError
from intarsia.data import profile
from intarsia.data.columns import Column, JaggedColumn
from intarsia.data.features import FeatureEncoder
from intarsia.data.labels import check_labels, label_columns, labels_from, weights_from
from intarsia.data.schema import FeatureSpec, Schema
from intarsia.evaluation.metrics import build_metrics
from intarsia.recommender.options import data_options, encoded_features, label_name, metric_columns

if TYPE_CHECKING:
    from intarsia.config.load import LoadedConfig

Floats = npt.NDArray[np.float32]

COLLISIONS = 0.1
"""Expected share of colliding ids above which a table is called too small."""
TOO_LARGE = 100
"""Rows of a hashed table for each id, above which it is called too large (where it is large at all)."""
LARGE = 1_000_000
MISSING = 0.5
CUT = 0.2
UNSEEN = 0.3
DUPLICATES = 0.01
RARE = 0.001
UNSCALED = 100.0


@dataclass
class Report:
    """What `check` found.

    Attributes:
        rows: Rows of each part.
        columns: One entry a raw column: name, type, missing cells, distinct values.
        features: One entry a feature.
        labels: Of each part.
        weights: Of the training part, where there are weights.
        overlap: Repeated rows.
        findings: Errors first.
    """

    rows: dict[str, int] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    overlap: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def exit_code(self) -> int:
        """0: no errors; 2: the pipeline is wrong; 3: the data are."""
        kinds = {finding.kind for finding in self.findings if finding.level == "error"}
        return 2 if "pipeline" in kinds else 3 if kinds else 0


def check_up(loaded: LoadedConfig) -> Report:
    """Reads the data of a pipeline and judges them.

    Raises:
        ConfigError: The features' options are wrong.
        DataError: The data cannot be read at all.
    """
    return _Checkup(loaded).run()


class _Checkup:
    def __init__(self, loaded: LoadedConfig) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.data = data_options(self.config)
        self.label = label_name(self.config)
        self.encoder = FeatureEncoder(encoded_features(self.config), self.data)
        self.report = Report()

    def run(self) -> Report:
        parts = PartReader(self.config, self.encoder, self.find).parts()
        self.report.rows = {name: part.frame.height for name, part in parts.items()}
        train = parts["train"]
        self._columns(train.frame)
        self._labels(parts)
        self._fit(train)
        specs = self._specs()
        for config in self.encoder.features:
            self._feature(config, specs.get(config.name), parts)
        self._overlap(parts)
        if specs:
            self._model(specs)
        order = {"error": 0, "warning": 1, "note": 2}
        self.report.findings.sort(key=lambda finding: order[finding.level])
        return self.report

    def find(self, level: Level, message: str, kind: Kind = "data") -> None:
        """Adds a finding, once."""
        finding = Finding(level, kind, message)
        if finding not in self.report.findings:
            self.report.findings.append(finding)

    # Columns and labels

    def _columns(self, frame: pl.DataFrame) -> None:
        for column in frame.get_columns():
            lists = isinstance(column.dtype, pl.List | pl.Array)
            absent = profile.missing(column)
            self.report.columns.append(
                {
                    "name": column.name,
                    "type": str(column.dtype),
                    "missing": absent,
                    "distinct": None if lists else column.n_unique() - (1 if column.null_count() else 0),
                }
            )
            if absent == len(column):
                self.find("warning", f"column `{column.name}` is empty in all {absent:,} training rows; leave it out")

    def _labels(self, parts: Mapping[str, Part]) -> None:
        source = set(label_columns(self.data, [self.label]))
        for config in self.encoder.features:
            for name in source & set(config.input_names):
                self.find(
                    "error",
                    f"feature `{config.name}` reads the label column `{name}`: the model would see the answer",
                    "pipeline",
                )
        for name, part in parts.items():
            values = self._label_values(part)
            if values is None:
                continue
            numbers = profile.numbers(values)
            counts = np.unique(values, return_counts=True) if values.ndim == 1 else (np.empty(0), np.empty(0))
            few = {f"{v:g}": int(c) for v, c in zip(*counts, strict=True)} if 0 < len(counts[0]) <= 20 else None
            self.report.labels[name] = {**asdict(numbers), "counts": few}
            if numbers.minimum == numbers.maximum:
                level: Level = "error" if name == "train" else "warning"
                what = "there is nothing to learn" if name == "train" else "ranking metrics such as auc are undefined"
                self.find(
                    level,
                    f"label `{self.label}` is {numbers.minimum:g} in all {numbers.values:,} rows of the {name} part: "
                    f"{what}",
                )
            elif set(counts[0].tolist()) == {0.0, 1.0} and name == "train" and not RARE <= numbers.mean <= 1 - RARE:
                self.find(
                    "warning",
                    f"label `{self.label}` is 1 in {numbers.mean:.3%} of the training rows: metrics will be noisy",
                )
        self._compare_labels()
        self._weights(parts["train"])

    def _label_values(self, part: Part) -> Floats | None:
        model = self.config.model
        try:
            values = labels_from(part.frame, self.data, [self.label], origin=part.locate)[self.label]
            check_labels(values, model.num_class, model.loss_type, name=self.label, origin=part.locate)
        except DataError as error:
            self.find("error", str(error))
            return None
        return values

    def _compare_labels(self) -> None:
        means = {name: found["mean"] for name, found in self.report.labels.items() if found["minimum"] >= 0}
        for name in ("valid", "test"):
            if means.get("train", 0) > 0 and means.get(name, 0) > 0:
                ratio = means[name] / means["train"]
                if not 0.5 <= ratio <= 2:
                    self.find(
                        "warning",
                        f"the label's mean is {means['train']:.4g} in the train part and {means[name]:.4g} in the "
                        f"{name} part: they do not seem to come from the same source",
                    )

    def _weights(self, train: Part) -> None:
        try:
            weights = weights_from(train.frame, self.data, origin=train.locate)
        except DataError as error:
            self.find("error", str(error))
            return
        if weights is None:
            return
        self.report.weights = {**asdict(profile.numbers(weights)), "zero_share": float((weights == 0).mean())}
        if not weights.any():
            self.find("error", f"all weights in `{self.data.sample_weight}` are 0: there is nothing to learn")

    # Features

    def _fit(self, train: Part) -> None:
        try:
            self.encoder.fit(train.frame)
        except DataError as error:
            self.find("error", str(error))

    def _specs(self) -> dict[str, FeatureSpec]:
        try:
            return dict(self.encoder.schema_features)
        except IntarsiaError as error:
            self.find("error", str(error), "data" if isinstance(error, DataError) else "pipeline")
            return {}

    def _encoded(self, config: FeatureConfig, part: Part) -> Column | None:
        if not self.encoder.is_fitted:
            return None
        try:
            return self.encoder.transform(part.frame, only=[config.name], locate=part.locate)[config.name]
        except DataError as error:
            self.find("error", str(error))
            return None

    def _feature(self, config: FeatureConfig, spec: FeatureSpec | None, parts: Mapping[str, Part]) -> None:
        train = parts["train"]
        column = self._encoded(config, train)
        entry: dict[str, Any] = {"name": config.name, "type": str(config.feature_type), "columns": config.input_names}
        self.report.features.append(entry)
        for name, part in parts.items():
            if name != "train":
                self._encoded(config, part)
        if column is None or spec is None:
            return
        entry["missing_share"] = share = _missing_share(column, spec)
        if MISSING < share < 1:
            self.find("note", f"feature `{config.name}` has no value in {percent(share)} of the training rows")
        if spec.sequence or spec.multi:
            self._lengths(entry, config, train)
        if _is_number(config):
            self._numbers(entry, config, spec, column, train)
        elif spec.kind == "id":
            self._ids(entry, config, spec, parts)

    def _ids(self, entry: dict[str, Any], config: FeatureConfig, spec: FeatureSpec, parts: Mapping[str, Part]) -> None:
        name = config.name
        values = self.encoder.values(name, parts["train"].frame)
        found = profile.ids(values)
        entry |= {"distinct": found.distinct, "table_rows": spec.num_ids, "most_common_share": found.most_common_share}
        if found.distinct == 1:
            self.find("warning", f"feature `{name}` is {found.most_common!r} wherever it has a value: it tells nothing")
        if config.hash_bucket_size and found.distinct:
            entry["expected_collisions"] = profile.expected_collisions(found.distinct, spec.num_ids)
            collisions = entry["expected_collisions"]
            if config.feature_type is not FeatureType.ComboFeature:  # whose hash is made of several columns
                entry["collisions"] = collisions = profile.collisions(values, spec.num_ids)
            if collisions > COLLISIONS:
                advice = _rounded(profile.size_for(found.distinct, COLLISIONS))
                self.find(
                    "warning",
                    f"feature `{name}`: {found.distinct:,} ids are hashed into {spec.num_ids:,} rows, and "
                    f"{percent(collisions)} of them meet another one; with hash_bucket_size: {advice} about "
                    f"{percent(COLLISIONS)} would, with `vocab: auto` none",
                )
            elif spec.num_ids * max(spec.embedding_dim, 1) > LARGE and spec.num_ids > TOO_LARGE * found.distinct:
                self.find("note", f"feature `{name}`: a table of {spec.num_ids:,} rows for {found.distinct:,} ids")
        for part_name, part in parts.items():
            if part_name == "train":
                continue
            strange = profile.unseen(values, self.encoder.values(name, part.frame))
            entry[f"unseen_{part_name}"] = strange.share
            if strange.share > UNSEEN:
                self.find(
                    "warning",
                    f"feature `{name}`: {percent(strange.share)} of the ids of the {part_name} part "
                    f"({strange.distinct:,} different ones) do not occur in training; the model knows nothing of them",
                )
        if config.vocab_list or config.vocab_file:
            self._outside(entry, config, values)

    def _outside(self, entry: dict[str, Any], config: FeatureConfig, values: pl.Series) -> None:
        vocabulary = self.encoder.vocabularies[config.name]
        outside = profile.unseen(vocabulary.values, values)
        entry["outside_vocabulary"] = outside.share
        if outside.share > 0.05:
            self.find(
                "warning",
                f"feature `{config.name}`: {percent(outside.share)} of the training ids are not in its vocabulary and "
                "share row 0",
            )

    def _lengths(self, entry: dict[str, Any], config: FeatureConfig, train: Part) -> None:
        counts = train.lengths.get(config.name)
        if counts is None:
            counts = profile.list_lengths(train.frame[config.input_names[0]], config.separator)
        limit = config.max_seq_len if config.feature_type is FeatureType.SequenceFeature else 0
        found = profile.lengths(counts, limit)
        entry["lengths"] = {"quantiles": list(found.quantiles), "mean": found.mean, "empty_share": found.empty_share}
        if limit:
            entry["lengths"]["cut_share"] = found.cut_share
            if found.cut_share > CUT:
                self.find(
                    "note",
                    f"feature `{config.name}`: {percent(found.cut_share)} of the rows are longer than max_seq_len "
                    f"{limit} and keep their {config.keep} {limit} steps",
                )
        if counts.max(initial=0) <= 1 and len(counts) > 1 and not train.lengths:
            self.find(
                "warning",
                f"feature `{config.name}` never has more than one value a row; is its separator really "
                f"{config.separator!r}?",
            )

    def _numbers(
        self, entry: dict[str, Any], config: FeatureConfig, spec: FeatureSpec, column: Column, train: Part
    ) -> None:
        raw = profile.column_numbers(train.frame[config.input_names[0]], config.separator)
        entry["numbers"] = asdict(raw)
        if raw.minimum == raw.maximum:
            self.find("warning", f"feature `{config.name}` is {raw.minimum:g} in all rows: it tells nothing")
        if spec.kind == "id":
            values = column.values
            used = int(np.unique(values[values >= 0]).size)
            entry |= {"table_rows": spec.num_ids, "buckets_used": used}
            if used == 1 and raw.minimum != raw.maximum:
                self.find(
                    "warning",
                    f"feature `{config.name}`: all numbers fall into one of {spec.num_ids} buckets; set other "
                    "boundaries",
                )
            return
        largest = float(np.abs(column.values).max(initial=0.0))
        if largest > UNSCALED:
            self.find(
                "warning",
                f"feature `{config.name}` enters as numbers up to {largest:,.6g} in size, which drown the others; set "
                "`normalizer_fn`, `min_val` and `max_val`, or `boundaries`",
            )

    # The whole

    def _overlap(self, parts: Mapping[str, Part]) -> None:
        names = [name for name in parts["train"].frame.columns if all(name in p.frame.columns for p in parts.values())]
        hashes = {name: profile.row_hashes(part.frame.select(names)) for name, part in parts.items()}
        self.report.overlap["repeated_in_train"] = profile.repeated(hashes["train"])
        for name in parts:
            if name == "train":
                continue
            both = profile.shared(hashes["train"], hashes[name])
            self.report.overlap[f"{name}_in_train"] = both
            if both > DUPLICATES * len(hashes[name]):
                self.find(
                    "warning",
                    f"{both:,} of {len(hashes[name]):,} rows of the {name} part also are training rows, label "
                    "included; if they are the same events, the evaluation is too kind",
                )

    def _model(self, specs: dict[str, FeatureSpec]) -> None:
        from intarsia.cli.summary import summarize

        schema = Schema(specs, {self.label: 1}, tuple(metric_columns(self.config)))
        try:
            summary = summarize(self.loaded, schema)
        except BuildError as error:
            for problem in error.problems:
                self.find("error", str(problem), "pipeline")
            return
        for text in summary.notes:
            self.find("warning", text, "pipeline")
        self._metrics()

    def _metrics(self) -> None:
        config = self.config
        try:
            metrics = build_metrics(
                config.eval_config.metrics_set, loss_type=config.model.loss_type, num_class=config.model.num_class
            )
        except ConfigError as error:
            self.find("error", str(error), "pipeline")
            return
        early = config.train_config.early_stop
        followed = {
            "train_config.early_stop.metric": early.metric if early is not None else None,
            "export_config.best_exporter_metric": config.export_config.best_exporter_metric,
        }
        names = [metric.name for metric in metrics]
        for path, name in followed.items():
            if name is not None and name not in names:
                where = self.loaded.source.where(path)
                message = f"{where}: {path}: the evaluation gives no metric `{name}`. It gives: {', '.join(names)}"
                self.find("error", message, "pipeline")


def _missing_share(column: Column, spec: FeatureSpec) -> float:
    if isinstance(column, JaggedColumn):
        return float((column.lengths == 0).mean()) if len(column.lengths) else 0.0
    return float((column.values < 0).mean()) if spec.kind == "id" and len(column.values) else 0.0


def _is_number(config: FeatureConfig) -> bool:
    numbers = (FeatureType.RawFeature, FeatureType.PassThroughFeature)
    return config.feature_type in numbers or (
        config.feature_type is FeatureType.SequenceFeature and config.sub_feature_type is FeatureType.RawFeature
    )


def _rounded(size: int) -> int:
    """A size with two digits, rounded up."""
    unit: int = 10 ** max(len(str(size)) - 2, 0)
    return -(-size // unit) * unit
