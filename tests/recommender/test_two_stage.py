"""A retriever that finds candidates, and a ranker that orders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from served import ITEMS, fitted, loaded, planted_log, taken

import intarsia
from intarsia.core.errors import CheckpointError, DataError
from intarsia.recommender.recommender import Recommender
from intarsia.recommender.retrieval import RetrievalRecommender
from intarsia.recommender.row_recommender import RowRecommender
from intarsia.recommender.two_stage import TwoStageRecommender, combine

RANKER: dict[str, Any] = {
    "feature_config": {
        "features": [
            {"input_names": ["user"], "vocab": "auto", "embedding_dim": 4},
            {"input_names": ["item"], "vocab": "auto", "embedding_dim": 4, "embedding_name": "item"},
        ]
    },
    "model_config": {
        "model_class": "RankModel",
        "feature_groups": [{"group_name": "all", "feature_names": ["*"]}],
        "backbone": {
            "blocks": [
                {
                    "name": "m",
                    "inputs": [{"feature_group_name": "all"}],
                    "layer": {"class_name": "MLP", "mlp": {"hidden_units": [8]}},
                }
            ]
        },
    },
    "train_config": {"optimizer": "adam", "learning_rate": 0.01, "device": "cpu"},
    "eval_config": {"metrics_set": ["auc"]},
}


def ranker_on(log: pl.DataFrame, folder: Path, name: str = "ranker") -> RowRecommender:
    path = folder / f"{name}.csv"
    log.write_csv(path)
    roles = {"user_field": "user", "item_field": "item", "rating_field": "rating", "time_field": "time"}
    data = {
        "with_header": True,
        "log": {**roles, "positive_rating": 4},
        "split": {"by": "time", "valid": 0.1, "test": 0.1},
        "num_epochs": 2,
    }
    found = intarsia.fit({**RANKER, "train_input_path": str(path), "data_config": data}, run_dir=folder / name)
    assert isinstance(found, RowRecommender)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def retriever(folder: Path) -> RetrievalRecommender:
    return fitted("MF", folder, epochs=3, export_config={"index": "faiss_flat"})


@pytest.fixture(scope="module")
def ranker(folder: Path) -> RowRecommender:
    return ranker_on(planted_log(), folder)


@pytest.fixture(scope="module")
def both(retriever: RetrievalRecommender, ranker: RowRecommender, folder: Path) -> TwoStageRecommender:
    return combine(folder / "mf", folder / "ranker", num_candidates=12)


def test_the_ranker_orders_what_the_retriever_found(
    both: TwoStageRecommender, retriever: RetrievalRecommender, ranker: RowRecommender
) -> None:
    found = both.recommend(users=["u3"], k=5)
    candidates = retriever.recommend(users=["u3"], k=12)
    scores = dict(ranker.recommend(users=["u3"], k=ITEMS, filter_seen=False).select("item", "score").rows())
    expected = sorted(candidates["item"].to_list(), key=lambda item: -scores[item])[:5]
    assert found["item"].to_list() == expected
    assert found["score"].to_list() == pytest.approx([scores[item] for item in expected], abs=1e-5)
    place = dict(candidates.select("item", "rank").rows())
    assert found["candidate_rank"].to_list() == [place[item] for item in expected]
    assert found["rank"].to_list() == [1, 2, 3, 4, 5]


def test_users_keep_their_order_and_are_answered_as_often_as_they_ask(both: TwoStageRecommender) -> None:
    found = both.recommend(users=["u9", "u3", "u9"], k=4)
    assert found["user"].to_list() == ["u9"] * 4 + ["u3"] * 4 + ["u9"] * 4
    lists = [found["item"].to_list()[start : start + 4] for start in (0, 4, 8)]
    assert lists[0] == lists[2]
    assert all(len(set(one)) == 4 for one in lists)
    assert lists[1] == both.recommend(users=["u3"], k=4)["item"].to_list()


def test_strangers_and_empty_histories_are_answered(both: TwoStageRecommender) -> None:
    found = both.recommend(history=[["i1", "i2"], [], ["x"]], k=3, on_unknown="warn")
    assert found["request"].to_list() == [0] * 3 + [1] * 3 + [2] * 3
    assert not {"i1", "i2"} & set(found.filter(pl.col("request") == 0)["item"])
    assert found["score"].is_finite().all()
    assert found.filter(pl.col("request") == 2)["note"][0].startswith("unknown: x")
    stranger = both.recommend(users=["nobody", "u1"], k=2, on_unknown="ignore")
    assert stranger["user"].to_list() == ["nobody"] * 2 + ["u1"] * 2


def test_seen_items_and_candidates_are_heeded(both: TwoStageRecommender) -> None:
    found = both.recommend(users=["u5"], k=ITEMS)
    assert not taken("u5") & set(found["item"])
    assert len(found) == ITEMS - len(taken("u5"))
    assert set(both.recommend(users=["u5"], k=9, candidates=["i1", "i2"], filter_seen=False)["item"]) == {"i1", "i2"}
    with pytest.raises(DataError, match=r"candidates must be known"):
        both.recommend(users=["u5"], candidates=["x"])
    with pytest.raises(DataError, match=r"Received: none of them"):
        both.recommend()


def test_items_that_the_ranker_does_not_know_come_last_in_the_retrievers_order(
    retriever: RetrievalRecommender, folder: Path
) -> None:
    few = ranker_on(planted_log().filter(pl.col("item").str.ends_with("1")), folder, "few")
    both = TwoStageRecommender(retriever, few, num_candidates=ITEMS)
    found = both.recommend(users=["u3"], k=ITEMS, filter_seen=False)
    known = [item.endswith("1") for item in found["item"]]
    assert known == sorted(known, reverse=True)
    assert 0 < sum(known) < len(known)
    unknown = found.filter(~pl.col("item").str.ends_with("1"))
    assert unknown["score"].is_null().all()
    assert unknown["candidate_rank"].to_list() == sorted(unknown["candidate_rank"])


def test_both_stages_are_saved_and_loaded(both: TwoStageRecommender, tmp_path: Path) -> None:
    again = Recommender.load(both.save(tmp_path / "both"))
    assert isinstance(again, TwoStageRecommender)
    assert again.num_candidates == 12
    assert again.retriever.index is not None
    for asked in ({"users": ["u0", "u17"]}, {"history": [["i1"], []]}):
        assert again.recommend(**asked, k=5).equals(both.recommend(**asked, k=5))
    assert again.score({"user": ["u1"], "item": ["i1"]}).equals(both.ranker.score({"user": ["u1"], "item": ["i1"]}))


def test_stages_of_the_wrong_kind_are_refused(both: TwoStageRecommender, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Received: RankModel as retriever, MF as ranker"):
        combine(folder / "ranker", folder / "mf")
    with pytest.raises(DataError, match=r"num_candidates must be at least 1. Received: 0"):
        combine(folder / "mf", folder / "ranker", num_candidates=0)
    with pytest.raises(CheckpointError, match=r"does not exist"):
        combine(tmp_path / "nothing", folder / "ranker")
    other = ranker_on(planted_log().with_columns(item=pl.col("item") + "x"), tmp_path)
    assert other.folder is not None
    with pytest.raises(DataError, match=r"no item that both know"):
        combine(folder / "mf", other.folder)


def test_the_retriever_stays_usable_by_itself(both: TwoStageRecommender, folder: Path) -> None:
    assert loaded(folder / "mf").recommend(users=["u1"], k=2).equals(both.retriever.recommend(users=["u1"], k=2))
