import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from intarsia.core.errors import CheckpointError
from intarsia.training.checkpoint import CheckpointStore
from intarsia.training.restore import read_var_map, restore


class Net(nn.Module):
    def __init__(self, rows=4, width=2, head="head"):
        super().__init__()
        self.table = nn.Embedding(rows, width)
        self.add_module(head, nn.Linear(width, 1))


@pytest.fixture
def run(tmp_path):
    """A run whose latest checkpoint holds a `Net`, and that net."""
    torch.manual_seed(1)
    net, store = Net(), CheckpointStore(tmp_path / "run")
    store.save(1, Net(), {}, {})
    store.save(2, net, {}, {})
    return tmp_path / "run", net


def test_a_run_folder_stands_for_its_latest_checkpoint(run, tmp_path):
    folder, old = run
    latest = folder / "checkpoints" / "step-00000002"
    save_file(old.state_dict(), tmp_path / "model.safetensors")
    for source in (folder, latest, latest / "model.safetensors", tmp_path):  # the last is a bundle
        new = Net()
        report = restore(new, source)
        assert torch.equal(new.table.weight, old.table.weight)
        assert torch.equal(new.head.bias, old.head.bias)
        assert report.restored == ("table.weight", "head.weight", "head.bias")
        assert report.missing == report.skipped == report.unused == ()


def test_what_is_missing_and_unused_is_reported(run):
    folder, old = run
    new = Net(head="tower")
    before = new.tower.weight.clone()
    report = restore(new, folder)
    assert report.missing == ("tower.weight", "tower.bias")
    assert report.unused == ("head.bias", "head.weight")
    assert torch.equal(new.tower.weight, before)
    assert torch.equal(new.table.weight, old.table.weight)
    assert str(report).splitlines()[1:] == ["2 missing: tower.weight, tower.bias", "2 unused: head.bias, head.weight"]


def test_names_are_mapped(run, tmp_path):
    folder, old = run
    names = tmp_path / "names.txt"
    names.write_text("tower.weight\thead.weight\n\ntower.bias\thead.bias\n")
    new = Net(head="tower")
    report = restore(new, folder, names)
    assert torch.equal(new.tower.weight, old.head.weight)
    assert report.missing == ()


def test_filters_leave_initial_values(run):
    folder, old = run
    new = Net()
    before = new.head.weight.clone()
    report = restore(new, folder, restore_filters=["^head"])
    assert torch.equal(new.head.weight, before)
    assert torch.equal(new.table.weight, old.table.weight)
    assert report.skipped == ("head.weight", "head.bias")


def test_other_shapes_are_an_error_unless_forced(run):
    folder, old = run
    new = Net(rows=6, width=1)
    before = new.table.weight.detach().clone()
    with pytest.raises(CheckpointError) as error:
        restore(new, folder)
    assert "other shapes (2):\n  table.weight (4, 2) -> (6, 1)\n  head.weight (1, 2) -> (1, 1)" in str(error.value)
    assert "`force_restore_shape_compatible: true`" in str(error.value)
    assert torch.equal(new.table.weight, before)
    report = restore(new, folder, force_shape_compatible=True)
    assert torch.equal(new.table.weight[:4], old.table.weight[:, :1])  # cut in width
    assert torch.equal(new.table.weight[4:], before[4:])  # padded with initial rows
    assert report.resized == ("table.weight (4, 2) -> (6, 1)", "head.weight (1, 2) -> (1, 1)")


def test_dimensions_must_agree_even_when_forced(run, tmp_path):
    save_file({"table.weight": torch.zeros(4, 2, 1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="needs the same number of dimensions"):
        restore(Net(), tmp_path / "x.safetensors", force_shape_compatible=True)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("tables.weight\ttable.weight", "but this model has no `tables.weight`. Nearest: table.weight"),
        ("table.weight\thaed.weight", "but the checkpoint has no `haed.weight`. Nearest: head.weight"),
        ("table.weight", ":1: a line is `name here TAB name in the checkpoint`. Received 'table.weight'."),
        ("a\tb\na\tc", ":2: `a` is mapped twice."),
    ],
)
def test_a_wrong_names_file(run, tmp_path, lines, text):
    names = tmp_path / "names.txt"
    names.write_text(lines)
    with pytest.raises(CheckpointError) as error:
        restore(Net(), run[0], names)
    assert text in str(error.value)


def test_a_missing_names_file():
    with pytest.raises(CheckpointError, match=r"`fine_tune_ckpt_var_map` names a file. Received nowhere.txt"):
        read_var_map("nowhere.txt")


def test_sources_that_hold_nothing(tmp_path, run):
    with pytest.raises(CheckpointError, match=r"Received .*nowhere, which does not exist\."):
        restore(Net(), tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"which holds none\."):
        restore(Net(), tmp_path)
    with pytest.raises(CheckpointError, match=r"Received 3 tensors, none with a name of this model: head"):
        restore(nn.Sequential(nn.Linear(2, 1)), run[0])
    (tmp_path / "bad.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"A safetensors file is needed. Received .*bad.safetensors, unreadable"):
        restore(Net(), tmp_path / "bad.safetensors")
