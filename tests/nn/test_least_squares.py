"""Tests for many small ridge regressions at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from intarsia.core.errors import TrainingError
from intarsia.nn import least_squares as module
from intarsia.nn.least_squares import conjugate_gradients, group_rows, solve_rows

Array = npt.NDArray[np.float64]
ROWS = [[0, 3, 3], [], [5], [1, 2, 4, 6, 5, 0, 3, 2], [6, 1]]
COUNT, WIDTH = 7, 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SQUARE = numbers(WIDTH, WIDTH, seed=5)


def jagged() -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *map(len, ROWS)]).cumsum(0)
    return torch.tensor([entry for row in ROWS for entry in row]), offsets


def solved(vectors: Tensor, ridge: Tensor, gram: Tensor | None = None, steps: int = 0, **parts: Any) -> Tensor:
    entries, offsets = jagged()
    groups = group_rows(entries, offsets, count=COUNT, width=WIDTH, **parts)
    start = numbers(len(ROWS), WIDTH, seed=9)
    return solve_rows(groups, vectors, start, ridge=ridge, gram=gram, steps=steps)


def direct(vectors: Array, ridge: Array, gram: Array, weights: Array, targets: Array) -> Array:
    """The normal equations of one row after the other."""
    out, place = np.zeros((len(ROWS), WIDTH)), 0
    for b, row in enumerate(ROWS):
        if row:
            own, w, t = vectors[row], weights[place : place + len(row)], targets[place : place + len(row)]
            system = (own * w[:, None]).T @ own + gram + ridge[b] * np.eye(WIDTH)
            out[b] = np.linalg.solve(system, own.T @ (w * t))
        place += len(row)
    return out


@pytest.mark.parametrize("room", [1, 1 << 19])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("gram", [SQUARE @ SQUARE.t(), torch.tensor([0.3, 0.0, 2.0]).double(), None])
def test_rows_solve_their_normal_equations(
    monkeypatch: pytest.MonkeyPatch, gram: Tensor | None, weighted: bool, targeted: bool, room: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_NUMBERS", room)
    size = sum(map(len, ROWS))
    vectors, ridge = numbers(COUNT, WIDTH), torch.linspace(0.1, 0.9, len(ROWS)).double()
    added = torch.zeros(WIDTH, WIDTH).double() if gram is None else gram.diag() if gram.dim() == 1 else gram
    weights, targets = numbers(size, seed=1).exp(), numbers(size, seed=2)
    parts: dict[str, Any] = {"weights": weights if weighted else None, "targets": targets if targeted else None}
    expected = direct(
        vectors.numpy(),
        ridge.numpy(),
        added.numpy(),
        weights.numpy() if weighted else np.ones(size),
        targets.numpy() if targeted else np.ones(size),
    )
    exact = solved(vectors, ridge, gram, **parts)
    assert np.allclose(exact.numpy(), expected)
    # As many steps as there are dimensions are exact but for rounding, wherever they start; more do no harm.
    for steps in (WIDTH, 50):
        assert np.allclose(solved(vectors, ridge, gram, steps, **parts).numpy(), expected)


def test_rows_of_few_entries_need_systems_of_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, factorise = [], torch.linalg.cholesky_ex

    def noted(systems: Tensor) -> Any:
        sizes.extend([systems.shape[1]] * len(systems))
        return factorise(systems)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", noted)
    solved(numbers(COUNT, WIDTH), torch.ones(len(ROWS)).double(), torch.ones(WIDTH).double())
    assert sorted(sizes) == [1, 2, WIDTH, WIDTH]
    sizes.clear()
    solved(numbers(COUNT, WIDTH), torch.ones(len(ROWS)).double(), SQUARE @ SQUARE.t())
    assert sizes == [WIDTH] * 4


def test_a_small_ridge_leaves_rows_of_few_entries_exact() -> None:
    """Two entries in three dimensions: the shortest vector that meets both targets, to the size of the ridge."""
    vectors, row = numbers(COUNT, WIDTH), [1, 4]
    group = group_rows(torch.tensor(row), torch.tensor([0, 2]), count=COUNT, width=WIDTH)
    found = solve_rows(group, vectors, torch.zeros(1, WIDTH).double(), ridge=torch.tensor([1e-12]).double())
    assert torch.allclose(found[0], torch.linalg.pinv(vectors[row]) @ torch.ones(2).double(), atol=1e-9)


def test_two_entries_by_hand() -> None:
    """v = (1, 0) with target 2 and weight 3, and (0, 1) with target 4: x = (3 * 2 / (3 + 1), 4 / (1 + 1))."""
    groups = group_rows(
        torch.tensor([0, 1]),
        torch.tensor([0, 2]),
        count=2,
        width=2,
        weights=torch.tensor([3.0, 1.0]),
        targets=torch.tensor([2.0, 4.0]),
    )
    found = solve_rows(groups, torch.eye(2), torch.zeros(1, 2), ridge=torch.ones(1))
    assert found.tolist() == [[1.5, 2.0]]


def test_rows_without_entries_are_zero_wherever_they_start() -> None:
    for steps in (0, 2):
        assert not solved(numbers(COUNT, WIDTH), torch.ones(len(ROWS)), steps=steps)[1].any()


def test_each_step_of_conjugate_gradients_comes_nearer() -> None:
    factor = numbers(4, 6, 6)
    systems = factor @ factor.transpose(1, 2) + 0.1 * torch.eye(6)
    right, start = numbers(4, 6, seed=1), numbers(4, 6, seed=2)
    solution = torch.linalg.solve(systems, right.unsqueeze(2)).squeeze(2)

    def value(x: Tensor) -> Tensor:
        """What the systems minimise: x'Ax / 2 - x'b."""
        return 0.5 * torch.einsum("bi,bij,bj->b", x, systems, x) - (x * right).sum(dim=1)

    def product(x: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", systems, x)

    values = [value(conjugate_gradients(product, right, start, steps)) for steps in range(1, 7)]
    for before, after in zip([value(start), *values], values):
        assert bool((after < before).all())
    assert torch.allclose(conjugate_gradients(product, right, start, 6), solution)


def test_a_row_that_starts_at_its_solution_stays_there() -> None:
    right = numbers(3, 4)
    for steps in (1, 5):
        found = conjugate_gradients(lambda x: 2 * x, right, right / 2, steps)
        assert torch.equal(found, right / 2)


def test_groups_hold_every_row_with_entries_once_and_pad_little() -> None:
    lengths = torch.randint(0, 60, (500,), generator=torch.Generator().manual_seed(0))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    entries = torch.randint(0, 40, (int(offsets[-1]),), generator=torch.Generator().manual_seed(1))
    weights = torch.arange(1.0, len(entries) + 1)
    groups = group_rows(entries, offsets, count=40, width=2, weights=weights)
    rows = torch.cat([group.rows for group in groups])
    assert sorted(rows.tolist()) == (lengths > 0).nonzero()[:, 0].tolist()
    assert sum(group.entries.numel() for group in groups) < 1.25 * len(entries)
    for group in groups:
        assert group.weights is not None
        for row, own, weight in zip(group.rows.tolist(), group.entries, group.weights):
            real = own < 40
            assert own[real].tolist() == entries[offsets[row] : offsets[row + 1]].tolist()
            assert weight[real].tolist() == weights[offsets[row] : offsets[row + 1]].tolist()
            assert not weight[~real].any()


def test_the_rows_around_a_row_change_nothing() -> None:
    vectors, ridge = numbers(COUNT, WIDTH), torch.full((len(ROWS),), 0.5, dtype=torch.float64)
    together = solved(vectors, ridge)
    for b, row in enumerate(ROWS):
        alone = group_rows(torch.tensor(row, dtype=torch.int64), torch.tensor([0, len(row)]), count=COUNT, width=WIDTH)
        found = solve_rows(alone, vectors, torch.zeros(1, WIDTH, dtype=torch.float64), ridge=ridge[:1])
        assert torch.allclose(found[0], together[b])


def test_a_system_without_a_single_solution_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        solved(numbers(COUNT, WIDTH), torch.full((len(ROWS),), -1.0, dtype=torch.float64))
    assert str(caught.value) == (
        "a least squares problem needs a ridge that is large enough to have a single solution. Received: 1 rows "
        "without one, smallest ridge -1. Raise the regularization."
    )
