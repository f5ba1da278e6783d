# ruff: noqa: NPY002
import errno
import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from intarsia.core.errors import CheckpointError
from intarsia.training import checkpoint
from intarsia.training.checkpoint import (
    CheckpointStore,
    latest,
    load_model,
    load_optimizer,
    read_state,
    write_tensors,
)
from intarsia.training.encoding import flatten, random_state, set_random_state, unflatten


class Tied(nn.Module):
    def __init__(self, width=3, rows=5):
        super().__init__()
        self.table = nn.Embedding(rows, width)
        self.out = nn.Linear(width, rows)
        self.out.weight = self.table.weight
        self.register_buffer("seen", torch.tensor(7))


def save(store, step=1, model=None, tree=None, protect=()):
    return store.save(step, model or Tied(), tree if tree is not None else {"x": torch.arange(3)}, {"a": 0.1}, protect)


def test_round_trip_of_weights_state_and_tied_tensors(tmp_path):
    torch.manual_seed(0)
    model, other = Tied(), Tied()
    tree = {"m": {"w": torch.randn(2, 2), "step": 3}, "list": [torch.tensor(1.5), None, True], 5: "five"}
    folder = save(CheckpointStore(tmp_path), 12, model, tree)
    assert folder == tmp_path / "checkpoints" / "step-00000012"
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "optimizer.safetensors", "state.json"]
    state = read_state(folder)
    assert (state["step"], state["a"], state["format"]) == (12, 0.1, 1)
    assert set(state["versions"]) == {"intarsia", "torch", "numpy", "python"}
    assert state["aliases"] == {"out.weight": "table.weight"}
    load_model(other, folder)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    back = load_optimizer(folder, state)
    assert torch.equal(back["m"]["w"], tree["m"]["w"])
    assert back["m"]["step"] == 3
    assert back["list"][0] == 1.5
    assert back["list"][1:] == [None, True]
    assert back[5] == "five"


