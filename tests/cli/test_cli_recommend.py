"""`recommend`, `index`, `vectors`, `diversity` on a run that ranks a catalogue."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import Call, run
from retrieval_contract import PER_CLUSTER, planted_log

from intarsia.retrieval import load_vectors

PIPELINE = """
train_input_path: {folder}/planted.csv
model_dir: {folder}/{name}
data_config:
  with_header: true
  log: {{user_field: user, item_field: item, rating_field: rating, time_field: time, item_table: {folder}/items.csv}}
  split: leave_one_out
  batch_size: 64
  num_epochs: {epochs}
model_config: {{model_class: {model}}}
train_config: {{learning_rate: 0.01}}
eval_config: {{metrics: [hit_rate@10], category: genre}}
export_config: {{index: {index}}}
"""


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `mf`, which has an index, and `ease`."""
    folder = tmp_path_factory.mktemp("planted")
    planted_log().write_csv(folder / "planted.csv")
    items = [f"i{k}" for k in range(72)]
    pl.DataFrame({"item": items, "genre": [f"g{k // PER_CLUSTER}" for k in range(72)]}).write_csv(folder / "items.csv")
    for name, model, index in (("mf", "MF", "hnsw"), ("ease", "EASE", "null")):
        text = PIPELINE.format(folder=folder, name=name, model=model, index=index, epochs=8)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        assert run(["train", str(folder / f"{name}.yaml"), "--quiet"]) == 0
    return folder


@pytest.fixture
def mf(planted: Path, tmp_path: Path) -> Path:
    """A copy of the run, to change."""
    return shutil.copytree(planted / "mf", tmp_path / "mf")


# recommend


def test_known_users_are_recommended_items(planted: Path, call: Call) -> None:
    said = call("recommend", planted / "mf", "--user", "u3", "-u", "u5", "-k", "3")
    assert said.code == 0, said.err
    head, *rows = said.out.splitlines()
    assert head.split() == ["user", "rank", "item", "score"]
    assert [row.split()[:2] for row in rows] == [[user, str(rank)] for user in ("u3", "u5") for rank in (1, 2, 3)]


def test_histories_are_recommended_items_as_json(planted: Path, call: Call) -> None:
    said = call("recommend", planted / "mf", "--history", "i1, i2,i3", "--history", "i40", "-k", "4", "--json")
    assert said.code == 0, said.err
    assert [row["request"] for row in said.json] == [0] * 4 + [1] * 4
    assert not {"i1", "i2", "i3"} & {row["item"] for row in said.json[:4]}
    kept = call("recommend", planted / "mf", "--history", "i1", "-k", "72", "--keep-seen", "--json")
    assert "i1" in {row["item"] for row in kept.json}


def test_only_candidates_are_recommended(planted: Path, call: Call) -> None:
    said = call("recommend", planted / "ease", "-u", "u3", "--candidates", "i60,i61", "--keep-seen", "--json")
    assert {row["item"] for row in said.json} == {"i60", "i61"}


def test_unknown_ids_are_errors_unless_told_otherwise(planted: Path, call: Call) -> None:
    said = call("recommend", planted / "mf", "-u", "nobody")
    assert said.code == 3
    assert "users must be known to the model. Received 1 unknown: nobody" in said.err
    said = call("recommend", planted / "mf", "-u", "nobody", "--on-unknown", "warn", "--json", "-k", "2")
    assert [row["note"].split(";")[0] for row in said.json] == ["unknown user"] * 2


def test_users_or_histories_are_named(planted: Path, call: Call) -> None:
    assert call("recommend", planted / "mf").code == 2
    said = call("recommend", planted / "mf", "-u", "u1", "--history", "i1")
    assert said.code == 2
    assert "give either --user or --history" in said.err


