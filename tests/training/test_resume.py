"""A run that is killed and resumed must end like one that was not, to the last bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy

from intarsia.core.errors import CheckpointError
from intarsia.training import checkpoint
from intarsia.training.checkpoint import latest, load_optimizer, read_state

SETUPS = {
    "plain": {
        "num_epochs": 4,
        "save_checkpoints_steps": 5,
        "log_step_count_steps": 4,
        "optimizer": "adam",
        "gradient_clipping_by_norm": 0.5,
    },
    "accumulated": {
        "num_epochs": 5,
        "save_checkpoints_steps": 3,
        "log_step_count_steps": 2,
        "gradient_accumulation_steps": 3,  # 7 batches an epoch: 3 + 3 + 1
        "optimizer_config": [
            {"adagrad_optimizer": {"learning_rate": {"exponential_decay_learning_rate": {"decay_steps": 3}}}},
            {
                "momentum_optimizer": {
                    "learning_rate": {"cosine_decay_learning_rate": {"total_steps": 20, "warmup_steps": 2}}
                },
                "use_moving_average": True,
                "moving_average_decay": 0.9,
            },
        ],
        "export": {"exporter_type": "best", "best_exporter_metric": "accuracy"},
    },
    "early stop": {
        "num_steps": 200,
        "save_checkpoints_steps": 7,
        "eval_steps": 3,
        "log_step_count_steps": 10,
        "optimizer_config": [{"ftrl_optimizer": {"learning_rate": 0.1}}, {"rms_prop_optimizer": {}}],
        "early_stop": {"metric": "logloss", "patience": 4, "min_delta": 0.004},
        "keep_checkpoint_max": 2,
    },
    "epochs": {
        "num_epochs": 5,
        "save_checkpoints_steps": 0,
        "log_step_count_steps": 3,
        "optimizer": "rowwise_adagrad",
        "early_stop": {"metric": "accuracy", "patience": 3},
    },
}


def build(run_dir, setup, **extra):
    options = dict(SETUPS[setup])
    if "optimizer_config" in options:
        extra = {"learning_rate": None, **extra}
    return toy.make(run_dir, **options, **extra)


def ending(run_dir, trainer, result):
    """All that must agree: weights left in the model, files of the last checkpoint, log, decisions."""
    folder = latest(run_dir)
    state = read_state(folder)
    return {
        "weights": {k: v.clone() for k, v in trainer.model.state_dict().items()},
        "optimizer": load_optimizer(folder, state),
        "files": state["files"],
        "position": state["train"],
        "selection": state["selection"],
        "log": toy.log_rows(run_dir),
        "result": result,
    }


def assert_same(one, other):
    assert one["result"] == other["result"]
    assert one["log"] == other["log"]
    assert one["position"] == other["position"]
    assert one["selection"] == other["selection"]
    assert one["files"] == other["files"]  # digests: weights, optimizer and random states, bit by bit
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Endings of uninterrupted runs, by setup."""
    endings = {}

    def get(setup):
        if setup not in endings:
            run_dir = tmp_path_factory.mktemp("whole")
            trainer = build(run_dir, setup)
            endings[setup] = ending(run_dir, trainer, trainer.fit())
        return endings[setup]

    return get


