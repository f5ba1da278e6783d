"""What must not change a result: the process, prefetching, the batch size of evaluation, kills, further processes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import small_job
from safetensors.numpy import load

from intarsia.training.checkpoint import latest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(config, run_dir, *options, **environment):
    """`intarsia train` in a process of its own."""
    command = [sys.executable, "-m", "intarsia", "train", str(config), "--run-dir", str(run_dir), "--quiet", *options]
    return subprocess.Popen(
        command, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    told, _ = process.communicate(timeout=small_job.SECONDS_FOR_A_PROCESS)
    assert process.returncode == 0, told


def kill_when(process, reached):
    """SIGKILL as soon as `reached` says so; the process must not have ended before."""
    limit = time.monotonic() + small_job.SECONDS_FOR_A_PROCESS
    while not reached():
        assert process.poll() is None, f"the run ended before it was killed: {process.stdout.read()}"
        assert time.monotonic() < limit
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def step_of(run_dir):
    folder = latest(run_dir)
    return -1 if folder is None else int(folder.name.removeprefix("step-"))


@pytest.fixture
def files(tmp_path):
    train = small_job.write_csv(tmp_path / "train.csv", small_job.table(400))
    return train, small_job.write_csv(tmp_path / "valid.csv", small_job.table(150, seed=1))


def test_same_seed_same_result_in_two_processes(tmp_path, files):
    job = small_job.pipeline(*files)
    process = start(small_job.write_pipeline(tmp_path / "job.yaml", job), tmp_path / "two", PYTHONHASHSEED="5")
    small_job.train(job, tmp_path / "one")
    finish(process)
    assert small_job.outcome(tmp_path / "one") == small_job.outcome(tmp_path / "two")
    other = small_job.pipeline(*files, train_config={"seed": 18})
    small_job.train(other, tmp_path / "three")
    assert small_job.outcome(tmp_path / "three")[0] != small_job.outcome(tmp_path / "one")[0]


def test_what_runs_beside_training_changes_nothing(tmp_path, files):
    """Prefetching, the cache of encoded columns (made, then used), logging, how often there are checkpoints."""
    small_job.train(small_job.pipeline(*files, data={"prefetch_size": 0}), tmp_path / "plain")
    expected = small_job.outcome(tmp_path / "plain")
    cached = {"use_cache": True, "cache_dir": str(tmp_path / "cache")}
    variants = {
        "ahead": {"data": {"prefetch_size": 3}},
        "cache made": {"data": cached},
        "cache used": {"data": cached},
        "logs": {"train_config": {"log_step_count_steps": 1, "save_checkpoints_steps": 7, "eval_steps": 4}},
    }
    for name, options in variants.items():
        small_job.train(small_job.pipeline(*files, **options), tmp_path / name)
        weights, metrics, steps, _ = small_job.outcome(tmp_path / name)
        assert (weights, metrics, steps) == expected[:3], name
    assert len(list((tmp_path / "cache").iterdir())) == 3  # two parts and the features


def test_cache_notices_changed_files(tmp_path, files):
    job = small_job.pipeline(*files, data={"use_cache": True, "cache_dir": str(tmp_path / "cache")})
    small_job.train(job, tmp_path / "first")
    changed = small_job.with_cell(small_job.lines_of(small_job.table(400)), 5, "price", "0.1234")
    small_job.write_lines(files[0], changed)
    os.utime(files[0], ns=(1, 1))
    small_job.train(job, tmp_path / "second")
    job["data_config"]["use_cache"] = False
    small_job.train(job, tmp_path / "fresh")
    assert small_job.outcome(tmp_path / "second") == small_job.outcome(tmp_path / "fresh")
    assert small_job.outcome(tmp_path / "first") != small_job.outcome(tmp_path / "fresh")


def test_batch_size_of_the_evaluation_changes_no_metric(tmp_path, files):
    metrics = {}
    for size in (2, 7, 64, 4096):
        small_job.train(small_job.pipeline(*files, data={"eval_batch_size": size}), tmp_path / str(size))
        weights, found, *_ = small_job.outcome(tmp_path / str(size))
        metrics[size] = found["valid"]
        assert weights == small_job.outcome(tmp_path / "2")[0]
    for size in (7, 64, 4096):
        assert metrics[size]["auc"] == pytest.approx(metrics[2]["auc"], abs=1e-9)
        assert metrics[size]["logloss"] == pytest.approx(metrics[2]["logloss"], rel=1e-6)


def long_job(folder, files, kind):
    """450 updates with dropout, batch normalization, embeddings, a sequence, an average of the weights."""
    optimizer = [
        {"adagrad_optimizer": {"learning_rate": 0.05}},
        {"adam_optimizer": {"learning_rate": 0.01}, "use_moving_average": True, "moving_average_decay": 0.9},
    ]
    data = {}
    if kind == "stream":
        data = {"input_type": "ParquetInput", "streaming": True, "shuffle_buffer_size": 3}
        files = [folder / "train.parquet", folder / "valid.parquet"]
        small_job.table(400).write_parquet(files[0], row_group_size=30)
        small_job.table(150, seed=1).write_parquet(files[1])
    job = small_job.pipeline(*files, data=data)
    job["train_config"] = {
        "num_epochs": 18,
        "save_checkpoints_steps": 7,
        "keep_checkpoint_max": 2,
        "optimizer_config": optimizer,
        "gradient_clipping_by_norm": 1.0,
        "device": "cpu",
    }
    job["export_config"] = {"exporter_type": "best", "best_exporter_metric": "logloss", "metric_bigger": False}
    return job


@pytest.mark.parametrize("kind", ["csv", pytest.param("stream", marks=pytest.mark.long)])
def test_killed_at_three_points_and_resumed(tmp_path, files, kind):
    """SIGKILL before the first checkpoint, soon after, and late; each time the next process goes on."""
    job = long_job(tmp_path, files, kind)
    config = small_job.write_pipeline(tmp_path / "job.yaml", job)
    run_dir = tmp_path / "killed"
    process = start(config, run_dir)
    fitted = small_job.train(job, tmp_path / "whole")
    assert fitted.result.steps == 450
    kill_when(process, lambda: (run_dir / "pipeline.yaml").exists())
    seen = []
    for least in (60, 250):
        process = start(config, run_dir, "--resume")
        kill_when(process, lambda least=least: step_of(run_dir) >= least)
        seen.append(step_of(run_dir))
        assert not (run_dir / "result.json").exists()
    assert 60 <= seen[0] <= seen[1] < 450
    finish(start(config, run_dir, "--resume"))
    assert small_job.outcome(run_dir) == small_job.outcome(tmp_path / "whole")
    assert latest(run_dir).name == latest(tmp_path / "whole").name == "step-00000450"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (latest(run_dir) / name).read_bytes() == (latest(tmp_path / "whole") / name).read_bytes()
    assert small_job.losses(run_dir) == small_job.losses(tmp_path / "whole")


def test_two_processes_equal_one(tmp_path, files):
    """Data parallel over gloo: without batch normalization and dropout, the weights agree up to rounding."""
    job = small_job.pipeline(*files, use_bn=False, dropout=0.0, train_config={"optimizer": "sgd", "learning_rate": 0.1})
    config = small_job.write_pipeline(tmp_path / "job.yaml", job)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*launcher, "-m", "intarsia", "train", str(config), "--run-dir", str(tmp_path / "two"), "--quiet"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    small_job.train(job, tmp_path / "one")
    finish(process)
    one, two = small_job.outcome(tmp_path / "one"), small_job.outcome(tmp_path / "two")
    assert one[2:] == two[2:]
    for name, tensor in load(one[0]).items():
        np.testing.assert_allclose(load(two[0])[name], tensor, atol=1e-5, err_msg=name)
    for name, value in one[1]["valid"].items():
        assert two[1]["valid"][name] == pytest.approx(value, abs=1e-5)
    initial = small_job.train(small_job.pipeline(*files, use_bn=False, dropout=0.0), tmp_path / "other")
    assert initial.recommender.metrics["valid"] != one[1]["valid"]  # a comparison that could fail


# The saved pipeline


PIPELINES = {
    "shorthands": {},
    "early stop": {
        "train_config": {"num_epochs": 6, "early_stop": {"metric": "logloss", "patience": 1}, "eval_steps": 5},
        "export_config": {"exporter_type": "best"},
    },
    "written out": {
        "train_config": {
            "optimizer": None,
            "learning_rate": None,
            "optimizer_config": [{"adam_optimizer": {"learning_rate": {"exponential_decay_learning_rate": {}}}}],
            "num_steps": 30,
            "num_epochs": None,
        },
        "export_config": {"enable_early_stop": True, "max_check_steps": 5, "exporter_type": "best"},
    },
}


@pytest.mark.parametrize("name", PIPELINES)
def test_saved_pipeline_gives_the_same_result_again(tmp_path, files, name):
    job = small_job.pipeline(*files, **PIPELINES[name])
    job["train_config"] = {k: v for k, v in job["train_config"].items() if v is not None}
    # Options whose meaning depends on whether they are written at all.
    features = job["feature_config"]["features"]
    features[4] |= {"min_val": 2.0}
    features.append(
        {
            "feature_name": "sizes",
            "input_names": ["tags"],
            "feature_type": "SequenceFeature",
            "sub_feature_type": "RawFeature",
            "embedding_dim": 4,
            "sequence_combiner": {"attention": {}},
        }
    )
    for path in files:
        lines = path.read_text().splitlines()
        changed = [small_job.with_cell([line], 1, "tags", "|".join("123"[: k % 4])) for k, line in enumerate(lines[1:])]
        small_job.write_lines(path, [lines[0], *(line for (line,) in changed)])
    small_job.train(job, tmp_path / "first")
    small_job.train(tmp_path / "first" / "pipeline.yaml", tmp_path / "second")
    assert small_job.outcome(tmp_path / "second") == small_job.outcome(tmp_path / "first")
    saved = [(tmp_path / name / "pipeline.yaml").read_text() for name in ("first", "second")]
    assert saved[0] == saved[1]
    assert json.loads((tmp_path / "first" / "result.json").read_text())["metrics"]["valid"]["auc"] is not None
