"""What the columns of a table probably are, and the starter pipeline that follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from intarsia.config.schema import DataConfig, InputField, InputType
from intarsia.core.errors import DataError
from intarsia.data import profile
from intarsia.data.reading import read_table

Kind = Literal["id", "number", "tags", "sequence", "label", "left out"]

LABELS = (
    "label|labels|target|y|click|clicked|clk|is_click|isclick|conversion|converted|buy|purchase|purchased|like|liked"
)
_LABEL = re.compile(rf"^({LABELS})$", re.IGNORECASE)
_RATING = re.compile(r"^(rating|stars|score)s?$", re.IGNORECASE)
_TIME = re.compile(r"(^|_)(time|timestamp|ts|date|datetime|created_at)($|_)|_at$", re.IGNORECASE)
_USER = re.compile(r"^(user|uid|customer|visitor|member)(_?id)?$", re.IGNORECASE)
_ITEM = re.compile(r"^(item|iid|product|movie|article|song|track|video|book|ad|sku|asin)(_?id)?$", re.IGNORECASE)
_ID = re.compile(r"(^|_)(id|code|zip|key|hash|no)$|id$", re.IGNORECASE)
_ORDER = re.compile(r"hist|seq|recent|last_|latest|session", re.IGNORECASE)

LIST_SEPARATORS = "|;,"
FEW = 30
"""Whole numbers with at most this many values count as ids."""
MANY = 1_000_000
"""Ids with more values than this are hashed."""
BUCKETS = 10
WIDTH = 16
LONG_TEXT = 40


@dataclass
class Guess:
    """What one column probably is.

    Attributes:
        name: Name of the column.
        kind: What it becomes.
        why: One line of what was seen.
        options: Options of the feature.
    """

    name: str
    kind: Kind
    why: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Starter:
    """A table that was looked at.

    Attributes:
        path: The file.
        data: How it is read.
        names: Whether the names were made up, because the file has no header.
        rows: Rows.
        guesses: One entry a column.
        label: The label's column.
        regression: Whether the label is a number to be predicted, not a class.
    """

    path: Path
    data: DataConfig
    made_up: bool
    rows: int
    guesses: list[Guess]
    label: str
    regression: bool

    def of(self, *kinds: Kind) -> list[Guess]:
        """Columns of these kinds."""
        return [guess for guess in self.guesses if guess.kind in kinds]


def look_at(path: Path, label: str | None = None) -> Starter:
    """Reads a table and guesses what its columns are.

    Args:
        path: CSV, TSV (perhaps gzipped) or Parquet.
        label: The label's column. Default: told by its name, or the only column of zeros and ones.

    Raises:
        DataError: The file cannot be read, or no column looks like a label.
    """
    data, made_up = _reading(path)
    frame = read_table(path, data).frame
    if not frame.height:
        raise DataError(f"{path} has no rows, so there is nothing to look at")
    chosen = _label(frame, label, path)
    numbers = _as_numbers(frame[chosen])
    if numbers is None:
        shown = ", ".join(map(repr, frame[chosen].drop_nulls().unique().sort().head(5).to_list()))
        raise DataError(
            f"a label must be a number in every row. Received in `{chosen}`: {shown}. Write 0 and 1, or name "
            "another column with --label."
        )
    regression = not set(np.unique(numbers)) <= {0.0, 1.0}
    guesses = [
        Guess(
            chosen, "label", "a number to predict" if regression else f"0 or 1; 1 in {numbers.mean():.1%} of the rows"
        )
        if column.name == chosen
        else _guess(column)
        for column in frame.get_columns()
    ]
    if not any(guess.kind in ("id", "number", "tags", "sequence") for guess in guesses):
        raise DataError(f"{path} has no column besides `{chosen}` that a model could learn from")
    return Starter(path, data, made_up, frame.height, guesses, chosen, regression)


def _reading(path: Path) -> tuple[DataConfig, bool]:
    """How the file is read, and whether names had to be made up."""
    if path.suffix.lower() == ".parquet":
        return DataConfig(input_type=InputType.ParquetInput), False
    lines = _first_lines(path)
    if not lines:
        raise DataError(f"{path} is empty")
    counts = {separator: lines[0].count(separator) for separator in ("\t", ",", ";", "|")}
    separator = max(counts, key=lambda s: counts[s])
    cells = [cell.strip().strip('"') for cell in lines[0].split(separator)]
    named = all(cell and not _is_number(cell) for cell in cells) and len(set(cells)) == len(cells)
    if named:
        return DataConfig(separator=separator, with_header=True), False
    fields = [InputField(input_name=f"column_{k}") for k in range(1, len(cells) + 1)]
    return DataConfig(separator=separator, input_fields=fields), True


def _first_lines(path: Path) -> list[str]:
    import gzip

    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as file
        ):
            return [line.rstrip("\r\n") for _, line in zip(range(2), file, strict=False)]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(
            f"{path} must be UTF-8 text (CSV, TSV, perhaps gzipped) or Parquet. Received: {error}"
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label(frame: pl.DataFrame, label: str | None, path: Path) -> str:
    if label is not None:
        if label not in frame.columns:
            raise DataError(f"{path} has no column `{label}`. Its columns: {', '.join(frame.columns)}")
        return label
    for pattern in (_LABEL, _RATING):
        named = [name for name in frame.columns if pattern.match(name)]
        if named:
            return named[0]
    binary = [
        c.name for c in frame.get_columns() if (v := _as_numbers(c)) is not None and set(np.unique(v)) == {0.0, 1.0}
    ]
    if len(binary) == 1:
        return binary[0]
    hint = f"Columns of zeros and ones: {', '.join(binary)}" if binary else f"Its columns: {', '.join(frame.columns)}"
    raise DataError(f"no column of {path} is called like a label. Name it with --label. {hint}.")


def _as_numbers(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The numbers of a column; None where a cell is missing or no number."""
    if column.dtype.is_nested() or column.dtype.is_temporal():
        return None
    numbers = column.cast(pl.Float64, strict=False)
    return None if numbers.null_count() or not numbers.is_finite().all() else numbers.to_numpy()


