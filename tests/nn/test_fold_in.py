from __future__ import annotations

import numpy as np
import pytest
import torch

from intarsia.nn import fold_in as module
from intarsia.nn.fold_in import fold_in


def direct(items: np.ndarray, history: list[int], ridge: float) -> np.ndarray:
    """Minimises the written objective by least squares over stacked equations."""
    count = len(items)
    scale = np.sqrt(len(history) / count)
    damping = np.sqrt(ridge * len(history) * np.mean(np.linalg.eigvalsh(items.T @ items / count)))
    left = np.concatenate([items[history], scale * items, damping * np.eye(items.shape[1])])
    right = np.concatenate([np.ones(len(history)), np.zeros(count + items.shape[1])])
    return np.linalg.lstsq(left, right, rcond=None)[0]


@pytest.mark.parametrize("room", [1, 10**9])
def test_vectors_minimise_the_written_objective(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(module, "CHUNK_NUMBERS", room)
    items = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    histories = [[0, 3, 3], [], [5], [1, 2, 4, 7, 11]]
    values = torch.tensor([i for h in histories for i in h])
    offsets = torch.tensor([0, 3, 3, 4, 9])
    found = fold_in(items, values, offsets, ridge=0.3)
    assert not found[1].any()
    for row, history in enumerate(histories):
        if history:
            assert np.allclose(found[row].numpy(), direct(items.numpy(), history, 0.3))


def test_items_like_those_of_the_history_score_highest() -> None:
    items = torch.cat([torch.tensor([[1.0, 0.0]]).expand(5, 2), torch.tensor([[0.0, 1.0]]).expand(5, 2)])
    items = items + 0.05 * torch.randn(10, 2, generator=torch.Generator().manual_seed(1))
    scores = fold_in(items, torch.tensor([0, 1]), torch.tensor([0, 2])) @ items.t()
    assert scores[0, :5].min() > scores[0, 5:].max()
