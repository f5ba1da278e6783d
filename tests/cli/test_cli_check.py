"""check: what it counts, what it warns of, and its exit codes."""

import random
from pathlib import Path

import pytest

PIPELINE = """
train_input_path: {folder}/train.csv
eval_input_path: {folder}/valid.csv
data_config: {{with_header: true, label_fields: [y], batch_size: 10}}
feature_config:
  features:
  - {{input_names: [user], hash_bucket_size: 10, embedding_dim: 4}}
  - {{input_names: [same], vocab: auto, embedding_dim: 4}}
  - {{input_names: [amount], feature_type: RawFeature}}
  - input_names: [steps]
    feature_type: SequenceFeature
    vocab: auto
    max_seq_len: 2
    embedding_dim: 4
    sequence_combiner: {{attention: {{}}}}
  - {{input_names: [words], feature_type: TagFeature, separator: ';', vocab: auto, embedding_dim: 4}}
  - {{input_names: [idle], num_buckets: 5, embedding_dim: 4}}
model_config:
  model_class: RankModel
  feature_groups: [{{group_name: all, feature_names: [user, same, amount, steps, words]}}]
  backbone:
    blocks:
    - {{name: dense, inputs: [{{feature_group_name: all}}], layer: {{class_name: Dense, st_params: {{units: 1}}}}}}
"""


def write(path: Path, rows: list[str]) -> None:
    path.write_text("user,same,amount,steps,words,idle,y\n" + "\n".join(rows) + "\n")


def made(first: int, count: int) -> list[str]:
    rng = random.Random(first)
    rows = []
    for n in range(first, first + count):
        amount = "" if n % 10 == 0 else str(1000 + n)
        rows.append(
            f"u{n},x,{amount},{'|'.join(['a', 'b', 'c', 'd'][: n % 5])},one two,{n % 5},{int(rng.random() < 0.4)}"
        )
    return rows


@pytest.fixture
def place(tmp_path: Path) -> Path:
    train = made(0, 100)
    write(tmp_path / "train.csv", train)
    write(tmp_path / "valid.csv", made(80, 60)[20:] + train[:10])
    (tmp_path / "p.yaml").write_text(PIPELINE.format(folder=tmp_path))
    return tmp_path


def found(report: dict, level: str) -> str:
    return "\n".join(f["message"] for f in report["findings"] if f["level"] == level)


def test_what_is_counted(call, place: Path) -> None:
    said = call("check", place / "p.yaml", "--json")
    assert said.code == 0, said.err
    report = said.json
    assert report["rows"] == {"train": 100, "valid": 50}
    columns = {column["name"]: column for column in report["columns"]}
    assert set(columns) == {"user", "same", "amount", "steps", "words", "idle", "y"}
    assert columns["amount"]["missing"] == 10
    assert columns["user"]["distinct"] == 100
    features = {feature["name"]: feature for feature in report["features"]}
    assert features["user"]["distinct"] == 100
    assert features["user"]["table_rows"] == 10
    assert features["user"]["expected_collisions"] == pytest.approx(1 - 0.9**99)
    assert features["user"]["unseen_valid"] == pytest.approx(40 / 50)
    assert features["amount"]["numbers"]["minimum"] == 1001
    assert features["amount"]["numbers"]["maximum"] == 1099
    assert features["steps"]["lengths"]["quantiles"] == [0, 1, 2, 3, 4, 4]
    assert features["steps"]["lengths"]["cut_share"] == pytest.approx(0.4)
    assert features["steps"]["missing_share"] == pytest.approx(0.2)
    assert report["overlap"] == {"repeated_in_train": 0, "valid_in_train": 10}
    assert sum(report["labels"]["train"]["counts"].values()) == 100


def test_what_is_warned_of(call, place: Path) -> None:
    report = call("check", place / "p.yaml", "--json").json
    warnings = found(report, "warning")
    assert "`user`: 100 ids are hashed into 10 rows, and 100.0% of them meet another one" in warnings
    assert "feature `same` is 'x' wherever it has a value" in warnings
    assert "feature `amount` enters as numbers up to 1,099" in warnings
    assert "feature `words` never has more than one value a row; is its separator really ';'?" in warnings
    assert "10 of 50 rows of the valid part also are training rows" in warnings
    assert "80.0% of the ids of the valid part (40 different ones) do not occur in training" in warnings
    assert "features that no block reads: idle" in warnings
    assert "40.0% of the rows are longer than max_seq_len 2 and keep their first 2 steps" in found(report, "note")


def test_advice_on_table_sizes_holds(call, place: Path) -> None:
    import re

    warnings = found(call("check", place / "p.yaml", "--json").json, "warning")
    size = re.search(r"hash_bucket_size: (\d+)", warnings)[1]
    better = call("check", place / "p.yaml", f"feature_config.features[0].hash_bucket_size={size}", "--json").json
    assert better["features"][0]["expected_collisions"] <= 0.1


