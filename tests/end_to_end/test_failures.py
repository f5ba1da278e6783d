"""Training that fails midway: the message says what happened, and earlier checkpoints and bundles survive."""

import errno
import json
import re

import numpy as np
import pytest
import small_job

import intarsia
from intarsia.cli.main import run as command
from intarsia.core.errors import CheckpointError, TrainingError
from intarsia.recommender import recommender as bundles
from intarsia.recommender.recommender import Recommender
from intarsia.training import checkpoint
from intarsia.training.checkpoint import latest, read_state


@pytest.fixture
def path(tmp_path):
    return small_job.write_csv(tmp_path / "train.csv", small_job.table(160))


def job_of(path, **train_config):
    """10 updates an epoch, a checkpoint every 4."""
    return small_job.pipeline(path, path, train_config={"save_checkpoints_steps": 4, **train_config})


def interrupted(path, run_dir, steps=10):
    """A run that ended early, as if it had been stopped, without a bundle."""
    small_job.train(job_of(path, num_steps=steps), run_dir)
    (run_dir / "bundle" / "bundle.json").unlink()
    return run_dir


# Checkpoints that do not fit


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_truncated_checkpoint(tmp_path, path, name):
    run_dir = interrupted(path, tmp_path / "run")
    newest = latest(run_dir)
    file = newest / name
    file.write_bytes(file.read_bytes()[:-20])
    before = small_job.snapshot(run_dir)
    with pytest.raises(CheckpointError) as found:
        small_job.train(job_of(path), run_dir, resume=True)
    assert str(file) in str(found.value)
    if name != "state.json":
        size = file.stat().st_size
        assert f"{file} is damaged: it should have {size + 20} bytes. Received {size} bytes." in str(found.value)
    assert "Remove this checkpoint's folder to go on from the one before it." in str(found.value)
    assert small_job.snapshot(run_dir) == before
    # What the message advises helps, and the result is that of a run without the trouble.
    for left in newest.iterdir():
        left.unlink()
    newest.rmdir()
    small_job.train(job_of(path), run_dir, resume=True)
    small_job.train(job_of(path), tmp_path / "other")
    assert small_job.outcome(run_dir)[0] == small_job.outcome(tmp_path / "other")[0]


def test_garbled_checkpoint(tmp_path, path):
    run_dir = interrupted(path, tmp_path / "run")
    file = latest(run_dir) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is damaged: its digest is not the one in state\.json"
    ):
        small_job.train(job_of(path), run_dir, resume=True)


def test_checkpoint_of_another_model(tmp_path, path):
    run_dir = interrupted(path, tmp_path / "run")
    before = small_job.snapshot(run_dir)
    with pytest.raises(CheckpointError) as found:
        small_job.train(job_of(path), run_dir, ["model_config.deepfm.dnn.hidden_units=[9, 4]"], resume=True)
    text = str(found.value)
    assert f"The checkpoint {latest(run_dir)} is of another model" in text
    assert re.search(r"\(9, 20\) float32 here, \(8, 20\) float32 in the checkpoint", text)
    assert "Use the configuration that the run was started with" in text
    assert small_job.snapshot(run_dir) == before  # pipeline.yaml included


def test_checkpoint_of_other_data(tmp_path, path):
    run_dir = interrupted(path, tmp_path / "run")
    before = small_job.snapshot(run_dir)
    more = small_job.table(160)
    other = small_job.write_csv(tmp_path / "other.csv", more.with_columns(user=more["user"] + "x").extend(more))
    with pytest.raises(CheckpointError, match=r"was trained on features with another schema \(sizes, vocabularies"):
        small_job.train(job_of(other), run_dir, resume=True)
    assert small_job.snapshot(run_dir) == before


def test_checkpoint_of_another_version(tmp_path, path):
    run_dir = interrupted(path, tmp_path / "run")
    file = latest(run_dir) / "state.json"
    state = json.loads(file.read_text())
    state["format"], state["versions"]["intarsia"] = 99, "9.8"
    file.write_text(json.dumps(state))
    before = small_job.snapshot(run_dir)
    with pytest.raises(CheckpointError, match=r"reads checkpoints of format 1. Received format 99 .*written by 9\.8"):
        small_job.train(job_of(path), run_dir, resume=True)
    assert small_job.snapshot(run_dir) == before


def test_bundle_of_another_version_damaged_or_missing(tmp_path, path, capsys):
    small_job.train(job_of(path), tmp_path / "run")
    bundle = tmp_path / "run" / "bundle"
    about = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**about, "format": 99, "intarsia": "9.8"}))
    with pytest.raises(CheckpointError, match=r"has the bundle format 99, written by intarsia 9\.8\. .*reads format 1"):
        Recommender.load(tmp_path / "run")
    (bundle / "bundle.json").write_text(json.dumps(about))
    weights = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(weights[:-20])
    with pytest.raises(CheckpointError, match=r"model\.safetensors must hold the weights"):
        Recommender.load(tmp_path / "run")
    assert command(["evaluate", str(tmp_path / "run")]) == 4
    assert "Traceback" not in capsys.readouterr().err
    (bundle / "bundle.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no complete bundle \(bundle\.json is written last\)"):
        Recommender.load(tmp_path / "run")
    # The checkpoints are still there: going on with the finished run writes the bundle again.
    small_job.train(job_of(path), tmp_path / "run", resume=True)
    assert (bundle / "model.safetensors").read_bytes() == weights


