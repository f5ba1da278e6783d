import math

import pytest
import torch
from retrieval_cases import Given, TableScorer, factors, value, vectors

from intarsia.core.errors import BuildError, DataError
from intarsia.objectives.retrieval import OBJECTIVES, Positives, build_objective
from intarsia.objectives.retrieval.contrastive import CCL, GBCE, InfoNCE, SampledSoftmax
from intarsia.objectives.retrieval.hardest import AdaptiveHinge, BPRMax, Top1Max, Warp, rank_weight
from intarsia.objectives.retrieval.pairwise import BPR, Hinge, Top1
from intarsia.objectives.retrieval.pointwise import BCE, MSE, Logistic, Poisson
from intarsia.objectives.retrieval.sampled import SampledObjective

N = 9
POSITIVES = Positives(torch.tensor([0, 4, 8]))
# The second positive has itself (4) among its negatives, the third has one that is not valid.
OWN = torch.tensor([[1, 2, 3], [4, 5, 4], [6, 0, 7]])
OWN_VALID = torch.tensor([[True, True, True], [True, True, True], [True, True, False]])
OWN_LEFT = [[1, 2, 3], [5], [6, 0]]
SHARED = torch.tensor([2, 4, 7])
SHARED_LEFT = [[2, 4, 7], [2, 7], [2, 4, 7]]
LOG_P = torch.linspace(-3, -1, N)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def bpr(own, others):
    return sum(-log_sigmoid(own - s) for s in others) / len(others)


def hinge(own, others, margin=1.0):
    return sum(max(0, margin - own + s) for s in others) / len(others)


def top1(own, others):
    return sum(sigmoid(s - own) + sigmoid(s * s) for s in others) / len(others)


def softmax(scores):
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


def bpr_max(own, others):
    shares = softmax(others)
    first = -math.log(sum(w * sigmoid(own - s) for w, s in zip(shares, others, strict=True)))
    return first + 0.5 * sum(w * s * s for w, s in zip(shares, others, strict=True))


def top1_max(own, others):
    return sum(w * (sigmoid(s - own) + sigmoid(s * s)) for w, s in zip(softmax(others), others, strict=True))


def bce(own, others):
    return -log_sigmoid(own) - sum(math.log(1 - sigmoid(s)) for s in others)


