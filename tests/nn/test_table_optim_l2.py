"""L2 regularization of whole tables: rows pay when they are read, for all steps since they were read last."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from intarsia.core.batch import Dense
from intarsia.core.errors import BuildError, CheckpointError, TrainingError
from intarsia.nn.embedding import EmbeddingCollection, Lookup, TableSpec
from intarsia.nn.table_optim import make_table_optimizer

DIM = 4
SIZES = {"item": 11, "user": 6, "city": 3}
needs_fbgemm = pytest.mark.skipif(importlib.util.find_spec("fbgemm_gpu") is None, reason="FBGEMM is not installed")


def build(order=tuple(SIZES), backend="torch") -> EmbeddingCollection:
    specs = [TableSpec(name, SIZES[name], DIM) for name in order]
    collection = EmbeddingCollection(
        tables=specs, lookups=[Lookup(name, name, name) for name in order], backend=backend
    )
    for name, rows in SIZES.items():
        collection.weight(name).copy_(1 + torch.arange(rows * DIM).view(rows, DIM) / 100)
    return collection


def loss_of(vectors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The gradient of a vector does not depend on its value: 0.3, 0.6, 0.9, 1.2 for each time it is read."""
    return sum((each * torch.tensor([0.3, 0.6, 0.9, 1.2])).sum() for each in vectors.values())


def train(collection, optimizer, batches) -> None:
    for ids in batches:
        loss_of(collection({name: Dense(torch.tensor(ids) % rows) for name, rows in SIZES.items()})).backward()
        optimizer.step()
        optimizer.zero_grad()


def tables(collection) -> dict[str, torch.Tensor]:
    return {name: collection.weight(name).clone() for name in collection.table_names}


def train_dense(copies, optimizer, batches) -> None:
    for ids in batches:
        optimizer.zero_grad()
        loss_of({name: table[torch.tensor(ids) % SIZES[name]] for name, table in copies.items()}).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("kind", "dense"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.5)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5)),
        (
            "adagrad",
            lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.5, initial_accumulator_value=0.1, eps=1e-8),
        ),
    ],
)
def test_is_the_dense_penalty_where_every_row_occurs(kind, dense):
    collection = build()
    copies = {name: table.requires_grad_() for name, table in tables(collection).items()}
    batches = [[*range(11), *range(5)]] * 5
    train(collection, make_table_optimizer(collection, kind, lr=0.1, l2=0.5), batches)
    train_dense(copies, dense(list(copies.values())), batches)
    for name, expected in copies.items():
        torch.testing.assert_close(collection.weight(name), expected.detach(), rtol=1e-5, atol=1e-6)


def test_gradient_descent_is_the_dense_penalty_however_rare_a_row_is():
    """After a step in which all rows occur, nobody owes anything: the tables are those of dense descent."""
    collection = build()
    copies = {name: table.requires_grad_() for name, table in tables(collection).items()}
    batches = [[0, 1], [0], [4, 4, 4], [0, 7], [9], [3], list(range(11))]
    train(collection, make_table_optimizer(collection, "sgd", lr=0.1, l2=0.8), batches)
    train_dense(copies, torch.optim.SGD(list(copies.values()), lr=0.1, weight_decay=0.8), batches)
    for name, expected in copies.items():
        torch.testing.assert_close(collection.weight(name), expected.detach(), rtol=1e-5, atol=1e-6)


def test_a_row_pays_once_for_each_step_by_hand():
    collection = EmbeddingCollection(tables=[TableSpec("t", 3, 2)], lookups=[Lookup("k", "f", "t")])
    collection.weight("t").copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 8.0]]))
    optimizer = make_table_optimizer(collection, "sgd", lr=0.5, l2=1.0)
    for ids in ([0], [0, 0], [2]):  # Twice in one batch is still one step.
        collection({"f": Dense(torch.tensor(ids))})["k"].backward(torch.zeros(len(ids), 2))
        optimizer.step()
        optimizer.zero_grad()
    assert collection.weight("t").tolist() == [[0.25, 0.25], [2.0, 2.0], [0.5, 1.0]]  # Halved twice, never, 3 times.
    assert optimizer.state_dict()["tables"]["t"]["l2_paid"].tolist() == [2.0, 0.0, 3.0]


