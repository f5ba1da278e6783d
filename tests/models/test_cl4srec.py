"""Tests for the CL4SRec model: its views, its contrast, and that it is SASRec otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from retrieval_contract import RetrieverContract
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from intarsia.core.batch import Batch, Dense, Feature, Jagged
from intarsia.core.batch_names import HISTORY, TARGET, USER
from intarsia.core.errors import ConfigError
from intarsia.data.schema import Schema
from intarsia.models.cl4srec import CL4SRec
from intarsia.models.sasrec import SASRec
from intarsia.models.sides import Sides
from intarsia.objectives.retrieval import build_objective

NUM_ITEMS, WIDTH, MASK = 40, 8, 40.0
OFF: dict[str, Any] = {"crop_rate": 1.0, "mask_rate": 0.0, "reorder_rate": 0.0}


class TestCL4SRec(RetrieverContract):
    model = {"model_class": "CL4SRec", "cl4srec": {"hidden_size": 16, "num_hidden_layers": 1, "dropout": 0.1}}
    epochs = 15
    learning_rate = 0.01

    def test_other_rates_than_shares_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"cl4srec\.crop_rate: .*received 1\.5"):
            self.config(cl4srec={"crop_rate": 1.5})


def made(kind: type[SASRec], **options: Any) -> Any:
    """In training mode, without dropout, so that nothing but the views is drawn."""
    torch.manual_seed(0)
    return kind(
        schema=Schema({}, num_users=3, num_items=NUM_ITEMS),
        objective=build_objective("softmax", num_items=NUM_ITEMS),
        sides=Sides(),
        **{"hidden_size": WIDTH, "num_hidden_layers": 1, "num_heads": 2, "dropout": 0.0, "max_history": 12, **options},
    ).train()


def cl4srec(**options: Any) -> CL4SRec:
    model: CL4SRec = made(CL4SRec, **options)
    return model


def batch_of(*histories: Sequence[int]) -> Batch:
    """Users whose next items are those of their steps, and one behind the last."""
    lengths = torch.tensor([0, *map(len, histories)])
    values = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    steps = Jagged(values, lengths.cumsum(0))
    users = Dense(torch.arange(len(histories)))
    features: dict[str, Feature] = {
        USER: users,
        HISTORY: steps,
        TARGET: Jagged((values + 1) % NUM_ITEMS, steps.offsets),
    }
    return Batch(features, size=len(histories))


THREE = batch_of([3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5, 8, 9, 7, 9])


class Watched(CL4SRec):
    """Remembers what its transformer is given."""

    def encode_steps(self, steps: Tensor, offsets: Tensor) -> Tensor:
        if not hasattr(self, "given"):
            self.given: list[tuple[Tensor, Tensor]] = []
        self.given.append((steps, offsets))
        return super().encode_steps(steps, offsets)


def views_of(batch: Batch, **options: Any) -> list[list[list[int]]]:
    """The views of each row of a training step as items, the mask being `MASK`."""
    model = made(Watched, **{**OFF, **options})
    with torch.no_grad():
        model.items.table.weight.copy_(torch.arange(NUM_ITEMS).unsqueeze(1).expand(-1, WIDTH).float())
        if model.augment.mask is not None:
            model.augment.mask.fill_(MASK)
        model(batch)
    history = batch.features[HISTORY]
    assert isinstance(history, Jagged)
    (steps, offsets), *views = model.given
    assert torch.equal(steps[:, 0].long(), history.values)
    assert torch.equal(offsets, history.offsets)
    rows = [[steps[a:b, 0].long().tolist() for a, b in pairwise(offsets.tolist())] for steps, offsets in views]
    flat = [row for view in rows for row in view]
    assert len(flat) == 2 * len(history)
    return [flat[b :: len(history)] for b in range(len(history))]


# Views


LONG = [list(range(start, start + length)) for start, length in ((0, 12), (20, 7), (30, 1))] * 40


def test_a_crop_is_a_window_of_the_history() -> None:
    starts = set()
    for history, views in zip(LONG, views_of(batch_of(*LONG), crop_rate=0.5)):
        for view in views:
            assert len(view) == max(1, len(history) // 2)
            assert view == list(range(view[0], view[0] + len(view)))
            assert set(view) <= set(history)
            starts.add(view[0])
    assert {0, 6, 20, 24, 30} <= starts


def test_a_mask_keeps_the_length_and_the_place_of_what_it_leaves() -> None:
    hidden = set()
    for history, views in zip(LONG, views_of(batch_of(*LONG), mask_rate=0.3)):
        for view in views:
            assert len(view) == len(history)
            places = [i for i, (a, b) in enumerate(zip(view, history)) if a != b]
            assert all(view[i] == MASK for i in places)
            assert len(places) == math.floor(len(history) * 0.3)
            hidden.update(places)
    assert hidden == set(range(12))


def test_a_reorder_keeps_the_items_and_shuffles_a_window() -> None:
    moved = set()
    for history, views in zip(LONG, views_of(batch_of(*LONG), reorder_rate=0.5)):
        for view in views:
            assert sorted(view) == history
            places = [i for i, (a, b) in enumerate(zip(view, history)) if a != b]
            assert not places or places[-1] - places[0] < len(history) // 2
            moved.update(places)
    assert moved == set(range(12))


def test_views_hold_items_of_their_own_user_alone() -> None:
    for history, views in zip(LONG, views_of(batch_of(*LONG), crop_rate=0.6, mask_rate=0.3, reorder_rate=0.6)):
        for view in views:
            assert set(view) <= {*history, int(MASK)}


def test_the_two_views_of_a_history_are_drawn_apart() -> None:
    same = [one == two for one, two in views_of(batch_of(*[list(range(12))] * 100), crop_rate=0.5)]
    # One of seven windows each.
    assert 2 <= sum(same) <= 35


# The contrast


def test_the_contrast_by_hand() -> None:
    """Views of three users that are their histories: 2 positives a user, 2 (3 - 1) negatives each."""
    model = cl4srec(**OFF, contrast_weight=0.3, temperature=5.0)
    nn.init.normal_(model.items.table.weight)
    with torch.no_grad():
        out = model(THREE)
        states = model.encode_queries(THREE).double()
    total = 0.0
    for user in range(3):
        positive = math.exp(float(states[user] @ states[user]) / 5.0)
        others = [math.exp(float(states[user] @ states[v]) / 5.0) for v in range(3) if v != user]
        total += 2 * -math.log(positive / (positive + 2 * sum(others)))
    assert model.losses(out, THREE)["contrast"].item() == pytest.approx(0.3 * total / 6, rel=1e-4)


def test_the_contrast_of_cropped_views_by_hand() -> None:
    """The views that the transformer was given, encoded anew, one at a time."""
    model = made(Watched, crop_rate=0.6, mask_rate=0.5, reorder_rate=0.8, temperature=2.0, contrast_weight=1.0)
    nn.init.normal_(model.items.table.weight)
    with torch.no_grad():
        found = model.losses(model(THREE), THREE)["contrast"].item()
        views = []
        for steps, offsets in model.given[1:]:
            for a, b in pairwise(offsets.tolist()):
                alone = SASRec.encode_steps(model, steps[a:b], torch.tensor([0, b - a]))
                views.append(alone[-1].double())
    assert len(views) == 6
    total = 0.0
    for i, view in enumerate(views):
        powers = [math.exp(float(view @ other) / 2.0) for other in views]
        total -= math.log(powers[(i + 3) % 6] / (sum(powers) - powers[i]))
    assert found == pytest.approx(total / 6, rel=1e-4)


def test_the_contrast_is_weighed_by_lambda() -> None:
    values = []
    for weight in (0.1, 0.4):
        model = cl4srec(contrast_weight=weight)
        torch.manual_seed(1)
        values.append(model.losses(model(THREE), THREE)["contrast"].item())
    assert values[1] == pytest.approx(4 * values[0], rel=1e-5)


def with_the_same_weights(**options: Any) -> tuple[SASRec, CL4SRec]:
    sasrec, model = made(SASRec, **options), cl4srec(**options)
    left = model.load_state_dict(sasrec.state_dict(), strict=False)
    assert left.missing_keys == ["augment.mask"]
    assert not left.unexpected_keys
    return sasrec, model


def test_a_lambda_of_zero_is_sasrec() -> None:
    """In training with dropout, to the last bit: it draws nothing of its own."""
    sasrec, model = with_the_same_weights(dropout=0.5)
    model.contrast_weight = 0.0
    losses = []
    for one in (sasrec, model):
        torch.manual_seed(1)
        losses.append(one.losses(one(THREE), THREE))
    assert list(losses[1]) == ["softmax"]
    assert torch.equal(losses[0]["softmax"], losses[1]["softmax"])


def test_the_next_item_is_learned_from_unchanged_histories() -> None:
    sasrec, model = with_the_same_weights()
    losses = model.losses(model(THREE), THREE)
    assert list(losses) == ["softmax", "contrast"]
    assert torch.equal(losses["softmax"], sasrec.losses(sasrec(THREE), THREE)["softmax"])


def test_evaluation_has_no_views_and_no_contrast() -> None:
    sasrec, model = (one.eval() for one in with_the_same_weights(dropout=0.5))
    state = torch.get_rng_state()
    with torch.no_grad():
        out = model(THREE)
        assert list(out) == ["queries"]
        assert torch.equal(model.encode_queries(THREE), sasrec.encode_queries(THREE))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(model.losses(out, THREE)) == ["softmax"]


def test_queries_in_training_are_not_augmented() -> None:
    """Recommending in the middle of training reads the history as it is."""
    sasrec, model = with_the_same_weights()
    with torch.no_grad():
        assert torch.equal(model.encode_queries(THREE), sasrec.encode_queries(THREE))


def test_a_batch_of_one_user_has_nobody_to_contrast_with() -> None:
    model = cl4srec()
    alone = batch_of([3, 1, 4])
    assert list(model.losses(model(alone), alone)) == ["softmax"]


def test_the_same_seed_draws_the_same_views() -> None:
    model = cl4srec()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(model.losses(model(THREE), THREE)["contrast"].item())
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_a_gradient_of_the_contrast_reaches_the_mask_and_the_items() -> None:
    model = cl4srec(crop_rate=1.0, mask_rate=0.5, reorder_rate=0.0)
    batch = batch_of([0, 1, 2, 3], [4, 5, 6, 7])
    model.losses(model(batch), batch)["contrast"].backward()
    assert model.augment.mask is not None
    for gradient in (model.augment.mask.grad, model.items.table.weight.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


class Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_a_step_calls_no_row_by_itself() -> None:
    """The number of operations of a training step does not grow with the batch."""
    calls = []
    model = cl4srec()
    for copies in (1, 40):
        batch = batch_of(*([[3, 1, 4, 1, 5], [9, 2, 6]] * copies))
        with Count() as count:
            model(batch)
        calls.append(count.calls)
    assert calls[0] == calls[1]
