from __future__ import annotations

import numpy as np
import torch
from retrieval_contract import RetrieverContract, query
from scipy.stats import kstest

from intarsia.data.schema import Schema
from intarsia.models.random_items import Random


class TestRandom(RetrieverContract):
    model = {"model_class": "Random"}
    learns = False


def scores(seed: int, history: list[int], user: int = -1, count: int = 2000) -> np.ndarray:
    model = Random(schema=Schema({}, num_users=5, num_items=count))
    model.fit(None, seed)
    found = model.score_block(model.queries(query(torch.tensor(history, dtype=torch.int64), user)), None, 0, count)
    return found[0].numpy()


def test_scores_are_uniform() -> None:
    found = np.concatenate([scores(0, [k]) for k in range(5)])
    assert kstest(found, "uniform").pvalue > 0.001


def test_the_seed_the_user_and_the_history_decide() -> None:
    one = scores(0, [1, 2], 3)
    assert np.array_equal(one, scores(0, [1, 2], 3))
    for other in (scores(1, [1, 2], 3), scores(0, [2, 1], 3), scores(0, [1, 2], 4), scores(0, [1], 3)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
