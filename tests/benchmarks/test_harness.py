"""Running contenders in turn, and judging what they tell."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

PROGRAM = """
import time
from report import Report

report = Report("numpy")
with report.phase("fit"):
    time.sleep(0.01)
before = (report.data / "rounds").read_text() if (report.data / "rounds").exists() else ""
(report.data / "rounds").write_text(before + report.options["name"])
if report.options["name"] == "c":
    raise SystemExit("no memory left")
block = bytearray(int(report.options["mib"]) << 20)
report.figures["fit"] = float(report.options["seconds"])
report.notes.append(f"{report.threads} threads")
report.write()
"""


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("harness")


@pytest.fixture
def job(harness, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def contender(name, seconds, mib=1, rounds=0, peer=""):
        options = {"name": name[0], "seconds": seconds, "mib": mib}
        return harness.Contender(name, str(program), peer, options, rounds)

    return harness.Job(
        name="job",
        title="A job",
        setting="nothing is done",
        contenders=(
            contender("intarsia", 2.0),
            contender("a", 8.0, mib=200),
            contender("b", 6.0, rounds=1),
            contender("c", 1.0),
            contender("nobody", 0.1, peer="not set up"),
        ),
        show={"fit": "s", "peak MiB": ""},
        bars=(
            harness.Bar("fit", least=3.0),
            harness.Bar("fit", least=4.5, against=("a",)),
            harness.Bar("fit", limit=2.5),
            harness.Bar("fit", limit=2.5, more=True),
            harness.Bar("unknown", least=1.0),
        ),
        prepare=lambda data_dir, folder: None,
    )


def test_rounds_are_taken_in_turn_and_judged(harness, job, tmp_path, capsys, monkeypatch):
    seen = []
    once = harness.run_once
    monkeypatch.setattr(harness, "run_once", lambda job, c, *rest: (seen.append(c.name), once(job, c, *rest))[1])
    record = harness.run_job(job, tmp_path, rounds=2, threads=1)
    assert seen == ["intarsia", "a", "b", "c", "intarsia", "a"]  # b takes part once, c has failed
    assert record["failed"] == ["c"]
    assert record["missing"] == ["nobody"]
    assert "no memory left" in capsys.readouterr().err
    assert record["contenders"]["a"]["figures"]["fit"] == [8.0, 8.0]
    assert record["contenders"]["a"]["notes"] == ["1 threads"]
    peaks = {name: told["figures"]["peak MiB"][0] for name, told in record["contenders"].items()}
    assert peaks["a"] > peaks["b"] + 150
    assert [bar["value"] for bar in record["bars"]] == [3.0, 4.0, 2.0, 2.0, None]
    assert [bar["met"] for bar in record["bars"]] == [True, False, True, False, None]
    assert record["bars"][0]["peer"] == "b"
    told = harness.table(record)
    assert "| intarsia | 2 |" in told
    assert f"| a {np.__version__} | 8 |" in told
    assert harness.verdict(record["bars"][0]) == "fit 3 times better than every peer: met, 3 (3 to 3) against b"
    assert harness.verdict(record["bars"][1]) == "fit 4.5 times better than a: MISSED, 4 (4 to 4)"
    assert harness.verdict(record["bars"][3]) == "fit at least 2.5: MISSED, 2 (2 to 2)"
    assert harness.verdict(record["bars"][4]).endswith(": not measured")


def test_more_is_better(harness):
    told = {
        "intarsia": [{"figures": {"rows/s": 10.0}}, {"figures": {"rows/s": 30.0}}],
        "slow": [{"figures": {"rows/s": 5.0}}, {"figures": {"rows/s": 10.0}}],
    }
    found = harness.judged(harness.Bar("rows/s", least=2.0, more=True), told)
    assert found == {"value": 2.5, "low": 2.0, "high": 3.0, "peer": "slow", "met": True}


def test_lists_are_judged_by_hand(harness, tmp_path):
    logs = importlib.import_module("jobs.logs")
    train = np.array([0, 1, 2]), np.array([0, 0, 0])
    test = np.array([0, 0, 1]), np.array([1, 2, 3])  # user 2 has no targets
    logs.save(tmp_path, train, test, 5)
    assert logs.judge_lists(tmp_path, tmp_path) == {}
    np.save(tmp_path / "lists.npy", np.array([[1, 4], [4, -1], [1, 2]]))
    found = logs.judge_lists(tmp_path, tmp_path)
    assert found["recall@2"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["ndcg@2"] == pytest.approx((1 / (1 + 1 / np.log2(3))) / 2)


def test_the_page_tells_what_the_records_say(harness):
    collect = importlib.import_module("collect")
    text = collect.PAGE.read_text(encoding="utf-8")
    before = text.partition(collect.BEGIN)[2].partition(collect.END)[0]
    assert before.strip() == collect.page().strip()
