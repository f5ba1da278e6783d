import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_cases import TableScorer, factors, jagged, vectors
from scipy.stats import chisquare

from intarsia.core.errors import BuildError, DataError
from intarsia.objectives.retrieval import Positives, build_objective, build_sampler
from intarsia.objectives.retrieval.frequency import log_inclusion
from intarsia.objectives.retrieval.samplers import contains

N = 12
COUNTS = torch.tensor([40, 0, 1, 9, 30, 2, 0, 100, 5, 5, 60, 3])
SEEN = [[0, 3, 4, 7], [], list(range(11)), list(range(12)), [7, 10]]


def sampler(spec, counts=COUNTS, num_items=N):
    built = build_sampler(spec, num_items=num_items)
    for part in built.modules():
        if hasattr(part, "counts"):
            part.set(counts)
    return built


def draw(built, positives, n, *, shared=False, scores=None):
    torch.manual_seed(17)
    scorer = TableScorer(torch.zeros(len(positives), built.num_items) if scores is None else scores)
    return built.sample(positives, scorer, n, shared=shared)


def fits(drawn, probabilities):
    """Whether draws could come from a distribution: nothing impossible, and the right shares of the rest."""
    probabilities = np.asarray(probabilities)
    found = np.bincount(drawn.flatten().numpy(), minlength=len(probabilities))
    assert found[probabilities == 0].sum() == 0
    possible = probabilities > 0
    if possible.sum() == 1:
        return
    expected = probabilities[possible] / probabilities[possible].sum() * found.sum()
    assert chisquare(found[possible], expected).pvalue > 1e-3


def weights_of(alpha):
    return COUNTS.double().pow(alpha).numpy() if alpha else np.ones(N)


SPECS = {"uniform": ("uniform", np.ones(N))}
for a in (0.0, 0.5, 0.75, 1.0):
    SPECS[f"popularity_{a}"] = ({"popularity": {"alpha": a}}, weights_of(a))


# Distributions


@pytest.mark.parametrize("name", SPECS)
def test_own_negatives_are_the_others_in_the_right_shares(name):
    spec, weights = SPECS[name]
    built = sampler(spec)
    positives = Positives(torch.arange(N))
    found = draw(built, positives, 8000)
    assert found.items.shape == (N, 8000)
    assert found.usable(positives).all()
    for item in range(N):
        left = np.where(np.arange(N) == item, 0.0, weights)
        fits(found.items[item], left)
        drawable = torch.from_numpy(left > 0)
        expected = np.log(8000 * left[drawable] / left.sum())
        log_probs = found.log_prob_of(torch.arange(N).expand(N, N))[item]
        assert log_probs[drawable].tolist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-6)
    assert found.log_probs.shape == found.items.shape
    torch.testing.assert_close(found.log_prob_of(positives.items), found.log_prob_of(positives.items[:, None])[:, 0])


@pytest.mark.parametrize("name", SPECS)
def test_shared_negatives_are_distinct_and_as_often_there_as_they_say(name):
    spec, weights = SPECS[name]
    built = sampler(spec)
    positives = Positives(torch.tensor([3]))
    torch.manual_seed(3)
    seen, rounds = np.zeros(N), 4000
    for _ in range(rounds):
        found = built.sample(positives, TableScorer(torch.zeros(1, N)), 4, shared=True)
        assert found.items.dim() == 1
        assert len(found.items.unique()) == len(found.items) <= 4
        seen[found.items.numpy()] += 1
    expected = found.log_prob_of(torch.arange(N)).exp().numpy()
    drawable = weights > 0
    assert seen[~drawable].sum() == 0
    error = np.sqrt(expected * (1 - expected) / rounds)
    assert (abs(seen / rounds - expected)[drawable] < 4 * error[drawable] + 1e-9).all()
    assert found.log_probs.tolist() == found.log_prob_of(found.items).tolist()


def test_shared_uniform_negatives_of_a_large_catalogue_are_n_distinct_ones():
    built = build_sampler("uniform", num_items=100_000)
    found = draw(built, Positives(torch.tensor([3])), 1000, shared=True).items
    assert len(found.unique()) == len(found) == 1000
    assert 0 <= found.min() < 1000
    assert 99_000 < found.max() < 100_000
    # In random order, or the first ones would be the smallest
    assert abs(found[:500].double().mean() - 50_000) < 5000