def gbce(own, others, t=0.75):
    alpha = len(others) / (N - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    loss = beta * math.log(sigmoid(own)) + sum(math.log(1 - sigmoid(s)) for s in others)
    return -loss / (len(others) + 1)


def squares(own, others):
    return (own - 1) ** 2 + sum(s * s for s in others)


def poisson(own, others):
    return math.exp(own) - own + sum(math.exp(s) for s in others)


def warp(own, others):
    for tries, s in enumerate(others, 1):
        if s > own - 1:
            return sum(1 / r for r in range(1, (N - 1) // tries + 1)) * (1 - own + s)
    return 0.0


def cosine_contrast(own, others):
    return 1 - own + 7 * sum(max(0, s - 0.1) for s in others) / len(others)


CASES = {
    "bpr": (BPR, {}, bpr),
    "hinge": (Hinge, {"margin": 1.0}, hinge),
    "hinge_wide": (Hinge, {"margin": 3.0}, lambda own, others: hinge(own, others, 3.0)),
    "top1": (Top1, {}, top1),
    "bpr_max": (BPRMax, {"score_penalty": 0.5}, bpr_max),
    "top1_max": (Top1Max, {}, top1_max),
    "adaptive_hinge": (AdaptiveHinge, {}, lambda own, others: max(0, 1 - own + max(others))),
    "warp": (Warp, {}, warp),
    "bce": (BCE, {}, bce),
    "bce_half": (BCE, {"negative_weight": 0.5}, lambda o, s: bce(o, []) + 0.5 * (bce(0, s) - bce(0, [])) / len(s)),
    "gbce": (GBCE, {}, gbce),
    "gbce_plain": (GBCE, {"t": 0.0}, lambda own, others: bce(own, others) / (len(others) + 1)),
    "logistic": (Logistic, {}, bce),
    "mse": (MSE, {}, squares),
    "poisson": (Poisson, {}, poisson),
}
NOT_SHARED = {"warp"}


def table(seed=0):
    return torch.randn(3, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.5


def built(cls, sampler, **options):
    return cls(num_items=N, sampler=sampler, num_negatives=3, **options)


def by_hand(function, scores, left):
    rows = [function(scores[p, POSITIVES.items[p]].item(), [scores[p, i].item() for i in left[p]]) for p in range(3)]
    return sum(rows) / 3


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_are_the_formula_over_the_usable_negatives(case, seed):
    cls, options, function = CASES[case]
    scores = table(seed)
    objective = built(cls, Given(N, OWN, valid=OWN_VALID), **options)
    assert value(objective, TableScorer(scores), POSITIVES) == pytest.approx(by_hand(function, scores, OWN_LEFT))
    objective = built(cls, Given(N, SHARED), **options)
    assert value(objective, TableScorer(scores), POSITIVES) == pytest.approx(by_hand(function, scores, SHARED_LEFT))


def softmax_loss(scores, left, temperature, correct):
    total = 0.0
    for p in range(3):
        positive = POSITIVES.items[p].item()
        own = scores[p, positive].item() / temperature - (LOG_P[positive].item() if correct == "all" else 0)
        others = [scores[p, i].item() / temperature - (LOG_P[i].item() if correct != "none" else 0) for i in left[p]]
        total += math.log(math.exp(own) + sum(map(math.exp, others))) - own
    return total / 3


@pytest.mark.parametrize("correct", ["all", "negatives", "none"])
@pytest.mark.parametrize("similarity", ["inner_product", "euclidean", "cosine"])
def test_sampled_softmax(correct, similarity):
    queries, items = vectors(3, N)
    bias = torch.linspace(-1, 1, N, dtype=torch.float64)
    scorer = factors(
        queries, items, similarity=similarity, temperature=0.7, bias=lambda i: bias if i is None else bias[i]
    )
    scores = scorer.block(torch.arange(N)).detach()
    for negatives, valid, left in ((OWN, OWN_VALID, OWN_LEFT), (SHARED, None, SHARED_LEFT)):
        sampler = Given(N, negatives, valid=valid, log_p=LOG_P)
        objective = built(SampledSoftmax, sampler, temperature=0.5, correct=correct)
        expected = softmax_loss(scores, left, 0.5, correct)
        # From vectors, and of the same scores as a table
        assert value(objective, scorer, POSITIVES) == pytest.approx(expected)
        assert value(objective, TableScorer(scores), POSITIVES) == pytest.approx(expected)


def cosines(queries, items):
    return torch.nn.functional.cosine_similarity(queries.unsqueeze(1), items.unsqueeze(0), dim=2).detach()


def test_objectives_on_cosines_take_them_whatever_the_model_scores():
    queries, items = vectors(3, N)
    scores = cosines(queries, items)
    for scorer in (factors(queries, items), factors(queries, items, similarity="cosine", temperature=0.1)):
        ccl = built(CCL, Given(N, OWN, valid=OWN_VALID), margin=0.1, negative_weight=7.0)
        assert value(ccl, scorer, POSITIVES) == pytest.approx(by_hand(cosine_contrast, scores, OWN_LEFT))
        assert ccl.similarity == "cosine"
        nce = built(InfoNCE, Given(N, SHARED, log_p=LOG_P), temperature=0.2)
        assert value(nce, scorer, POSITIVES) == pytest.approx(softmax_loss(scores, SHARED_LEFT, 0.2, "none"))
        assert nce.similarity == "cosine"
    plain = built(InfoNCE, Given(N, SHARED), temperature=0.2, similarity="inner_product")
    products = (queries @ items.t()).detach()
    assert plain.similarity is None
    assert value(plain, factors(queries, items), POSITIVES) == pytest.approx(
        softmax_loss(products, SHARED_LEFT, 0.2, "none")
    )
    with pytest.raises(BuildError, match=r"makes a vector of each query and each item. Received: TableScorer"):
        ccl(TableScorer(scores), POSITIVES)


def test_the_full_softmax_is_the_cross_entropy_over_the_catalogue():
    queries, items = vectors(3, N)
    weights = torch.tensor([1.0, 0.0, 2.0])
    for similarity in ("inner_product", "euclidean", "cosine"):
        scorer = factors(queries, items, similarity=similarity, temperature=0.4)
        for temperature in (1.0, 0.5):
            objective = build_objective({"softmax": {"temperature": temperature}}, num_items=N)
            logits = scorer.block(torch.arange(N)) / temperature
            rows = torch.nn.functional.cross_entropy(logits, POSITIVES.items, reduction="none")
            assert value(objective, scorer, POSITIVES) == pytest.approx(rows.mean().item())
            weighted = Positives(POSITIVES.items, weights=weights)
            assert value(objective, scorer, weighted) == pytest.approx((rows[0] + 2 * rows[2]).item() / 2)
    with pytest.raises(BuildError, match=r"softmax scores the whole catalogue .* Received: TableScorer"):
        objective(TableScorer(table()), POSITIVES)


# Removing what must not count


@pytest.mark.parametrize("name", [n for n, cls in OBJECTIVES.items() if issubclass(cls, SampledObjective)])
def test_accidental_hits_and_invalid_negatives_are_as_good_as_deleted(name):
    queries, items = vectors(1, N)
    one = Positives(torch.tensor([4]))
    options = {"correct": "none"} if name == "sampled_softmax" else {}
    with_them = Given(N, torch.tensor([[2, 4, 7, 4, 1]]), valid=torch.tensor([[True, True, True, True, False]]))
    without = Given(N, torch.tensor([[2, 7]]))
    losses, gradients = [], []
    for sampler in (with_them, without):
        objective = OBJECTIVES[name](num_items=N, sampler=sampler, num_negatives=2, **options)
        (loss,) = objective(factors(queries, items), one).values()
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, [queries, items]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][1][1].abs().sum() == 0  # the invalid item feels nothing


def test_a_positive_without_usable_negatives_does_not_count():
    scores = table()
    valid = torch.tensor([[True, True, True], [False, True, False], [True, True, True]])
    negatives = torch.tensor([[1, 2, 3], [5, 4, 5], [6, 0, 7]])
    for cls, function in ((BPR, bpr), (BPRMax, bpr_max), (SampledSoftmax, None), (Warp, warp), (GBCE, gbce)):
        options = {"score_penalty": 0.5} if cls is BPRMax else {}
        found = value(built(cls, Given(N, negatives, valid=valid), **options), TableScorer(scores), POSITIVES)
        two = Positives(POSITIVES.items[[0, 2]])
        expected = value(built(cls, Given(N, negatives[[0, 2]]), **options), TableScorer(scores[[0, 2]]), two)
        assert found == pytest.approx(expected)
        if function is not None:
            rows = [(0, [1, 2, 3]), (2, [6, 0, 7])]
            by_rows = [
                function(scores[p, POSITIVES.items[p]].item(), [scores[p, i].item() for i in s]) for p, s in rows
            ]
            assert found == pytest.approx(sum(by_rows) / 2)


@pytest.mark.parametrize("shared", [True, False])
def test_shared_candidates_that_are_all_hits_cost_nothing(shared):
    queries, items = vectors(2, N)
    negatives = torch.tensor([4]) if shared else torch.tensor([[4], [4]])
    objective = SampledSoftmax(num_items=N, sampler=Given(N, negatives), num_negatives=1)
    positives = Positives(torch.tensor([4, 1]))
    (loss,) = objective(factors(queries, items), positives).values()
    scores = (queries @ items.t()).detach()
    assert loss.item() == pytest.approx(math.log1p(math.exp(scores[1, 4] - scores[1, 1])))
    loss.backward()
    assert queries.grad[0].abs().sum() == 0


# Gradients


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_are_those_of_the_loss(name, shared):
    if name == "warp" and shared:
        pytest.skip("warp has each positive's own negatives")
    queries, items = vectors(3, N, seed=3)
    if issubclass(OBJECTIVES[name], SampledObjective):
        sampler = Given(N, SHARED, log_p=LOG_P) if shared else Given(N, OWN, valid=OWN_VALID, log_p=LOG_P)
        objective = OBJECTIVES[name](num_items=N, sampler=sampler, num_negatives=3)
    else:
        objective = OBJECTIVES[name](num_items=N)
        objective.set_counts(torch.arange(1, N + 1))
    positives = Positives(POSITIVES.items, weights=torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))

    def loss(queries, items):
        (found,) = objective(factors(queries, items), positives).values()
        return found

    assert torch.autograd.gradcheck(loss, (queries, items), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_weight_zero_is_absence_and_weights_scale(name):
    queries, items = vectors(3, N, dtype=torch.float32)

    def loss(weights, rows=slice(None)):
        if issubclass(OBJECTIVES[name], SampledObjective):
            objective = OBJECTIVES[name](num_items=N, sampler=Given(N, OWN[rows]), num_negatives=3)
        else:
            objective = OBJECTIVES[name](num_items=N)
            objective.set_counts(torch.arange(1, N + 1))
        return value(objective, factors(queries[rows], items), Positives(POSITIVES.items[rows], weights=weights))

    once = loss(torch.tensor([1.0, 1.0, 0.0]))
    assert loss(torch.tensor([3.0, 3.0, 0.0])) == pytest.approx(3 * once, rel=1e-5)
    if name != "in_batch":  # there a positive is another's negative
        assert once == pytest.approx(loss(None, slice(0, 2)), rel=1e-5)


# Options of single losses


def test_hardness_weighs_negatives_by_their_scores():
    scores = table()
    own, others = scores[0, 0].item(), [scores[0, i].item() for i in (1, 2, 3)]
    shares = softmax([2 * s for s in others])
    objective = built(BPR, Given(N, OWN[:1]), hardness=2.0)
    expected = sum(w * -log_sigmoid(own - s) for w, s in zip(shares, others, strict=True))
    assert value(objective, TableScorer(scores[:1]), Positives(torch.tensor([0]))) == pytest.approx(expected)
    # In the limit it is the loss of the hardest
    objective = built(BPR, Given(N, OWN[:1]), hardness=1e4)
    hardest = value(objective, TableScorer(scores[:1]), Positives(torch.tensor([0])))
    assert hardest == pytest.approx(-log_sigmoid(own - max(others)))


def test_adaptive_hinge_moves_the_hardest_negative_alone():
    scores = table().requires_grad_()
    (loss,) = built(AdaptiveHinge, Given(N, OWN, valid=OWN_VALID), margin=50.0)(TableScorer(scores), POSITIVES).values()
    (gradient,) = torch.autograd.grad(loss, scores)
    for p, left in enumerate(OWN_LEFT):
        hardest = max(left, key=lambda i, p=p: scores[p, i].item())
        assert gradient[p].nonzero().flatten().tolist() == sorted({hardest, POSITIVES.items[p].item()})


def test_warp_weighs_by_the_number_of_tries():
    scores = torch.tensor([[0.0, -5.0, -5.0, 0.5, 9.0], [0.0, 0.5, 9.0, 9.0, 9.0], [0.0, -5.0, -5.0, -5.0, -5.0]])
    positives = Positives(torch.tensor([0, 0, 0]))
    sampler = Given(101, torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0], [1, 2, 3, 4, 1]]))
    objective = Warp(num_items=101, sampler=sampler, num_negatives=5)

    def harmonic(n):
        return sum(1 / r for r in range(1, n + 1))

    # Row 0: a hit that is no try, then the third of the others comes near, rank 100 // 3; row 1: the first; 2: none.
    expected = (harmonic(33) * 1.5 + harmonic(100) * 1.5 + 0) / 3
    scores = torch.cat([scores, torch.zeros(3, 96)], dim=1)
    assert value(objective, TableScorer(scores), positives) == pytest.approx(expected, rel=1e-5)
    ranks = torch.tensor([1, 2, 10, 1000])
    assert rank_weight(ranks).tolist() == pytest.approx([harmonic(r) for r in ranks.tolist()])


