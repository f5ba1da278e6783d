from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Call, run

PIPELINE = """
train_input_path: {folder}/log.csv
model_dir: {folder}/{name}
data_config:
  with_header: true
  log: {{user_field: user, item_field: item, rating_field: stars, time_field: at, positive_rating: 4}}
  split: {{by: leave_one_out{split}}}
  batch_size: 64
  num_epochs: 1
model_config: {{model_class: {model}}}
eval_config: {{metrics: [hit_rate@3, ndcg@3, coverage@3], protocol: {{filter_seen: {seen}}}}}
"""


@pytest.fixture(scope="session")
def runs(folder: Path) -> dict[str, Path]:
    """Finished runs that rank a catalogue."""
    out = {}
    for name, model, split, seen in (
        ("pop", "Pop", "", "true"),
        ("mf", "MF", "", "true"),
        ("other", "Pop", ", valid: 0", "true"),
        ("seen", "Pop", "", "false"),
    ):
        pipeline = folder / f"{name}.yaml"
        text = PIPELINE.format(folder=folder, name=name, model=model, split=split, seen=seen)
        pipeline.write_text(text, encoding="utf-8")
        assert run(["train", str(pipeline), "--quiet"]) == 0
        out[name] = folder / name
    return out


def test_two_runs_are_shown_side_by_side(runs: dict[str, Path], call: Call) -> None:
    said = call("compare", runs["pop"], runs["mf"])
    assert said.code == 0, said.err
    head, names, *rows = said.out.splitlines()
    assert head == "test: 20 queries; differences are to pop"
    assert " ".join(names.split()) == "metric run model value 95% interval difference its 95% interval p"
    assert [row.split()[:3] for row in rows[::2]] == [
        ["hit_rate@3", "pop", "Pop"],
        ["ndcg@3", "pop", "Pop"],
        ["coverage@3", "pop", "Pop"],
    ]
    assert [row.split()[:2] for row in rows[1::2]] == [["mf", "MF"]] * 3
    cells = rows[3].split()  # mf MF value low to high difference low to high p
    assert float(cells[3]) < float(cells[2]) < float(cells[5])
    assert float(cells[7]) < float(cells[6]) < float(cells[9])
    assert rows[5].split()[-2:] == ["-", "-"]  # coverage is one number of all users


def test_the_document_holds_what_the_table_shows(runs: dict[str, Path], call: Call) -> None:
    told = call("compare", runs["pop"], runs["mf"], "-m", "ndcg@3", "--confidence", "0.9", "--json").json
    assert (told["runs"], told["models"], told["confidence"]) == (["pop", "mf"], ["Pop", "MF"], 0.9)
    (metric,) = told["metrics"]
    first, second = metric["runs"]
    assert metric["name"] == "ndcg@3"
    assert first["difference"] is None
    assert second["difference"] == pytest.approx(second["value"] - first["value"], abs=1e-6)
    assert 0 <= second["p_value"] <= 1
    assert (second["num_pairs"], told["image"]) == (20, None)


def test_the_validation_part_can_be_compared(runs: dict[str, Path], call: Call) -> None:
    assert call("compare", runs["pop"], runs["mf"], "--part", "valid").out.startswith("valid: 20 queries")
    said = call("compare", runs["pop"], runs["other"], "--part", "valid")
    assert said.code == 3
    assert "has no metrics of the part valid. Received: the parts test. Compare by test." in said.err


def test_a_picture_is_drawn(runs: dict[str, Path], call: Call, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = call("compare", runs["pop"], runs["mf"], "--image", tmp_path / "compared.svg")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == f"drawn: {tmp_path}/compared.svg"
    assert "<!-- ndcg@3" in (tmp_path / "compared.svg").read_text(encoding="utf-8")
    wrong = call("compare", runs["pop"], runs["mf"], "--image", "compared.txt")
    assert wrong.code == 2
    assert "a picture ends in .svg, .png, .pdf. Received: compared.txt" in wrong.err


def test_runs_that_differ_in_more_than_the_model_are_refused(runs: dict[str, Path], call: Call) -> None:
    split = call("compare", runs["pop"], runs["other"])
    assert split.code == 3
    assert "Received: pop and other with split leave_one_out" in split.err
    seen = call("compare", runs["pop"], runs["seen"])
    assert seen.code == 3
    assert "Received: pop and seen with filter_seen True and False" in seen.err


def test_runs_of_rows_are_compared_without_a_test(trained: Path, folder: Path, call: Call) -> None:
    assert run(["train", str(folder / "pipeline.yaml"), "--quiet", "--run-dir", str(folder / "again")]) == 0
    said = call("compare", trained, folder / "again")
    assert said.code == 0, said.err
    assert said.out.splitlines()[1].split() == ["metric", "run", "model", "value", "difference"]
    assert "note: models of rows keep no metric of each row" in said.out


def test_a_run_that_ranks_and_one_of_rows_are_not_compared(runs: dict[str, Path], trained: Path, call: Call) -> None:
    said = call("compare", trained, runs["pop"])
    assert said.code == 3
    assert "Received: pop, which ranks a catalogue and keeps the metrics of every query, and run, which" in said.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["compare"], 2, "runs"),
        (["compare", "nowhere", "neither"], 4, "nowhere is no finished run: there is no such folder"),
        (["compare", "nowhere"], 2, "needs two run folders or more. Received: 1"),
        (["compare", "a", "b", "--part", "train"], 2, "train"),
        (["compare", "a", "b", "--confidence", "1"], 2, "confidence must lie between 0 and 1"),
    ],
)
def test_wrong_words_are_explained(words: list[str], code: int, told: str, call: Call) -> None:
    said = call(*words)
    assert said.code == code
    assert told in said.err


def test_a_run_that_starts_anew_leaves_nothing_of_the_old_one(runs: dict[str, Path], folder: Path, call: Call) -> None:
    where = ["--run-dir", folder / "anew", "--quiet"]
    assert call("train", folder / "pop.yaml", *where).code == 0
    assert (folder / "anew" / "evaluation_valid.json").exists()
    assert call("train", folder / "other.yaml", *where, "--overwrite").code == 0
    assert sorted(path.name for path in (folder / "anew").glob("evaluation_*")) == [
        "evaluation_test.json",
        "evaluation_test.parquet",
    ]
