"""What every model that ranks a catalogue must hold to. A test class names its configuration and inherits this."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import intarsia
from intarsia.config.resolve import dump_yaml
from intarsia.config.schema import PipelineConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, TARGET
from intarsia.data.interactions.views import QueryView, View
from intarsia.models.catalogue import build
from intarsia.models.retriever import ItemScorer, Retriever
from intarsia.models.solver import Solver
from intarsia.recommender.log_data import LogData, open_log_data
from intarsia.recommender.pipeline import load_pipeline, pipeline_from
from intarsia.recommender.recommender import Recommender
from intarsia.recommender.retrieval import RetrievalRecommender
from intarsia.recommender.retrieval_job import equip

CLUSTERS, PER_CLUSTER = 6, 12
ROLES = {"user_field": "user", "item_field": "item", "rating_field": "rating", "time_field": "time"}


@cache
def planted_log(num_users: int = 240, seed: int = 0) -> pl.DataFrame:
    """People who stay with the items of two clusters of their own; all clusters and items are equally popular.

    Popularity finds one of the twenty-four items that a user may take next no better than chance does.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        mine = np.array([user % CLUSTERS, (user // CLUSTERS) % CLUSTERS])
        length = int(rng.integers(8, 15))
        order = np.concatenate([rng.permutation(PER_CLUSTER) for _ in range(2)])
        cluster = mine[np.arange(length) % 2]
        items = cluster * PER_CLUSTER + order[np.arange(length)]
        rows += [
            {"user": f"u{user}", "item": f"i{item}", "rating": float(rng.integers(3, 6)), "time": float(step)}
            for step, item in enumerate(items)
        ]
    return pl.DataFrame(rows)


class RetrieverContract:
    """Inherit as `class TestSASRec(RetrieverContract)` and set `model`.

    Attributes:
        model: The `model_config`.
        epochs: Passes over the planted log.
        batch_size: Rows of a training step.
        learning_rate: Of Adam.
        floor: Hit rate at 24 that the model must reach on the planted log; chance and popularity reach about 0.33.
        learns: Whether it is asked to learn at all (not so of Random and Pop).
        grows: Whether the model reads more than it is told here.
    """

    model: ClassVar[dict[str, Any]]
    epochs: ClassVar[int] = 30
    batch_size: ClassVar[int] = 64
    learning_rate: ClassVar[float] = 0.005
    floor: ClassVar[float] = 0.85
    learns: ClassVar[bool] = True

    # Making one

    @classmethod
    def mapping(cls, **extra: Any) -> dict[str, Any]:
        train = {"optimizer": {"adam_optimizer": {"learning_rate": cls.learning_rate}}, "num_epochs": cls.epochs}
        return {
            "data_config": {"log": ROLES, "split": "leave_one_out", "batch_size": cls.batch_size, "prefetch_size": 0},
            "model_config": {**cls.model, **extra},
            "train_config": {**train, "save_checkpoints_steps": 0, "keep_checkpoint_max": 1, "eval_epochs": 1000},
            "eval_config": {"metrics": ["hit_rate@24", "ndcg@24"]},
        }

    @classmethod
    def config(cls, **extra: Any) -> PipelineConfig:
        return pipeline_from(cls.mapping(**extra)).config

    @classmethod
    def data(cls) -> LogData:
        return open_log_data(cls.config(), frame=planted_log())

    @classmethod
    def made(cls, seed: int = 0, **extra: Any) -> ItemScorer:
        """The model in evaluation mode, with weights from the seed; solvers are fitted."""
        torch.manual_seed(seed)
        data = cls.data()
        model = build(cls.config(**extra).model, data.schema)
        assert isinstance(model, ItemScorer)
        equip(model, data)
        if isinstance(model, Solver):
            model.fit(data.division, 0)
        with torch.no_grad():
            model.finish(data.division)
        return model.eval()

    @classmethod
    def view(cls, model: ItemScorer, part: str = "test") -> QueryView:
        division = cls.data().division
        return QueryView(division, division.queries[part], max_history=model.max_history)

    @classmethod
    def scores(cls, model: ItemScorer, batch: Batch) -> Tensor:
        with torch.no_grad():
            return model.score_block(model.queries(batch), model.catalogue(), 0, model.num_items)

    # Configuration

    def test_configuration_survives_being_written_and_read(self, tmp_path: Path) -> None:
        config = self.config()
        path = tmp_path / "pipeline.yaml"
        path.write_text(dump_yaml(config), encoding="utf-8")
        assert load_pipeline(path).config == config

    def test_is_built_from_the_schema_alone(self) -> None:
        schema = type(self.data().schema).from_json(self.data().schema.to_json())
        torch.manual_seed(0)
        one = build(self.config().model, schema)
        torch.manual_seed(0)
        two = build(self.config().model, schema)
        assert list(one.state_dict()) == list(two.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))

    # Scores

    @pytest.mark.parametrize("count", [1, 2, 9])
    def test_scores_have_their_shape(self, count: int) -> None:
        model = self.made()
        found = self.scores(model, self.view(model).take(slice(0, count)))
        assert found.shape == (count, CLUSTERS * PER_CLUSTER)
        assert found.dtype == torch.float32
        assert found.isfinite().all()

    def test_blocks_and_pairs_say_what_the_whole_says(self) -> None:
        model = self.made()
        batch = self.view(model).take(slice(0, 5))
        whole = self.scores(model, batch)
        with torch.no_grad():
            queries, catalogue = model.queries(batch), model.catalogue()
            blocks = [model.score_block(queries, catalogue, a, min(a + 7, 72)) for a in range(0, 72, 7)]
            items = torch.randint(72, (5, 4), generator=torch.Generator().manual_seed(0))
            pairs = model.score_pairs(queries, catalogue, items)
        assert torch.allclose(torch.cat(blocks, dim=1), whole, atol=1e-5)
        assert torch.allclose(pairs, whole.gather(1, items), atol=1e-5)

    def test_other_rows_of_a_batch_change_nothing(self) -> None:
        """Alone, beside short and beside long histories, in any order."""
        model = self.made()
        view = self.view(model)
        together = self.scores(model, view.take(slice(0, 30)))
        order = np.random.default_rng(0).permutation(30)
        assert torch.allclose(self.scores(model, view.take(order)), together[order], atol=1e-4)
        for row in (0, 11, 29):
            assert torch.allclose(self.scores(model, view.take(np.array([row])))[0], together[row], atol=1e-4)

    def test_only_the_latest_steps_count(self) -> None:
        model = self.made()
        if "history" not in model.reads or model.max_history > 1000:
            pytest.skip("the model reads no history, or all of it")
        steps = torch.arange(model.max_history + 3) % 72
        long, short = (query(s) for s in (steps, steps[3:]))
        assert torch.allclose(self.scores(model, cut(long, model.max_history)), self.scores(model, short), atol=1e-5)

    def test_an_empty_history_and_a_stranger_have_finite_scores(self) -> None:
        model = self.made()
        assert self.scores(model, query(torch.tensor([], dtype=torch.int64))).isfinite().all()
        assert self.scores(model, query(torch.tensor([3, 5]))).isfinite().all()

    # Recommending

    def test_everybody_gets_an_answer(self) -> None:
        """A known user, a stranger with a history, and somebody of whom nothing is known."""
        recommender = RetrievalRecommender.from_data(self.config(), self.data(), self.made())
        known = recommender.recommend(users=["u3"], k=4)
        assert known["item"].n_unique() == 4
        taken = set(planted_log().filter(pl.col("user") == "u3")["item"])
        assert not taken & set(known["item"])
        told = recommender.recommend(history=[["i1", "i2"], []], k=4)
        assert told["request"].to_list() == [0] * 4 + [1] * 4
        assert not {"i1", "i2"} & set(told.filter(pl.col("request") == 0)["item"])
        assert told["score"].is_finite().all()
        if not self.made().answers_empty:
            best = recommender.memory.item_ids.raw(np.argsort(-recommender.memory.counts, kind="stable")[:4])
            assert told.filter(pl.col("request") == 1)["item"].to_list() == best.to_list()
        assert recommender.similar_items(["i5"], k=3)["item"].n_unique() == 3

    # Training

    def training_batch(self, model: Retriever, rows: slice = slice(0, 16)) -> Batch:
        view = View(
            self.data().division, model.view, max_history=model.max_history, with_seen=model.objective.needs_seen
        )
        return view.take(rows)

    def test_a_gradient_reaches_every_parameter(self) -> None:
        model = self.made()
        if not isinstance(model, Retriever):
            pytest.skip("computed, not trained")
        model.train()
        torch.manual_seed(1)
        batch = self.training_batch(model, slice(0, 64))
        torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.is_sparse or parameter.grad.abs().sum() > 0, name

    def test_training_does_not_look_ahead(self) -> None:
        """The output of a step stays the same when what comes after it changes."""
        model = self.made()
        if not isinstance(model, Retriever) or model.view != "causal":
            pytest.skip("not trained on all steps at once")
        batch = self.training_batch(model)
        history, target = batch.features[HISTORY], batch.features[TARGET]
        assert isinstance(history, Jagged)
        assert isinstance(target, Jagged)
        with torch.no_grad():
            before = model(batch)["queries"]
            values = history.values.clone()
            last = history.offsets[1:] - 1
            values[last] = (values[last] + 1) % 72
            changed = {HISTORY: Jagged(values, history.offsets)}
            after = model(Batch({**batch.features, **changed}, size=batch.size))["queries"]
        kept = torch.ones(len(values), dtype=torch.bool)
        kept[last] = False
        assert torch.allclose(before[kept], after[kept], atol=1e-5)
        assert not torch.allclose(before[~kept], after[~kept], atol=1e-5)

    def test_learns_what_popularity_does_not_tell(self, tmp_path: Path) -> None:
        """Trains, saves, loads; knows its users, and strangers by their histories."""
        if not self.learns:
            pytest.skip("has nothing to learn")
        fitted = intarsia.fit(self.mapping(), data=planted_log(), run_dir=tmp_path / "run")
        reached = fitted.metrics["test"]["hit_rate@24"]
        assert reached is not None
        assert reached >= self.floor, fitted.metrics
        again = Recommender.load(tmp_path / "run")
        one, two = (r.recommend(users=["u0", "u17"], k=5) for r in (fitted, again))
        assert one.equals(two)
        self.check_strangers(again)

    def check_strangers(self, recommender: Recommender) -> None:
        """Whoever took items of two clusters gets items of these."""
        history = [[f"i{c * PER_CLUSTER + k}" for k in range(4) for c in pair] for pair in ((0, 1), (2, 5), (4, 4))]
        found = recommender.recommend(history=history, k=8)
        for request, pair in enumerate(((0, 1), (2, 5), (4, 4))):
            items = found.filter(pl.col("request") == request)["item"].to_list()
            hits = [int(item[1:]) // PER_CLUSTER in pair for item in items]
            assert np.mean(hits) >= 0.6, (pair, items)


def query(history: Tensor, user: int = -1) -> Batch:
    """One request."""
    offsets = torch.tensor([0, len(history)])
    return Batch({"user": Dense(torch.tensor([user])), HISTORY: Jagged(history.long(), offsets)}, size=1)


def cut(batch: Batch, latest: int) -> Batch:
    """The batch as the recommender would cut it."""
    history = batch.features[HISTORY]
    assert isinstance(history, Jagged)
    return query(history.values[-latest:])
