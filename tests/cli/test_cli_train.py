"""train, evaluate, predict, recommend: one way through the whole."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest


def test_training_tells_the_result_and_leaves_a_run(call, folder: Path, tmp_path: Path) -> None:
    said = call("train", folder / "pipeline.yaml", "--run-dir", tmp_path / "run", "data_config.num_epochs=1")
    assert said.code == 0, said.err
    assert "rows: train 420, valid 120, test 60" in said.out
    assert "auc" in said.out
    assert f"run folder: {tmp_path / 'run'}" in said.out
    assert "step 7 evaluation: auc" in said.err
    for name in ("pipeline.yaml", "result.json", "metrics.jsonl", "checkpoints", "bundle"):
        assert (tmp_path / "run" / name).exists()


def test_json_is_one_document_and_progress_stays_away(call, folder: Path, tmp_path: Path) -> None:
    said = call(
        "train", folder / "pipeline.yaml", "-o", tmp_path / "run", "--json", "--set", "data_config.num_epochs=1"
    )
    assert said.code == 0
    assert said.json["rows"] == {"train": 420, "valid": 120, "test": 60}
    assert set(said.json["metrics"]) == {"valid", "test"}
    assert "step" not in said.err


def test_a_used_run_folder_is_not_mixed(call, trained: Path, folder: Path) -> None:
    said = call("train", folder / "pipeline.yaml")
    assert said.code == 2
    assert "holds checkpoints of another run" in said.err
    assert "--overwrite" in said.err


def test_values_are_set_by_path(call, folder: Path, tmp_path: Path) -> None:
    said = call("train", folder / "pipeline.yaml", "-o", tmp_path / "r", "train_config.num_steps=3", "--json")
    assert said.json["steps"] == 3
    wrong = call("train", folder / "pipeline.yaml", "train_config.num_step=3")
    assert wrong.code == 2
    assert "num_steps" in wrong.err
    loose = call("train", folder / "pipeline.yaml", "fast")
    assert (loose.code, loose.err) == (2, "error: values are set as PATH=VALUE. Received: fast\n")


def test_all_errors_of_a_file_at_once(call, folder: Path, tmp_path: Path) -> None:
    text = (folder / "pipeline.yaml").read_text()
    text = text.replace("batch_size: 64", "batch_sise: 64").replace("model_class: DeepFM", "model_class: 7")
    (tmp_path / "wrong.yaml").write_text(text)
    said = call("train", tmp_path / "wrong.yaml")
    assert said.code == 2
    assert "2 problems" in said.err
    assert "wrong.yaml:8" in said.err
    assert "batch_size" in said.err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.yaml", "there is no such file"),
        ("DeepFM", "DeepFM --data ml-100k"),
        ("pipeline.txt", "a pipeline file ends in one of .config"),
    ],
)
def test_a_file_that_is_none(call, folder: Path, name: str, told: str) -> None:
    said = call("train", name if "." not in name else folder / name)
    assert said.code == 2
    assert told in said.err


def test_unknown_model_and_data_set(call) -> None:
    model = call("train", "DeepFN", "--data", "ml-100k")
    assert model.code == 2
    assert "Did you mean `DeepFM`?" in model.err
    data = call("train", "DeepFM", "--data", "ml-100")
    assert data.code == 3
    assert "Did you mean ml-100k or " in data.err


def test_missing_data_name_the_folder(call, folder: Path) -> None:
    said = call("train", folder / "pipeline.yaml", f"train_input_path={folder}/tabel.csv", "model_dir=/nowhere")
    assert said.code == 3
    assert "tabel.csv" in said.err
    assert "table.csv" in said.err


def test_evaluate_gives_the_numbers_of_training(call, trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    said = call("evaluate", trained, "--json")
    assert said.code == 0
    assert said.json["metrics"] == pytest.approx(result["metrics"]["test"], abs=1e-6)
    assert said.json["rows"] == 60


def test_evaluate_on_other_files(call, trained: Path, folder: Path, tmp_path: Path) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join(lines[:101]) + "\n")
    said = call("evaluate", trained, tmp_path / "some.csv")
    assert said.code == 0
    assert said.out.startswith("100 rows")
    (tmp_path / "less.csv").write_text("user,item\nu1,i1\n")
    less = call("evaluate", trained, tmp_path / "less.csv")
    assert less.code == 3
    assert "`price`" in less.err


def test_evaluate_without_a_run(call, tmp_path: Path) -> None:
    said = call("evaluate", tmp_path / "none")
    assert said.code == 4
    assert "does not exist" in said.err


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_predict_writes_a_row_a_row(call, trained: Path, folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"scores.{ending}"
    said = call("predict", trained, folder / "table.csv", "-o", out, "--keep", "user,item")
    assert said.code == 0, said.err
    frame = {"csv": pl.read_csv, "parquet": pl.read_parquet}.get(ending, lambda p: pl.read_csv(p, separator="\t"))(out)
    assert frame.columns[:2] == ["user", "item"]
    assert frame.height == 600
    assert frame["probs"].is_between(0, 1).all()
    # Even items are clicked seldom, odd ones often.
    odd = frame["item"].str.slice(1).cast(pl.Int64) % 2 == 1
    assert frame.filter(odd)["probs"].mean() > frame.filter(~odd)["probs"].mean()


def test_predictions_do_not_depend_on_the_batch_size(call, trained: Path, folder: Path, tmp_path: Path) -> None:
    whole, small = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert call("predict", trained, folder / "table.csv", "-o", whole).code == 0
    assert call("predict", trained, folder / "table.csv", "-o", small, "--batch-size", "7").code == 0
    difference = (pl.read_parquet(whole)["probs"] - pl.read_parquet(small)["probs"]).abs().max()
    assert difference < 1e-6


def test_predict_refuses_other_endings(call, trained: Path, folder: Path, tmp_path: Path) -> None:
    said = call("predict", trained, folder / "table.csv", "-o", tmp_path / "x.txt", "--json")
    assert said.code == 3
    assert ".csv, .tsv, .parquet" in said.json["error"]["message"]


def test_recommend_for_users_and_for_a_history(call, trained_log: Path) -> None:
    said = call("recommend", trained_log, "--user", "3", "-u", "4", "-k", "2", "--json")
    assert said.code == 0, said.err
    rows = said.json
    assert [row["user"] for row in rows] == ["3", "3", "4", "4"]
    assert [row["rank"] for row in rows] == [1, 2, 1, 2]
    assert rows[0]["score"] >= rows[1]["score"]
    history = call("recommend", trained_log, "--history", "m1, m3", "-k", "20", "--json").json
    assert {"m1", "m3"}.isdisjoint({row["item"] for row in history})
    assert len(history) == 13
    kept = call("recommend", trained_log, "--history", "m1,m3", "-k", "20", "--keep-seen", "--json").json
    assert len(kept) == 15
    only = call("recommend", trained_log, "--history", "m1", "--candidates", "m2,m5", "--json").json
    assert {row["item"] for row in only} == {"m2", "m5"}


def test_recommendations_as_a_table(call, trained_log: Path) -> None:
    said = call("recommend", trained_log, "--user", "3", "-k", "2")
    assert said.out.split()[:4] == ["user", "rank", "item", "score"]


def test_unknown_users_and_items(call, trained_log: Path) -> None:
    said = call("recommend", trained_log, "--user", "nobody")
    assert said.code == 3
    assert "nobody" in said.err
    told = call("recommend", trained_log, "--user", "nobody", "--on-unknown", "warn", "--json")
    assert told.code == 0
    assert told.json[0]["note"] == "unknown user"


def test_recommend_needs_a_log(call, trained: Path) -> None:
    said = call("recommend", trained, "--user", "u1")
    assert said.code == 3
    assert "interaction log" in said.err


def test_predicted_files_are_plain(call, trained: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    assert call("predict", trained, folder / "table.csv", "-o", out, "--json").json["columns"] == ["logits", "probs"]
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["logits", "probs"]
    assert len(rows) == 601
