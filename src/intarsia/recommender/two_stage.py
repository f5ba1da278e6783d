"""Two stages: a retriever that finds candidates in the whole catalogue, and a ranker that puts them in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from intarsia import __version__
from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import DataError
from intarsia.core.files import write_json
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation
from intarsia.models.base import Model
from intarsia.recommender.recommender import FORMAT, Recommender, Unknown
from intarsia.recommender.retrieval import RetrievalRecommender
from intarsia.recommender.row_recommender import RowRecommender


class TwoStageRecommender(Recommender):
    """Candidates from a retriever, ordered by a ranker.

    Both were trained on the same log, so raw ids mean the same to both; who or what only one of them knows is left to
    the other.

    Args:
        retriever: Ranks the whole catalogue.
        ranker: Scores a user and an item.
        num_candidates: Items that the retriever hands on for each user.
    """

    kind = "two_stage"

    def __init__(self, retriever: RetrievalRecommender, ranker: RowRecommender, num_candidates: int = 200) -> None:
        if ranker.known is None:
            raise DataError(
                "the second stage scores users and items, so it must have been trained on a log. Received: "
                "a model of plain rows. Train the ranker with data_config.dataset or data_config.log."
            )
        if num_candidates < 1:
            raise DataError(f"num_candidates must be at least 1. Received: {num_candidates}.")
        super().__init__(ranker.config, ranker.schema, ranker.model, ranker.metrics)
        self.retriever, self.ranker, self.num_candidates = retriever, ranker, num_candidates

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
        """The best candidates of each user in the ranker's order; see `Recommender.recommend`.

        `score` is the ranker's, `candidate_rank` the place that the retriever gave.
        """
        found = self.retriever.recommend(
            users,
            history=history,
            k=max(k, self.num_candidates),
            filter_seen=filter_seen,
            candidates=candidates,
            on_unknown=on_unknown,
        )
        name = found.columns[0]
        keys = [str(user) for user in users] if users is not None else list(range(len(history or [])))
        place = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        rows = self.ranker.request_rows(list(place), [list(one) for one in history] if history is not None else None)
        who = np.array([place[key] for key in found[name].to_list()], dtype=np.int64)
        item = self.retriever.memory.names[1]
        scores = self.ranker.pair_scores(rows, who, found[item].to_list())
        # Who is asked for twice is answered twice: the list of every request starts at rank 1.
        request = (found["rank"] == 1).cum_sum().rename("__request")
        order = found.with_columns(pl.Series("__score", scores), request, pl.col("rank").alias("candidate_rank"))
        # What the ranker does not know keeps the retriever's order behind what it knows.
        order = order.sort(
            ["__request", "__score", "candidate_rank"],
            descending=[False, True, False],
            nulls_last=True,
            maintain_order=True,
        )
        order = order.with_columns(
            pl.col("__score").alias("score"), (pl.int_range(pl.len()).over("__request") + 1).alias("rank")
        )
        return order.filter(pl.col("rank") <= k).drop("__score", "__request")

    def score(self, rows: Any, *, batch_size: int | None = None) -> pl.DataFrame:
        """The ranker's predictions."""
        return self.ranker.score(rows, batch_size=batch_size)

    def evaluate(self, data: str | Path | Any | None = None) -> Evaluation:
        """The ranker on its test part. (Each stage is measured by itself; load its bundle for the retriever's.)"""
        return self.ranker.evaluate(data)

    def _write(self, folder: Path) -> None:
        for name, part in (("retriever", self.retriever), ("ranker", self.ranker)):
            (folder / name).mkdir()
            part._write(folder / name)
        about = {"format": FORMAT, "kind": self.kind, "intarsia": __version__, "num_candidates": self.num_candidates}
        write_json(folder / "bundle.json", about)

    def _write_own(self, folder: Path) -> dict[str, Any]:
        return {}

    @classmethod
    def _read_own(
        cls, folder: Path, about: Mapping[str, Any], config: PipelineConfig, schema: Schema, model: Model
    ) -> Self:
        raise TypeError("two stages are read one by one")

    @classmethod
    def _load(cls, folder: Path, about: Mapping[str, Any], device: str) -> Self:
        retriever = Recommender.load(folder / "retriever", device=device)
        ranker = Recommender.load(folder / "ranker", device=device)
        assert isinstance(retriever, RetrievalRecommender)
        assert isinstance(ranker, RowRecommender)
        found = cls(retriever, ranker, int(about["num_candidates"]))
        found.folder = folder
        return found


def combine(retriever: str | Path, ranker: str | Path, num_candidates: int = 200) -> TwoStageRecommender:
    """Two runs as one recommender.

    Args:
        retriever: Run folder or bundle of a model that ranks a catalogue.
        ranker: Run folder or bundle of a model that scores rows of a log.
        num_candidates: Items that the retriever hands on.

    Raises:
        DataError: One of them is of the wrong kind, or they were trained on logs without a common item.
    """
    first, second = Recommender.load(retriever), Recommender.load(ranker)
    if not isinstance(first, RetrievalRecommender) or not isinstance(second, RowRecommender):
        raise DataError(
            "two stages are a model that ranks a catalogue and one that scores rows. Received: "
            f"{first.config.model.model_class} as retriever, {second.config.model.model_class} as ranker."
        )
    found = TwoStageRecommender(first, second, num_candidates)
    known = second.known
    if known is not None and not any(raw in known.position for raw in first.memory.item_ids.ids.to_list()):
        raise DataError(
            "both stages must know the same items. Received: no item that both know. Train them on the same log."
        )
    return found