@pytest.mark.parametrize("name", SPECS)
def test_unseen_negatives_have_the_shares_of_what_is_left(name):
    spec, weights = SPECS[name]
    built = sampler({"unseen": {"source": spec}})
    assert built.needs_seen
    rows = torch.tensor([0, 1, 2, 4, 4])
    positives = Positives(torch.tensor([0, 5, 3, 7, 10]), rows=rows, seen=jagged(SEEN))
    found = draw(built, positives, 6000)
    for p, row in enumerate(rows.tolist()):
        left = weights.copy()
        left[SEEN[row]] = 0
        assert found.valid[p].all() == found.valid[p].any() == (left.sum() > 0)
        if not left.sum():
            continue
        fits(found.items[p], left)
        expected = np.log(6000 * left[found.items[p]] / left.sum())
        assert found.log_probs[p].tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)


def test_who_has_everything_gets_nothing_valid():
    for source in ("uniform", "popularity"):
        built = sampler({"unseen": {"source": source}})
        positives = Positives(torch.tensor([0, 3]), rows=torch.tensor([3, 0]), seen=jagged(SEEN))
        for shared in (False, True):
            usable = draw(built, positives, 5, shared=shared).usable(positives)
            assert not usable[0].any()
        assert draw(built, positives, 5).usable(positives)[1].all()


@st.composite
def logs(draw):
    """Counts of items, seen items of each row, and rows of positions."""
    count = draw(st.integers(2, 40))
    counts = draw(st.lists(st.integers(0, 1000), min_size=count, max_size=count))
    counts[draw(st.integers(0, count - 1))] += 1
    seen = draw(st.lists(st.sets(st.integers(0, count - 1)), min_size=1, max_size=8))
    rows = draw(st.lists(st.integers(0, len(seen) - 1), min_size=1, max_size=20))
    return counts, [sorted(s) for s in seen], rows


@settings(max_examples=150, deadline=None)
@given(
    logs(),
    st.sampled_from(["uniform", "popularity", {"popularity": {"alpha": 3.0}}, "in_batch"]),
    st.booleans(),
    st.integers(1, 30),
    st.integers(0, 2**31),
)
def test_what_a_user_has_seen_is_never_usable(log, source, shared, n, seed):
    counts, seen, rows = log
    built = sampler({"unseen": {"source": source}}, torch.tensor(counts), len(counts))
    items = torch.tensor([seen[row][0] if seen[row] else 0 for row in rows])
    positives = Positives(items, rows=torch.tensor(rows), seen=jagged(seen))
    torch.manual_seed(seed)
    found = built.sample(positives, TableScorer(torch.zeros(len(rows), len(counts))), n, shared=shared)
    usable = found.usable(positives)
    assert found.items.min() >= 0
    assert found.items.max() < len(counts)
    for p, row in enumerate(rows):
        chosen = (found.items if found.shared else found.items[p])[usable[p]]
        assert not set(chosen.tolist()) & set(seen[row])
        if not shared and source == "uniform":
            # Nothing is drawn in vain
            assert found.valid[p].all() == (len(seen[row]) < len(counts))
    assert found.log_probs.isfinite().all()


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=6), st.data())
def test_membership(sets, data):
    rows = data.draw(st.lists(st.integers(0, len(sets) - 1), min_size=1, max_size=5))
    items = torch.arange(10).expand(len(rows), 10)
    found = contains(jagged([sorted(s) for s in sets]), torch.tensor(rows), items, 10)
    assert found.tolist() == [[i in sets[row] for i in range(10)] for row in rows]


def test_a_permutation_of_the_batch_permutes_what_is_excluded():
    built = sampler("unseen")
    positives = Positives(torch.tensor([0, 7, 7]), rows=torch.tensor([0, 4, 4]), seen=jagged(SEEN))
    found = draw(built, positives, 300).items
    assert set(found[0].tolist()) == set(range(N)) - set(SEEN[0])
    assert set(found[1].tolist()) == set(found[2].tolist()) == set(range(N)) - set(SEEN[4])


# Hard negatives


