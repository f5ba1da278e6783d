"""The rows that a pipeline would train and evaluate on, raw, and what reading them shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.config.schema import PipelineConfig, SplitConfig
from intarsia.core.errors import DataError
from intarsia.data.features import FeatureEncoder
from intarsia.data.labels import drop_unlabelled, label_columns
from intarsia.data.log import histories, split_rows
from intarsia.data.reading import ReadResult, iter_row_groups, read_table, resolve_paths, row_group_index
from intarsia.recommender.options import data_options, label_name, metric_columns
from intarsia.recommender.parts import open_log, random_split

Level = Literal["error", "warning", "note"]
Kind = Literal["pipeline", "data"]

MAX_ROWS = 5_000_000
"""Rows of a Parquet data set that are looked at."""


@dataclass(frozen=True)
class Finding:
    """Something that the person at the keyboard should know.

    Attributes:
        level: `error`: training will fail or learn nothing. `warning`: likely a mistake. `note`: good to know.
        kind: `pipeline` or `data`.
        message: What was found and what to do.
    """

    level: Level
    kind: Kind
    message: str


@dataclass
class Part:
    """Rows of one part of the data.

    Attributes:
        frame: Raw columns. Of a log, the history column holds the row's own item.
        locate: Where a row came from.
        lengths: Lengths of the histories of a log, by feature.
    """

    frame: pl.DataFrame
    locate: Callable[[int], str] | None = None
    lengths: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)


class Find(Protocol):
    """Takes a finding."""

    def __call__(self, level: Level, message: str, kind: Kind = "data") -> None:
        """Adds it."""


class PartReader:
    """Reads the parts of a pipeline's data.

    Args:
        config: The pipeline.
        encoder: Its features.
        find: Is told of what reading shows.
    """

    def __init__(self, config: PipelineConfig, encoder: FeatureEncoder, find: Find) -> None:
        self.config, self.encoder, self.find = config, encoder, find
        self.data = data_options(config)
        self.label = label_name(config)

    def parts(self) -> dict[str, Part]:
        """`train`, and `valid` and `test` where there are such.

        Raises:
            DataError: The data cannot be read.
        """
        log = self.data.dataset is not None or self.data.log is not None
        return self._log_parts() if log else self._file_parts()

    def _file_parts(self) -> dict[str, Part]:
        config = self.config
        train = config.train_input_path or config.parquet_train_input
        if train is None:
            raise DataError(
                "a pipeline needs training data: `train_input_path`, `parquet_train_input` or `data_config.dataset`. "
                "Received none of them."
            )
        others = {"valid": config.eval_input_path or config.parquet_eval_input, "test": config.test_input_path}
        parts = {"train": self._read(train)}
        for name, spec in others.items():
            if spec is not None:
                parts[name] = self._read(spec)
        if len(parts) > 1 or self.data.split is None:
            if len(parts) == 1:
                self.find(
                    "note", "nothing is evaluated: the pipeline has neither eval_input_path nor data_config.split"
                )
            return parts
        whole = parts["train"]
        index = random_split(whole.frame.height, self.data.split, config.train_config.seed)
        return {name: Part(whole.frame[rows], _shifted(whole.locate, rows)) for name, rows in index.items()}

    def _needed(self) -> list[str]:
        weight = [self.data.sample_weight] if self.data.sample_weight else []
        labels = label_columns(self.data, [self.label])
        return list(dict.fromkeys([*self.encoder.input_columns, *labels, *weight, *metric_columns(self.config)]))

    def _read(self, spec: str) -> Part:
        paths = resolve_paths(spec)
        parquet = all(path.suffix == ".parquet" for path in paths)
        if parquet and sum(group.rows for group in row_group_index(paths)) > MAX_ROWS:
            return self._first_groups(paths)
        try:
            read = read_table(paths, self.data, columns=self._needed())
        except DataError as error:
            # Once more without the bad rows: how many there are, and what is in the others.
            lenient = self.data.model_copy(update={"on_bad_rows": "skip"})
            try:
                read = read_table(paths, lenient, columns=self._needed())
            except DataError:
                raise error from None
        read = drop_unlabelled(read, self.data, [self.label])
        self._tell_skipped(read)
        return Part(read.frame, read.origin)

    def _tell_skipped(self, read: ReadResult) -> None:
        if not read.skipped:
            return
        tolerated = self.data.on_bad_rows == "skip" or (self.data.on_bad_rows is None and self.data.ignore_error)
        told = "".join(f"\n  {row}" for row in read.examples[:3])
        cure = "they are left out" if tolerated else "correct them, or set data_config.on_bad_rows: skip"
        rows = "1 row" if read.skipped == 1 else f"{read.skipped:,} rows"
        self.find("warning" if tolerated else "error", f"{rows} cannot be read ({cure}):{told}")

    def _first_groups(self, paths: list[Path]) -> Part:
        chosen, count = [], 0
        for group in row_group_index(paths):
            if count >= MAX_ROWS:
                break
            chosen.append(group)
            count += group.rows
        frames = [f for _, _, f in iter_row_groups(paths, self.data, columns=self._needed(), groups=chosen)]
        self.find("note", f"only the first {count:,} rows of {paths[0]} and what follows it were looked at")
        return Part(pl.concat(frames))

    def _log_parts(self) -> dict[str, Part]:
        log = open_log(self.config)
        past = histories(log)
        index = split_rows(log, self.data.split or SplitConfig(), self.config.train_config.seed)
        history = log.config.history_field
        rows = log.rows().with_columns(pl.col(log.config.item_field).alias(history))
        counts = past.ends - past.starts
        reading = [config.name for config in self.encoder.features if history in config.input_names]
        return {
            name: Part(rows[numbers], None, dict.fromkeys(reading, counts[numbers]))
            for name, numbers in index.items()
            if len(numbers)
        }


def _shifted(locate: Callable[[int], str] | None, rows: npt.NDArray[np.int64]) -> Callable[[int], str] | None:
    return None if locate is None else lambda row: locate(int(rows[row]))
