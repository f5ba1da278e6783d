"""What a model that ranks a catalogue answers, by its vectors and by an index of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import served
import torch
from served import CLUSTERS, ITEMS, cluster, fitted, loaded, planted_log, taken

import intarsia
from intarsia.config.schema.retrieval import IndexConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.batch_names import HISTORY, USER
from intarsia.core.errors import CheckpointError, ConfigError, DataError
from intarsia.models.retriever import Retriever
from intarsia.recommender.retrieval import POPULAR, RetrievalRecommender

HNSW = {"kind": "hnsw", "m": 4, "measure_queries": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def mf(folder: Path) -> RetrievalRecommender:
    return fitted("MF", folder)


@pytest.fixture(scope="module")
def sasrec(folder: Path) -> RetrievalRecommender:
    return fitted("SASRec", folder, export_config={"index": HNSW})


@pytest.fixture(scope="module")
def comirec(folder: Path) -> RetrievalRecommender:
    return fitted("ComiRecSA", folder)


@pytest.fixture(scope="module")
def ease(folder: Path) -> RetrievalRecommender:
    return fitted("EASE", folder)


def popular(rec: RetrievalRecommender, count: int) -> list[str]:
    """Items with most training interactions: all but the last two of every user; equal ones by their numbers."""
    log = planted_log()
    training = log.filter(pl.int_range(pl.len()).over("user") < pl.len().over("user") - 2)
    counts = dict(training.group_by("item").len().iter_rows())
    return sorted(rec.memory.item_ids.ids.to_list(), key=lambda item: -counts.get(item, 0))[:count]


# What comes out


def test_the_answer_is_a_frame_of_raw_ids_with_titles(mf: RetrievalRecommender) -> None:
    found = mf.recommend(users=["u3", "u5"], k=4)
    assert found.columns == ["user", "rank", "item", "title", "score"]
    assert found["user"].to_list() == ["u3"] * 4 + ["u5"] * 4
    assert found["rank"].to_list() == [1, 2, 3, 4] * 2
    assert found["title"].to_list() == [f"The {item}" for item in found["item"]]
    assert found["score"].dtype == pl.Float32


def test_scores_are_products_of_the_vectors_best_first(mf: RetrievalRecommender) -> None:
    found = mf.recommend(users=["u3"], k=ITEMS, filter_seen=False)
    model, memory = mf.model, mf.memory
    user = memory.user_ids.numbers(["u3"])[0]
    assert isinstance(model, Retriever)
    history = torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0])
    with torch.no_grad():
        query = model.encode_queries(Batch({USER: Dense(torch.tensor([user])), HISTORY: Jagged(*history)}, size=1))
        expected = (query @ model.encode_items().t())[0].numpy()
    items = memory.item_ids.numbers(found["item"].to_list())
    assert np.allclose(found["score"].to_numpy(), expected[items], atol=1e-5)
    assert found["score"].to_list() == sorted(found["score"], reverse=True)


def test_a_user_asked_twice_is_answered_twice(mf: RetrievalRecommender) -> None:
    found = mf.recommend(users=["u3", "u3"], k=2)
    assert found["rank"].to_list() == [1, 2, 1, 2]
    assert found["item"].to_list()[:2] == found["item"].to_list()[2:]


def test_nobody_asked_is_an_empty_frame(mf: RetrievalRecommender) -> None:
    found = mf.recommend(users=[], k=3)
    assert found.is_empty()
    assert found.columns == ["user", "rank", "item", "title", "score"]


@pytest.mark.parametrize("name", ["mf", "sasrec", "comirec", "ease"])
def test_users_and_strangers_stay_with_their_clusters(name: str, request: pytest.FixtureRequest) -> None:
    rec = request.getfixturevalue(name)
    users = rec.recommend(users=["u1", "u8"], k=6)
    mine = {"u1": {1, 0}, "u8": {2, 1}}
    hits = [cluster(item) in mine[user] for user, item in users.select("user", "item").iter_rows()]
    assert np.mean(hits) > 0.7, users
    strangers = rec.recommend(history=[[f"i{k}" for k in range(5)], [f"i{k}" for k in range(24, 29)]], k=5)
    hits = [cluster(item) == (0, 2)[r] for r, item in strangers.select("request", "item").iter_rows()]
    assert np.mean(hits) > 0.6, strangers


def test_requests_do_not_depend_on_each_other(comirec: RetrievalRecommender) -> None:
    histories = [["i1"], [], [f"i{k}" for k in range(30)], ["i70", "i3"]]
    together = comirec.recommend(history=histories, k=5)
    for number, history in enumerate(histories):
        alone = comirec.recommend(history=[history], k=5)
        same = together.filter(pl.col("request") == number)
        assert alone["item"].to_list() == same["item"].to_list()
        assert np.allclose(alone["score"], same["score"], atol=1e-5)


# Seen items, candidates, unknown ids


@pytest.mark.parametrize("name", ["mf", "ease"])
def test_seen_items_are_left_out_on_request(name: str, request: pytest.FixtureRequest) -> None:
    rec = request.getfixturevalue(name)
    every = rec.recommend(users=["u9"], k=ITEMS, filter_seen=False)
    fresh = rec.recommend(users=["u9"], k=ITEMS)
    assert set(every["item"]) == set(planted_log()["item"])
    assert set(fresh["item"]) == set(every["item"]) - taken("u9")
    assert fresh["item"].to_list() == [item for item in every["item"] if item not in taken("u9")]
    given = rec.recommend(history=[["i1", "i2", "i1"]], k=ITEMS)
    assert set(given["item"]) == set(every["item"]) - {"i1", "i2"}


def test_only_candidates_are_recommended(mf: RetrievalRecommender) -> None:
    fresh = sorted(set(planted_log()["item"]) - taken("u4"))[:5]
    among = [*fresh, *sorted(taken("u4"))[:2]]
    found = mf.recommend(users=["u4"], k=10, candidates=among)
    assert set(found["item"]) == set(fresh)
    order = mf.recommend(users=["u4"], k=ITEMS)["item"].to_list()
    assert found["item"].to_list() == [item for item in order if item in fresh]
    assert set(mf.recommend(users=["u4"], k=10, candidates=among, filter_seen=False)["item"]) == set(among)


def test_more_items_than_there_are_is_all_of_them(mf: RetrievalRecommender) -> None:
    found = mf.recommend(users=["u4"], k=10**9, filter_seen=False)
    assert found["item"].n_unique() == len(found) == len(mf.memory.item_ids)


def test_unknown_ids_are_errors_or_are_told(mf: RetrievalRecommender) -> None:
    with pytest.raises(DataError, match=r"users must be known to the model. Received 1 unknown: nobody"):
        mf.recommend(users=["u1", "nobody"])
    with pytest.raises(DataError, match=r"items of a history must be known .* 2 unknown: x, y"):
        mf.recommend(history=[["i1", "x"], ["y"]])
    with pytest.raises(DataError, match=r"candidates must be known .* 1 unknown: z"):
        mf.recommend(users=["u1"], candidates=["i1", "z"])
    with pytest.raises(DataError, match=r"on_unknown must be one of error, warn, ignore. Received: 'skip'"):
        mf.recommend(users=["u1"], on_unknown="skip")  # type: ignore[arg-type]
    told = mf.recommend(history=[["i1", "x"], ["i2"]], k=1, on_unknown="warn")
    assert told["note"].to_list() == ["unknown: x", None]
    quiet = mf.recommend(history=[["i1", "x"]], k=3, on_unknown="ignore")
    assert quiet.equals(mf.recommend(history=[["i1"]], k=3))
    assert set(mf.recommend(users=["u1"], candidates=["i60", "z"], on_unknown="ignore")["item"]) <= {"i60"}


@pytest.mark.parametrize("name", ["mf", "sasrec", "comirec", "ease"])
def test_nothing_known_gets_popular_items_and_is_told_so(name: str, request: pytest.FixtureRequest) -> None:
    rec = request.getfixturevalue(name)
    found = rec.recommend(history=[[], ["x"], ["i1"]], k=5, on_unknown="warn")
    for number in (0, 1):
        assert found.filter(pl.col("request") == number)["item"].to_list() == popular(rec, 5)
    assert found["note"].to_list() == [POPULAR] * 5 + [f"unknown: x; {POPULAR}"] * 5 + [None] * 5
    assert rec.recommend(users=["nobody"], k=3, on_unknown="ignore")["item"].to_list() == popular(rec, 3)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, r"either `users` or `history`. Received: none of them"),
        ({"users": ["u1"], "history": [["i1"]]}, r"either `users` or `history`. Received: both"),
        ({"users": ["u1"], "k": 0}, r"k must be at least 1. Received: 0"),
        ({"users": "u1"}, r"`users` must be a list of ids. Received: 'u1'"),
        ({"history": ["i1"]}, r"`history` must be a list of lists of ids. Received: 'i1'"),
        ({"users": ["u1"], "diversity": -1.0, "category": "genre"}, r"diversity must be a number of at least 0"),
        (
            {"users": ["u1"], "diversity": 1.0},
            r"diversity needs a `category`.* Received: none, and columns item, title",
        ),
        ({"users": ["u1"], "diversity": 1.0, "category": "mood"}, r"Received: `mood`, and columns item, title, genre"),
    ],
)
def test_wrong_requests_are_refused(mf: RetrievalRecommender, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        mf.recommend(**asked)


# Items that go with items


def test_items_go_with_items_of_their_cluster(mf: RetrievalRecommender, ease: RetrievalRecommender) -> None:
    for rec in (mf, ease):
        found = rec.similar_items(["i5", "i40"], k=5)
        assert found.columns == ["to", "rank", "item", "title", "score"]
        assert found["to"].to_list() == ["i5"] * 5 + ["i40"] * 5
        assert not {"i5"} & set(found.filter(pl.col("to") == "i5")["item"])
    alike = [cluster(a) == cluster(b) for a, b in mf.similar_items(["i5", "i40"], k=5).select("to", "item").rows()]
    assert np.mean(alike) > 0.5
    vectors = torch.nn.functional.normalize(mf.searcher.item_vectors(), dim=1)
    one, other = mf.memory.item_ids.numbers(["i5", mf.similar_items(["i5"], k=1)["item"][0]])
    assert mf.similar_items(["i5"], k=1)["score"][0] == pytest.approx(float(vectors[one] @ vectors[other]), abs=1e-5)


def test_unknown_items_have_no_company(mf: RetrievalRecommender) -> None:
    with pytest.raises(DataError, match=r"items must be known to the model. Received 1 unknown: x"):
        mf.similar_items(["x"])
    assert mf.similar_items(["x", "i1"], k=2, on_unknown="ignore")["to"].to_list() == ["i1", "i1"]
    assert mf.similar_items([], k=2).is_empty()
    with pytest.raises(DataError, match=r"k must be at least 1. Received: 0"):
        mf.similar_items(["i1"], k=0)


# Pairs


def test_pairs_are_scored_as_lists_are(mf: RetrievalRecommender, comirec: RetrievalRecommender) -> None:
    for rec in (mf, comirec):
        found = rec.recommend(users=["u7"], k=5)
        rows = {"user": ["u7"] * 5 + ["u7", "nobody"], "item": [*found["item"], "x", "i1"]}
        scores = rec.score(rows, batch_size=3)["score"].to_list()
        assert scores[:5] == pytest.approx(found["score"].to_list(), abs=1e-6)
        assert scores[5:] == [None, None]


# Bundles


@pytest.mark.parametrize("name", ["mf", "sasrec", "comirec", "ease"])
def test_a_loaded_bundle_answers_the_same(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    rec = request.getfixturevalue(name)
    again = loaded(rec.folder)
    copy = loaded(again.save(tmp_path / "copy"))
    for asked in ({"users": ["u0", "u17"]}, {"history": [["i1", "i30"], []]}):
        first = rec.recommend(**asked, k=7)
        assert first.equals(again.recommend(**asked, k=7))
        assert first.equals(copy.recommend(**asked, k=7))
    assert again.metrics == rec.metrics


# New items


@pytest.mark.parametrize("name", ["mf", "sasrec", "comirec"])
def test_new_items_leave_old_rows_and_scores_as_they_were(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    rec = request.getfixturevalue(name)
    more = pl.DataFrame({"item": ["n1", "i3", "n2"], "genre": ["g0", "g1", "g9"]})
    grown = rec.extend_items(more)
    old = len(rec.memory.item_ids)
    assert grown.memory.item_ids.ids.to_list() == [*rec.memory.item_ids.ids, "n1", "n2"]
    assert torch.equal(grown.searcher.item_vectors()[:old], rec.searcher.item_vectors())
    before = rec.recommend(users=["u2"], k=old, filter_seen=False)
    after = grown.recommend(users=["u2"], k=old + 2, filter_seen=False)
    assert set(after["item"]) - set(before["item"]) == {"n1", "n2"}
    kept = after.filter(~pl.col("item").is_in(["n1", "n2"]))
    assert kept["item"].to_list() == before["item"].to_list()
    assert np.allclose(kept["score"], before["score"], atol=1e-6)
    assert grown.recommend(history=[["n1", "i1"]], k=3)["score"].is_finite().all()
    again = loaded(grown.save(tmp_path / "grown"))
    assert again.recommend(users=["u2"], k=5).equals(grown.recommend(users=["u2"], k=5))
    with pytest.raises(DataError, match=r"Received: none that is new"):
        grown.extend_items(["n1", "i3"])


def test_a_solver_says_nothing_of_new_items(ease: RetrievalRecommender) -> None:
    grown = ease.extend_items(["n1"])
    before = ease.recommend(users=["u2"], k=ITEMS, filter_seen=False)
    after = grown.recommend(users=["u2"], k=ITEMS + 1, filter_seen=False)
    assert after.filter(pl.col("item") == "n1")["score"].to_list() == [0]
    assert after.filter(pl.col("item") != "n1").drop("rank", "title").equals(before.drop("rank", "title"))


# Refit


def test_refit_learns_from_everything_and_keeps_the_metrics(folder: Path, mf: RetrievalRecommender) -> None:
    settings = served.mapping("MF", None, export_config={"refit": True, "index": "flat"})
    whole = intarsia.fit(settings, data=planted_log(), run_dir=folder / "whole")
    assert isinstance(whole, RetrievalRecommender)
    assert int(whole.memory.counts.sum()) == planted_log().height
    assert int(mf.memory.counts.sum()) == planted_log().height - 2 * 240
    assert whole.metrics == mf.metrics
    assert whole.index is not None
    assert torch.equal(whole.index.vectors, whole.searcher.item_vectors())  # type: ignore[attr-defined]
    assert not torch.equal(whole.searcher.item_vectors(), mf.searcher.item_vectors())


# Index


def test_an_index_is_built_measured_and_kept_with_the_bundle(sasrec: RetrievalRecommender) -> None:
    assert sasrec.index is not None
    about = json.loads((sasrec.folder / "bundle" / "bundle.json").read_text())["index"]  # type: ignore[operator]
    assert about["kind"] == "hnsw"
    assert about["num_items"] == len(sasrec.memory.item_ids)
    assert about["measured"]["of"] == "queries"
    assert about["measured"]["queries"] == 50
    assert 0.5 < about["measured"]["recall"]["10"] <= 1
    again = loaded(sasrec.folder)
    assert again.index is not None
    assert again.index.measured == sasrec.index.measured


@pytest.mark.parametrize("kind", ["flat", "faiss_flat"])
@pytest.mark.parametrize("name", ["mf", "sasrec", "comirec"])
def test_an_exact_index_finds_what_scoring_all_finds(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    rec = loaded(request.getfixturevalue(name).folder)
    rec.build_index(kind)
    for asked in (
        {"users": [f"u{k}" for k in range(30)]},
        {"users": ["u1", "nobody"], "on_unknown": "warn"},
        {"history": [["i1", "i30"], [], ["i60"] * 3], "k": 70},
        {"users": ["u1"], "filter_seen": False, "k": 1000},
        {"users": ["u1"], "candidates": ["i1", "i9", "i30"]},
    ):
        searched, scored = rec.recommend(**asked), rec.recommend(**asked, exact=True)
        assert searched.equals(scored), asked


@pytest.mark.parametrize("settings", [HNSW, {"kind": "ivf", "nlist": 6, "nprobe": 1}, {"kind": "pq", "bits": 4}])
def test_an_approximate_index_gives_every_place_an_item_with_its_true_score(
    settings: dict[str, Any],
    comirec: RetrievalRecommender,
) -> None:
    rec = loaded(comirec.folder)
    index = rec.build_index(IndexConfig.model_validate(settings))
    assert index.measured is not None
    users = [f"u{k}" for k in range(40)]
    found = rec.recommend(users=users, k=10)
    true = {
        (u, i): s for u, i, s in rec.recommend(users=users, k=ITEMS, exact=True).select("user", "item", "score").rows()
    }
    assert len(found) == 400
    for user, item, score in found.select("user", "item", "score").iter_rows():
        assert score == pytest.approx(true[user, item], abs=1e-6)
    every = found.group_by("user", maintain_order=True).agg(pl.col("score"))["score"].to_list()
    assert all(scores == sorted(scores, reverse=True) for scores in every)


def test_the_index_is_searched_and_exact_goes_past_it(
    mf: RetrievalRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    rec = loaded(mf.folder)
    index = rec.build_index("flat")
    calls = []
    real = index.search
    monkeypatch.setattr(index, "search", lambda *a, **kw: calls.append(a) or real(*a, **kw))  # type: ignore[func-returns-value]
    rec.recommend(users=["u1"], exact=True)
    rec.recommend(users=["u1"], candidates=["i1"])
    assert not calls
    rec.recommend(users=["u1"])
    assert len(calls) == 1


def test_new_items_are_found_by_an_index_built_again(sasrec: RetrievalRecommender) -> None:
    grown = sasrec.extend_items(["n1"])
    assert grown.index is not None
    assert grown.index.config == sasrec.index.config  # type: ignore[union-attr]
    assert grown.index.num_items == len(sasrec.memory.item_ids) + 1
    assert "n1" in grown.recommend(users=["u1"], k=100, filter_seen=False)["item"].to_list()


def test_an_index_of_another_model_is_refused(
    sasrec: RetrievalRecommender, mf: RetrievalRecommender, tmp_path: Path
) -> None:
    other = loaded(sasrec.folder)
    with torch.no_grad():
        next(other.model.parameters()).add_(0.5)
    other.build_index("flat")
    place = other.save(tmp_path / "other")
    mine = shutil.copytree(sasrec.folder / "bundle", tmp_path / "mine")  # type: ignore[operator]
    shutil.rmtree(mine / "index")
    shutil.copytree(place / "index", mine / "index")
    mixed = loaded(mine)
    with pytest.raises(CheckpointError, match=r"index is of another model: \d+ of its 72 vectors .*exact=True"):
        mixed.recommend(users=["u1"])
    assert mixed.recommend(users=["u1"], exact=True).height == 10
    shutil.rmtree(mine / "index")
    with pytest.raises(CheckpointError, match=r"there is no index in .*index: index.json is missing"):
        loaded(mine).recommend(users=["u1"])


def test_a_bundle_saved_over_one_with_an_index_has_none(
    sasrec: RetrievalRecommender, mf: RetrievalRecommender, tmp_path: Path
) -> None:
    place = shutil.copytree(sasrec.folder / "bundle", tmp_path / "place")  # type: ignore[operator]
    loaded(mf.folder).save(place)
    again = loaded(place)
    assert again.index is None
    assert again.recommend(users=["u1"]).height == 10


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("EASE", "flat", r"an index needs a model whose scores are products of vectors. Received: EASE"),
        ("MF", {"kind": "flat", "metric": "euclidean"}, r"by inner product. Received: metric euclidean for MF"),
        ("MF", "pq", r"at least 2\^bits items to learn from. Received: 72 items for bits = 8"),
        ("MF", {"kind": "ivf", "nlist": 100}, r"nlist = 100 for 72 items"),
    ],
)
def test_an_index_that_cannot_be_is_refused_before_training(
    name: str, settings: object, told: str, tmp_path: Path
) -> None:
    pipeline = served.mapping(name, None, epochs=10_000, export_config={"index": settings})
    with pytest.raises(ConfigError, match=told):
        intarsia.fit(pipeline, data=planted_log(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


# Diversity


def test_a_large_weight_takes_one_item_of_each_genre(mf: RetrievalRecommender) -> None:
    plain = mf.recommend(users=["u1"], k=CLUSTERS)
    assert plain.equals(mf.recommend(users=["u1"], k=CLUSTERS, diversity=0.0, category="genre"))
    found = mf.recommend(users=["u1"], k=CLUSTERS, diversity=1e6, category="genre")
    assert {cluster(item) for item in found["item"]} == set(range(CLUSTERS))
    assert found["item"][0] == plain["item"][0]
    best = mf.recommend(users=["u1"], k=ITEMS).unique("item", maintain_order=True)
    firsts = best.with_columns(c=pl.col("item").map_elements(cluster, return_dtype=pl.Int64)).unique("c", keep="first")
    assert set(found["item"]) == set(firsts["item"])


@pytest.mark.parametrize("name", ["sasrec", "comirec", "ease"])
def test_every_model_can_be_made_diverse(name: str, request: pytest.FixtureRequest) -> None:
    rec = request.getfixturevalue(name)
    plain, diverse = (
        rec.recommend(history=[["i1", "i2", "i3"]], k=8, diversity=weight, category="genre") for weight in (0, 100)
    )
    count = [len({cluster(item) for item in found["item"]}) for found in (plain, diverse)]
    assert count[1] == CLUSTERS
    assert count[0] < count[1]
    assert not {"i1", "i2", "i3"} & set(diverse["item"])


def test_several_tags_differ_in_part(mf: RetrievalRecommender) -> None:
    """Two items with one of two tags in common differ by 1 - 1/3."""
    among = mf.difference("tags").among(
        torch.from_numpy(mf.memory.item_ids.numbers(["i0", "i3", "i6", "i1"])).unsqueeze(0)
    )
    assert among(torch.tensor([0]))[0].tolist() == pytest.approx([0, 2 / 3, 0, 1])


def test_candidates_and_diversity_go_together(mf: RetrievalRecommender) -> None:
    found = mf.recommend(users=["u1"], k=10, candidates=["i30", "i31", "i50"], diversity=50.0, category="genre")
    assert set(found["item"]) == {"i30", "i31", "i50"}
    assert {cluster(item) for item in found["item"][:2]} == {2, 4}


def test_an_index_finds_the_candidates_of_diverse_lists(mf: RetrievalRecommender) -> None:
    rec = loaded(mf.folder)
    rec.build_index("faiss_flat")
    asked: dict[str, Any] = {"users": ["u1", "u2"], "k": 6, "diversity": 0.5, "category": "genre"}
    assert rec.recommend(**asked).equals(rec.recommend(**asked, exact=True))