def test_dynamic_negatives_are_the_hardest_of_their_candidates():
    scores = torch.arange(N).float().expand(2, N).clone()
    scores[1] = -scores[1]
    positives = Positives(torch.tensor([11, 5]))
    found = draw(sampler({"dynamic": {"candidates": 5}}), positives, 20_000, scores=scores)
    assert found.items.shape == (2, 20_000)
    # The largest of 5 uniform draws of 11 items is the r-th of them with probability ((r+1)/11)^5 - (r/11)^5.
    shares = np.diff((np.arange(N) / 11) ** 5)
    fits(found.items[0], np.append(shares, 0.0))
    order = [11, 10, 9, 8, 7, 6, 4, 3, 2, 1, 0]  # from the lowest score of row 1 on, without its positive
    by_item = np.zeros(N)
    by_item[order] = shares
    fits(found.items[1], by_item)
    assert found.log_probs[0, 0].item() == pytest.approx(math.log(20_000 / 11), rel=1e-6)


def test_dynamic_negatives_of_the_batch_are_its_hardest_that_are_not_the_positive():
    scores = torch.arange(N).float().expand(4, N)
    positives = Positives(torch.tensor([9, 2, 9, 6]))
    found = draw(sampler({"dynamic": {"source": "in_batch"}}), positives, 2, scores=scores)
    usable = found.usable(positives)
    kept = [sorted(found.items[p][usable[p]].tolist()) for p in range(4)]
    assert kept == [[2, 6], [6, 9], [2, 6], [2, 9]]


def test_dynamic_negatives_leave_out_what_was_seen():
    built = sampler({"dynamic": {"candidates": 200, "source": "unseen"}})
    assert built.needs_seen
    positives = Positives(torch.tensor([0, 7]), rows=torch.tensor([0, 4]), seen=jagged(SEEN))
    found = draw(built, positives, 3, scores=torch.arange(N).float().expand(2, N))
    assert found.items.tolist() == [[11] * 3] * 2
    assert build_objective("bpr", num_items=N, negatives={"dynamic": {"source": "unseen"}}).needs_seen


def test_dynamic_scores_have_no_gradients():
    queries, items = vectors(2, N)
    built = sampler("dynamic")
    found = built.sample(Positives(torch.tensor([1, 2])), factors(queries, items), 3)
    assert not found.scores(factors(queries.detach(), items.detach())).requires_grad
    assert found.items.shape == (2, 3)


def test_mixed_negatives():
    scores = torch.arange(N).float().expand(3, N)
    positives = Positives(torch.tensor([0, 1, 2]))
    spec = {"mixed": {"hard": {"dynamic": {"candidates": 200}}, "random": "popularity", "hard_share": 0.25}}
    found = draw(sampler(spec), positives, 8, scores=scores)
    assert found.items.shape == (3, 8)
    assert (found.items[:, :2] == 11).all()
    assert len(found.items[:, 2:].unique()) > 2
    # Both parts can bring an item: 2 uniform draws and 6 by popularity
    weights = COUNTS.double().pow(0.75)
    expected = math.log(2 / 11 + 6 * (weights[11] / (weights.sum() - weights[0])).item())
    assert found.log_probs[0, 0].item() == pytest.approx(expected, rel=1e-5)
    unseen = sampler({"mixed": {"random": "unseen"}})
    assert unseen.needs_seen
    everything = Positives(torch.tensor([0, 3]), rows=torch.tensor([3, 0]), seen=jagged(SEEN))
    usable = draw(unseen, everything, 4).usable(everything)
    assert usable.tolist() == [[True, True, False, False], [True, True, True, True]]


def test_a_hard_sampler_speeds_up_what_it_is_for():
    """The gradient of BPR on hard negatives is larger than on random ones, for a model that knows something."""
    queries, items = vectors(64, 500, dim=8)
    positives = Positives((queries @ items.t()).argmax(dim=1))
    sizes = {}
    for negatives in ("uniform", "dynamic"):
        torch.manual_seed(1)
        (loss,) = build_objective("bpr", num_items=500, negatives=negatives)(
            factors(queries, items), positives
        ).values()
        sizes[negatives] = loss.item()
    assert sizes["dynamic"] > 3 * sizes["uniform"]


# The batch


def test_in_batch_negatives_are_its_items_once_each():
    positives = Positives(torch.tensor([7, 4, 7, 10, 4]))
    found = draw(sampler("in_batch"), positives, 1)
    assert sorted(found.items.tolist()) == [4, 7, 10]
    shares = COUNTS.double() / COUNTS.sum()
    expected = [math.log(1 - (1 - shares[i].item()) ** 5) for i in found.items.tolist()]
    assert found.log_probs.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.usable(positives).sum(dim=1).tolist() == [2] * 5
    uncorrected = draw(sampler({"in_batch": {"correction": "none"}}), positives, 1)
    assert uncorrected.log_probs.tolist() == [0.0] * 3