def test_gbce_calibrates_as_the_full_cross_entropy_does():
    """With t = 1 drawing n of the negatives has the optimum of drawing all (the paper's point)."""
    # One query for which item 0 is right with probability 0.3; else item 1 of 11. Optimum of sigmoid(s_0) under all
    # negatives: 0.3. With n negatives drawn of 10, the optimum of s_0 must be the same.
    n, count, p = 2, 11, 0.3
    objective = GBCE(num_items=count, sampler=Given(count, torch.zeros(1, 1).long()), num_negatives=n, t=1.0)
    beta = objective.beta(torch.tensor(n)).item()
    alpha = n / (count - 1)
    grid = torch.linspace(0.01, 0.99, 981, dtype=torch.float64)
    loss = -p * beta * grid.log() - (1 - p) * alpha * (1 - grid).log()
    assert grid[loss.argmin()].item() == pytest.approx(0.3, abs=0.002)


# Ratings


def test_ratings_are_the_labels_where_the_log_has_them():
    scores = table()
    own = [scores[p, POSITIVES.items[p]].item() for p in range(3)]
    rated = Positives(POSITIVES.items, ratings=torch.tensor([3.0, 5.0, 1.0]))
    sampler = Given(N, OWN[:, :1], valid=torch.ones(3, 1, dtype=torch.bool))
    mse = MSE(num_items=N, sampler=sampler)
    expected = sum((s - r) ** 2 for s, r in zip(own, [3, 5, 1], strict=True)) / 3
    assert value(mse, TableScorer(scores), rated) == pytest.approx(expected)
    assert not mse.explicit
    poisson_loss = Poisson(num_items=N, sampler=sampler)
    expected = sum(math.exp(s) - r * s for s, r in zip(own, [3, 5, 1], strict=True)) / 3
    assert value(poisson_loss, TableScorer(scores), rated) == pytest.approx(expected)
    # Not where that is refused, and with zeros beside them where that is asked for
    refused = MSE(num_items=N, sampler=sampler, explicit=False)
    assert value(refused, TableScorer(scores), rated) == value(mse, TableScorer(scores), POSITIVES)
    both = MSE(num_items=N, sampler=Given(N, torch.tensor([[1], [5], [6]])), num_negatives=1)
    zeros = sum(scores[p, i].item() ** 2 for p, i in enumerate((1, 5, 6))) / 3
    assert value(both, TableScorer(scores), rated) == pytest.approx(value(mse, TableScorer(scores), rated) + zeros)


