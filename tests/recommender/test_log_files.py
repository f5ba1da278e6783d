"""A bundle opens the files of its log again, as it found them when it was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from retrieval_contract import planted_log

import intarsia
from intarsia.recommender.recommender import Recommender


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_a_bundle_evaluates_on_the_files_of_its_log_whatever_separates_their_cells(
    tmp_path: Path, separator: str
) -> None:
    planted_log().write_csv(tmp_path / "log.csv", separator=separator)
    fitted = intarsia.fit(
        {
            "train_input_path": str(tmp_path / "log.csv"),
            "data_config": {
                "log": {"user_field": "user", "item_field": "item", "time_field": "time"},
                "split": "leave_one_out",
            },
            "model_config": {"model_class": "EASE", "ease": {"l2": 20.0}},
            "eval_config": {"metrics": ["ndcg@10"]},
        },
        run_dir=tmp_path / "run",
    )
    found = Recommender.load(tmp_path / "run").evaluate()
    assert found.values["ndcg@10"].value == fitted.metrics["test"]["ndcg@10"]


def test_validation_of_strangers_sees_what_the_model_needs_for_them(tmp_path: Path) -> None:
    """Other users are the validation part: a net that knows its users must be told whom they are like."""
    fitted = intarsia.fit(
        {
            "data_config": {
                "log": {"user_field": "user", "item_field": "item", "time_field": "time"},
                "split": {"by": "user", "valid": 0.2, "test": 0.2, "input_share": 0.8},
                "batch_size": 64,
            },
            "model_config": {
                "model_class": "NCFMLP",
                "ncf_mlp": {"hidden_size": 16, "hidden_units": [16, 8]},
            },
            "train_config": {
                "optimizer": {"adam_optimizer": {"learning_rate": 0.01}},
                "num_epochs": 15,
                "eval_epochs": 5,
                "save_checkpoints_steps": 0,
            },
            "eval_config": {"metrics": ["hit_rate@24"]},
        },
        data=planted_log(),
        run_dir=tmp_path / "run",
    )
    during = [entry["hit_rate@24"] for entry in _evaluations(tmp_path / "run")]
    assert during[-1] == pytest.approx(fitted.metrics["valid"]["hit_rate@24"] or 0.0)
    assert during[-1] > 0.6


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "eval"]