def killed_child(action):
    """Runs `action` in a forked process, which must die of SIGKILL."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            action()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(run_dir, setup, event, step, resume=False):
    """Trains, and kills the process at an event of a step."""

    def on_event(name, values):
        if name == event and values["step"] == step:
            die()

    build(run_dir, setup, on_event=on_event).fit(resume=resume)


def resumed(run_dir, setup):
    trainer = build(run_dir, setup)
    result = trainer.fit(resume=True)
    return ending(run_dir, trainer, result)


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("step", [1, 7, 8, 14])
def test_killed_at_a_step(tmp_path, whole, setup, step):
    expected = whole(setup)
    step = min(step, expected["result"].steps)
    killed_child(lambda: train_until(tmp_path, setup, "update", step))
    assert_same(resumed(tmp_path, setup), expected)


@pytest.mark.parametrize("setup", ["plain", "accumulated"])
@pytest.mark.parametrize("event", ["evaluate", "save"])
def test_killed_right_after_an_evaluation_or_a_checkpoint(tmp_path, whole, setup, event):
    step = {"plain": 10, "accumulated": 9}[setup]
    killed_child(lambda: train_until(tmp_path, setup, event, step))
    assert_same(resumed(tmp_path, setup), whole(setup))


@pytest.mark.parametrize("writes", [1, 3, 4, 5, 9])
def test_killed_while_a_checkpoint_is_written(tmp_path, whole, writes):
    def action():
        real, seen = checkpoint._flush, []

        def flush(path):
            seen.append(path)
            if len(seen) == writes:
                die()
            real(path)

        checkpoint._flush = flush
        build(tmp_path, "plain").fit()

    killed_child(action)
    assert_same(resumed(tmp_path, "plain"), whole("plain"))
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_killed_three_times(tmp_path, whole):
    for index, step in enumerate([6, 11, 12]):
        killed_child(lambda step=step, index=index: train_until(tmp_path, "accumulated", "update", step, index > 0))
    assert_same(resumed(tmp_path, "accumulated"), whole("accumulated"))


def test_killed_at_a_random_moment(tmp_path, whole):
    """By the clock, so that any line of the loop, the loader or the writer can be hit."""
    expected = whole("plain")
    seed = int.from_bytes(os.urandom(4))
    delay = 0.02 + seed / 2**32 * 0.4
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            build(tmp_path, "plain").fit()
        finally:
            os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert_same(resumed(tmp_path, "plain"), expected)


def test_resuming_a_finished_run_changes_nothing(tmp_path, whole):
    for setup in ("plain", "early stop"):
        run_dir = tmp_path / setup
        build(run_dir, setup).fit()
        assert_same(resumed(run_dir, setup), whole(setup))


def test_resuming_where_nothing_is_starts_anew(tmp_path, whole):
    assert_same(resumed(tmp_path, "plain"), whole("plain"))


SCRIPT = """
import sys
import test_resume, toy
path, setup = sys.argv[1:3]

def on_event(name, values):
    if name == "update":
        print(values["step"], flush=True)
        if values["step"] == 6:
            sys.stdin.readline()  # waits until the signal was sent

print("stopped", test_resume.build(path, setup, on_event=on_event).fit().stopped_because, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_exactly(tmp_path, whole, number):
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "accumulated"],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line == "6\n":
            break
    process.send_signal(number)
    time.sleep(0.1)
    process.stdin.write("\n")
    process.stdin.flush()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.splitlines() == [f"stopped {number.name}"]  # no further step
    assert latest(tmp_path).name == "step-00000006"
    assert_same(resumed(tmp_path, "accumulated"), whole("accumulated"))


def test_another_schema_or_model_is_refused(tmp_path):
    build(tmp_path, "plain", schema_hash="abc").fit()
    with pytest.raises(CheckpointError) as error:
        build(tmp_path, "plain", schema_hash="xyz").fit(resume=True)
    assert "was trained on features with another schema" in str(error.value)
    assert "Received schema xyz, expected abc." in str(error.value)


def test_another_optimizer_is_refused(tmp_path):
    toy.make(tmp_path, num_steps=2, optimizer="adam").fit()
    with pytest.raises(CheckpointError, match=r"has no exp_avg, exp_avg_sq") as error:
        toy.make(tmp_path, num_steps=4, optimizer="adagrad").fit(resume=True)
    assert "Restore `optimizer_config`" in str(error.value)
    with pytest.raises(CheckpointError) as error:
        toy.make(tmp_path, num_steps=4, optimizer="adam", freeze_gradient=["hidden"]).fit(resume=True)
    assert "alone has: hidden.weight, hidden.bias. Restore `optimizer_config` and `freeze_gradient`" in str(error.value)


def test_a_used_folder_is_refused_unless_resumed(tmp_path):
    toy.make(tmp_path, num_steps=2).fit()
    with pytest.raises(CheckpointError) as error:
        toy.make(tmp_path, num_steps=2).fit()
    assert str(error.value) == (
        f"A new run needs a folder without checkpoints. Received {tmp_path}, whose latest is step-00000002. "
        "Resume it, or choose another folder."
    )


def test_a_lost_log_is_told(tmp_path):
    toy.make(tmp_path, num_steps=2).fit()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl should hold at least the \d+ bytes .* Received 3 bytes"):
        toy.make(tmp_path, num_steps=4).fit(resume=True)
