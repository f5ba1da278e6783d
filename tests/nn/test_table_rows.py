"""Reading and writing rows of a weight."""

from __future__ import annotations

import pytest
import torch

from intarsia.nn.embedding import rows as module
from intarsia.nn.embedding.rows import read_rows, write_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(9, 3), (9, 1), (9,)])
def test_written_rows_are_replaced_and_no_others(shape, dtype):
    weight, ids = torch.arange(9 * (shape[1] if len(shape) > 1 else 1)).view(shape).to(dtype), torch.tensor([7, 0, 3])
    values = -torch.ones(3, *shape[1:], dtype=dtype)
    wanted = weight.clone()
    for row, value in zip(ids.tolist(), values):
        wanted[row] = value
    write_rows(weight, ids, values)
    assert torch.equal(weight, wanted)


def test_values_may_lie_apart():
    weight, values = torch.zeros(5, 2), torch.arange(8.0).view(2, 4).t()[:3]
    assert not values.is_contiguous()
    write_rows(weight, torch.tensor([4, 1, 2]), values)
    assert weight.tolist() == [[0, 0], [1, 5], [2, 6], [0, 0], [0, 4]]


def test_a_row_outside_is_refused():
    with pytest.raises(IndexError):
        write_rows(torch.zeros(5, 2), torch.tensor([5]), torch.ones(1, 2))


def test_no_rows():
    weight = torch.ones(5, 2)
    write_rows(weight, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))
    assert bool((weight == 1).all())


def test_both_ways_of_reading_agree(monkeypatch):
    weight, ids = torch.randn(50, 8), torch.randint(0, 50, (200,))
    small = read_rows(weight, ids)
    monkeypatch.setattr(module, "_CACHED", 0)
    assert torch.equal(read_rows(weight, ids), small)
    assert torch.equal(small, weight[ids])
