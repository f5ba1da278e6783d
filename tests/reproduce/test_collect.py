from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "reproduce"


@pytest.fixture
def collect():
    spec = importlib.util.spec_from_file_location("collect", FOLDER / "collect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_shows_the_committed_results(collect):
    text = (FOLDER / "README.md").read_text()
    assert collect.filled(text, collect.table(FOLDER / "results", collect_published())) == text
    for path in (FOLDER / "results").glob("*.json"):
        note = json.loads(path.read_text())
        assert (FOLDER / f"{note['pipeline']}.yaml").exists()
        for metric in collect_published()[note["pipeline"]]["metrics"]:
            assert f"{note['metrics']['test'][metric]:.4f}" in text


def test_a_line_by_hand(collect, tmp_path):
    metrics = {"valid": {"auc": 0.5}, "test": {"auc": 0.98765, "logloss": 0.1}}
    costs = {"epochs": 3, "seconds": 9.6, "threads": 2, "peak_mib": 700}
    for seed in (12, 3):
        note = {"pipeline": "p", "seed": seed, "metrics": metrics, **costs}
        (tmp_path / f"p_seed{seed}.json").write_text(json.dumps(note))
    published = {"p": {"protocol": "X", "model": "M", "metrics": {"auc": 0.9, "logloss": 0.25}}}
    lines = collect.table(tmp_path, published).splitlines()
    assert lines[2] == "| X | M | `p` | 3 | auc | 0.9877 | 0.9000 |  | 0.5000 | 3 | 10 | 2 | 700 |"
    assert lines[3] == "|  |  |  |  | logloss | 0.1000 | 0.2500 |  |  |  |  |  |  |"
    assert len(lines) == 6
    assert "| 12 |" in lines[4]
    published["p"]["bars"] = {"auc": 0.99, "logloss": 0.05}
    lines = collect.table(tmp_path, published).splitlines()
    assert "| 0.9900 (missed) |" in lines[2]
    assert "| 0.0500 (missed) |" in lines[3]
    with pytest.raises(SystemExit, match=r"README.md must hold the lines"):
        collect.filled("no table", "x")


def collect_published():
    return json.loads((FOLDER / "published.json").read_text())
