"""Two processes that share every global batch must learn what one learns."""

import os
import socket
import time

import pytest
import torch
import toy
from torch import nn

from intarsia.core.errors import CheckpointError, TrainingError
from intarsia.data.loader import Loader
from intarsia.training.checkpoint import CheckpointStore, latest, read_state, read_tensors
from intarsia.training.distributed import World, join_world, leave_world


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def in_processes(action, size=2, limit=90.0):
    """Runs `action(world)` in forked processes that know each other, and expects all of them to end well."""
    port = free_port()
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:  # pragma: no cover
            code = 1
            try:
                os.environ.update(
                    RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_RANK="0"
                )
                world = join_world("cpu")
                action(world)
                leave_world(world)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    deadline, codes = time.monotonic() + limit, {}
    while len(codes) < size:
        for child in set(children) - set(codes):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = status
        if time.monotonic() > deadline:
            for child in set(children) - set(codes):
                os.kill(child, 9)
                codes[child] = os.waitpid(child, 0)[1]
        time.sleep(0.005)
    assert set(codes.values()) == {0}


def plain(seed):
    model = toy.ToyModel(seed=seed, dropout=0.0)
    model.norm = nn.Identity()
    return model


def options(**more):
    return {"evaluate": False, "num_epochs": 2, "log_step_count_steps": 1, "learning_rate": 0.05, **more}


def train(run_dir, world, batch_size, **more):
    # Different initial weights: the first process's count.
    source = Loader(toy.Rows(50), batch_size, shuffle=True, seed=1, rank=world.rank, world_size=world.size)
    return toy.make(run_dir, plain(world.rank), source=source, world=world, **options(**more)).fit()


@pytest.mark.parametrize(
    ("batch_size", "more"),
    [
        (8, {"optimizer": "sgd"}),
        (7, {"optimizer": "adagrad"}),  # shares of 3 and 4 rows, and a last batch of one row: a share of none
        (7, {"optimizer": "adam", "gradient_clipping_by_norm": 0.1, "gradient_accumulation_steps": 3}),
    ],
)
def test_two_processes_equal_one(tmp_path, batch_size, more):
    one, two = tmp_path / "one", tmp_path / "two"
    train(one, World(), batch_size, **more)
    in_processes(lambda world: train(two, world, batch_size, **more))
    assert latest(one).name == latest(two).name
    weights, others = (read_tensors(latest(folder) / "model.safetensors") for folder in (one, two))
    initial = plain(0).state_dict()
    for name, tensor in weights.items():
        assert not torch.equal(tensor, initial[name]), name
        assert torch.allclose(tensor, others[name], atol=1e-6, rtol=1e-5), name
    for row, other in zip(toy.log_rows(one), toy.log_rows(two), strict=True):
        assert row.pop("kind") == other.pop("kind")
        assert row == pytest.approx(other, rel=1e-5)


def with_dropout(run_dir, world, **more):
    # Batch norm wants at least two rows in every share: 52 rows make a last batch of 4.
    source = Loader(toy.Rows(52), 8, shuffle=True, seed=1, rank=world.rank, world_size=world.size)
    return toy.make(run_dir, source=source, world=world, num_steps=9, save_checkpoints_steps=4, **more)


def test_resuming_is_exact_for_every_process(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    in_processes(lambda world: with_dropout(whole, world).fit())

    def first(world):
        # Rank 1 alone is asked to stop; both do, at the same step.
        def on_event(name, values):
            if name == "update" and values["step"] == 5 and world.rank == 1:
                os.kill(os.getpid(), 15)

        result = with_dropout(cut, world, on_event=on_event).fit()
        assert (result.stopped_because, result.steps) == ("SIGTERM", 5)

    in_processes(first)
    in_processes(lambda world: with_dropout(cut, world).fit(resume=True))
    one, other = (read_state(latest(folder)) for folder in (whole, cut))
    assert one["files"] == other["files"]
    assert one["train"] == other["train"]
    assert toy.log_rows(whole) == toy.log_rows(cut)
    with pytest.raises(CheckpointError, match=r"as many processes as it was started with: 2\. Received 1\."):
        with_dropout(cut, World()).fit(resume=True)


def test_the_first_process_writes_alone(tmp_path):
    def action(world):
        saved = []
        trainer = with_dropout(tmp_path, world, on_event=lambda name, values: saved.append(name))
        trainer.fit()
        assert ("save" in saved) == (world.rank == 0)

    in_processes(action)
    assert CheckpointStore(tmp_path).steps() == [4, 8, 9]


def test_dense_gradients_are_summed_and_absent_ones_count_as_zero():
    def action(world):
        a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        a.grad = torch.tensor([1.0, 2.0]) * (world.rank + 1)
        if world.rank == 0:
            b.grad = torch.tensor([5.0, 6.0])
        world.sum_dense([a, b, c])
        assert a.grad.tolist() == [3, 6]
        assert b.grad.tolist() == [5, 6]
        assert c.grad is None
        rows, values = world.gather_rows(torch.tensor([1, 3])[: world.rank + 1], torch.ones(world.rank + 1, 2))
        assert rows.tolist() == [1, 1, 3]
        assert values.shape == (3, 2)
        trees = world.gather_trees({"rank": world.rank, "t": torch.arange(world.rank + 1)})
        assert [tree["rank"] for tree in trees] == [0, 1]
        assert [tree["t"].tolist() for tree in trees] == [[0], [0, 1]]
        assert world.row_share(1 + 2 * world.rank) == (1 + 2 * world.rank) / 4

    in_processes(action)


def test_one_process_needs_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join_world()
    assert (world.rank, world.size, world.writes, world.row_share(3)) == (0, 1, True, 1.0)
    assert world.sum([1.0]) == [1.0]


def test_an_incomplete_environment_is_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        TrainingError, match=r"WORLD_SIZE=2 without RANK, MASTER_ADDR, MASTER_PORT. Start with: torchrun"
    ):
        join_world("cpu")
