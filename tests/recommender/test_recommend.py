"""Items for known users and for histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import shop
import torch
from shop import COMBO, EVENTS, FEATURES, ITEM_IDS, ITEMS, UNSEEN, USERS

import intarsia
from intarsia.core.errors import DataError
from intarsia.recommender import ranking
from intarsia.recommender.known import HISTORY, POPULARITY, SEEN
from intarsia.recommender.ranking import top_items
from intarsia.recommender.recommender import Recommender


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_log(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def rec(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return shop.fitted(folder, tmp_path_factory.mktemp("run"), features=[*FEATURES, COMBO])


def seen_by(user: str) -> set[str]:
    return set(shop.interactions().filter(pl.col("user_id") == user)["item_id"])


def liked_by(user: str) -> list[str]:
    return shop.interactions().filter((pl.col("user_id") == user) & (pl.col("rating") >= 4))["item_id"].to_list()


def rows_for(rec: Recommender, user: str | None, history: list[str], items: list[str] = ITEM_IDS) -> pl.DataFrame:
    """The full rows that `recommend` stands for, one an item."""
    known = rec.known
    assert known is not None
    person = known.users.filter(pl.col("user_id") == (user or "")).drop(HISTORY, SEEN)
    columns = {name: person[name][0] if person.height else None for name in person.columns}
    if user is not None:
        columns["user_id"] = user
    rows = known.items.filter(pl.col("item_id").is_in(items)).with_columns(
        *(pl.lit(value).cast(known.users.schema[name]).alias(name) for name, value in columns.items()),
        pl.lit(history[-rec.known.config.max_history :], dtype=pl.List(pl.String)).alias("history"),
    )
    return rows.with_columns(score=rec.score(rows)["logits"])


# What comes out


def test_the_answer_is_a_frame_of_raw_ids_with_titles(rec: Recommender) -> None:
    found = rec.recommend(users=["u3", "u5"], k=4, filter_seen=False)
    assert found.columns == ["user_id", "rank", "item_id", "title", "score"]
    assert found["user_id"].to_list() == ["u3"] * 4 + ["u5"] * 4
    assert found["rank"].to_list() == [1, 2, 3, 4] * 2
    assert (found["title"] == "The " + found["item_id"]).all()
    for _, part in found.group_by("user_id"):
        assert part["score"].is_sorted(descending=True)


@pytest.mark.parametrize("user", ["u0", "u7"])
def test_scores_are_those_of_full_rows(rec: Recommender, user: str) -> None:
    """Features of the user, of the item, of both (`pair`), and the history cut as in training."""
    found = rec.recommend(users=[user], k=ITEMS, filter_seen=False)
    rows = rows_for(rec, user, liked_by(user))
    both = found.join(rows.select("item_id", full=pl.col("score")), on="item_id")
    assert both.height == ITEMS
    assert both["score"].to_numpy() == pytest.approx(both["full"].to_numpy(), abs=1e-5)


def test_scores_of_a_history_are_those_of_full_rows(rec: Recommender) -> None:
    history = ["i1", "i2", ITEM_IDS[-1], "i4"]
    found = rec.recommend(history=[history], k=ITEMS, filter_seen=False)
    rows = rows_for(rec, None, history)
    both = found.join(rows.select("item_id", full=pl.col("score")), on="item_id")
    assert both["score"].to_numpy() == pytest.approx(both["full"].to_numpy(), abs=1e-5)
    assert found.columns == ["request", "rank", "item_id", "title", "score"]


def test_users_get_the_same_alone_and_together_in_any_block(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"u{k}" for k in range(USERS)]
    together = rec.recommend(users=users, k=5)
    alone = pl.concat([rec.recommend(users=[user], k=5) for user in users])
    assert together.drop("score").equals(alone.drop("score"))
    for pairs in (1, 7, ITEMS * 3):
        monkeypatch.setattr(ranking, "PAIRS_PER_BATCH", pairs)
        again = rec.recommend(users=users, k=5)
        assert again.drop("score").equals(together.drop("score"))
        assert again["score"].to_numpy() == pytest.approx(together["score"].to_numpy(), abs=1e-5)


def test_seen_items_are_left_out_unless_they_are_wanted(rec: Recommender) -> None:
    for user in ("u1", "u4"):
        found = set(rec.recommend(users=[user], k=ITEMS)["item_id"])
        assert found == set(ITEM_IDS) - seen_by(user)
        assert rec.recommend(users=[user], k=ITEMS, filter_seen=False).height == ITEMS


def test_items_of_a_given_history_count_as_seen(rec: Recommender) -> None:
    history = ["i1", "i3", ITEM_IDS[-1]]
    assert set(rec.recommend(history=[history], k=ITEMS)["item_id"]) == set(ITEM_IDS) - set(history)
    assert rec.recommend(history=[history], k=ITEMS, filter_seen=False).height == ITEMS


def test_k_beyond_the_catalogue_gives_all_items(rec: Recommender) -> None:
    assert rec.recommend(users=["u1"], k=1000, filter_seen=False)["rank"].to_list() == [*range(1, ITEMS + 1)]


def test_an_item_that_only_the_table_knows_can_be_recommended(rec: Recommender) -> None:
    found = rec.recommend(users=["u1"], candidates=[UNSEEN])
    assert found["item_id"].to_list() == [UNSEEN]
    assert found["score"].is_finite().all()


def test_candidates_are_the_only_items(rec: Recommender) -> None:
    wanted = ["i3", "i1", "i2"]
    found = rec.recommend(users=["u1", "u2"], candidates=wanted, filter_seen=False)
    assert (
        found.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].list.sort().to_list()
        == [["i1", "i2", "i3"]] * 2
    )
    everything = rec.recommend(users=["u1"], k=ITEMS, filter_seen=False).filter(pl.col("item_id").is_in(wanted))
    assert found.filter(pl.col("user_id") == "u1")["item_id"].to_list() == everything["item_id"].to_list()
    seen = sorted(seen_by("u1"))
    assert rec.recommend(users=["u1"], candidates=seen).height == 0
    assert rec.recommend(users=["u1"], candidates=[]).height == 0


def test_an_empty_history_is_somebody_new(rec: Recommender) -> None:
    found = rec.recommend(history=[[], ["i1"]], k=3)
    assert found["request"].to_list() == [0] * 3 + [1] * 3
    assert found["score"].is_finite().all()
    stranger = rec.recommend(users=["nobody"], k=3, on_unknown="ignore")
    assert stranger["item_id"].len() == 3


def test_nobody_asks(rec: Recommender) -> None:
    found = rec.recommend(users=[])
    assert found.columns == ["user_id", "rank", "item_id", "title", "score"]
    assert found.height == 0
    assert rec.recommend(history=[]).columns[0] == "request"


def test_the_same_user_may_ask_twice(rec: Recommender) -> None:
    found = rec.recommend(users=["u1", "u2", "u1"], k=2)
    assert found["user_id"].to_list() == ["u1", "u1", "u2", "u2", "u1", "u1"]
    assert found[:2].equals(found[4:])


def test_numbers_will_do_for_ids(folder: Path, tmp_path: Path) -> None:
    frame = shop.interactions().with_columns(pl.col("user_id", "item_id").str.extract(r"(\d+)").cast(pl.Int64))
    job = shop.pipeline(folder, features=[FEATURES[0], FEATURES[2]])
    del job["data_config"]["dataset"], job["data_config"]["log"]["title_field"]
    found = intarsia.fit(job, frame, run_dir=tmp_path).recommend(users=np.array([3]), k=2, filter_seen=False)
    assert found["user_id"].to_list() == ["3", "3"]


def test_the_history_is_that_of_the_whole_log_and_popularity_that_of_training(rec: Recommender) -> None:
    known = rec.known
    assert known is not None
    assert known.users.filter(pl.col("user_id") == "u3")[HISTORY][0].to_list() == liked_by("u3")
    train = shop.interactions()[: round(EVENTS * 0.7)].filter(pl.col("rating") >= 4)
    counts = {item: int((train["item_id"] == item).sum()) for item in ITEM_IDS}
    assert dict(known.items.select("item_id", POPULARITY).iter_rows()) == counts
    assert counts[UNSEEN] == 0


def test_learns_whom_to_recommend_what(folder: Path, tmp_path: Path) -> None:
    """Users like items of their own parity, so three of those come first."""
    data = {"num_epochs": 25, "batch_size": 16}
    rec = shop.fitted(folder, tmp_path, features=[FEATURES[0], FEATURES[2]], data=data)
    assert rec.metrics["test"]["auc"] > 0.9
    users = [f"u{k}" for k in range(USERS)]
    found = rec.recommend(users=users, k=3, filter_seen=False, candidates=ITEM_IDS[:12])
    parity = (found["user_id"].str.slice(1).cast(int) + found["item_id"].str.slice(1).cast(int)) % 2
    assert (parity == 0).mean() > 0.9


# Unknown ids


def test_unknown_users_are_an_error_unless_told_otherwise(rec: Recommender) -> None:
    with pytest.raises(DataError) as caught:
        rec.recommend(users=["u1", "x1", "x2", "x3", "x4", "x5", "x6"])
    assert str(caught.value) == (
        "users must be known to the model. Received 6 unknown: x1, x2, x3, x4, x5, .... Correct them, or set "
        "on_unknown "
        "to `warn` or `ignore`."
    )
    found = rec.recommend(users=["u1", "x1"], k=2, on_unknown="warn")
    assert found["note"].to_list() == [None, None, "unknown user", "unknown user"]
    assert rec.recommend(users=["u1"], k=2, on_unknown="warn")["note"].to_list() == [None, None]
    assert "note" not in rec.recommend(users=["x1"], k=2, on_unknown="ignore").columns


def test_an_unknown_user_gets_what_the_model_says_of_somebody_without_columns(rec: Recommender) -> None:
    found = rec.recommend(users=["x1"], k=ITEMS, on_unknown="ignore")
    rows = rows_for(rec, "x1", [])
    both = found.join(rows.select("item_id", full=pl.col("score")), on="item_id")
    assert both["score"].to_numpy() == pytest.approx(both["full"].to_numpy(), abs=1e-5)


def test_unknown_items_of_a_history(rec: Recommender) -> None:
    with pytest.raises(DataError) as caught:
        rec.recommend(history=[["i1", "zz"], ["yy"]])
    assert str(caught.value) == (
        "items of a history must be known to the model. Received 2 unknown: zz, yy. Correct them, or set on_unknown to "
        "`warn` or `ignore`."
    )
    found = rec.recommend(history=[["i1"], ["i1", "zz"]], k=2, on_unknown="warn")
    assert found["note"].to_list() == [None, None, "unknown: zz", "unknown: zz"]
    assert found["item_id"][:2].to_list() == found["item_id"][2:].to_list()


def test_unknown_candidates(rec: Recommender) -> None:
    with pytest.raises(DataError, match=r"candidates must be known to the model\. Received 1 unknown: zz"):
        rec.recommend(users=["u1"], candidates=["i1", "zz"])
    found = rec.recommend(users=["u1"], candidates=["i1", "zz"], on_unknown="ignore", filter_seen=False)
    assert found["item_id"].to_list() == ["i1"]


@pytest.mark.parametrize(
    ("message", "request_"),
    [
        ("recommend needs either `users` or `history`. Received: none of them.", {}),
        ("recommend needs either `users` or `history`. Received: both.", {"users": ["u1"], "history": [["i1"]]}),
        ("k must be at least 1. Received: 0.", {"users": ["u1"], "k": 0}),
        ("`users` must be a list of ids. Received: 'u1'. Put it into a list.", {"users": "u1"}),
        ("`users` must be a list of ids. Received: 196. Put it into a list.", {"users": 196}),
        ("`history` must be a list of lists of ids. Received: 50. Put it into a list.", {"history": [50, 181]}),
        ("`history` must be a list of lists of ids. Received: 'i1'. Put it into a list.", {"history": ["i1"]}),
        (
            "`candidates` must be a list of ids. Received: 'i1'. Put it into a list.",
            {"users": ["u1"], "candidates": "i1"},
        ),
        (
            "on_unknown must be one of error, warn, ignore. Received: 'skip'.",
            {"users": ["u1"], "on_unknown": "skip"},
        ),
    ],
)
def test_wrong_requests(rec: Recommender, message: str, request_: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        rec.recommend(**request_)
    assert str(caught.value) == message


def test_a_feature_of_the_event_itself_cannot_be_recommended_by(folder: Path, tmp_path: Path) -> None:
    hour = {"input_names": ["timestamp"], "feature_type": "RawFeature", "normalizer_fn": "lambda x: x / 400"}
    rec = shop.fitted(folder, tmp_path, features=[FEATURES[0], FEATURES[2], hour])
    with pytest.raises(DataError) as caught:
        rec.recommend(users=["u1"])
    assert str(caught.value) == (
        "items are recommended from columns of users and items. Received: the feature `timestamp`, which reads "
        "timestamp "
        "of the log. Train without it, or give rows with that column to `score`."
    )
    rows = {"user_id": ["u1"], "item_id": ["i1"], "timestamp": [7]}
    assert rec.score(rows).height == 1


def test_a_model_of_plain_rows_knows_no_items(tmp_path: Path) -> None:
    job = shop.pipeline(tmp_path, features=[FEATURES[0], FEATURES[2]])
    job["data_config"] = {"label_fields": ["label"], "num_epochs": 1}
    frame = shop.interactions().with_columns(label=(pl.col("rating") > 4).cast(pl.Float32))
    rec = intarsia.fit(job, frame, run_dir=tmp_path)
    with pytest.raises(DataError) as caught:
        rec.recommend(users=["u1"])
    assert str(caught.value).startswith(
        "recommend needs to know users and items, and this model was trained on plain rows. Train on an interaction log"
    )


# Choosing the best


def test_equal_scores_come_in_the_order_of_the_items() -> None:
    scores = np.array([[1.0, 3.0, 3.0, 1.0, 3.0], [0.0] * 5], dtype=np.float32)
    best, values = top_items(scores, None, 4)
    assert best.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3]]
    assert values.tolist() == [[3.0, 3.0, 3.0, 1.0], [0.0] * 4]


def test_only_allowed_items_are_chosen() -> None:
    scores = np.array([[5.0, 4.0, 3.0]], dtype=np.float32)
    best, values = top_items(scores, np.array([[False, True, False]]), 2)
    assert best.tolist() == [[1, -1]]
    assert values[0, 0] == 4.0
    assert scores.tolist() == [[5.0, 4.0, 3.0]]


@pytest.mark.parametrize("threads", [1, 2])
def test_ties_do_not_depend_on_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        best, _ = top_items(np.zeros((3, 50_000), dtype=np.float32), None, 10)
    finally:
        torch.set_num_threads(before)
    assert best.tolist() == [[*range(10)]] * 3
