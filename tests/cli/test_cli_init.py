"""init: what columns are taken for, and a pipeline that trains as it is."""

import gzip
import random
from pathlib import Path

import polars as pl
import pytest

from intarsia.cli.guess import look_at
from intarsia.core.errors import DataError
from intarsia.recommender.pipeline import load_pipeline

HEADER = "user_id,product_id,age,price,country,tags,recent_items,signup_date,comment,constant,empty,clicked"


def rows(count: int = 400) -> list[list[str]]:
    rng = random.Random(1)
    out = []
    for n in range(count):
        item = rng.randrange(20)
        out.append(
            [
                str(1000 + rng.randrange(60)),
                f"p{item}",
                rng.choice(["", *map(str, range(18, 70))]),
                f"{rng.lognormvariate(3, 1):.2f}",
                rng.choice(["DE", "FR", "NO"]),
                "|".join(rng.sample(["red", "blue", "sale", "new"], rng.randrange(4))),
                ";".join(f"p{rng.randrange(20)}" for _ in range(rng.randrange(8))),
                f"2020-01-{1 + n % 28:02d}",
                f"free text {n} with words of its own",
                "7",
                "",
                str(int(rng.random() < (0.8 if item % 2 else 0.2))),
            ]
        )
    return out


def table(path: Path, separator: str = ",", header: str = HEADER) -> Path:
    lines = [separator.join(header.split(","))] if header else []
    lines += [separator.join(row) for row in rows()]
    path.write_text("\n".join(lines) + "\n")
    return path


def kinds(path: Path, label: str | None = None) -> dict[str, str]:
    return {guess.name: guess.kind for guess in look_at(path, label).guesses}


EXPECTED = {
    "user_id": "id",
    "product_id": "id",
    "age": "number",
    "price": "number",
    "country": "id",
    "tags": "tags",
    "recent_items": "sequence",
    "signup_date": "left out",
    "comment": "left out",
    "constant": "left out",
    "empty": "left out",
    "clicked": "label",
}


@pytest.mark.parametrize(("separator", "name"), [(",", "t.csv"), ("\t", "t.tsv")])
def test_kinds_of_columns(tmp_path: Path, separator: str, name: str) -> None:
    assert kinds(table(tmp_path / name, separator)) == EXPECTED


def test_packed_and_parquet(tmp_path: Path) -> None:
    plain = table(tmp_path / "t.csv")
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert kinds(packed) == EXPECTED
    frame = pl.read_csv(plain).with_columns(
        pl.col("tags").str.split("|"), pl.col("signup_date").str.to_date(), pl.col("empty").cast(pl.String)
    )
    frame.write_parquet(tmp_path / "t.parquet")
    assert kinds(tmp_path / "t.parquet") == EXPECTED


def test_the_starter_trains_as_it_is(call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "my data.csv")
    said = call("init", "--from", "my data.csv")
    assert said.code == 0, said.err
    assert "intarsia train pipeline.yaml" in said.out
    checked = call("check", "pipeline.yaml", "--json")
    assert checked.code == 0, checked.out
    assert checked.json["counts"]["error"] == 0
    trained = call("train", "pipeline.yaml", "--json")
    assert trained.code == 0, trained.err
    # The true probabilities are 0.8 and 0.2, so nothing is above 0.8; guessing gives 0.5.
    assert trained.json["metrics"]["valid"]["auc"] > 0.6
    assert (tmp_path / "runs" / "pipeline" / "bundle").is_dir()


def test_a_table_without_a_header(call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "bare.csv", header="")
    guess = call("init", "--from", "bare.csv")
    assert guess.code == 0, guess.err
    config = load_pipeline("pipeline.yaml").config
    assert [field.input_name for field in config.data_config.input_fields][:2] == ["column_1", "column_2"]
    assert config.data_config.label_fields == ["column_12"]
    assert call("train", "pipeline.yaml", "train_config.num_steps=2", "-q").code == 0


def test_a_number_to_predict(call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "t.csv")
    assert call("init", "--from", "t.csv", "--label", "price", "-o", "price.yaml").code == 0
    config = load_pipeline("price.yaml").config
    assert config.model.loss_type == "L2_LOSS"
    assert {m for metric in config.eval_config.metrics_set for m in metric.model_fields_set} == {
        "root_mean_squared_error",
        "mean_absolute_error",
    }
    trained = call("train", "price.yaml", "data_config.num_epochs=1", "--json")
    assert trained.code == 0, trained.err
    assert trained.json["metrics"]["valid"]["rmse"] > 0


def test_the_label_is_found_by_name_or_by_its_values(tmp_path: Path) -> None:
    named = tmp_path / "a.csv"
    named.write_text("bought,label,x\n" + "".join(f"{n % 2},{n % 3 % 2},{n % 7}\n" for n in range(40)))
    assert look_at(named).label == "label"
    told = tmp_path / "b.csv"
    told.write_text("bought,x\n" + "".join(f"{n % 2},{n % 7}\n" for n in range(40)))
    assert look_at(told).label == "bought"


@pytest.mark.parametrize(
    ("text", "label", "told"),
    [
        ("a,b\n0,0\n1,1\n", None, "Columns of zeros and ones: a, b"),
        ("x,z\n1.5,k\n2.5,k\n", None, "Its columns: x, z"),
        ("x,label\n1,yes\n2,no\n", None, "a label must be a number in every row. Received in `label`: 'no', 'yes'"),
        ("x,label\n1,1\n2,0\n", "lable", "has no column `lable`. Its columns: x, label"),
        ("x,label\n", None, "It holds only a header"),
        ("label\n1\n0\n", None, "no column besides `label`"),
        ("", None, "is empty"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, label: str | None, told: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as error:
        look_at(tmp_path / "t.csv", label)
    assert told in str(error.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        look_at(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="must be UTF-8 text"):
        look_at(tmp_path / "x.csv")


def test_a_file_is_not_replaced_unasked(call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "t.csv")
    (tmp_path / "pipeline.yaml").write_text("mine")
    said = call("init", "--from", "t.csv")
    assert said.code == 2
    assert "--force" in said.err
    assert (tmp_path / "pipeline.yaml").read_text() == "mine"
    assert call("init", "--from", "t.csv", "--force", "--json").json["label"] == "clicked"
    assert call("init", "-o", "x.json").code == 2
    assert call("init", "--label", "y", "-o", "y.yaml").code == 2


def test_without_a_table_it_is_movielens(call, tmp_path: Path) -> None:
    assert call("init", "-o", tmp_path / "ml.yaml").code == 0
    config = load_pipeline(tmp_path / "ml.yaml").config
    assert config.data_config.dataset == "ml-100k"
    assert config.model.model_class == "DeepFM"


@pytest.mark.parametrize("name", ["yes", "a: b", "no", "1", "über", "a#b", 'q"uote', "true", "{x}"])
def test_odd_column_names_survive(tmp_path: Path, name: str) -> None:
    from intarsia.cli.guess import pipeline_text
    from intarsia.config.load import parse_text
    from intarsia.recommender.pipeline import extensions

    frame = pl.DataFrame({name: ["a", "b"] * 20, "label": [0, 1, 1, 0] * 10})
    frame.write_parquet(tmp_path / "t.parquet")
    text = pipeline_text(look_at(tmp_path / "t.parquet"), "runs/x")
    config = parse_text(text, "yaml", extensions=extensions()).config
    assert config.feature_config.features[0].input_names == [name]