# Full disks


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_while_saving_a_checkpoint(tmp_path, path, monkeypatch):
    write = checkpoint.write_tensors

    def write_until_full(tensors, target):
        if "step-00000008" in str(target) and target.name == "optimizer.safetensors":
            target.write_bytes(b"a piece")
            full()
        write(tensors, target)

    monkeypatch.setattr(checkpoint, "write_tensors", write_until_full)
    with pytest.raises(CheckpointError) as found:
        small_job.train(job_of(path), tmp_path / "run")
    kept = tmp_path / "run" / "checkpoints" / "step-00000004"
    text = str(found.value)
    assert re.search(r"The checkpoint of step 8 needs [\d.]+ KB of disk space .*no space left on device", text)
    assert f"The latest good one is {kept}. Free some space" in text
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    assert read_state(kept)["step"] == 4
    monkeypatch.undo()
    small_job.train(job_of(path), tmp_path / "run", resume=True)
    small_job.train(job_of(path), tmp_path / "other")
    assert small_job.outcome(tmp_path / "run") == small_job.outcome(tmp_path / "other")


@pytest.mark.parametrize("victim", ["write_text", "write_tensors", "write_json"])
def test_full_disk_while_saving_the_bundle(tmp_path, path, monkeypatch, victim):
    rec = intarsia.fit(job_of(path), run_dir=tmp_path / "run")
    before = small_job.snapshot(tmp_path / "run" / "bundle")
    scores = rec.score(small_job.table(20))
    other = intarsia.fit(job_of(path, seed=9), run_dir=tmp_path / "other")
    monkeypatch.setattr(bundles, victim, full)
    with pytest.raises(CheckpointError) as found:
        other.save(tmp_path / "run" / "bundle")
    bundle = tmp_path / "run" / "bundle"
    assert f"the bundle {bundle} could not be written: No space left on device. Free space" in str(found.value)
    assert small_job.snapshot(bundle) == before
    assert Recommender.load(tmp_path / "run").score(small_job.table(20)).equals(scores)
    monkeypatch.undo()
    other.save(bundle)
    assert small_job.snapshot(bundle) == small_job.snapshot(tmp_path / "other" / "bundle")


def test_full_disk_at_the_end_of_a_run(tmp_path, path, monkeypatch):
    monkeypatch.setattr(bundles, "write_tensors", full)
    with pytest.raises(CheckpointError, match="could not be written: No space left on device"):
        small_job.train(job_of(path), tmp_path / "run")
    assert latest(tmp_path / "run").name == "step-00000020"
    monkeypatch.undo()
    small_job.train(job_of(path), tmp_path / "run", resume=True)
    small_job.train(job_of(path), tmp_path / "other")
    assert small_job.outcome(tmp_path / "run") == small_job.outcome(tmp_path / "other")


# Numbers that are none


def test_loss_that_is_no_number(tmp_path, path, capsys):
    """The rate explodes after update 6; the checkpoint of step 4 is sound and stays."""
    job = job_of(path)
    del job["train_config"]["learning_rate"], job["train_config"]["optimizer"]
    rates = {
        "initial_learning_rate": 0.01,
        "schedule": [{"step": 6, "learning_rate": 1e30}],
    }
    job["train_config"]["optimizer"] = {"sgd": {"learning_rate": {"manual_step_learning_rate": rates}}}
    config = small_job.write_pipeline(tmp_path / "job.yaml", job)
    assert command(["train", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 5
    kept = tmp_path / "run" / "checkpoints" / "step-00000004"
    told = capsys.readouterr().err
    assert re.search(r"error: At step 8: the loss must be a finite number\. Received losses: .*= (nan|inf)", told)
    assert f"The last good checkpoint is {kept}. Lower the learning rate" in told
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    rates["schedule"][0]["learning_rate"] = 0.001
    fitted = small_job.train(job, tmp_path / "run", resume=True)
    assert fitted.result.steps == 20
    assert np.isfinite(fitted.evaluations["valid"].values["logloss"].value)


@pytest.mark.parametrize("clipping", [0.0, 1.0])
def test_extreme_feature(tmp_path, path, clipping):
    lines = small_job.with_cell(small_job.lines_of(small_job.table(160)), 9, "price", "1e30")
    extreme = small_job.write_lines(tmp_path / "extreme.csv", lines)
    job = small_job.pipeline(
        extreme, path, train_config={"save_checkpoints_steps": 1, "gradient_clipping_by_norm": clipping}
    )
    with pytest.raises(TrainingError) as found:
        small_job.train(job, tmp_path / "run")
    text = str(found.value)
    step = int(re.match(r"At step (\d+): the loss must be a finite number\. Received losses: cross_", text)[1])
    assert step > 1  # the shuffled rows put the bad one into a later batch
    kept = tmp_path / "run" / "checkpoints" / f"step-{step - 1:08d}"
    assert f"The last good checkpoint is {kept}. Lower the learning rate" in text
    assert "look for extreme values in the features and labels" in text
    assert latest(tmp_path / "run") == kept
    assert read_state(kept)["step"] == step - 1
    assert not (tmp_path / "run" / "bundle").exists()
    # With the value put right, the run goes on from there.
    small_job.train(small_job.pipeline(path, path), tmp_path / "run", resume=True)


def test_extreme_feature_of_the_evaluation_part(tmp_path, path):
    lines = small_job.with_cell(small_job.lines_of(small_job.table(160)), 9, "price", "1e30")
    extreme = small_job.write_lines(tmp_path / "extreme.csv", lines)
    with pytest.raises(TrainingError) as found:
        small_job.train(small_job.pipeline(path, extreme, train_config={"eval_steps": 5}), tmp_path / "run")
    text = str(found.value)
    assert "The evaluation after step 5 failed: predictions must be finite numbers. Received: 1 NaN" in text
    assert text.endswith("There is no checkpoint yet.")