def test_files_are_safetensors_that_the_library_reads(tmp_path):
    tensors = {
        "half": torch.randn(3, 2).half(),
        "brain": torch.randn(5).bfloat16(),
        "scalar": torch.tensor(2.5),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "view": torch.arange(12).view(3, 4).t(),
        "rows": torch.randn(10, 3)[2:4],
        "none": torch.empty(0, 4),
    }
    write_tensors(tensors, tmp_path / "x.safetensors")
    back = load_file(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_random_states_survive_json():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    random.gauss(0, 1), np.random.randn(), torch.rand(3)
    plain, tensors = flatten(random_state())
    plain = json.loads(json.dumps(plain))
    drawn = (random.gauss(0, 1), random.random(), np.random.randn(3).tolist(), torch.rand(4).tolist())
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    set_random_state(unflatten(plain, tensors))
    assert (random.gauss(0, 1), random.random(), np.random.randn(3).tolist(), torch.rand(4).tolist()) == drawn


def test_a_checkpoint_holds_no_objects():
    with pytest.raises(TypeError, match=r"holds tensors, numbers and words. Received set at `a.b`"):
        flatten({"a": {"b": {1}}})


def test_keeps_the_newest_and_the_protected(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for step in range(1, 7):
        save(store, step, protect={2})
    assert store.steps() == [2, 5, 6]
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-00000002", "step-00000005", "step-00000006"]


def test_saving_a_step_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path)
    save(store, 1, tree={"x": torch.tensor(1)})
    folder = save(store, 1, tree={"x": torch.tensor(2)})
    assert load_optimizer(folder, read_state(folder))["x"] == 2
    assert [p.name for p in store.folder.iterdir()] == ["step-00000001"]


def test_latest_passes_over_incomplete_folders(tmp_path):
    assert latest(tmp_path) is None
    store = CheckpointStore(tmp_path)
    save(store, 3)
    (store.folder / "step-00000009").mkdir()
    (store.folder / ".step-00000010.part").mkdir()
    (store.folder / ".step-00000010.part" / "state.json").write_text("{}")
    assert latest(tmp_path) == store.path(3)
    # Killed between the two renames of a replacement: what was being replaced comes back.
    store.path(3).rename(store.folder / ".step-00000003.old")
    store.clear_leftovers()
    assert latest(tmp_path) == store.path(3)
    assert not list(store.folder.glob(".*"))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_full_disk_leaves_the_previous_one(tmp_path, monkeypatch, file):
    store = CheckpointStore(tmp_path, keep=1)
    good = save(store, 1)
    before = {p.name: p.read_bytes() for p in good.iterdir()}
    real = checkpoint.write_tensors

    def full(tensors, path):
        real(tensors, path)
        if path.name == file:
            path.write_bytes(path.read_bytes()[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

    def full_flush(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    if file == "state.json":
        monkeypatch.setattr(checkpoint, "_flush", full_flush)
    else:
        monkeypatch.setattr(checkpoint, "write_tensors", full)
    model = nn.Linear(1000, 500, bias=False)  # 2,000,000 bytes
    with pytest.raises(CheckpointError) as error:
        save(store, 2, model, {"x": torch.zeros(1000, 125)})  # and 500,000
    text = str(error.value)
    assert f"The checkpoint of step 2 needs 2.5 MB of disk space in {store.folder}." in text
    assert "no space left on device" in text
    assert f"The latest good one is {good}." in text
    assert "`train_config.keep_checkpoint_max`" in text
    assert {p.name: p.read_bytes() for p in good.iterdir()} == before
    assert [p.name for p in store.folder.iterdir()] == [good.name]
    assert latest(tmp_path) == good
    read_state(good)


def test_other_write_errors_are_told_too(tmp_path, monkeypatch):
    def denied(tensors, path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "write_tensors", denied)
    with pytest.raises(
        CheckpointError, match=r"step 4 \(\d+ bytes\) cannot be written: .*Permission denied.*no earlier"
    ):
        save(CheckpointStore(tmp_path), 4)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_damage_is_noticed(tmp_path, name):
    folder = save(CheckpointStore(tmp_path))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(CheckpointError) as error:
        read_state(folder)
    assert str(error.value) == (
        f"{folder / name} is damaged: it should have {len(whole)} bytes. Received {len(whole) - 1} bytes. "
        "Remove this checkpoint's folder to go on from the one before it."
    )
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit
    with pytest.raises(CheckpointError, match=r"is damaged: its digest is not the one in state.json"):
        read_state(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"Received no file\."):
        read_state(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_garbled_state_is_noticed(tmp_path, text):
    folder = save(CheckpointStore(tmp_path))
    (folder / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"A checkpoint needs a readable state.json. Received .*step-00000001"):
        read_state(folder)


def test_another_format_is_refused(tmp_path):
    folder = save(CheckpointStore(tmp_path))
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "format": 2}))  # told before anything else is read
    with pytest.raises(CheckpointError) as error:
        read_state(folder)
    assert "reads checkpoints of format 1. Received format 2 in" in str(error.value)
    assert "Resume with that version." in str(error.value)


def test_another_model_lists_the_first_differences(tmp_path):
    folder = save(CheckpointStore(tmp_path), model=Tied(width=3))
    model = Tied(width=4)
    model.extra = nn.Linear(2, 1)
    with pytest.raises(CheckpointError) as error:
        load_model(model, folder)
    text = str(error.value)
    assert "is of another model; 4 tensors differ:" in text
    assert "table.weight: (5, 4) float32 here, (5, 3) float32 in the checkpoint" in text
    assert "extra.weight: (1, 2) float32 here, absent in the checkpoint" in text
    assert "`fine_tune_checkpoint`" in text
    many = nn.ModuleList(nn.Linear(1, 1) for _ in range(10))
    with pytest.raises(CheckpointError, match=r"24 tensors differ:(\n  .*){5}\n  and 19 more"):
        load_model(many, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint and its files."""
    folder = save(CheckpointStore(tmp_path_factory.mktemp("run")), 5, tree={"a": torch.arange(3.0), "b": [1, 0.1]})
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged_is_refused(whole, name, place, cut, bit):
    folder, files = whole
    data = bytearray(files[name])
    place %= len(data)
    if cut:
        del data[place:]
    else:
        data[place] ^= 1 << bit
    (folder / name).write_bytes(data)
    try:
        with pytest.raises(CheckpointError):
            read_state(folder)
    finally:
        (folder / name).write_bytes(files[name])


DAMAGE = {
    "name": st.sampled_from(["model.safetensors", "optimizer.safetensors", "state.json"]),
    "place": st.integers(0, 1 << 20),
    "cut": st.booleans(),
    "bit": st.integers(0, 7),
}


@given(**DAMAGE)
def test_any_cut_or_flipped_bit_is_refused(whole, name, place, cut, bit):
    damaged_is_refused(whole, name, place, cut, bit)


@pytest.mark.fuzz
@settings(max_examples=10_000, deadline=None)
@given(**DAMAGE)
def test_any_cut_or_flipped_bit_is_refused_long(whole, name, place, cut, bit):
    damaged_is_refused(whole, name, place, cut, bit)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.integers(0, 3).map(lambda n: torch.arange(n)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text("ab.$'", max_size=3), st.integers(0, 3)), inner)
    ),
    max_leaves=12,
)


def same_tree(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tree(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_tree, one, other))
    return type(one) is type(other) and one == other


@given(tree=TREES)
def test_trees_survive_json(tree):
    plain, tensors = flatten(tree)
    assert same_tree(tree, unflatten(json.loads(json.dumps(plain)), tensors))