def test_as_text(call, place: Path) -> None:
    said = call("check", place / "p.yaml")
    assert said.code == 0
    assert said.out.startswith("rows: train 100, valid 50\n")
    assert "columns of the training part" in said.out
    assert "lengths 0 to 4, median 2, 95% up to 4" in said.out
    assert said.out.rstrip().endswith("warnings")


@pytest.mark.parametrize(
    ("row", "column", "told"),
    [
        ("u1,x,many,a,w,1,1", "amount", "a value must be a number"),
        ("u1,x,inf,a,w,1,1", "amount", "a number must be finite"),
        ("u1,x,1,a,w,7,1", "idle", "Raise num_buckets to more than 7"),
        ("u1,x,1,a,w,1,", "y", "every row must have a label"),
        ("u1,x,1,a,w,1,3", "y", "needs labels from 0 to 1"),
        ("u1,x,1,a", None, "1 row cannot be read"),
    ],
)
def test_bad_values_are_errors_with_their_place(call, place: Path, row: str, column: str | None, told: str) -> None:
    rows = made(0, 100)
    rows[41] = row
    write(place / "train.csv", rows)
    said = call("check", place / "p.yaml", "--json")
    assert said.code == 3
    errors = found(said.json, "error")
    assert told in errors
    assert "train.csv, line 43" in errors
    if column is not None:
        assert f"`{column}`" in errors


def test_several_errors_are_told_together(call, place: Path) -> None:
    rows = made(0, 100)
    rows[3] = "u1,x,many,a,w,9,2"
    write(place / "train.csv", rows)
    errors = [f for f in call("check", place / "p.yaml", "--json").json["findings"] if f["level"] == "error"]
    assert len(errors) == 3


def test_a_label_without_two_values(call, place: Path) -> None:
    write(place / "train.csv", [row[:-1] + "0" for row in made(0, 100)])
    said = call("check", place / "p.yaml")
    assert said.code == 3
    assert "label `y` is 0 in all 100 rows of the train part: there is nothing to learn" in said.out


def test_a_feature_that_reads_the_label(call, place: Path) -> None:
    said = call("check", place / "p.yaml", "feature_config.features[5].input_names=[y]")
    assert said.code == 2
    assert "feature `y` reads the label column `y`: the model would see the answer" in said.out


def test_weights(call, place: Path) -> None:
    text = (place / "p.yaml").read_text().replace("label_fields: [y],", "label_fields: [y], sample_weight: idle,")
    (place / "p.yaml").write_text(text)
    weights = call("check", place / "p.yaml", "--json").json["weights"]
    assert (weights["mean"], weights["minimum"], weights["zero_share"]) == (2.0, 0.0, 0.2)
    rows = made(0, 100)
    rows[0] = "u1,x,1,a,w,-2,1"
    write(place / "train.csv", rows)
    assert "a sample weight must be a finite number of 0 or more" in call("check", place / "p.yaml").out


def test_a_model_that_does_not_fit(call, place: Path) -> None:
    text = (place / "p.yaml").read_text().replace("class_name: Dense", "class_name: FM").replace("units: 1", "")
    (place / "p.yaml").write_text(text)
    said = call("check", place / "p.yaml")
    assert said.code == 2
    assert "block `dense`" in said.out


def test_a_metric_that_is_followed_and_not_measured(call, place: Path) -> None:
    said = call("check", place / "p.yaml", "train_config.early_stop={metric: acu, patience: 2}")
    assert said.code == 2
    assert "train_config.early_stop.metric: the evaluation gives no metric `acu`. It gives: auc, logloss" in said.out


def test_a_wrong_file_and_missing_data(call, place: Path) -> None:
    wrong = call("check", place / "p.yaml", "data_config.batch_size=-1", "--json")
    assert wrong.code == 2
    assert wrong.json["error"]["problems"][0]["path"] == "data_config.batch_size"
    (place / "valid.csv").unlink()
    gone = call("check", place / "p.yaml")
    assert gone.code == 3
    assert "valid.csv" in gone.err


def test_bad_rows_that_are_tolerated_are_a_warning(call, place: Path) -> None:
    rows = made(0, 100)
    rows[41] = "u1,x,1"
    write(place / "train.csv", rows)
    said = call("check", place / "p.yaml", "data_config.on_bad_rows=skip", "--json")
    assert said.code == 0
    assert "1 row cannot be read (they are left out)" in found(said.json, "warning")


def test_an_interaction_log(call, folder: Path) -> None:
    said = call("check", folder / "log.yaml", "--json")
    assert said.code == 0, said.err
    report = said.json
    assert report["rows"] == {"train": 400, "valid": 50, "test": 50}
    features = {feature["name"]: feature for feature in report["features"]}
    assert features["item"]["distinct"] == 15
    assert features["history"]["distinct"] == 15
    assert features["history"]["lengths"]["quantiles"][-1] > 5


def test_a_random_split_is_looked_at_as_it_is_trained(call, folder: Path, trained: Path) -> None:
    import json

    rows = call("check", folder / "pipeline.yaml", "--json").json["rows"]
    assert rows == json.loads((trained / "result.json").read_text())["rows"]
