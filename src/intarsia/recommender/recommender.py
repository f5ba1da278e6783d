"""The fitted bundle: configuration, schema, vocabularies, weights, and what it remembers of users and items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from intarsia import __version__
from intarsia.config.resolve import dump_yaml
from intarsia.config.schema import DataConfig, LogConfig, PipelineConfig
from intarsia.core.batch import Batch
from intarsia.core.errors import CheckpointError, ConfigError, DataError
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
            rows: A data frame (Polars, pandas, Arrow) or a mapping of columns; columns that no feature reads may be
                absent.
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
        from intarsia.recommender.measure import evaluate_part, open_part

        return evaluate_part(self.model, self.config, open_part(self, data))

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
            on_unknown: What to do about unknown ids. `error`; `warn` (told in a further column `note`); `ignore`.
                Without an error, unknown users get what the model says of somebody without columns or history, and
                unknown items of a history or of the candidates are left out.

        Returns:
            Columns: the user column (or `request`, the number of the history), `rank` from 1, the item column, the
            title where the item table has one, `score`, and perhaps `note`. Fewer than k rows where fewer items are
            left.

        Raises:
            DataError: The data were no log, ids are unknown, k is not positive, or both or none of users and history
                are given.
        """
        known = self._require_known("recommend")
        if (users is None) == (history is None):
            received = "none of them" if users is None else "both"
            raise DataError(f"recommend needs either `users` or `history`. Received: {received}.")
        if k < 1:
            raise DataError(f"k must be at least 1. Received: {k}.")
        if users is not None:
            ids = _ids(users, "users", "ids")
            rows, unknown = known.user_rows(ids)
            _refuse(unknown, "users", on_unknown)
            strangers = set(unknown)
            notes = ["unknown user" if name in strangers else None for name in ids]
            names = pl.Series(known.config.user_field, ids, dtype=pl.String)
        else:
            lists = [_ids(one, "history", "lists of ids") for one in _listed(history, "history", "lists of ids")]
            outside = [[i for i in one if i not in known.position] for one in lists]
            _refuse([i for one in outside for i in one], "items of a history", on_unknown)
            notes = [f"unknown: {_few(one)}" if one else None for one in outside]
            rows = known.anonymous_rows([[i for i in one if i in known.position] for one in lists])
            names = pl.Series("request", np.arange(len(lists)))
        out = self._best(rows, names, k, filter_seen, self._candidates(candidates, on_unknown))
        if on_unknown == "warn":
            told = pl.Series("note", notes, dtype=pl.String)
            out = out.with_columns(told.gather(out["__request"]))
        return out.drop("__request")

    def _best(
        self, rows: pl.DataFrame, names: pl.Series, k: int, filter_seen: bool, candidates: npt.NDArray[np.bool_] | None
    ) -> pl.DataFrame:
        """The best items of each row, in the order of the rows; `__request` is the number of the row."""
        known = self._require_known("recommend")
        shown = [known.config.item_field]
        if known.config.title_field and known.config.title_field in known.items.columns:
            shown.append(known.config.title_field)
        items = known.items.select(shown)
        schema = pl.Schema(
            {names.name: names.dtype, "rank": pl.Int64(), "score": pl.Float32(), "__request": pl.Int64()}
        )
        frames = [pl.concat([pl.DataFrame(schema=schema), items.clear()], how="horizontal")]
        for numbers, scores in self._pair_scorer().scores(known.queries(rows)):
            allowed = known.allowed(rows[numbers] if filter_seen else None, candidates, len(numbers))
            best, values = top_items(scores, allowed, k)
            found = best >= 0
            who, rank = np.nonzero(found)
            frame = pl.DataFrame(
                {
                    names.name: names.gather(numbers[who]),
                    "rank": rank + 1,
                    "score": values[found],
                    "__request": numbers[who],
                },
                schema=schema,
            )
            frames.append(pl.concat([frame, items[best[found]]], how="horizontal"))
        return pl.concat(frames).select(names.name, "rank", *shown, "score", "__request")

    def _candidates(self, candidates: Sequence[Any] | None, on_unknown: Unknown) -> npt.NDArray[np.bool_] | None:
        if candidates is None:
            return None
        known = self._require_known("recommend")
        ids = _ids(candidates, "candidates", "ids")
        _refuse([c for c in ids if c not in known.position], "candidates", on_unknown)
        mask = np.zeros(known.items.height, dtype=bool)
        mask[[known.position[c] for c in ids if c in known.position]] = True
        return mask

    def _pair_scorer(self) -> PairScorer:
        if self._scorer is None:
            known = self._require_known("recommend")
            self._scorer = PairScorer(self.model, self.encoder, known.items, known.user_columns, _as_score)
        return self._scorer

    def _require_known(self, what: str) -> Known:
        if self.known is None:
            raise DataError(
                f"{what} needs to know users and items, and this model was trained on plain rows. Train on an "
                f"interaction log "
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
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise CheckpointError(
                f"the bundle {folder} could not be written: {reason}. Free space or choose another folder."
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
        write_json(folder / "bundle.json", {**about, "known": self.known is not None, "metrics": self.metrics})

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Recommender:
        """Reads a bundle, or the bundle of a run folder.

        Args:
            folder: A bundle, or a run folder that has one.
            device: Where the model goes.

        Raises:
            CheckpointError: There is no bundle, it is damaged, or a version of intarsia wrote it that this one cannot
                read.
        """
        folder = find_bundle(Path(folder))
        about = _read_json(folder / "bundle.json")
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder} has the bundle format {about.get('format')!r}, written by intarsia {about.get('intarsia')}. "
                f"This version ({__version__}) reads format {FORMAT}. Train anew, or use the version that wrote it."
            )
        try:
            config, schema, encoder, model = _read(folder)
        except (ConfigError, DataError, KeyError, TypeError) as error:
            written = about.get("intarsia")
            other = f" (intarsia {written} wrote it, this is {__version__})" if written != __version__ else ""
            first = next((line for line in str(error).splitlines()[1:] if line.strip()), str(error))
            told = (
                first.strip() if str(error).endswith(":") or "problems:" in str(error).splitlines()[0] else str(error)
            )
            raise CheckpointError(
                f"{folder} must hold a whole bundle. Received: {told.splitlines()[0]}{other} Copy or train the bundle "
                "anew; components of your own are imported first (`intarsia --import MODULE ...`)."
            ) from error
        try:
            tensors = load_file(folder / "model.safetensors", device="cpu")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{folder / 'model.safetensors'} must hold the weights. Received: {error}. Copy or train the bundle "
                f"anew."
            ) from None
        _load_state(model, tensors, folder)
        known = Known.load(folder, config.data_config.log or LogConfig()) if about.get("known") else None
        return cls(config, schema, encoder, model.to(device), known, about.get("metrics"), folder)


