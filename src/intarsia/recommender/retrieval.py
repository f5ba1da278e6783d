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
from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.errors import DataError
from intarsia.data.interactions.interactions import Ints
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation
from intarsia.models.base import Model
from intarsia.models.retriever import ItemScorer
from intarsia.nn.top_k import running_top_k
from intarsia.recommender.diversify import category_difference, pool_size
from intarsia.recommender.item_index import FOLDER, build_item_index, check_config, read_index, told
from intarsia.recommender.log_data import LogData, SideEncoders, open_log_data
from intarsia.recommender.logs import log_roles
from intarsia.recommender.memory import Memory
from intarsia.recommender.recommender import Recommender, Unknown, few, ids_of, listed, refuse
from intarsia.recommender.requests import Requests
from intarsia.recommender.search import REQUESTS, Searcher
from intarsia.retrieval.diversity import CategoryDifference, rerank_diverse
from intarsia.retrieval.index import Index
from intarsia.retrieval.vectors import save_vectors

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
        self.searcher = Searcher(self.model, encoders, memory, config.data_config.eval_batch_size)
        self._index: Index | None = None
        self._index_folder: Path | None = None
        self._differences: dict[str, CategoryDifference] = {}

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
        exact: bool = False,
        diversity: float = 0.0,
        category: str | None = None,
    ) -> pl.DataFrame:
        """The best items of each user or history; see `Recommender.recommend`.

        Of somebody of whom nothing is known, popular items are recommended; with `on_unknown="warn"` the note says so.

        Args:
            users: See `Recommender.recommend`, as for all that is not told here.
            history: See there.
            k: See there.
            filter_seen: See there.
            candidates: See there.
            on_unknown: See there.
            exact: Whether all items are scored although there is an index.
            diversity: Weight of the differences between the items of a list, on the scale of the scores; see
                `intarsia.retrieval.rerank_diverse`. A list is then chosen from ten times as many candidates (at least
                100), and stands in the order of the choice. With 0 items may be as alike as they are.
            category: Column of the item table that tells how items differ. Default: `eval_config.category`.
        """
        names, requests, notes = self._asked(users, history, k, on_unknown)
        allowed = self._candidates(candidates, on_unknown)
        difference = self.difference(category) if diversity else None
        wanted = pool_size(k) if difference is not None else k
        frames = [self._table(names, np.zeros(0, dtype=np.int64), np.zeros((0, 1)), np.zeros((0, 1)))]
        index = None if exact or allowed is not None else self.index
        found = self.searcher.best(requests, wanted, filter_seen=filter_seen, candidates=allowed, index=index)
        for numbers, values, items in found:
            if difference is not None:
                values, items = rerank_diverse(values, items, difference, min(k, len(self.memory.item_ids)), diversity)
            frames.append(self._table(names, numbers, items.numpy(), values.numpy()))
        out = pl.concat(frames)
        if on_unknown == "warn":
            empty = self.searcher.unanswerable(requests)
            remarks = ["; ".join(filter(None, [note, POPULAR if none else None])) for note, none in zip(notes, empty)]
            column = pl.Series("note", [text or None for text in remarks], dtype=pl.String)
            out = out.with_columns(column.gather(out["__request"]))
        return out.drop("__request")

    def similar_items(self, items: Sequence[Any], k: int = 10, *, on_unknown: Unknown = "error") -> pl.DataFrame:
        """Items that go with each of the given ones.

        By the cosine of item vectors where the model has such; otherwise what the model recommends to somebody who
        took that item alone.

        Args:
            items: Raw ids.
            k: Items for each, at least 1.
            on_unknown: What to do about unknown ids; without an error they are left out.

        Returns:
            Columns: `to` (the given item), `rank`, the item column, the title where there is one, `score`.
        """
        if k < 1:
            raise DataError(f"k must be at least 1. Received: {k}.")
        ids = ids_of(items, "items", "ids")
        numbers = self.memory.item_ids.numbers(ids)
        refuse([raw for raw, n in zip(ids, numbers) if n < 0], "items", on_unknown)
        kept = numbers >= 0
        names = pl.Series("to", [raw for raw, keep in zip(ids, kept) if keep], dtype=pl.String)
        numbers = numbers[kept]
        frames = [self._table(names, np.zeros(0, dtype=np.int64), np.zeros((0, 1)), np.zeros((0, 1)))]
        found = self._alike(numbers, k) if self.model.indexable else self._taken_with(numbers, k)
        frames += [self._table(names, rows, best.numpy(), values.numpy()) for rows, values, best in found]
        return pl.concat(frames).drop("__request")

    def _alike(self, numbers: Ints, k: int) -> Iterator[tuple[Ints, Tensor, Tensor]]:
        """Items by the cosine of their vectors, some given ones at a time."""
        vectors = self.searcher.item_vectors()
        vectors = torch.nn.functional.normalize(vectors[:, : vectors.shape[1] - self.model.num_biases], dim=1)
        for start in range(0, len(numbers), REQUESTS):
            own = torch.from_numpy(numbers[start : start + REQUESTS])
            scores = vectors[own] @ vectors.t()
            scores[torch.arange(len(own)), own] = -torch.inf
            yield np.arange(start, start + len(own)), *running_top_k([(0, scores)], k)

    def _taken_with(self, numbers: Ints, k: int) -> Iterator[tuple[Ints, Tensor, Tensor]]:
        """What the model recommends to whoever took one item."""
        return self.searcher.best(Requests.of_histories([np.array([n]) for n in numbers]), k)

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

    # Index and categories

    @property
    def index(self) -> Index | None:
        """The index that `recommend` searches, None where all items are scored.

        Raises:
            CheckpointError: That of the bundle is damaged or of another model.
        """
        if self._index is None and self._index_folder is not None:
            self._index = read_index(self._index_folder, self.searcher)
        return self._index

    def build_index(self, config: IndexConfig | str = "flat") -> Index:
        """Builds the index that `recommend` searches from now on, and that `save` keeps.

        Args:
            config: Settings, or the kind alone: `flat`, `faiss_flat`, `ivf`, `hnsw`, `pq`, `ivf_pq`.

        Returns:
            The index; `measured` tells what an approximate one finds of the exact answer for known users.

        Raises:
            ConfigError: The model cannot be searched by an index, or the settings do not fit.
        """
        settings = config if isinstance(config, IndexConfig) else check_config({"kind": config})
        self._index = build_item_index(self.searcher, settings, self.config.model.model_class)
        self._index_folder = None
        return self._index

    def difference(self, category: str | None = None) -> CategoryDifference:
        """How items differ by a column of the item table. Default: `eval_config.category`.

        Raises:
            DataError: There is no such column.
        """
        options = self.config.eval_config
        name = category or options.category
        if name not in self._differences:
            self._differences[name] = category_difference(self.memory, name, options.category_separator)
        return self._differences[name]

    def save_vectors(self, path: str | Path) -> tuple[int, int]:
        """Writes the vectors of users and items with their raw ids; see `intarsia.retrieval.save_vectors`.

        Users of whom the model knows nothing are left out.

        Args:
            path: The file; its name ends in .npz.

        Returns:
            Numbers of users and items written.

        Raises:
            DataError: The model has no vectors.
        """
        if not self.model.indexable:
            raise DataError(
                "vectors are of models whose scores are products of vectors. Received: "
                f"{self.config.model.model_class}. Train another, such as MF or SASRec."
            )
        users = np.arange(len(self.memory.user_ids))
        users = users[self.searcher.answerable(users)]
        queries = self.searcher.query_vectors(Requests.of_users(self.memory, users))
        save_vectors(
            path, self.memory.user_ids.raw(users), queries, self.memory.item_ids.ids, self.searcher.item_vectors()
        )
        return len(users), len(self.memory.item_ids)

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
        out = self.searcher.pair_scores(users, items, batch_size or 1024).numpy()
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

        Items that are known keep their numbers and their vectors; an index is built again. What a new item starts from
        is told in `intarsia.recommender.growth`.

        Args:
            items: Raw ids; or a data frame with the item column and the columns of the item table.

        Raises:
            DataError: No item is new, or the model cannot grow.
        """
        from intarsia.recommender.growth import grown_memory, grown_model

        memory = grown_memory(self.memory, items)
        schema, model = grown_model(self.config, self.schema, self.model, self.encoders, memory)
        found = type(self)(self.config, schema, model, self.encoders, memory, self.metrics)
        if self.index is not None:
            found.build_index(self.index.config)
        return found

    # Bundles

    def _write_own(self, folder: Path) -> dict[str, Any]:
        self.encoders.save(folder / "features")
        self.memory.save(folder)
        if self.index is None:
            return {"index": None}
        self.index.save(folder / FOLDER)
        return {"index": told(self.index)}

    @classmethod
    def _read_own(
        cls, folder: Path, about: Mapping[str, Any], config: PipelineConfig, schema: Schema, model: Model
    ) -> Self:
        encoders, memory = SideEncoders.load(folder / "features"), Memory.load(folder)
        found = cls(config, schema, model, encoders, memory, about.get("metrics"), folder)
        found._index_folder = folder if about.get("index") else None
        return found
