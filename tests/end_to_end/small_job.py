"""A small click prediction with every common kind of column, as files and as a pipeline."""

import copy
import json
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import load_pipeline, pipeline_from

NAMES = ["clk", "user", "item", "tags", "seen", "price"]
SECONDS_FOR_A_PROCESS = 120

FIELDS = [
    {"input_name": "clk", "input_type": "FLOAT"},
    {"input_name": "user"},
    {"input_name": "item", "input_type": "INT64"},
    {"input_name": "tags"},
    {"input_name": "seen"},
    {"input_name": "price", "input_type": "DOUBLE"},
]
FEATURES = [
    {"input_names": ["user"], "vocab": "auto", "embedding_dim": 4},
    {"input_names": ["item"], "num_buckets": 12, "embedding_dim": 4},
    {"input_names": ["tags"], "feature_type": "TagFeature", "hash_bucket_size": 20, "embedding_dim": 4},
    {
        "input_names": ["seen"],
        "feature_type": "SequenceFeature",
        "hash_bucket_size": 12,
        "embedding_dim": 4,
        "max_seq_len": 3,
        "sequence_combiner": {"attention": {}},
    },
    {"input_names": ["price"], "feature_type": "RawFeature", "embedding_dim": 4},
]


def table(num_rows=200, seed=0, lists=False):
    """Rows; a click depends on user and item. Some tags and histories are empty."""
    draw = np.random.default_rng(seed)
    user, item = draw.integers(0, 8, num_rows), draw.integers(0, 12, num_rows)
    tags = [[f"t{j}" for j in range(k % 4)] for k in item]
    seen = [[f"i{(k + j) % 12}" for j in range(k % 5)] for k in user]
    return pl.DataFrame(
        {
            "clk": ((user + item) % 3 == 0).astype(np.float32),
            "user": [f"u{k}" for k in user],
            "item": item,
            "tags": tags if lists else ["|".join(cell) for cell in tags],
            "seen": seen if lists else ["|".join(cell) for cell in seen],
            "price": draw.normal(size=num_rows).round(4),
        }
    )


def lines_of(frame):
    """The frame as lines of delimited text, header first."""
    return [",".join(NAMES), *(",".join(map(str, row)) for row in frame.rows())]


def write_lines(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_csv(path, frame):
    return write_lines(path, lines_of(frame))


def with_cell(lines, line, column, value):
    """The lines with another value in a cell; lines count from 1."""
    cells = lines[line - 1].split(",")
    cells[NAMES.index(column)] = value
    return [*lines[: line - 1], ",".join(cells), *lines[line:]]


def pipeline(train, valid=None, *, data=None, train_config=None, use_bn=True, dropout=0.2, **more):
    """A DeepFM on the files, as a mapping."""
    names = [feature["input_names"][0] for feature in FEATURES]
    job = {
        "data_config": {
            "with_header": True,
            "input_fields": FIELDS,
            "label_fields": ["clk"],
            "batch_size": 16,
            "use_cache": False,
            **(data or {}),
        },
        "feature_config": {"features": FEATURES},
        "model_config": {
            "model_class": "DeepFM",
            "feature_groups": [
                {"group_name": "wide", "feature_names": names, "wide_deep": "WIDE"},
                {"group_name": "deep", "feature_names": names},
            ],
            "deepfm": {"dnn": {"hidden_units": [8, 4], "dropout_ratio": [dropout, dropout], "use_bn": use_bn}},
            "embedding_regularization": 1e-4,
        },
        "train_config": {
            "num_epochs": 2,
            "save_checkpoints_steps": 10,
            "optimizer": "adam",
            "learning_rate": 0.01,
            "device": "cpu",
            **(train_config or {}),
        },
        "eval_config": {"metrics_set": ["auc", "logloss"]},
        **more,
    }
    if train is not None:
        job["train_input_path"] = str(train)
    if valid is not None:
        job["eval_input_path"] = str(valid)
    return copy.deepcopy(job)


def train(job, run_dir, overrides=(), **options):
    """Runs a pipeline, a mapping or a file, in this process."""
    loaded = load_pipeline(job, overrides) if isinstance(job, Path) else pipeline_from(job, overrides)
    return run(loaded, run_dir=run_dir, **options)


def write_pipeline(path, job):
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def outcome(run_dir):
    """What a run gives: the bytes of its weights, and the metrics and steps of result.json."""
    run_dir = Path(run_dir)
    result = json.loads((run_dir / "result.json").read_text())
    weights = (run_dir / "bundle" / "model.safetensors").read_bytes()
    return weights, result["metrics"], result["steps"], result["best_step"]


def losses(run_dir):
    """The losses of the log, by step."""
    lines = [json.loads(line) for line in (Path(run_dir) / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in lines if row["kind"] == "train"}


def snapshot(folder):
    """Every file below a folder, by its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}
