"""Tests for the ItemKNN model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from classic import RANDOM_ROWS, batch_of, division_of, scores_of
from retrieval_contract import RetrieverContract

from intarsia.core.errors import BuildError, DataError
from intarsia.data.schema import Schema
from intarsia.models import item_knn as module
from intarsia.models.item_knn import ItemKNN
from intarsia.recommender.retrieval import RetrievalRecommender

Array = npt.NDArray[np.float64]


class TestItemKNN(RetrieverContract):
    model = {"model_class": "ItemKNN", "item_knn": {"top_k": 20, "shrink": 1}}


class TestByRatings(RetrieverContract):
    model = {"model_class": "ItemKNN", "item_knn": {"similarity": "adjusted_cosine"}}
    learns = False

    def test_new_items_are_taken_in_though_there_are_fewer_than_neighbours(self) -> None:
        model = self.made()
        recommender = RetrievalRecommender.from_data(self.config(), self.data(), model)
        before = recommender.recommend(users=["u3"], k=4)
        assert recommender.extend_items(["new"]).recommend(users=["u3"], k=4).equals(before)


ROWS = [[0, 1, 2], [0, 1], [0, 3, 0], [1, 2], [4]]
"""Item 0 is taken by three users, 1 by three, 2 by two, 3 by one, 4 by one; 0 and 1 by two together."""


def item_knn(
    rows: list[list[int]] = ROWS, num_items: int = 5, ratings: list[list[float]] | None = None, **options: Any
) -> ItemKNN:
    """Fitted."""
    model = ItemKNN(schema=Schema({}, num_users=len(rows), num_items=num_items), **options)
    model.fit(division_of(rows, num_items, ratings=ratings), 0)
    return model


def similarities(model: ItemKNN) -> Array:
    """(N, N): what item j of a history says for item i, at [i, j]."""
    return scores_of(model, batch_of(*[[item] for item in range(model.num_items)])).T.astype(np.float64)


def matrix_of(rows: list[list[int]], num_items: int, ratings: list[list[float]] | None = None) -> Array:
    """(U, N) counts, or ratings."""
    matrix = np.zeros((len(rows), num_items))
    for user, row in enumerate(rows):
        for place, item in enumerate(row):
            matrix[user, item] += 1 if ratings is None else ratings[user][place]
    return matrix


def cosines(matrix: Array, shrink: float = 0.0) -> Array:
    lengths = np.linalg.norm(matrix, axis=0)
    out = np.maximum(matrix.T @ matrix / (np.outer(lengths, lengths) + shrink + 1e-30), 0)
    np.fill_diagonal(out, 0)
    return out


def test_cosines_by_hand() -> None:
    """An item that a user took twice counts once; nothing is similar to item 4, and no item to itself."""
    root6, root3 = float(np.sqrt(6)), float(np.sqrt(3))
    expected: list[list[float]] = [
        [0, 2 / 3, 1 / root6, 1 / root3, 0],
        [2 / 3, 0, 2 / root6, 0, 0],
        [1 / root6, 2 / root6, 0, 0, 0],
        [1 / root3, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    assert np.allclose(similarities(item_knn()), expected)


def test_the_shrink_is_added_to_the_divisor() -> None:
    found = similarities(item_knn(shrink=10))
    assert found[0, 1] == pytest.approx(2 / (3 + 10))
    assert found[0, 3] == pytest.approx(1 / (3**0.5 + 10))


def test_jaccard_counts_users() -> None:
    found = similarities(item_knn(similarity="jaccard"))
    assert np.allclose(found[0], [0, 2 / 4, 1 / 4, 1 / 3, 0])
    assert np.allclose(similarities(item_knn(similarity="jaccard", shrink=1))[0], [0, 2 / 5, 1 / 5, 1 / 4, 0])


def test_an_item_keeps_its_most_similar_neighbours() -> None:
    """Of item 0 they are 1, 3 and 2; neighbours need not be mutual: 0 is the best of 3, but 3 not of 0."""
    one, two = similarities(item_knn(top_k=1)), similarities(item_knn(top_k=2))
    assert np.allclose(one[0], [0, 2 / 3, 0, 0, 0])
    assert one[3, 0] == pytest.approx(1 / 3**0.5)
    assert np.allclose(two[0], [0, 2 / 3, 0, 1 / 3**0.5, 0])


@pytest.mark.parametrize("room", [1, 30, 1 << 23])
@pytest.mark.parametrize("top_k", [3, 50])
def test_all_similarities_of_a_random_log(monkeypatch: pytest.MonkeyPatch, top_k: int, room: int) -> None:
    monkeypatch.setattr(module, "CHUNK", room)
    expected = cosines(np.minimum(matrix_of(RANDOM_ROWS, 12), 1), shrink=2)
    found = similarities(item_knn(RANDOM_ROWS, 12, shrink=2, top_k=top_k))
    kept = found > 0
    assert np.allclose(found[kept], expected[kept], atol=1e-6)
    for item in range(12):
        best = np.sort(expected[item])[::-1][:top_k]
        assert np.allclose(np.sort(found[item])[::-1][:top_k], best, atol=1e-6)
        assert kept[item].sum() == (best > 0).sum()


def test_a_score_is_the_sum_over_the_distinct_items_of_the_history() -> None:
    model = item_knn()
    s = similarities(model)
    found = scores_of(model, batch_of([0, 2, 0], [], [4], [3, 1], users=[-1, 2, 1, 0]))
    assert np.allclose(found, [s[:, 0] + s[:, 2], np.zeros(5), np.zeros(5), s[:, 3] + s[:, 1]])


def test_tf_idf_makes_users_who_take_everything_count_less() -> None:
    """x_ui = f log(N / n): users took 3, 2, 2, 2 and 1 of five items; user 2 took item 0 twice."""
    weights = np.log(5 / np.array([3, 2, 2, 2, 1]))[:, None]
    expected = cosines(matrix_of(ROWS, 5) * weights)
    assert np.allclose(similarities(item_knn(weighting="tf_idf")), expected, atol=1e-6)


def test_bm25_by_hand() -> None:
    counts = matrix_of(RANDOM_ROWS, 12)
    rarity = np.log(12 / (counts > 0).sum(axis=1))[:, None]
    totals = counts.sum(axis=0)
    x = rarity * counts * 2.2 / (counts + 1.2 * (0.25 + 0.75 * totals / totals.mean()))
    assert np.allclose(similarities(item_knn(RANDOM_ROWS, 12, weighting="bm25")), cosines(x), atol=1e-6)


def test_adjusted_cosines_compare_ratings_less_each_users_mean() -> None:
    """Repeated ratings of an item count as their mean; what is below zero is no similarity."""
    rows = [[0, 1, 2], [0, 1], [0, 1, 0], [2, 1]]
    ratings = [[5.0, 3.0, 1.0], [2.0, 4.0], [5.0, 4.0, 3.0], [2.0, 5.0]]
    x = np.array([[2, 0, -2], [-1, 1, 0], [0, 0, 0], [0, 1.5, -1.5]])  # user 2: 4 and 4
    found = similarities(item_knn(rows, 3, ratings, similarity="adjusted_cosine"))
    assert np.allclose(found, cosines(x), atol=1e-6)
    opposed = similarities(item_knn([[0, 1], [0, 1]], 2, [[1.0, 5.0], [2.0, 3.0]], similarity="adjusted_cosine"))
    assert not opposed.any()


def test_an_item_whose_ratings_tell_nothing_is_similar_to_nothing() -> None:
    """Item 2 is rated by somebody who rates everything alike: its column is zero, and so would be the divisor."""
    ratings = [[5.0, 3.0, 1.0], [1.0, 2.0, 4.0], [3.0, 3.0, 3.0]]
    rows = [[0, 1, 3], [0, 1, 3], [2, 0, 1]]
    found = similarities(item_knn(rows, 4, ratings, similarity="adjusted_cosine"))
    assert np.isfinite(found).all()
    assert not found[2].any()
    assert not found[:, 2].any()
    x = np.array([[2.0, 0.0, 0.0, -2.0], [-4 / 3, -1 / 3, 0.0, 5 / 3], [0.0, 0.0, 0.0, 0.0]])
    assert np.allclose(found, cosines(x), atol=1e-6)
    assert found[0, 1] > 0


def test_adjusted_cosines_need_ratings() -> None:
    with pytest.raises(DataError) as caught:
        item_knn(similarity="adjusted_cosine")
    assert str(caught.value) == (
        "similarity: adjusted_cosine compares ratings. Received: a log without log.rating_field. Name the column, or "
        "set similarity: cosine."
    )


def test_weights_go_with_cosines_alone() -> None:
    with pytest.raises(BuildError) as caught:
        item_knn(similarity="jaccard", weighting="bm25")
    assert str(caught.value) == (
        "model_config.item_knn.weighting: weighting goes with similarity: cosine; the others count users or compare "
        "ratings. Received: weighting bm25, similarity jaccard. Set weighting: none."
    )


@pytest.mark.parametrize("room", [1, 1 << 23])
def test_pairs_are_read_from_the_scores_of_all_items(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    model = item_knn()
    batch = batch_of([0, 1], [], [2])
    whole = torch.from_numpy(scores_of(model, batch))
    monkeypatch.setattr(module, "CHUNK", room)
    items = torch.tensor([[4, 0], [1, 1], [3, 1]])
    assert torch.equal(model.score_pairs(model.queries(batch), model.catalogue(), items), whole.gather(1, items))