def _read(folder: Path) -> tuple[PipelineConfig, Schema, FeatureEncoder, Model]:
    """What a bundle holds beside weights, users and items."""
    from intarsia.recommender.pipeline import load_pipeline

    config = load_pipeline(folder / "pipeline.yaml").config
    schema = Schema.from_json(_read_json(folder / "schema.json"))
    encoder = FeatureEncoder.load(folder / "features")
    return config, schema, encoder, build(config.model, schema, backend=config.train_config.embedding_backend)


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
        raise CheckpointError(
            f"{path} must be readable JSON. Received: {error}. Copy or train the bundle anew."
        ) from None
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
        raise CheckpointError(
            f"the weights of {folder} belong to another model: {'; '.join(wrong[:3])}{more}. Use its own pipeline.yaml."
        )
    model.load_state_dict(dict(tensors))


def _as_score(predictions: dict[str, Tensor]) -> Tensor:
    for name in ("logits", "y"):
        if name in predictions and predictions[name].dim() == 1:
            return predictions[name]
    raise DataError("recommend needs one score a row; this model predicts classes. Use `score` on rows instead.")


def _listed(values: Any, name: str, what: str) -> list[Any]:
    """The values as a list; a lone value or a text is a mistake."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DataError(f"`{name}` must be a list of {what}. Received: {values!r}. Put it into a list.")
    return list(values)


def _ids(values: Any, name: str, what: str) -> list[str]:
    return [str(value) for value in _listed(values, name, what)]


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _refuse(unknown: Sequence[str], what: str, on_unknown: Unknown) -> None:
    """Raises where there are unknown ids and these are errors."""
    if on_unknown not in get_args(Unknown):
        raise DataError(f"on_unknown must be one of {', '.join(get_args(Unknown))}. Received: {on_unknown!r}.")
    if unknown and on_unknown == "error":
        raise DataError(
            f"{what} must be known to the model. Received {len(unknown)} unknown: {_few(unknown)}. Correct them, or "
            f"set "
            "on_unknown to `warn` or `ignore`."
        )


__all__ = ["Recommender", "find_bundle"]