def test_liked_and_disliked():
    scores = table()
    own = [scores[p, POSITIVES.items[p]].item() for p in range(3)]
    sampler = Given(N, OWN)
    rated = Positives(POSITIVES.items, ratings=torch.tensor([1.0, -1.0, 1.0]))
    logistic = Logistic(num_items=N, sampler=sampler, explicit=True)
    expected = -sum(log_sigmoid(s * r) for s, r in zip(own, [1, -1, 1], strict=True)) / 3
    assert logistic.explicit
    assert value(logistic, TableScorer(scores), rated) == pytest.approx(expected)
    shares = Positives(POSITIVES.items, ratings=torch.tensor([1.0, 0.0, 0.25]))
    expected = -(log_sigmoid(own[0]) + log_sigmoid(-own[1]) + 0.25 * log_sigmoid(own[2]) + 0.75 * log_sigmoid(-own[2]))
    found = value(BCE(num_items=N, sampler=sampler, explicit=True), TableScorer(scores), shares)
    assert found == pytest.approx(expected / 3)
    # Without `explicit` five stars are a click like any
    stars = Positives(POSITIVES.items, ratings=torch.tensor([5.0, 4.0, 1.0]))
    assert value(BCE(num_items=N, sampler=sampler), TableScorer(scores), stars) == value(
        BCE(num_items=N, sampler=sampler), TableScorer(scores), POSITIVES
    )


