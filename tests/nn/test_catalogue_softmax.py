from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from intarsia.nn import catalogue_softmax
from intarsia.nn.catalogue_softmax import catalogue_softmax_loss


def parts(count: int = 23, items: int = 17, width: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    torch.manual_seed(count)
    queries = torch.randn(count, width, dtype=dtype, requires_grad=True)
    table = torch.randn(items, width, dtype=dtype, requires_grad=True)
    bias = torch.randn(items, dtype=dtype, requires_grad=True)
    return queries, table, bias, torch.randint(items, (count,))


@pytest.mark.parametrize("chunk_rows", [1, 4, 1000])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradients_are_those_of_plain_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int, with_bias: bool, weighted: bool
) -> None:
    queries, table, bias, targets = parts()
    monkeypatch.setattr(catalogue_softmax, "CHUNK_BYTES", chunk_rows * len(table) * 8)
    weights = torch.tensor([0.0, 2.0, 0.5] * 8, dtype=torch.float64)[: len(queries)] if weighted else None
    given = bias if with_bias else None
    loss = catalogue_softmax_loss(queries, table, targets, given, weights, scale=0.7)
    logits = 0.7 * queries @ table.t() + (bias if with_bias else 0)
    rows = F.cross_entropy(logits, targets, reduction="none")
    plain = rows.mean() if weights is None else (rows * weights).sum() / (weights != 0).sum()
    assert torch.allclose(loss, plain)
    wanted = [queries, table, *([bias] if with_bias else [])]
    for one, two in zip(torch.autograd.grad(3 * loss, wanted), torch.autograd.grad(3 * plain, wanted)):
        assert torch.allclose(one, two)


def test_gradients_by_differences() -> None:
    queries, table, bias, targets = parts(4, 6, 3)
    assert torch.autograd.gradcheck(lambda q, t, b: catalogue_softmax_loss(q, t, targets, b), (queries, table, bias))


def test_only_wanted_gradients_are_computed() -> None:
    queries, table, _, targets = parts()
    catalogue_softmax_loss(queries, table.detach(), targets).backward()
    assert queries.grad is not None
    assert table.grad is None
    with torch.no_grad():
        assert catalogue_softmax_loss(queries, table, targets).isfinite()


def test_large_scores_do_not_overflow_and_no_positions_give_nothing() -> None:
    queries, table, _, targets = parts(dtype=torch.float32)
    assert catalogue_softmax_loss(queries * 1e4, table, targets).isfinite()
    none = catalogue_softmax_loss(queries[:0], table, targets[:0])
    none.backward()
    assert none.item() == 0
    assert table.grad is not None
    assert not table.grad.any()