# Probabilities and state


def test_inclusion():
    log_p = torch.tensor([0.5, 1e-9, 1.0]).log()
    found = log_inclusion(log_p, 3).exp()
    assert found.tolist() == pytest.approx([0.875, 3e-9, 1.0], rel=1e-5)


def test_an_item_that_never_came_has_the_probability_of_one_that_came_once():
    positives = Positives(torch.tensor([1]))
    found = draw(sampler({"popularity": {"alpha": 1.0}}), positives, 1, shared=True)
    assert found.log_prob_of(torch.tensor([1])).item() == found.log_prob_of(torch.tensor([2])).item()
    assert found.log_prob_of(torch.tensor([1])).isfinite().all()


def test_counts_are_saved_and_what_follows_from_them_is_not():
    first = build_objective("bpr", num_items=N, negatives="popularity")
    first.set_counts(COUNTS)
    state = first.state_dict()
    assert {k: v.tolist() for k, v in state.items()} == {"sampler.frequency.counts": COUNTS.tolist()}
    second = build_objective("bpr", num_items=N, negatives="popularity")
    second.set_counts(torch.ones(N, dtype=torch.int64))
    positives = Positives(torch.arange(N))
    before = draw(second.sampler, positives, 50).items
    second.load_state_dict(state)
    after = draw(second.sampler, positives, 50).items
    assert after.tolist() == draw(first.sampler, positives, 50).items.tolist()
    assert before.tolist() != after.tolist()


def test_counts_reach_nested_samplers_and_the_objective_itself():
    nested = {"mixed": {"hard": {"dynamic": {"source": {"unseen": {"source": "popularity"}}}}, "random": "popularity"}}
    objective = build_objective({"bpr": {"num_negatives": 2}}, num_items=N, negatives=nested)
    objective.set_counts(COUNTS)
    assert [v.tolist() for k, v in objective.state_dict().items()] == [COUNTS.tolist()] * 2
    batch = build_objective("in_batch", num_items=N)
    batch.set_counts(COUNTS)
    assert batch.state_dict()["frequency.counts"].tolist() == COUNTS.tolist()


def test_the_global_generator_decides():
    positives = Positives(torch.arange(N), seen=jagged([[i] for i in range(N)]))
    for spec in ("uniform", "popularity", "unseen", "dynamic", "in_batch"):
        for shared in (False, True):
            built = sampler(spec)
            first = draw(built, positives, 5, shared=shared).items
            assert draw(built, positives, 5, shared=shared).items.tolist() == first.tolist()


# Errors


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (torch.ones(3, dtype=torch.int64), r"one number for each of the 12 items. Received: shape \(3,\)"),
        (torch.zeros(N, dtype=torch.int64), r"numbers from 0 on, not all 0. Received: 0 negative of 12, sum 0. Count"),
        (torch.tensor([-1] + [1] * 11), r"not all 0. Received: 1 negative of 12, sum 10"),
    ],
)
def test_counts_that_are_none(counts, message):
    with pytest.raises(BuildError, match=message):
        build_objective("bpr", num_items=N, negatives="popularity").set_counts(counts)


def test_popularity_without_counts():
    built = build_sampler("popularity", num_items=N)
    with pytest.raises(BuildError, match=r"by popularity need counts of the items. Received: none. Call set_counts"):
        draw(built, Positives(torch.tensor([1])), 2)


def test_unseen_without_seen():
    with pytest.raises(DataError, match=r"items that each user has taken. Received: positives without `seen`"):
        draw(sampler("unseen"), Positives(torch.tensor([1])), 2)


def test_mixtures_that_are_none():
    with pytest.raises(BuildError, match=r"one hard and one random. Received: 0 hard of num_negatives 1 with hard_sh"):
        build_objective("bpr", num_items=N, negatives="mixed")
    with pytest.raises(BuildError, match=r"drawn in numbers. Received: random in_batch, which takes the whole batch"):
        build_sampler({"mixed": {"random": "in_batch"}}, num_items=N)