def _guess(column: pl.Series) -> Guess:
    name = column.name
    absent = profile.missing(column)
    if absent == len(column):
        return Guess(name, "left out", "empty")
    if isinstance(column.dtype, pl.List | pl.Array):
        return _list(name, column, "lists", {})
    found = profile.ids(column)
    seen = f"{found.distinct:,} values" + (f", {absent / len(column):.1%} missing" if absent else "")
    if found.distinct == 1:
        return Guess(name, "left out", f"always {found.most_common!r}")
    if column.dtype.is_temporal() or (_TIME.search(name) and not _ID.search(name)):
        return Guess(name, "left out", f"a time ({seen})")
    if column.dtype == pl.String:
        return _text(column, found, seen)
    if column.dtype == pl.Boolean:
        return Guess(name, "left out", f"true or false: write 0 and 1 to use it ({seen})")
    whole = column.dtype.is_integer()
    if whole and (_ID.search(name) or _USER.match(name) or _ITEM.match(name) or found.distinct <= FEW):
        return Guess(name, "id", f"whole numbers, {seen}", _ids(found.distinct))
    numbers = column.drop_nulls().cast(pl.Float64).to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Guess(name, "left out", "no finite number")
    borders = np.unique(np.quantile(numbers, np.linspace(0, 1, BUCKETS + 1)[1:-1], method="inverted_cdf"))
    borders = borders[borders > numbers.min()]
    if not len(borders):
        borders = np.array([numbers.max()])
    rounded = sorted({float(f"{border:.6g}") for border in borders})
    options = {"feature_type": "RawFeature", "boundaries": rounded}
    return Guess(
        name, "number", f"numbers from {numbers.min():.6g} to {numbers.max():.6g}, in buckets of equal share", options
    )


def _text(column: pl.Series, found: profile.IdProfile, seen: str) -> Guess:
    name = column.name
    texts = column.drop_nulls()
    for separator in LIST_SEPARATORS:
        # A list, if many cells have the separator, and their parts repeat much more than the cells do.
        share = float(texts.str.contains(separator, literal=True).mean() or 0.0)  # type: ignore[arg-type]
        if share > 0.1:
            parts = texts.str.split(separator).explode()
            mean = float(parts.str.len_chars().mean() or 0.0)  # type: ignore[arg-type]
            if parts.n_unique() < max(0.5 * len(parts), 2) and mean < LONG_TEXT:
                return _list(name, column, f"lists separated by {separator!r}", {"separator": separator}, separator)
    length = float(texts.str.len_chars().mean() or 0.0)  # type: ignore[arg-type]
    if (
        found.distinct > 0.9 * found.values
        and found.values > 20
        and not (_ID.search(name) or _USER.match(name) or _ITEM.match(name))
    ):
        return Guess(name, "left out", f"different in nearly every row ({seen})")
    if length > LONG_TEXT and not _ID.search(name):
        return Guess(name, "left out", f"long text ({seen})")
    return Guess(name, "id", f"text, {seen}", _ids(found.distinct))


