"""Recommenders whose model scores rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from intarsia.config.schema import DataConfig, LogConfig, PipelineConfig
from intarsia.core.batch import Batch
from intarsia.core.errors import DataError
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.loader import Loader
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation, evaluating
from intarsia.models.base import AUXILIARY, Model
from intarsia.recommender.known import Known
from intarsia.recommender.ranking import PairScorer, top_items
from intarsia.recommender.recommender import Recommender, Unknown, few, ids_of, listed, refuse


class RowRecommender(Recommender):
    """A model that scores rows: of plain samples, or of a user and an item.

    Args:
        config: The resolved pipeline.
        schema: Features and labels.
        encoder: Encodes raw columns; holds the vocabularies.
        model: The model, in evaluation mode after construction.
        known: Users and items, where the data were a log.
        metrics: Values that the model reached when it was trained, by part (`valid`, `test`) and name.
        folder: Folder of the run, None where it was never saved.
    """

    kind = "rows"

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
        super().__init__(config, schema, model, metrics, folder)
        self.encoder, self.known = encoder, known
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
        """The best items of each user; see `Recommender.recommend`."""
        known = self._require_known("recommend")
        if (users is None) == (history is None):
            received = "none of them" if users is None else "both"
            raise DataError(f"recommend needs either `users` or `history`. Received: {received}.")
        if k < 1:
            raise DataError(f"k must be at least 1. Received: {k}.")
        if users is not None:
            ids = ids_of(users, "users", "ids")
            rows, unknown = known.user_rows(ids)
            refuse(unknown, "users", on_unknown)
            strangers = set(unknown)
            notes = ["unknown user" if name in strangers else None for name in ids]
            names = pl.Series(known.config.user_field, ids, dtype=pl.String)
        else:
            lists = [ids_of(one, "history", "lists of ids") for one in listed(history, "history", "lists of ids")]
            outside = [[i for i in one if i not in known.position] for one in lists]
            refuse([i for one in outside for i in one], "items of a history", on_unknown)
            notes = [f"unknown: {few(one)}" if one else None for one in outside]
            rows = known.anonymous_rows([[i for i in one if i in known.position] for one in lists])
            names = pl.Series("request", np.arange(len(lists)))
        out = self._best(rows, names, k, filter_seen, self._candidates(candidates, on_unknown))
        if on_unknown == "warn":
            told = pl.Series("note", notes, dtype=pl.String)
            out = out.with_columns(told.gather(out["__request"]))
        return out.drop("__request")

    def request_rows(self, users: Sequence[Any], history: Sequence[Sequence[Any]] | None) -> pl.DataFrame:
        """One row of user columns for each user, or for each history; unknown ids leave columns empty."""
        known = self._require_known("recommend")
        if history is None:
            return known.user_rows([str(user) for user in users])[0]
        return known.anonymous_rows([[str(i) for i in one if str(i) in known.position] for one in history])

    def pair_scores(self, rows: pl.DataFrame, who: npt.NDArray[np.int64], items: Sequence[str]) -> list[float | None]:
        """Scores of pairs: a row of `request_rows`, and an item by raw id; None for an item that is not known."""
        known = self._require_known("recommend")
        what = np.array([known.position.get(item, -1) for item in items], dtype=np.int64)
        found = np.flatnonzero(what >= 0)
        out: list[float | None] = [None] * len(what)
        scores = self._pair_scorer().pair_scores(known.queries(rows), who[found], what[found])
        for place, value in zip(found.tolist(), scores.tolist()):
            out[place] = value
        return out

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
        ids = ids_of(candidates, "candidates", "ids")
        refuse([c for c in ids if c not in known.position], "candidates", on_unknown)
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

    def _write_own(self, folder: Path) -> dict[str, Any]:
        self.encoder.save(folder / "features")
        if self.known is not None:
            self.known.save(folder)
        return {"known": self.known is not None}

    @classmethod
    def _read_own(
        cls, folder: Path, about: Mapping[str, Any], config: PipelineConfig, schema: Schema, model: Model
    ) -> Self:
        known = Known.load(folder, config.data_config.log or LogConfig()) if about.get("known") else None
        encoder = FeatureEncoder.load(folder / "features")
        return cls(config, schema, encoder, model, known, about.get("metrics"), folder)


def _as_score(predictions: dict[str, Tensor]) -> Tensor:
    for name in ("logits", "y"):
        if name in predictions and predictions[name].dim() == 1:
            return predictions[name]
    raise DataError("recommend needs one score a row; this model predicts classes. Use `score` on rows instead.")