def test_diverse_lists_hold_every_genre(planted: Path, call: Call) -> None:
    asked = ("recommend", planted / "mf", "-u", "u3", "-k", "6", "--json")
    genres = [
        len({int(row["item"][1:]) // PER_CLUSTER for row in call(*asked, *more).json})
        for more in ((), ("--diversity", "1000"), ("--diversity", "1000", "--category", "genre"))
    ]
    assert genres[0] < 6
    assert genres[1:] == [6, 6]
    said = call(*asked, "--diversity", "1", "--category", "mood")
    assert said.code == 3
    assert "diversity needs a `category`, a column of the item table. Received: `mood`" in said.err


def test_other_models_know_no_diversity(trained_log: Path, call: Call) -> None:
    said = call("recommend", trained_log, "-u", "3", "--diversity", "1")
    assert said.code == 3
    assert "--exact, --diversity and --category are of models that rank a catalogue" in said.err


# index


def test_an_index_is_built_and_told_of(mf: Path, call: Call) -> None:
    said = call("index", mf, "--kind", "hnsw", "-m", "4", "--queries", "40")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("hnsw: 72 items of width ")
    assert lines[1].startswith("built in ")
    assert lines[2] == "measured with 40 queries of known users"
    assert lines[4].split()[0] == "recall@10"
    assert 0.3 < float(lines[4].split()[1]) <= 1
    about = json.loads((mf / "bundle" / "bundle.json").read_text())
    assert about["index"]["measured"]["queries"] == 40
    assert about["kind"] == "retrieval"


def test_an_exact_index_replaces_another_and_answers_the_same(mf: Path, call: Call) -> None:
    asked = ("recommend", mf, "-u", "u3", "-u", "u7", "--json")
    exact = call(*asked, "--exact").json
    said = call("index", mf, "--kind", "flat")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == "it finds what exact search finds"
    assert call(*asked).json == exact
    told = call("index", mf, "--kind", "faiss_flat", "--json").json
    assert (told["kind"], told["num_items"], told["measured"]) == ("faiss_flat", 72, None)
    assert told["bytes"] > 72 * 4 * told["dim"]
    assert call(*asked).json == exact


@pytest.mark.parametrize(
    ("name", "options", "code", "told"),
    [
        ("ease", ("--kind", "flat"), 2, "an index needs a model whose scores are products of vectors. Received: EASE"),
        ("mf", ("--kind", "pq"), 2, "72 items for bits = 8 (256). Lower bits to 6"),
        ("mf", ("--kind", "pq", "--bits", "9"), 2, "index.bits: "),
        ("mf", ("--kind", "tree"), 2, "'tree' is not one of"),
    ],
)
def test_an_index_that_cannot_be_is_refused(
    name: str, options: tuple[str, ...], code: int, told: str, planted: Path, call: Call
) -> None:
    before = (planted / name / "bundle" / "bundle.json").read_bytes()
    said = call("index", planted / name, *options)
    assert said.code == code
    assert told in said.err
    assert (planted / name / "bundle" / "bundle.json").read_bytes() == before


@pytest.mark.parametrize("command", [("index",), ("vectors", "--out", "v"), ("diversity",)])
def test_models_of_rows_are_refused(command: tuple[str, ...], trained_log: Path, call: Call) -> None:
    said = call(command[0], trained_log, *command[1:])
    assert said.code == 3
    assert f"`intarsia {command[0]}` is of models that rank a catalogue. Received: DeepFM" in said.err


# vectors


def test_vectors_are_written_with_raw_ids(planted: Path, call: Call, tmp_path: Path) -> None:
    said = call("vectors", planted / "mf", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert said.out.startswith(f"{tmp_path / 'out' / 'vectors.npz'}: 240 users, 72 items, ")
    saved = load_vectors(tmp_path / "out" / "vectors.npz")
    top = call("recommend", planted / "mf", "-u", "u3", "-k", "5", "--exact", "--keep-seen", "--json").json
    scores = saved.item_vectors @ saved.user_vectors[saved.user_ids.tolist().index("u3")]
    order = np.argsort(-scores)[:5]
    assert saved.item_ids[order].tolist() == [row["item"] for row in top]
    assert scores[order].tolist() == pytest.approx([row["score"] for row in top], abs=1e-4)
    told = call("vectors", planted / "mf", "-o", tmp_path / "own.npz", "--json").json
    assert (told["path"], told["users"], told["items"]) == (str(tmp_path / "own.npz"), 240, 72)


def test_a_model_without_vectors_says_so(planted: Path, call: Call, tmp_path: Path) -> None:
    said = call("vectors", planted / "ease", "--out", tmp_path)
    assert said.code == 3
    assert "vectors are of models whose scores are products of vectors. Received: EASE" in said.err


# diversity


@pytest.mark.parametrize("name", ["mf", "ease"])
def test_the_cost_of_diversity_is_told_and_drawn(name: str, planted: Path, call: Call, tmp_path: Path) -> None:
    said = call("diversity", planted / name, "--category", "genre", "-k", "6", "--plot", tmp_path / "curve.svg")
    assert said.code == 0, said.err
    head, names, *rows = said.out.splitlines()
    assert head == "test: 240 queries, lists of 6 out of 72 candidates"
    assert names.split()[:4] == ["weight", "diversity@6", "change", "recall@6"]
    values = [row.split() for row in rows[:-2]]
    assert [float(row[0]) for row in values] == sorted(float(row[0]) for row in values)
    spread = [float(row[1]) for row in values]
    assert spread == sorted(spread)
    assert spread[-1] > spread[0] + 0.1
    assert rows[-2].startswith("most diverse within 5% of the recall: weight ")
    assert rows[-1] == f"drawn: {tmp_path / 'curve.svg'}"
    assert (tmp_path / "curve.svg").stat().st_size > 1000


def test_the_first_point_of_the_curve_is_what_was_measured(planted: Path, call: Call) -> None:
    found = call("diversity", planted / "mf", "-k", "10", "--weights", "0,1000", "--json").json
    metrics = json.loads((planted / "mf" / "result.json").read_text())["metrics"]["test"]
    assert found["points"][0]["hit_rate"] == pytest.approx(metrics["hit_rate@10"])
    assert [point["weight"] for point in found["points"]] == [0, 1000]
    assert found["best"]["weight"] in (0, 1000)
    assert (found["part"], found["plot"], found["k"]) == ("test", None, 10)


def test_wrong_curves_are_refused(planted: Path, call: Call) -> None:
    for options, code, told in (
        (("--weights", "a,b"), 2, "--weights are numbers with commas between. Received: a,b"),
        (("--plot", "curve.txt"), 2, "a picture ends in .svg, .png, .pdf. Received: curve.txt"),
        (("-k", "1"), 3, "k must be at least 2. Received: 1"),
        (("--category", "mood"), 3, "Received: `mood`, and columns item, genre"),
    ):
        said = call("diversity", planted / "mf", *options)
        assert said.code == code
        assert told in said.err
