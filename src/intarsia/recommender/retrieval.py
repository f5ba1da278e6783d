"""Recommenders whose model ranks a catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.interactions import Ints
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation, evaluating
from intarsia.models.base import Model
from intarsia.models.retriever import ItemScorer
from intarsia.nn.top_k import mask_, running_top_k
from intarsia.recommender.log_data import LogData, SideEncoders, open_log_data
from intarsia.recommender.logs import log_roles
from intarsia.recommender.memory import Memory
from intarsia.recommender.recommender import Recommender, Unknown, few, ids_of, listed, refuse
from intarsia.recommender.requests import RequestBatches, Requests

BLOCK = 8192
"""Items scored at a time."""
POPULAR = "popular items: neither the user nor the history is known"
"""Note beside the answer to somebody of whom nothing is known."""


class RetrievalRecommender(Recommender):
    """A model that ranks a catalogue for a user or a history.

    Somebody without a known user and without a history gets the items with most training interactions, unless the
    model has an answer of its own.

    Args:
        config: The resolved pipeline.
        schema: Numbers of users and items, side features.
        model: The model.
        encoders: Of side features.
        memory: Users, items, and what everybody took.
        metrics: Values that the model reached, by part and name.
        folder: Folder of the run, None where it was never saved.
    """

    kind = "retrieval"
    model: ItemScorer

    def __init__(
        self,
        config: PipelineConfig,
        schema: Schema,
        model: Model,
        encoders: SideEncoders,
        memory: Memory,
        metrics: Mapping[str, Mapping[str, float | None]] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(config, schema, model, metrics, folder)
        self.encoders, self.memory = encoders, memory
        self._requests: RequestBatches | None = None
        self._catalogue: Any = None
        self._has_catalogue = False

    @classmethod
    def from_data(
        cls,
        config: PipelineConfig,
        data: LogData,
        model: Model,
        metrics: Mapping[str, Mapping[str, float | None]] | None = None,
    ) -> Self:
        """The recommender of a model that was trained on a log."""
        roles = log_roles(config)
        context = data.encoders.by_group.get("context")
        columns = list(context.input_columns) if context is not None else []
        memory = Memory.of(data.division, (roles.user_field, roles.item_field), columns)
        return cls(config, data.schema, model, data.encoders, memory, metrics)

    # Recommending

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
        """The best items of each user or history; see `Recommender.recommend`.

        Of somebody of whom nothing is known, popular items are recommended; with `on_unknown="warn"` the note says so.
        """
        names, requests, notes = self._asked(users, history, k, on_unknown)
        allowed = self._candidates(candidates, on_unknown)
        out = self._best(requests, names, k, filter_seen, allowed)
        if on_unknown == "warn":
            empty = self._unanswerable(requests)
            told = ["; ".join(filter(None, [note, POPULAR if none else None])) for note, none in zip(notes, empty)]
            column = pl.Series("note", [text or None for text in told], dtype=pl.String)
            out = out.with_columns(column.gather(out["__request"]))
        return out.drop("__request")

    def similar_items(self, items: Sequence[Any], k: int = 10, *, on_unknown: Unknown = "error") -> pl.DataFrame:
        """Items that go with each of the given ones.

        By the cosine of item vectors where the model has such; otherwise what the model recommends to somebody who
        took that item alone.

        Args:
            items: Raw ids.
            k: Items for each.
            on_unknown: What to do about unknown ids; without an error they are left out.

        Returns:
            Columns: `to` (the given item), `rank`, the item column, the title where there is one, `score`.
        """
        ids = ids_of(items, "items", "ids")
        numbers = self.memory.item_ids.numbers(ids)
        refuse([raw for raw, n in zip(ids, numbers) if n < 0], "items", on_unknown)
        kept = numbers >= 0
        names = pl.Series("to", [raw for raw, keep in zip(ids, kept) if keep], dtype=pl.String)
        own = [np.array([n]) for n in numbers[kept]]
        if not self.model.indexable:
            return self._best(Requests.of_histories(own), names, k, True, None).drop("__request")
        with evaluating(self.model):
            vectors = torch.nn.functional.normalize(self._catalogue_now().items, dim=1)
            scores = (vectors[numbers[kept]] @ vectors.t()).float()
            scores[torch.arange(len(own)), torch.from_numpy(numbers[kept])] = -torch.inf
            values, best = running_top_k([(0, scores)], k)
        frame = self._table(names, np.arange(len(own)), best.numpy(), values.numpy())
        return frame.drop("__request")

    def _asked(
        self, users: Sequence[Any] | None, history: Sequence[Sequence[Any]] | None, k: int, on_unknown: Unknown
    ) -> tuple[pl.Series, Requests, list[str | None]]:
        """Names of the requests, the requests, and what there is to say of each."""
        memory = self.memory
        if (users is None) == (history is None):
            received = "none of them" if users is None else "both"
            raise DataError(f"recommend needs either `users` or `history`. Received: {received}.")
        if k < 1:
            raise DataError(f"k must be at least 1. Received: {k}.")
        if users is not None:
            ids = ids_of(users, "users", "ids")
            numbers = memory.user_ids.numbers(ids)
            refuse([raw for raw, n in zip(ids, numbers) if n < 0], "users", on_unknown)
            notes = ["unknown user" if n < 0 else None for n in numbers]
            names = pl.Series(memory.names[0], ids, dtype=pl.String)
            return names, Requests.of_users(memory, numbers), notes
        lists = [ids_of(one, "history", "lists of ids") for one in listed(history, "history", "lists of ids")]
        found = [memory.item_ids.numbers(one) for one in lists]
        outside = [[raw for raw, n in zip(one, ns) if n < 0] for one, ns in zip(lists, found)]
        refuse([raw for one in outside for raw in one], "items of a history", on_unknown)
        notes = [f"unknown: {few(one)}" if one else None for one in outside]
        known = [numbers[numbers >= 0] for numbers in found]
        return pl.Series("request", np.arange(len(lists))), Requests.of_histories(known), notes

    def _best(
        self,
        requests: Requests,
        names: pl.Series,
        k: int,
        filter_seen: bool,
        candidates: npt.NDArray[np.bool_] | None,
    ) -> pl.DataFrame:
        frames = [self._table(names, np.zeros(0, dtype=np.int64), np.zeros((0, 1)), np.zeros((0, 1)))]
        size = min(256, self.config.data_config.eval_batch_size)
        with evaluating(self.model):
            for numbers, part, scores in self._scored(requests, size):
                del part
                values, items = self._top(
                    scores, requests.part(numbers[0], numbers[-1] + 1), k, filter_seen, candidates
                )
                frames.append(self._table(names, numbers, items.numpy(), values.numpy()))
        return pl.concat(frames)

    def _top(
        self, blocks: Any, requests: Requests, k: int, filter_seen: bool, candidates: npt.NDArray[np.bool_] | None
    ) -> tuple[Tensor, Tensor]:
        outside = None if candidates is None else torch.from_numpy(~candidates)

        def masked() -> Iterator[tuple[int, Tensor]]:
            for start, scores in blocks:
                if filter_seen:
                    mask_(scores, start, requests.histories)
                if outside is not None:
                    scores[:, outside[start : start + scores.shape[1]]] = -torch.inf
                yield start, scores

        return running_top_k(masked(), k)

    def _scored(self, requests: Requests, size: int) -> Iterator[tuple[Ints, Requests, Iterator[tuple[int, Tensor]]]]:
        """Blocks of scores, some requests at a time."""
        device = next(iter(self.model.state_dict().values())).device
        popular = torch.from_numpy(self.memory.counts).float()
        total = len(self.memory.item_ids)
        for numbers, part, batch in self._request_batches().batches(requests, size):
            queries = self.model.queries(batch.to(device))
            empty = torch.from_numpy(self._unanswerable(part))

            def blocks(queries: Any = queries, empty: Tensor = empty) -> Iterator[tuple[int, Tensor]]:
                for start in range(0, total, BLOCK):
                    stop = min(start + BLOCK, total)
                    scores = self.model.score_block(queries, self._catalogue_now(), start, stop).float().cpu()
                    if bool(empty.any()):
                        scores = torch.where(empty.unsqueeze(1), popular[start:stop], scores)
                    yield start, scores.clone()

            yield numbers, part, blocks()

    def _unanswerable(self, requests: Requests) -> npt.NDArray[np.bool_]:
        """Requests of which the model knows nothing that it reads."""
        if self.model.answers_empty:
            return np.zeros(len(requests), dtype=bool)
        trained = np.where(requests.users < 0, False, self.memory.trained[np.maximum(requests.users, 0)])
        nothing = requests.histories.lengths.numpy() == 0
        unanswerable: npt.NDArray[np.bool_] = nothing & ~trained if "user" in self.model.reads else nothing
        return unanswerable

    def _table(
        self, names: pl.Series, numbers: Ints, items: npt.NDArray[Any], values: npt.NDArray[Any]
    ) -> pl.DataFrame:
        """Rows of recommendations: (R, k) item numbers and scores, -1 where there is no item."""
        memory = self.memory
        who, rank = np.nonzero(items >= 0)
        chosen = items[who, rank].astype(np.int64)
        columns = {
            names.name: names.gather(numbers[who]) if len(who) else names.clear(),
            "rank": pl.Series(rank + 1, dtype=pl.Int64),
            memory.names[1]: memory.item_ids.raw(chosen),
        }
        if memory.titles and memory.catalogue is not None:
            columns[memory.titles] = memory.catalogue[memory.titles].gather(chosen)
        columns["score"] = pl.Series(values[who, rank], dtype=pl.Float32)
        columns["__request"] = pl.Series(numbers[who], dtype=pl.Int64)
        return pl.DataFrame(columns)

    def _candidates(self, candidates: Sequence[Any] | None, on_unknown: Unknown) -> npt.NDArray[np.bool_] | None:
        if candidates is None:
            return None
        ids = ids_of(candidates, "candidates", "ids")
        numbers = self.memory.item_ids.numbers(ids)
        refuse([raw for raw, n in zip(ids, numbers) if n < 0], "candidates", on_unknown)
        mask = np.zeros(len(self.memory.item_ids), dtype=bool)
        mask[numbers[numbers >= 0]] = True
        return mask

    def _request_batches(self) -> RequestBatches:
        if self._requests is None:
            self._requests = RequestBatches(self.memory, self.encoders, self.model.max_history)
        return self._requests

    def _catalogue_now(self) -> Any:
        if not self._has_catalogue:
            self._catalogue, self._has_catalogue = self.model.catalogue(), True
        return self._catalogue

    # Scoring and measuring

    def score(self, rows: Any, *, batch_size: int | None = None) -> pl.DataFrame:
        """Scores of pairs.

        Args:
            rows: A data frame or a mapping with the user and the item column (raw ids).
            batch_size: Rows scored at a time.

        Returns:
            One row a row: `score`, empty where the item or the user is unknown to the model.

        Raises:
            DataError: A column is missing.
        """
        from intarsia.data.reading import from_frame

        frame = from_frame(rows, self.config.data_config.model_copy(update={"label_fields": []})).frame
        user, item = self.memory.names
        for name in (user, item):
            if name not in frame.columns:
                raise DataError(f"score needs the columns {user} and {item}. Received: {', '.join(frame.columns)}.")
        users = self.memory.user_ids.numbers(frame[user].to_list())
        items = self.memory.item_ids.numbers(frame[item].to_list())
        out = np.full(len(users), np.nan, dtype=np.float32)
        size = batch_size or 1024
        with evaluating(self.model):
            for numbers, part, batch in self._request_batches().batches(Requests.of_users(self.memory, users), size):
                del part
                queries = self.model.queries(batch)
                own = torch.from_numpy(items[numbers]).unsqueeze(1)
                out[numbers] = self.model.score_pairs(queries, self._catalogue_now(), own).squeeze(1).float().numpy()
        unknown = (items < 0) | (users < 0)
        return pl.DataFrame({"score": pl.Series(np.where(unknown, np.nan, out)).fill_nan(None)})

    def evaluate(self, data: str | Path | Any | None = None) -> Evaluation:
        """Ranking metrics of the pipeline's own test part, or its validation part.

        Args:
            data: None; a log in memory as a data frame, which the pipeline's split divides.
        """
        from intarsia.recommender.rank_queries import RankingJudge

        opened = open_log_data(self.config, frame=data, encoders=self.encoders)
        judge = RankingJudge(self.model, opened, self.config)
        part = "test" if "test" in opened.division.queries else "valid"
        if part not in opened.division.queries:
            raise DataError("the pipeline's split leaves no test or validation part. Set data_config.split.")
        return judge.measure(part)

    def extend_items(self, items: Any) -> Self:
        """Takes in new items without training: they can be recommended, be part of histories, and be trained on later.

        Items that are known keep their numbers and their vectors. See `intarsia.recommender.growth` for what a new
        item starts from.

        Args:
            items: Raw ids; or a data frame with the item column and the columns of the item table.

        Raises:
            DataError: No item is new, or the model cannot grow.
        """
        from intarsia.recommender.growth import grown_memory, grown_model

        memory = grown_memory(self.memory, items)
        schema, model = grown_model(self.config, self.schema, self.model, self.encoders, memory)
        return type(self)(self.config, schema, model, self.encoders, memory, self.metrics)

    # Bundles

    def _write_own(self, folder: Path) -> dict[str, Any]:
        self.encoders.save(folder / "features")
        self.memory.save(folder)
        return {}

    @classmethod
    def _read_own(
        cls, folder: Path, about: Mapping[str, Any], config: PipelineConfig, schema: Schema, model: Model
    ) -> Self:
        encoders, memory = SideEncoders.load(folder / "features"), Memory.load(folder)
        return cls(config, schema, model, encoders, memory, about.get("metrics"), folder)
