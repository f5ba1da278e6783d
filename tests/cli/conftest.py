"""A tiny table and a tiny log, and what the commands make of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from intarsia.cli.main import run

PIPELINE = """
train_input_path: {folder}/table.csv
model_dir: {folder}/run
data_config:
  separator: ","
  with_header: true
  label_fields: [clicked]
  batch_size: 64
  num_epochs: 2
  split: {{by: random, valid: 0.2, test: 0.1}}
feature_config:
  features:
  - {{input_names: [user], hash_bucket_size: 40, embedding_dim: 4}}
  - {{input_names: [item], vocab: auto, embedding_dim: 4}}
  - {{input_names: [price], feature_type: RawFeature, boundaries: [10, 20, 40], embedding_dim: 4}}
  - {{input_names: [tags], feature_type: TagFeature, vocab: auto, embedding_dim: 4}}
  - input_names: [recent]
    feature_type: SequenceFeature
    separator: ";"
    vocab: auto
    max_seq_len: 3
    embedding_dim: 4
    sequence_combiner: {{attention: {{}}}}
model_config:
  model_class: DeepFM
  feature_groups:
  - {{group_name: wide, feature_names: ['*'], wide_deep: WIDE}}
  - {{group_name: deep, feature_names: ['*']}}
  deepfm: {{dnn: {{hidden_units: [8]}}}}
eval_config:
  metrics_set: [auc, logloss]
"""

LOG_PIPELINE = """
train_input_path: {folder}/log.csv
model_dir: {folder}/log_run
data_config:
  with_header: true
  log: {{user_field: user, item_field: item, rating_field: stars, time_field: at, positive_rating: 4}}
  split: {{by: time, valid: 0.1, test: 0.1}}
  batch_size: 64
  num_epochs: 1
feature_config:
  features:
  - {{input_names: [user], vocab: auto, embedding_dim: 4}}
  - {{input_names: [item], vocab: auto, embedding_dim: 4, embedding_name: item}}
  - input_names: [history]
    feature_type: SequenceFeature
    vocab: auto
    embedding_dim: 4
    embedding_name: item
    sequence_combiner: {{attention: {{}}}}
model_config:
  model_class: DeepFM
  feature_groups:
  - {{group_name: wide, feature_names: ['*'], wide_deep: WIDE}}
  - {{group_name: deep, feature_names: ['*']}}
  deepfm: {{dnn: {{hidden_units: [8]}}}}
"""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTARSIA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("INTARSIA_DATA", str(tmp_path_factory.mktemp("datasets")))
        yield


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process."""

    def answer(*words: str | Path) -> Said:
        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return answer


def write_table(path: Path, rows: int = 600, seed: int = 3) -> None:
    rng = random.Random(seed)
    lines = ["user,item,price,tags,recent,clicked"]
    for _ in range(rows):
        item = rng.randrange(12)
        price = "" if rng.random() < 0.05 else f"{rng.lognormvariate(3, 0.7):.2f}"
        tags = "|".join(rng.sample(["red", "blue", "sale"], rng.randrange(3)))
        recent = ";".join(f"i{rng.randrange(12)}" for _ in range(rng.randrange(5)))
        clicked = int(rng.random() < (0.8 if item % 2 else 0.2))
        lines.append(f"u{rng.randrange(30)},i{item},{price},{tags},{recent},{clicked}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_log(path: Path) -> None:
    rng = random.Random(5)
    lines = ["user,item,stars,at"]
    for moment in range(500):
        user = rng.randrange(20)
        item = rng.randrange(15)
        stars = 5 if (user + item) % 2 else 2
        lines.append(f"{user},m{item},{stars},{moment}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `table.csv`, `pipeline.yaml`, `log.csv`, `log.yaml`."""
    made = tmp_path_factory.mktemp("work")
    write_table(made / "table.csv")
    write_log(made / "log.csv")
    (made / "pipeline.yaml").write_text(PIPELINE.format(folder=made), encoding="utf-8")
    (made / "log.yaml").write_text(LOG_PIPELINE.format(folder=made), encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def trained(folder: Path) -> Path:
    """A finished run on the table."""
    assert run(["train", str(folder / "pipeline.yaml"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def trained_log(folder: Path) -> Path:
    """A finished run on the log."""
    assert run(["train", str(folder / "log.yaml"), "--quiet"]) == 0
    return folder / "log_run"
