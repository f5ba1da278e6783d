from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from logs import make_log
from retrieval_contract import RetrieverContract, query

from intarsia.core.errors import BuildError, DataError
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.item_knn import ItemKNN


class TestItemKNN(RetrieverContract):
    model = {"model_class": "ItemKNN", "item_knn": {"top_k": 30}}


ROWS = [[0, 1, 2], [0, 1], [1, 2, 3], [3], [0, 3]]
X = np.zeros((5, 4))
for u, row in enumerate(ROWS):
    X[u, row] = 1


def fitted(ratings: list[list[float]] | None = None, **options: object) -> ItemKNN:
    log = make_log(ROWS)
    if ratings is not None:
        log = replace(log, ratings=np.array([r for row in ratings for r in row], dtype=np.float32))
    division = Division(log, log.offsets[:-1], log.offsets[1:], {}, "everything", ordered=True)
    model = ItemKNN(schema=Schema({}, num_users=5, num_items=4), **options)
    model.fit(division, seed=0)
    return model


def scores(model: ItemKNN, history: list[int]) -> np.ndarray:
    found = model.score_block(model.queries(query(torch.tensor(history))), model.catalogue(), 0, 4)
    return found[0].numpy()


def likeness(shrink: float = 0.0) -> np.ndarray:
    norms = np.linalg.norm(X, axis=0)
    s = (X.T @ X) / (np.outer(norms, norms) + shrink)
    np.fill_diagonal(s, 0.0)
    return s


@pytest.mark.parametrize("shrink", [0.0, 5.0])
def test_cosines_are_summed_over_the_distinct_items_of_the_history(shrink: float) -> None:
    model = fitted(top_k=3, shrink=shrink)
    assert np.allclose(scores(model, [0, 3, 3]), likeness(shrink)[[0, 3]].sum(axis=0), atol=1e-6)


def test_only_the_nearest_neighbours_of_the_scored_item_count() -> None:
    s = likeness()
    kept = np.where(s == s.max(axis=0), s, 0.0)  # by column: the best neighbour of each scored item
    assert np.allclose(scores(fitted(top_k=1), [0, 1, 2, 3]), kept.sum(axis=0), atol=1e-6)


def test_jaccard_counts_users() -> None:
    n = X.sum(axis=0)
    both = X.T @ X
    expected = both / (n[:, None] + n - both)
    np.fill_diagonal(expected, 0.0)
    assert np.allclose(scores(fitted(top_k=3, similarity="jaccard"), [1]), expected[1], atol=1e-6)


def test_tf_idf_makes_users_who_take_everything_count_less() -> None:
    rarity = np.log(4 / X.sum(axis=1))
    weighted = X * rarity[:, None]
    norms = np.linalg.norm(weighted, axis=0)
    expected = weighted.T @ weighted / np.outer(norms, norms)
    np.fill_diagonal(expected, 0.0)
    assert np.allclose(scores(fitted(top_k=3, weighting="tf_idf"), [2]), expected[2], atol=1e-5)


def test_adjusted_cosine_compares_ratings_less_the_users_mean() -> None:
    ratings = [[5, 3, 1], [4, 2], [5, 4, 1], [3], [1, 5]]
    centred = np.zeros((5, 4))
    for user, (row, stars) in enumerate(zip(ROWS, ratings)):
        centred[user, row] = np.array(stars) - np.mean(stars)
    norms = np.linalg.norm(centred, axis=0)
    expected = centred.T @ centred / np.outer(norms, norms)
    np.fill_diagonal(expected, 0.0)
    model = fitted(ratings, top_k=3, similarity="adjusted_cosine")
    assert np.allclose(scores(model, [1]), np.maximum(expected[1], 0), atol=1e-5)
    with pytest.raises(DataError, match=r"adjusted_cosine compares ratings"):
        fitted(top_k=3, similarity="adjusted_cosine")


def test_weighting_goes_with_cosines_alone() -> None:
    with pytest.raises(BuildError, match=r"Received: weighting bm25, similarity jaccard\. Set weighting: none"):
        fitted(similarity="jaccard", weighting="bm25")
