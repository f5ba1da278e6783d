from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from ranking_cases import batches, jagged, metric_of, others_of, places_of, random_case
from scipy import stats

from intarsia.config.schema.evaluation import RankingProtocol
from intarsia.core.errors import DataError
from intarsia.evaluation.ranking import NegativeSampler, build_ranking_metrics, evaluate_ranking
from intarsia.evaluation.ranking import sampling as sampling_module


def sampler(num: int, items: int, counts: list[int] | None = None, **more: object) -> NegativeSampler:
    options = {"candidates": "sampled", "num_negatives": num, **more}
    protocol = RankingProtocol.model_validate(options)
    return NegativeSampler(protocol, items, None if counts is None else torch.tensor(counts))


def nothing(rows: int) -> list[list[int]]:
    return [[] for _ in range(rows)]


def test_negatives_are_different_and_never_excluded() -> None:
    rng = np.random.default_rng(0)
    excluded = [rng.choice(60, rng.integers(0, 41), replace=False).tolist() for _ in range(200)]
    found = sampler(15, 60).draw(torch.arange(200), jagged(excluded))
    assert found.shape == (200, 15)
    for row, own in enumerate(found.tolist()):
        assert len(set(own)) == 15
        assert not set(own) & set(excluded[row])
        assert all(0 <= item < 60 for item in own)


def test_the_draws_of_a_user_depend_on_the_seed_and_the_user_alone() -> None:
    users = torch.tensor([5, 2, 9, 700])
    excluded = [[1], [], [0, 3], [2]]
    whole = sampler(20, 500).draw(users, jagged(excluded))
    for row in range(4):
        assert torch.equal(sampler(20, 500).draw(users[[row]], jagged([excluded[row]]))[0], whole[row])
    assert torch.equal(sampler(20, 500).draw(users.flip(0), jagged(excluded[::-1])).flip(0), whole)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(sampler(20, 500, seed=1).draw(users, jagged(excluded)), whole)


def test_fewer_negatives_are_the_first_of_more() -> None:
    users = torch.arange(30)
    many, few = (sampler(num, 400).draw(users, jagged(nothing(30))) for num in (60, 20))
    assert torch.equal(many[:, :20], few)


@pytest.mark.parametrize("excluded", [[], [0, 1, 2, 3]])
def test_every_item_is_drawn_alike(excluded: list[int]) -> None:
    rows = 4000
    found = sampler(3, 12).draw(torch.arange(rows), jagged([excluded] * rows))
    counts = np.bincount(found.flatten().numpy(), minlength=12)[len(excluded) :]
    assert stats.chisquare(counts).pvalue > 1e-3
    pairs = Counter(tuple(row[:2]) for row in found.tolist())
    left = 12 - len(excluded)
    assert len(pairs) == left * (left - 1)  # every ordered pair occurs


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_popular_items_are_drawn_in_proportion_to_a_power_of_their_interactions(alpha: float) -> None:
    rows, counts = 6000, [0, 1, 4, 16, 64, 0, 9]
    found = sampler(1, 7, counts, sampler="popularity", alpha=alpha).draw(torch.arange(rows), jagged([[6]] * rows))
    drawn = np.bincount(found.flatten().numpy(), minlength=7)
    weights = np.array([1, 4, 16, 64]) ** alpha
    assert drawn[[0, 5, 6]].tolist() == [0, 0, 0]
    assert stats.chisquare(drawn[1:5], rows * weights / weights.sum()).pvalue > 1e-3


def test_a_later_draw_passes_over_what_was_drawn() -> None:
    # Of weights 1, 2, 7: P(second = a) = P(b first) 1/8 + P(c first) 1/3.
    rows, weights = 9000, np.array([1, 2, 7])
    found = sampler(2, 3, weights.tolist(), sampler="popularity").draw(torch.arange(rows), jagged(nothing(rows)))
    second = np.bincount(found[:, 1].numpy(), minlength=3)
    p = weights / 10
    expected = [sum(p[i] * p[j] / (1 - p[i]) for i in range(3) if i != j) for j in range(3)]
    assert stats.chisquare(second, rows * np.array(expected)).pvalue > 1e-3


def test_whoever_has_nearly_everything_gets_what_is_left() -> None:
    excluded = [list(range(48)), list(range(50)), list(range(49))]
    found = sampler(3, 50).draw(torch.arange(3), jagged(excluded))
    assert sorted(found[0].tolist()) == [-1, 48, 49]
    assert found[0, -1] == found[1].max() == -1
    assert found[2].tolist() == [49, -1, -1]
    wide = sampler(9, 4).draw(torch.arange(2), jagged([[0], []]))
    assert [sorted(row) for row in wide.tolist()] == [[-1] * 6 + [1, 2, 3], [-1] * 5 + [0, 1, 2, 3]]
    unseen = sampler(3, 4, [5, 0, 0, 2], sampler="popularity").draw(torch.arange(1), jagged([[]]))
    assert sorted(unseen[0].tolist()) == [-1, 0, 3]


def test_draws_over_all_items_follow_the_same_distribution() -> None:
    rows = 3000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_module, "ROUNDS", 0)  # nobody is served by the stream
        patch.setattr(sampling_module, "DENSE_NUMBERS", 64)
        found = sampler(2, 5, [1, 2, 3, 4, 90], sampler="popularity").draw(torch.arange(rows), jagged([[4]] * rows))
    first = np.bincount(found[:, 0].numpy(), minlength=5)
    assert first[4] == 0
    assert stats.chisquare(first[:4], rows * np.array([0.1, 0.2, 0.3, 0.4])).pvalue > 1e-3


def test_draws_by_popularity_need_the_interactions() -> None:
    with pytest.raises(DataError, match="negatives by popularity need the training interactions"):
        sampler(2, 5, sampler="popularity")


def test_sampled_metrics_are_those_of_the_drawn_items_and_say_so() -> None:
    scores, targets, excluded = random_case(5, rows=20)
    together = jagged([[*t, *e] for t, e in zip(targets, excluded)])
    candidates = sampler(6, 30).draw(torch.arange(20), together)
    protocol = RankingProtocol(candidates="sampled", num_negatives=6)
    metrics = build_ranking_metrics(["ndcg@3", "auc"], protocol=protocol)
    found = evaluate_ranking(batches(7, scores, targets, excluded, candidates=candidates), metrics, num_items=30)
    assert list(found.values) == ["ndcg@3[sampled 6 uniform]", "auc[sampled 6 uniform]"]
    assert found.notes == ()  # no negative was a target
    expected = []
    for row, own in enumerate(scores.tolist()):
        others = others_of(30, targets[row], [], candidates[row].tolist())
        expected.append(metric_of("ndcg", 3, places_of(own, targets[row], others), len(others)))
    assert found.per_user["ndcg@3[sampled 6 uniform]"].tolist() == pytest.approx(expected, abs=1e-6)
