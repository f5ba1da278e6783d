"""State of large tables, kept in the order in which rows were first updated."""

from __future__ import annotations

import pytest
import torch
from test_table_optim import KINDS, OPTIONS, build, train

from intarsia.core.errors import CheckpointError
from intarsia.nn.table_optim import make_table_optimizer, state
from intarsia.nn.table_optim.state import RowState, Slot


@pytest.fixture
def by_use(monkeypatch):
    """Makes every table a large one."""
    monkeypatch.setattr(state, "_LARGE", 1)


def trained(kind, seeds, **more):
    collection = build()
    optimizer = make_table_optimizer(collection, kind, lr=0.1, **OPTIONS.get(kind, {}), **more)
    train(collection, optimizer, seeds)
    return collection, optimizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_the_same_weights_to_the_bit(kind, l2, monkeypatch):
    plain, _ = trained(kind, range(5), l2=l2)
    monkeypatch.setattr(state, "_LARGE", 1)
    large, _ = trained(kind, range(5), l2=l2)
    for name in plain.table_names:
        assert torch.equal(plain.weight(name), large.weight(name))


@pytest.mark.parametrize("first", ["all rows", "by use"])
@pytest.mark.parametrize("then", ["all rows", "by use"])
def test_a_checkpoint_fits_either_way(first, then, monkeypatch):
    expected, _ = trained("adam", range(6))
    monkeypatch.setattr(state, "_LARGE", 1 if first == "by use" else 1 << 30)
    collection, optimizer = trained("adam", range(3))
    saved = optimizer.state_dict()
    monkeypatch.setattr(state, "_LARGE", 1 if then == "by use" else 1 << 30)
    again = build()
    again.load_state_dict(collection.state_dict())
    other = make_table_optimizer(again, "adam", lr=0.5, **OPTIONS["adam"])
    train(again, other, [7])  # what it has learned since is forgotten
    again.load_state_dict(collection.state_dict())
    other.load_state_dict(saved)
    train(again, other, range(3, 6))
    for name in expected.table_names:
        assert torch.equal(expected.weight(name), again.weight(name))


def test_only_rows_that_were_read_are_saved(by_use):
    _, optimizer = trained("adagrad", [0])
    saved = optimizer.state_dict()["tables"]["item"]
    assert 0 < len(saved["rows"]) < 30
    assert saved["rows"].tolist() == sorted(saved["rows"].tolist())
    assert saved["sum"].shape == (len(saved["rows"]), 4)
    assert bool((saved["sum"] >= 0.1).all())


def test_new_rows_start_where_they_should():
    rows = RowState(torch.zeros(1 << 19, 4), {"sum": Slot(0.5), "count": Slot(row_wise=True)})
    assert rows.places(torch.tensor([7, 300_000])).tolist() == [1, 2]
    assert rows.places(torch.tensor([5, 7])).tolist() == [3, 1]
    assert rows.arrays["sum"][:5].tolist() == [[0.0] * 4, *[[0.5] * 4] * 3, [0.0] * 4]
    rows.arrays["count"][1] = 3.0
    assert rows.saved(6, 400_000)["rows"].tolist() == [1, 299_994]
    assert rows.saved(6, 400_000)["count"].tolist() == [3.0, 0.0]


def test_saved_rows_must_be_rows_of_the_table(by_use):
    _, optimizer = trained("adagrad", [0])
    saved = optimizer.state_dict()
    saved["tables"]["item"]["rows"] = saved["tables"]["item"]["rows"] + 25
    with pytest.raises(CheckpointError, match="table `item`, `rows`: expected numbers below 30, found up to"):
        optimizer.load_state_dict(saved)