def test_long_gaps_take_a_row_to_zero_and_not_beyond():
    collection = build()
    optimizer = make_table_optimizer(collection, "sgd", lr=0.1, l2=1.0)
    optimizer.num_steps = 10_000_000
    before = collection.weight("item").clone()
    ids = torch.tensor([5])
    collection({name: Dense(ids % rows) for name, rows in SIZES.items()})["item"].backward(torch.zeros(1, DIM))
    optimizer.step()
    torch.testing.assert_close(collection.weight("item")[5], torch.zeros(DIM), rtol=0, atol=1e-6)
    assert torch.equal(collection.weight("item")[:5], before[:5])


def test_rows_that_are_not_read_and_frozen_tables_stay_to_the_last_bit():
    collection = build()
    collection.freeze(["user"])
    before = tables(collection)
    train(collection, make_table_optimizer(collection, "adam", lr=0.1, l2=1.0), [[0, 1], [1, 0], [1]])
    assert torch.equal(collection.weight("user"), before["user"])
    assert torch.equal(collection.weight("item")[2:], before["item"][2:])
    assert not torch.equal(collection.weight("item")[:2], before["item"][:2])
    (fused,) = collection.fused
    assert (collection.fused_weight(fused)[-1] == 0).all()


def test_a_rate_of_zero_changes_nothing():
    collection = build()
    before = tables(collection)
    train(collection, make_table_optimizer(collection, "sgd", lr=0.0, l2=1.0), [[0], [1]])
    for name, table in before.items():
        assert torch.equal(collection.weight(name), table)


@pytest.mark.parametrize("kind", ["adam", "ftrl", "rowwise_adagrad"])
def test_a_resumed_run_goes_on_to_the_last_bit_in_whatever_order_tables_are_fused(kind):
    batches = [[step % 5, step % 3] for step in range(11)]
    whole, first, second = build(), build(), build(order=("city", "item", "user"))
    train(whole, make_table_optimizer(whole, kind, lr=0.01, l2=1.0), batches)
    optimizer = make_table_optimizer(first, kind, lr=0.01, l2=1.0)
    train(first, optimizer, batches[:4])
    second.load_state_dict(first.state_dict())
    resumed = make_table_optimizer(second, kind, lr=0.01, l2=1.0)
    resumed.load_state_dict(optimizer.state_dict())
    train(second, resumed, batches[4:])
    for name, table in tables(whole).items():
        assert torch.equal(second.weight(name), table)


@needs_fbgemm
def test_fbgemm_is_refused():
    with pytest.raises(BuildError, match=r"FBGEMM applies gradients .* Received l2=0.5. Use backend `torch` or `auto`"):
        make_table_optimizer(build(backend="fbgemm"), "sgd", lr=0.1, l2=0.5)
    auto = build(backend="auto")
    train(auto, make_table_optimizer(auto, "sgd", lr=0.1, l2=0.5), [[0]])


def test_errors():
    collection = build()
    with pytest.raises(BuildError, match=r"at least 0. Received l2=-1"):
        make_table_optimizer(collection, "adam", lr=0.1, l2=-1)
    plain = make_table_optimizer(collection, "adam", lr=0.1)
    optimizer = make_table_optimizer(collection, "adam", lr=0.1, l2=10.0)
    with pytest.raises(TrainingError, match=r"must be below 1. Received 0.1 \* 10. Lower one of them"):
        train(collection, optimizer, [[0]])
    with pytest.raises(CheckpointError, match=r"table `item`, `l2_paid`: unknown"):
        plain.load_state_dict(optimizer.state_dict())
    with pytest.raises(CheckpointError, match=r"table `user`, `l2_paid`: expected shape \(6,\), found None"):
        optimizer.load_state_dict(plain.state_dict())
