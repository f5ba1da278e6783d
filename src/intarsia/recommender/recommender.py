"""The fitted bundle: configuration, schema, vocabularies, weights, and what it remembers of users and items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from intarsia import __version__
from intarsia.config.resolve import dump_yaml
from intarsia.config.schema import DataConfig, PipelineConfig
from intarsia.core.batch import Batch
from intarsia.core.errors import CheckpointError, DataError
from intarsia.core.files import filling, write_json, write_text
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.loader import Loader
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation, evaluating
from intarsia.models.base import AUXILIARY, Model
from intarsia.models.catalogue import build
from intarsia.recommender.known import Known
from intarsia.recommender.ranking import PairScorer, top_items
from intarsia.training.checkpoint import write_tensors

FORMAT = 1
Unknown = Literal["error", "warn", "ignore"]


class Recommender:
    """A trained model with all that it needs to answer in raw ids.

    Made by `intarsia.fit` or `Recommender.load`, not by hand.

    Args:
        config: The resolved pipeline.
        schema: Features and labels.
        encoder: Encodes raw columns; holds the vocabularies.
        model: The model, in evaluation mode after construction.
        known: Users and items, where the data were a log.
        metrics: Values that the model reached when it was trained, by part (`valid`, `test`) and name.
        folder: Folder of the run, None where it was never saved.
    """

    def __init__(
        self,
        config: PipelineConfig,
        schema: Schema,
        encoder: FeatureEncoder,
        model: Model,
        known: Known | None = None,
        metrics: Mapping[str, Mapping[str, float | None]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.schema, self.encoder = config, schema, encoder
        self.model = model.eval()
        self.known = known
        self.metrics = {part: dict(values) for part, values in (metrics or {}).items()}
        self.folder = folder
        self._scorer: PairScorer | None = None

    # Scoring rows

    def score(self, rows: Any, *, batch_size: int | None = None) -> pl.DataFrame:
        """Predictions for rows of raw columns.

        Args:
            rows: A data frame (Polars, pandas, Arrow) or a mapping of columns; columns that no feature reads may be absent.
            batch_size: Rows scored at a time. Default: `data_config.eval_batch_size`. Does not change the result.

        Returns:
            One row a row: `probs` and `logits` (binary), `y` (regression), or one `probs_<c>` a class and `y`.

        Raises:
            DataError: A column is missing or holds values of another type.
        """
        from intarsia.data.reading import from_frame

        frame = from_frame(rows, self._without_labels(), columns=self.encoder.input_columns).frame
        dataset = SampleDataset(self.schema, self.encoder.transform(frame), num_rows=frame.height)
        loader = Loader(dataset, batch_size or self.config.data_config.eval_batch_size)
        return self.predict(loader.epoch(0))

    def predict(self, batches: Iterator[Batch]) -> pl.DataFrame:
        """Predictions of encoded batches, in order; see `score`."""
        parts: dict[str, list[Tensor]] = {}
        device = next(self.model.parameters()).device
        with evaluating(self.model):
            for batch in batches:
                for name, value in self.model(batch.to(device)).items():
                    if not name.startswith(AUXILIARY):
                        parts.setdefault(name, []).append(value.float().cpu())
        columns: dict[str, npt.NDArray[np.float32]] = {}
        for name, values in parts.items():
            joined = torch.cat(values)
            if joined.dim() == 1:
                columns[name] = joined.numpy()
            else:
                columns.update({f"{name}_{c}": joined[:, c].numpy() for c in range(joined.shape[1])})
        return pl.DataFrame(columns)

    def evaluate(self, data: str | Path | Any | None = None) -> Evaluation:
        """Metrics on labelled rows.

        Args:
            data: Files, a data frame, or None: the pipeline's own test part (else its validation part).

        Returns:
            Values by metric name, number of rows, seconds.
        """
        from intarsia.recommender.prepare import evaluate_on, open_part

        return evaluate_on(self, open_part(self, data))

    # Recommending items

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        *,
        history: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        filter_seen: bool = True,
        candidates: Sequence[Any] | None = None,
        on_unknown: Unknown = "error",
    ) -> pl.DataFrame:
        """The k items that the model scores highest for each user.

        Args:
            users: Raw ids of known users. Give this or `history`.
            history: One list of raw item ids (oldest first) for each person that the model has never seen.
            k: Items for each user.
            filter_seen: Whether items of the user's log (of the given history) are left out.
            candidates: Raw ids of the only items that may be recommended. Default: all.
            on_unknown: What to do about unknown ids. `error`; `warn` (a notice in the column `note`); `ignore`. Without an
                error, unknown users get what the model says of somebody without columns or history, and unknown items of a
                history or of the candidates are left out.

        Returns:
            Columns: the user column (or `request`, the number of the history), `rank` from 1, the item column, `score`, and
            the title where the item table has one.

        Raises:
            DataError: The data were no log, ids are unknown, k is not positive, or both or none of users and history are given.
        """
        known = self._require_known("recommend")
        if (users is None) == (history is None):
            raise DataError("recommend needs either `users` or `history`. Received: " + ("none" if users is None else "both"))
        if k < 1:
            raise DataError(f"k must be at least 1. Received: {k}")
        item = known.config.item_field
        position = {i: n for n, i in enumerate(known.items[item].to_list())}
        notes: dict[int, str] = {}
        if users is not None:
            ids = [str(u) for u in users]
            rows, unknown = known.user_rows(ids)
            _tell(unknown, "users", on_unknown, notes, {u: n for n, u in enumerate(ids)})
            names = pl.Series(known.config.user_field, ids)
        else:
            lists = [[str(i) for i in one] for one in history or []]
            for number, one in enumerate(lists):
                _tell([i for i in one if i not in position], "items of a history", on_unknown, notes, None, number)
            rows = known.anonymous_rows([[i for i in one if i in position] for one in lists])
            names = pl.Series("request", np.arange(len(lists)))
        allowed = self._allowed(rows, position, filter_seen, candidates, on_unknown)
        return self._top(rows, names, allowed, k, notes)

    def _top(
        self, rows: pl.DataFrame, names: pl.Series, allowed: npt.NDArray[np.bool_] | None, k: int, notes: Mapping[int, str]
    ) -> pl.DataFrame:
        known = self._require_known("recommend")
        scorer = self._pair_scorer()
        keep = [known.config.item_field]
        if known.config.title_field and known.config.title_field in known.items.columns:
            keep.append(known.config.title_field)
        frames = []
        limit = known.config.max_history
        queries = rows.with_columns(pl.col("history").list.tail(limit).alias(known.config.history_field))
        for numbers, scores in scorer.scores(queries):
            best, values = top_items(scores, None if allowed is None else allowed[numbers], k)
            who = np.repeat(np.arange(len(numbers)), best.shape[1])
            what = best.reshape(-1)
            found = what >= 0
            frame = pl.DataFrame(
                {
                    names.name: names.gather(numbers[who[found]]),
                    "rank": np.tile(np.arange(1, best.shape[1] + 1), len(numbers))[found],
                    "score": values.reshape(-1)[found],
                }
            )
            frames.append(pl.concat([frame, known.items.select(keep)[what[found]]], how="horizontal"))
        out = pl.concat(frames).select(names.name, "rank", *keep, "score")
        if notes:
            told = {str(names[n]): text for n, text in notes.items()}
            out = out.with_columns(pl.col(names.name).cast(pl.String).replace_strict(told, default=None).alias("note"))
        return out

    def _allowed(
        self,
        rows: pl.DataFrame,
        position: Mapping[str, int],
        filter_seen: bool,
        candidates: Sequence[Any] | None,
        on_unknown: Unknown,
    ) -> npt.NDArray[np.bool_] | None:
        if not filter_seen and candidates is None:
            return None
        allowed = np.ones((rows.height, len(position)), dtype=bool)
        if candidates is not None:
            ids = [str(c) for c in candidates]
            _tell([c for c in ids if c not in position], "candidates", on_unknown, {}, None)
            allowed[:] = False
            allowed[:, [position[c] for c in ids if c in position]] = True
        if filter_seen:
            seen = rows.select(pl.int_range(pl.len()).alias("row"), "seen").explode("seen").drop_nulls()
            index = seen["seen"].replace_strict(position, default=None, return_dtype=pl.Int64)
            pairs = pl.DataFrame({"row": seen["row"], "item": index}).drop_nulls()
            allowed[pairs["row"].to_numpy(), pairs["item"].to_numpy()] = False
        return allowed

    def _pair_scorer(self) -> PairScorer:
        if self._scorer is None:
            known = self._require_known("recommend")
            user_columns = {*known.users.columns, known.config.history_field} - {"history", "seen"}
            self._scorer = PairScorer(
                self.model, self.encoder, known.items, user_columns | {known.config.history_field}, _as_score
            )
        return self._scorer

    def _require_known(self, what: str) -> Known:
        if self.known is None:
            raise DataError(
                f"{what} needs to know users and items, and this model was trained on plain rows. Train on an interaction log "
                "(data_config.dataset or data_config.log), or score rows with `score`."
            )
        return self.known

    def _without_labels(self) -> DataConfig:
        data = self.config.data_config
        labels = set(data.label_fields)
        fields = [field for field in data.input_fields if field.input_name not in labels]
        return data.model_copy(update={"input_fields": fields, "label_fields": []})

    # Bundles

    def save(self, folder: str | Path) -> Path:
        """Writes the bundle: safetensors, Parquet, JSON and YAML, no pickle.

        A bundle that is already there is replaced once all of the new one is on the disk.

        Raises:
            CheckpointError: The disk is full or the folder cannot be written. What was there is untouched.
        """
        folder = Path(folder)
        try:
            with filling(folder, last="bundle.json") as aside:
                self._write(aside)
        except OSError as error:
            raise CheckpointError(
                f"the bundle {folder} could not be written: {error.strerror or error}. Free space or choose another "
                "folder."
            ) from error
        self.folder = folder
        return folder

    def _write(self, folder: Path) -> None:
        write_text(folder / "pipeline.yaml", dump_yaml(self.config))
        write_json(folder / "schema.json", self.schema.to_json())
        self.encoder.save(folder / "features")
        write_tensors(self.model.state_dict(), folder / "model.safetensors")
        if self.known is not None:
            self.known.save(folder)
        about = {"format": FORMAT, "intarsia": __version__, "model_class": self.config.model.model_class}
        write_json(folder / "bundle.json", {**about, "metrics": self.metrics})

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Recommender:
        """Reads a bundle, or the bundle of a run folder.

        Args:
            folder: A bundle, or a run folder that has one.
            device: Where the model goes.

        Raises:
            CheckpointError: There is no bundle, it is damaged, or a version of intarsia wrote it that this one cannot read.
        """
        folder = find_bundle(Path(folder))
        about = _read_json(folder / "bundle.json")
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder} has the bundle format {about.get('format')!r}, written by intarsia {about.get('intarsia')}. This "
                f"version ({__version__}) reads format {FORMAT}. Train anew, or use the version that wrote it."
            )
        from intarsia.recommender.pipeline import load_pipeline

        config = load_pipeline(folder / "pipeline.yaml").config
        schema = Schema.from_json(_read_json(folder / "schema.json"))
        encoder = FeatureEncoder.load(folder / "features")
        model = build(config.model, schema, backend=config.train_config.embedding_backend)
        try:
            tensors = load_file(folder / "model.safetensors", device="cpu")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{folder / 'model.safetensors'} must hold the weights. Received: {error}. Copy or train the bundle anew."
            ) from None
        _load_state(model, tensors, folder)
        log = config.data_config.log
        known = Known.load(folder, log) if log is not None else None
        return cls(config, schema, encoder, model.to(device), known, about.get("metrics"), folder)


def find_bundle(folder: Path) -> Path:
    """The folder itself or its `bundle`.

    Raises:
        CheckpointError: Neither holds a complete bundle.
    """
    for place in (folder, folder / "bundle"):
        if (place / "bundle.json").exists():
            return place
    what = "does not exist" if not folder.exists() else "holds no complete bundle (bundle.json is written last)"
    raise CheckpointError(f"{folder} {what}. Name the folder of a finished run, or resume its training.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} must be readable JSON. Received: {error}. Copy or train the bundle anew.") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object. Received: {type(value).__name__}.")
    return value


def _load_state(model: Model, tensors: Mapping[str, Tensor], folder: Path) -> None:
    own = model.state_dict()
    wrong = [f"`{n}` is missing" for n in own if n not in tensors]
    wrong += [f"`{n}` is not part of the model" for n in tensors if n not in own]
    wrong += [
        f"`{n}` has the shape {tuple(tensors[n].shape)}, the model wants {tuple(own[n].shape)}"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"the weights of {folder} belong to another model: {'; '.join(wrong[:3])}{more}. Use its own pipeline.yaml.")
    model.load_state_dict(dict(tensors))


def _as_score(predictions: dict[str, Tensor]) -> Tensor:
    for name in ("logits", "y"):
        if name in predictions and predictions[name].dim() == 1:
            return predictions[name]
    raise DataError("recommend needs one score a row; this model predicts classes. Use `score` on rows instead.")


def _tell(
    unknown: list[str],
    what: str,
    on_unknown: Unknown,
    notes: dict[int, str],
    numbers: Mapping[str, int] | None,
    number: int | None = None,
) -> None:
    """Raises or notes unknown ids."""
    if not unknown:
        return
    shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    if on_unknown == "error":
        raise DataError(
            f"{what} must be known to the model. Received {len(unknown)} unknown: {shown}. Correct them, or set on_unknown to "
            "`warn` or `ignore`."
        )
    if on_unknown == "warn":
        for one in unknown:
            place = number if numbers is None else numbers[one]
            if place is not None:
                notes[place] = f"unknown: {shown}" if numbers is None else "unknown user"


__all__ = ["Recommender", "find_bundle"]