@pytest.mark.parametrize(
    ("cls", "ratings", "message"),
    [
        (BCE, [5.0, 1.0, 0.0], r"ratings of the objective bce must be numbers from 0 to 1. Received: 1 of 3 .* as 5"),
        (Logistic, [0.0, -2.0, 3.0], r"objective logistic must be numbers from -1 to 1. Received: 2 of 3 .* as -2"),
        (Poisson, [0.0, -2.0, 3.0], r"objective poisson must be numbers from 0 on. Received: 1 of 3 .* as -2"),
        (MSE, [0.0, math.nan, 3.0], r"objective mse must be numbers. Received: 1 of 3 .* as nan"),
        (MSE, None, r"the objective mse learns ratings. Received: positives without ratings. Name data_config"),
    ],
)
def test_ratings_that_do_not_fit(cls, ratings, message):
    objective = cls(num_items=N, sampler=Given(N, OWN), explicit=True)
    positives = Positives(POSITIVES.items, ratings=None if ratings is None else torch.tensor(ratings))
    with pytest.raises(DataError, match=message):
        objective(TableScorer(table()), positives)


def test_without_ratings_there_must_be_negatives():
    with pytest.raises(
        BuildError, match=r"bce without ratings needs negatives, or every label is 1. Received: num_neg"
    ):
        BCE(num_items=N, sampler=Given(N, OWN), num_negatives=0)
    with pytest.raises(DataError, match=r"mse learns ratings. Received: positives without ratings"):
        MSE(num_items=N, sampler=Given(N, OWN), num_negatives=0)(TableScorer(table()), POSITIVES)


