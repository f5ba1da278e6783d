"""All features of a pipeline file over frames of raw columns."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from intarsia.config.schema.data import DataConfig
from intarsia.config.schema.features import FeatureConfig, FeatureType
from intarsia.core.errors import ConfigError, DataError
from intarsia.data.columns import Column
from intarsia.data.features.base import Feature
from intarsia.data.features.cells import Defaults
from intarsia.data.features.checks import check_features, expand_shared, shared_tables
from intarsia.data.features.combos import ComboFeature
from intarsia.data.features.context import Context
from intarsia.data.features.expressions import ExprFeature
from intarsia.data.features.ids import IdFeature
from intarsia.data.features.lookups import LookupFeature
from intarsia.data.features.raw import PassThroughFeature, RawFeature
from intarsia.data.features.sequences import make_sequence
from intarsia.data.features.sources import SourceMaker
from intarsia.data.features.tags import TagFeature
from intarsia.data.reading.fields import check_present
from intarsia.data.reading.table import skips_bad_rows
from intarsia.data.schema import FeatureSpec
from intarsia.data.vocabulary import ValueCounter, Vocabulary

FORMAT = 1
"""Version of the saved form."""

MAX_THREADS = 8
"""Features that are encoded at a time."""

ROWS_WORTH_THREADS = 10_000
"""Smaller frames are encoded without threads."""


class FeatureEncoder:
    """Turns raw columns into encoded ones, the same way for training, evaluation and serving.

    Args:
        features: The features to encode.
        data_config: Types and defaults of the raw columns, and what happens to bad values.
        base_dir: Folder that `vocab_file` starts from. Default: the current one.
        vocabularies: Vocabularies by feature, where they are known already.

    Attributes:
        features: The options, with the copies for `shared_names` written out.
        input_columns: Raw columns that the features read.
        skipped: Values that broke a rule and were replaced, by rule (`on_bad_rows: skip`).

    Raises:
        ConfigError: The features' options are wrong; all problems at once.
        DataError: A vocabulary file cannot be read.
    """

    def __init__(
        self,
        features: Sequence[FeatureConfig],
        data_config: DataConfig,
        *,
        base_dir: str | Path | None = None,
        vocabularies: Mapping[str, Vocabulary] | None = None,
    ) -> None:
        # A model may take a feature into a group that sets the width itself, so a missing width is not refused here.
        problems = check_features(features, embedded=())
        if problems:
            raise ConfigError(problems)
        self.features: tuple[FeatureConfig, ...] = tuple(expand_shared(features, data_config.auto_expand_input_fields))
        self.data_config = data_config
        sources = SourceMaker(Path(base_dir or "."), vocabularies)
        self._features: tuple[Feature, ...] = tuple(_make(config, sources) for config in self.features)
        self.input_columns: tuple[str, ...] = tuple(
            dict.fromkeys(name for feature in self._features for name in feature.inputs)
        )
        self.skipped: Counter[str] = Counter()
        self._skip = skips_bad_rows(data_config)
        self._defaults = Defaults(data_config)
        self._tables = {config.name: table for table, users in shared_tables(self.features).items() for config in users}

    @property
    def is_fitted(self) -> bool:
        """Whether nothing remains to be learned from data."""
        return not self._to_learn()

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Vocabularies by feature, of those that have one: raw values to rows, and back."""
        sources = {feature.name: feature.vocabulary_source for feature in self._features}
        return {name: source.known() for name, source in sources.items() if source is not None}

    @property
    def schema_features(self) -> dict[str, FeatureSpec]:
        """What a model needs to know of each feature.

        Raises:
            DataError: A vocabulary is to be learned, and has not been.
            ConfigError: Features that share a table have vocabularies of different size.
        """
        specs = {feature.name: feature.spec(self._tables.get(feature.name, "")) for feature in self._features}
        sizes: dict[str, FeatureSpec] = {}
        for spec in specs.values():
            first = sizes.setdefault(spec.table, spec) if spec.table else spec
            if _rows(first) != _rows(spec):
                raise ConfigError(
                    f"Features that share embedding_name `{spec.table}` must agree in table size. Received "
                    f"{_rows(spec)} for `{spec.name}` and {_rows(first)} for `{first.name}`. "
                    "Give them one vocabulary, or drop embedding_name."
                )
        return specs

    def fit(self, frames: pl.DataFrame | Iterable[pl.DataFrame]) -> FeatureEncoder:
        """Learns vocabularies; features that share a table share one vocabulary.

        Args:
            frames: The training part and nothing else, whole or in pieces.
        """
        learning = self._to_learn()
        if not learning:
            return self
        counters: dict[str, ValueCounter] = {}
        for frame in [frames] if isinstance(frames, pl.DataFrame) else frames:
            columns = self._columns(frame, [name for feature in learning for name in feature.inputs])
            for feature in learning:
                context = Context(feature.name, self._skip)
                texts = feature.learnable([columns[name] for name in feature.inputs], context)
                counters.setdefault(self._key(feature), ValueCounter()).add(texts)
        made: dict[str, Vocabulary] = {}
        for feature in learning:
            key = self._key(feature)
            if key not in made:
                counter = counters.get(key, ValueCounter())
                made[key] = counter.vocabulary(feature.config.min_count, f"the vocabulary of `{key}`")
            assert feature.vocabulary_source is not None
            feature.vocabulary_source.vocabulary = made[key]
        return self

    def transform(
        self,
        frame: pl.DataFrame,
        *,
        only: Collection[str] | None = None,
        locate: Callable[[int], str] | None = None,
    ) -> dict[str, Column]:
        """Encoded columns by feature.

        Values that break a rule are an error, or counted in `skipped` where `on_bad_rows` is `skip`.

        Args:
            frame: Raw columns; an empty cell is null.
            only: Names of the features to encode; the frame needs their columns only. Default: all.
            locate: Names where a row of the frame came from, for messages (`ReadResult.origin`).

        Raises:
            DataError: A column is missing, a value breaks a rule, or a vocabulary has not been learned.
        """
        chosen = [feature for feature in self._features if only is None or feature.name in only]
        columns = self._columns(frame, [name for feature in chosen for name in feature.inputs])
        contexts = [Context(feature.name, self._skip, locate) for feature in chosen]

        def encode(feature: Feature, context: Context) -> Column:
            return feature.encode([columns[name] for name in feature.inputs], context)

        workers = min(len(chosen), MAX_THREADS, os.cpu_count() or 1)
        if workers > 1 and frame.height >= ROWS_WORTH_THREADS:
            with ThreadPoolExecutor(workers, thread_name_prefix="intarsia-encode") as pool:
                encoded = list(pool.map(encode, chosen, contexts))
        else:
            encoded = list(map(encode, chosen, contexts))
        for context in contexts:
            self.skipped.update(context.counts)
        return {feature.name: column for feature, column in zip(chosen, encoded, strict=True)}

    def values(self, name: str, frame: pl.DataFrame) -> pl.Series:
        """The raw values that a feature turns into ids, of all rows one after another.

        Args:
            name: Name of the feature.
            frame: Raw columns.
        """
        feature = next(feature for feature in self._features if feature.name == name)
        columns = self._columns(frame, feature.inputs)
        return feature.cells([columns[column] for column in feature.inputs], Context(name, skip=True)).values

    def report(self) -> str:
        """Values that broke a rule and were replaced, by rule; empty where there were none."""
        return "\n".join(f"{count} values: {rule}" for rule, count in self.skipped.most_common())

    def to_json(self) -> dict[str, Any]:
        """Plain data, vocabularies included."""
        files, index = self._shared_vocabularies()
        return {
            **self._options(),
            "vocabularies": index,
            "values": {key: vocabulary.to_json() for key, vocabulary in files.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FeatureEncoder:
        """The inverse of `to_json`; no file is read."""
        made = {key: Vocabulary.from_json(value, f"`{key}`") for key, value in data["values"].items()}
        return cls._from_options(data, {name: made[key] for name, key in data["vocabularies"].items()})

    def save(self, folder: str | Path) -> None:
        """Writes `features.json`, and one file for each vocabulary beside it."""
        folder = Path(folder)
        (folder / "vocabularies").mkdir(parents=True, exist_ok=True)
        files, index = self._shared_vocabularies()
        paths = {key: f"vocabularies/{k}.json" for k, key in enumerate(files)}
        for key, vocabulary in files.items():
            vocabulary.save(folder / paths[key])
        data = {**self._options(), "vocabularies": {name: paths[key] for name, key in index.items()}}
        text = json.dumps(data, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FeatureEncoder:
        """The inverse of `save`.

        Raises:
            DataError: A file is missing, damaged, or of another version.
        """
        path = Path(folder) / "features.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            version, names = data["format"], data["vocabularies"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"A saved encoder must be a folder with features.json. Received {path}: {error}. Restore the folder."
            ) from error
        if version != FORMAT:
            raise DataError(
                f"A saved encoder must have format {FORMAT}. Received {version} in {path}. Encode the data again."
            )
        made = {file: Vocabulary.load(Path(folder) / file) for file in dict.fromkeys(names.values())}
        return cls._from_options(data, {name: made[file] for name, file in names.items()})

    @classmethod
    def _from_options(cls, data: Mapping[str, Any], vocabularies: Mapping[str, Vocabulary]) -> FeatureEncoder:
        features = [FeatureConfig.model_validate(feature) for feature in data["features"]]
        return cls(features, DataConfig.model_validate(data["data_config"]), vocabularies=vocabularies)

    def _options(self) -> dict[str, Any]:
        kept = {"input_fields", "auto_expand_input_fields", "on_bad_rows", "ignore_error"}
        return {
            "format": FORMAT,
            "features": [config.model_dump(mode="json", exclude_unset=True) for config in self.features],
            "data_config": self.data_config.model_dump(mode="json", include=kept, exclude_unset=True),
        }

    def _shared_vocabularies(self) -> tuple[dict[str, Vocabulary], dict[str, str]]:
        """Different vocabularies by key, and the key of each feature's."""
        files: dict[str, Vocabulary] = {}
        index: dict[str, str] = {}
        keys: dict[int, str] = {}
        for name, vocabulary in self.vocabularies.items():
            key = keys.setdefault(id(vocabulary), name)
            files[key] = vocabulary
            index[name] = key
        return files, index

    def _to_learn(self) -> list[Feature]:
        sources = [(feature, feature.vocabulary_source) for feature in self._features]
        return [feature for feature, source in sources if source is not None and source.vocabulary is None]

    def _key(self, feature: Feature) -> str:
        return self._tables.get(feature.name, feature.name)

    def _columns(self, frame: pl.DataFrame, names: Iterable[str]) -> dict[str, pl.Series]:
        needed = list(dict.fromkeys(names))
        check_present(needed, frame.columns, "the features' input", "feature_config")
        return {name: self._defaults.apply(frame[name]) for name in needed}


def _rows(spec: FeatureSpec) -> int:
    return spec.num_ids if spec.kind == "id" else spec.width


def _make(config: FeatureConfig, sources: SourceMaker) -> Feature:
    match config.feature_type:
        case FeatureType.IdFeature:
            return IdFeature(config, sources)
        case FeatureType.RawFeature:
            return RawFeature(config)
        case FeatureType.TagFeature:
            return TagFeature(config, sources)
        case FeatureType.SequenceFeature:
            return make_sequence(config, sources)
        case FeatureType.ComboFeature:
            return ComboFeature(config, sources)
        case FeatureType.LookupFeature:
            return LookupFeature(config, sources)
        case FeatureType.ExprFeature:
            return ExprFeature(config)
        case FeatureType.PassThroughFeature:
            return PassThroughFeature(config)
