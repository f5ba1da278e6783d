from __future__ import annotations

import numpy as np
import pytest
import torch
from logs import make_log
from retrieval_contract import RetrieverContract, query

from intarsia.core.errors import DataError
from intarsia.data.interactions.splits import Division
from intarsia.data.schema import Schema
from intarsia.models.pop import Pop

DAY = 86_400.0


class TestPop(RetrieverContract):
    model = {"model_class": "Pop"}
    learns = False


def fitted(log, ends: list[int] | None = None, **options: object) -> Pop:
    stop = log.offsets[1:] if ends is None else log.offsets[:-1] + np.array(ends)
    division = Division(log, log.offsets[:-1], stop, {}, "everything", ordered=True)
    model = Pop(schema=Schema({}, num_users=log.num_users, num_items=log.num_items), **options)
    model.fit(division, seed=0)
    return model


def test_scores_count_training_interactions_alone() -> None:
    log = make_log([[0, 1, 1, 2], [1, 3], [3, 2]])
    model = fitted(log, ends=[3, 1, 1])
    scores = model.score_block(model.queries(query(torch.tensor([0]))), None, 0, 4)
    assert scores.tolist() == [[1.0, 3.0, 0.0, 1.0]]


def test_half_a_life_ago_counts_half() -> None:
    log = make_log([[0, 1], [0, 2]], [[0.0, 2 * DAY], [1 * DAY, 4 * DAY]])
    found = fitted(log, half_life_days=2.0).scores
    assert torch.allclose(found, torch.tensor([2**-2 + 2**-1.5, 2**-1.0, 1.0]), atol=1e-6)


def test_a_half_life_needs_times() -> None:
    with pytest.raises(DataError, match=r"pop\.half_life_days needs the times .* Name the column"):
        fitted(make_log([[0, 1]]), half_life_days=1.0)