# Nothing, too much


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("negatives", ["uniform", "popularity", "unseen", "in_batch", {"dynamic": {"candidates": 2}}])
def test_no_positives_are_no_loss(name, negatives):
    drawn = issubclass(OBJECTIVES[name], SampledObjective)
    objective = build_objective(name, num_items=50, negatives=negatives if drawn else None)
    queries, items = vectors(0, 50)
    (loss,) = objective(factors(queries, items), Positives(torch.empty(0, dtype=torch.int64))).values()
    assert loss.item() == 0
    loss.backward()
    assert items.grad.abs().sum() == 0


def test_positives_go_with_queries():
    objective = build_objective("bpr", num_items=N)
    with pytest.raises(DataError, match=r"one positive for each query. Received: 3 queries, positives of shape \(2,\)"):
        objective(TableScorer(table()), Positives(torch.tensor([1, 2])))


def test_no_more_negatives_than_there_are_items():
    with pytest.raises(BuildError, match=r"as there are other items, 8. Received: num_negatives 9 for 9 items. Lower"):
        build_objective({"bpr": {"num_negatives": 9}}, num_items=N)
    # What nobody asked for is lowered in silence
    assert build_objective("sampled_softmax", num_items=N).num_negatives == N - 1
    assert build_objective("gbce", num_items=N).num_negatives == N - 1
    assert build_objective("sampled_softmax", num_items=5000).num_negatives == 1000
    assert build_objective("gbce", num_items=5000).num_negatives == 256


@pytest.mark.parametrize("name", [n for n, cls in OBJECTIVES.items() if issubclass(cls, SampledObjective)])
@pytest.mark.parametrize("shared", [True, False])
def test_losses_of_half_precision_scores_are_computed_in_single(name, shared):
    queries, items = (t.detach().bfloat16() for t in vectors(3, N))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        sampler = Given(N, SHARED if shared else OWN)
        objective = OBJECTIVES[name](num_items=N, sampler=sampler, num_negatives=3)
        leaves = [t.to(dtype).requires_grad_() for t in (queries, items)]
        (loss,) = objective(factors(*leaves), POSITIVES).values()
        loss.backward()
        assert loss.dtype == torch.float32
        assert leaves[0].grad.dtype == dtype
        found.append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=0.05)