def _list(name: str, column: pl.Series, what: str, options: dict[str, Any], separator: str = "") -> Guess:
    counts = profile.list_lengths(column, separator)
    found = profile.lengths(counts)
    seen = f"{what}, up to {int(found.quantiles[-1])} long"
    if isinstance(column.dtype, pl.List | pl.Array) and column.dtype.inner.is_float():
        return Guess(name, "left out", f"lists of numbers ({seen})")
    if _ORDER.search(name):
        limit = int(min(max(found.quantiles[-2], 1), 100))
        more = {"max_seq_len": limit, "keep": "last", "sequence_combiner": {"attention": {}}}
        return Guess(name, "sequence", seen, {"feature_type": "SequenceFeature", **options, "vocab": "auto", **more})
    return Guess(name, "tags", seen, {"feature_type": "TagFeature", **options, "vocab": "auto", "combiner": "mean"})


def _ids(distinct: int) -> dict[str, Any]:
    if distinct <= MANY:
        return {"vocab": "auto"}
    return {"hash_bucket_size": 2 * distinct}


def pipeline_text(starter: Starter, model_dir: str) -> str:
    """The commented pipeline file of a table."""
    data = starter.data
    lines = [
        f"# Written by `intarsia init` after a look at {starter.rows:,} rows of {starter.path.name}. Change it freely.",
        "#   intarsia check FILE      what is in the data, and what does not fit",
        "#   intarsia show FILE       the model",
        "#   intarsia train FILE      train it",
        "",
        f"train_input_path: {_scalar(str(starter.path))}",
        "# eval_input_path: valid.csv      # rows of their own to evaluate on; then leave data_config.split out",
        f"model_dir: {_scalar(model_dir)}",
        "",
        "data_config:",
    ]
    if data.input_type is InputType.ParquetInput:
        lines.append("  input_type: ParquetInput")
    else:
        lines.append(f"  separator: {_scalar(data.separator)}")
        if data.with_header:
            lines.append("  with_header: true")
    if starter.made_up:
        lines += ["  input_fields:             # the file has no header: give the columns better names"]
        lines += [f"  - {{input_name: {g.name}, input_type: {_type(g, starter)}}}" for g in starter.guesses]
    lines += [
        f"  label_fields: [{_scalar(starter.label)}]",
        "  batch_size: " + str(_batch_size(starter.rows)),
        "  num_epochs: 20",
        "  split: {by: random, valid: 0.1, test: 0.1}     # a tenth of the rows each to validate and to test",
        "  # on_bad_rows: skip         # leave rows out that cannot be read, instead of stopping",
        "",
        "feature_config:",
        "  features:",
    ]
    for k, guess in enumerate(starter.of("id", "number", "tags", "sequence")):
        options = {"input_names": [guess.name], **guess.options, "embedding_dim": WIDTH}
        # Small first values suit small data; the table's own default is larger. Written once, repeated by its name.
        initial = "*small" if k else "&small {random_normal_initializer: {stddev: 0.01}}"
        lines += [f"  # {guess.why}", f"  - {_flow(options)[:-1]}, initializer: {initial}}}"]
    left = starter.of("left out")
    if left:
        lines += ["  # Left out: " + "; ".join(f"{guess.name} ({guess.why})" for guess in left)]
    lines += ["", "model_config:", "  model_class: DeepFM"]
    if starter.regression:
        lines += ["  loss_type: L2_LOSS          # the label is a number; for 0 and 1 leave this line out"]
    lines += [
        "  feature_groups:             # '*' stands for all features",
        "  - {group_name: wide, feature_names: ['*'], wide_deep: WIDE}",
        "  - {group_name: deep, feature_names: ['*']}",
        "  deepfm:                     # options: intarsia models DeepFM",
        "    dnn: {hidden_units: [128, 64]}",
        "  embedding_regularization: 1.0e-6",
        "",
        "train_config:",
        "  optimizer: adam",
        "  learning_rate: 0.001",
        f"  early_stop: {{metric: {'rmse' if starter.regression else 'auc'}, patience: 2}}",
        "",
        "eval_config:",
        f"  metrics_set: [{'rmse, mae' if starter.regression else 'auc, logloss'}]",
        "",
        "export_config:",
        "  exporter_type: best         # keeps the weights of the best evaluation, not those of the last step",
        "",
    ]
    return "\n".join(lines)


def _type(guess: Guess, starter: Starter) -> str:
    if guess.kind in ("number", "label"):
        return "DOUBLE"
    return "STRING"


def _batch_size(rows: int) -> int:
    """A power of two that gives some hundred steps an epoch, between 32 and 1024."""
    return int(2 ** np.clip(np.floor(np.log2(max(rows, 1) / 100)), 5, 10))


def _flow(value: Any) -> str:
    """YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """A value as YAML writes it; text is quoted where it could be read as something else."""
    import json

    if isinstance(value, str):
        return (
            value if re.fullmatch(r"[A-Za-z_./][\w./-]*", value) and not _WORDS.fullmatch(value) else json.dumps(value)
        )
    return json.dumps(value)


_WORDS = re.compile(r"true|false|yes|no|on|off|null|none|y|n|\.inf|\.nan", re.IGNORECASE)
