"""Saved and loaded again; damaged and refused; scored, predicted and evaluated alike."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import shop
import torch
from shop import FEATURES
from sklearn.metrics import roc_auc_score

import intarsia
from intarsia.core.errors import CheckpointError, ConfigError, DataError
from intarsia.recommender.predict import predict_files
from intarsia.recommender.recommender import Recommender, find_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_log(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    shop.fitted(folder, place)
    return place


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


ROWS = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "nobody", None],
        "age": ["30", "45", None, "90"],
        "item_id": ["i1", "i2", "i99", "i3"],
        "genres": ["g1|h0", None, "new", "g0"],
        "history": [["i1", "i2", "i3", "i4", "i5"], [], None, ["i14|x"]],
    }
)


def test_a_loaded_bundle_answers_as_the_fitted_model(folder: Path, tmp_path: Path) -> None:
    rec = shop.fitted(folder, tmp_path / "run")
    again = Recommender.load(tmp_path / "run")
    assert again.score(ROWS).equals(rec.score(ROWS))
    assert again.recommend(users=["u1", "u2"], k=5).equals(rec.recommend(users=["u1", "u2"], k=5))
    assert again.recommend(history=[["i1", "i2"]]).equals(rec.recommend(history=[["i1", "i2"]]))
    assert again.metrics == rec.metrics
    assert again.folder == tmp_path / "run" / "bundle"
    assert not again.model.training
    elsewhere = again.save(tmp_path / "elsewhere")
    for path in sorted((tmp_path / "run" / "bundle").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (elsewhere / path.relative_to(tmp_path / "run" / "bundle")).read_bytes(), path


def test_a_bundle_holds_no_pickle(run: Path) -> None:
    endings = {path.suffix for path in (run / "bundle").rglob("*") if path.is_file()}
    assert endings == {".json", ".yaml", ".safetensors", ".parquet"}


def test_a_bundle_is_found_by_its_folder_or_its_run(run: Path) -> None:
    assert find_bundle(run) == find_bundle(run / "bundle") == run / "bundle"


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (
            lambda b: (b / "bundle.json").unlink(),
            "{b} holds no complete bundle (bundle.json is written last). Name the folder of a finished run, or resume "
            "its "
            "training.",
        ),
        (lambda b: shutil.rmtree(b), "{b} does not exist. Name the folder of a finished run, or resume its training."),
        (
            lambda b: (b / "bundle.json").write_text('{"format": 1'),
            "{b}/bundle.json must be readable JSON. Received: Expecting ',' delimiter",
        ),
        (lambda b: (b / "bundle.json").write_text("[]"), "{b}/bundle.json must hold a JSON object. Received: list."),
        (
            lambda b: (b / "bundle.json").write_text('{"format": 7, "intarsia": "99.0"}'),
            "{b} has the bundle format 7, written by intarsia 99.0. This version (",
        ),
        (
            lambda b: (b / "model.safetensors").write_bytes((b / "model.safetensors").read_bytes()[:200]),
            "{b}/model.safetensors must hold the weights. Received: ",
        ),
        (lambda b: (b / "model.safetensors").unlink(), "{b}/model.safetensors must hold the weights. Received: "),
        (lambda b: (b / "schema.json").write_text("{}"), "{b} must hold a whole bundle. Received: "),
        (lambda b: (b / "schema.json").unlink(), "{b}/schema.json must be readable JSON. Received: "),
        (lambda b: shutil.rmtree(b / "features"), "{b} must hold a whole bundle. Received: A saved encoder must be"),
        (lambda b: (b / "pipeline.yaml").write_text("model_config: {"), "{b} must hold a whole bundle. Received: "),
        (lambda b: (b / "pipeline.yaml").unlink(), "{b} must hold a whole bundle. Received: "),
        (
            lambda b: (b / "items.parquet").write_bytes(b"PAR1"),
            "{b} must hold readable users.parquet and items.parquet. Received: ",
        ),
        (
            lambda b: (b / "users.parquet").unlink(),
            "{b} must hold readable users.parquet and items.parquet. Received: ",
        ),
    ],
)
def test_damage_is_told(bundle: Path, break_it: object, told: str) -> None:
    break_it(bundle)
    with pytest.raises(CheckpointError) as caught:
        Recommender.load(bundle)
    assert str(caught.value).startswith(told.format(b=bundle))


def test_weights_of_another_model_are_refused(bundle: Path) -> None:
    text = (bundle / "pipeline.yaml").read_text()
    assert "hidden_units: [8]" in text
    (bundle / "pipeline.yaml").write_text(text.replace("hidden_units: [8]", "hidden_units: [16]"))
    with pytest.raises(CheckpointError) as caught:
        Recommender.load(bundle)
    message = str(caught.value)
    assert message.startswith(f"the weights of {bundle} belong to another model: `backbone.")
    assert "has the shape (8, 20), the model wants (16, 20)" in message
    assert message.endswith("Use its own pipeline.yaml.")


def test_a_folder_inside_the_training_data_need_not_exist_any_more(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    shop.fitted(copy, tmp_path / "run")
    shutil.rmtree(copy)
    assert Recommender.load(tmp_path / "run").recommend(users=["u1"], k=2).height == 2


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: what a full disk does, without one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [100, 700, 2000])
def test_a_bundle_that_cannot_be_written_leaves_the_one_before(run: Path, bundle: Path, size: int) -> None:
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    rec = Recommender.load(run)
    with torch.no_grad():
        for parameter in rec.model.parameters():
            parameter.add_(1.0)
    with files_of_at_most(size), pytest.raises(CheckpointError, match=f"the bundle {bundle} could not be written: "):
        rec.save(bundle)
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    assert Recommender.load(bundle).score(ROWS).equals(Recommender.load(run).score(ROWS))


def test_a_new_bundle_takes_the_place_of_the_old_one(run: Path, bundle: Path) -> None:
    rec = Recommender.load(run)
    with torch.no_grad():
        rec.model.head.bias.add_(1.0)
    (bundle / "notes.txt").write_text("mine")
    rec.save(bundle)
    assert Recommender.load(bundle).score(ROWS).equals(rec.score(ROWS))
    assert (bundle / "notes.txt").read_text() == "mine"
    assert not [path for path in bundle.iterdir() if path.name.startswith(".")]


# Scores, predictions, evaluations


LABELLED = shop.interactions().select("user_id", "item_id", label=(pl.col("rating") > 4).cast(pl.Float32))
PLAIN = [{**feature, "embedding_dim": 4} for feature in (FEATURES[0], FEATURES[2])]
FIELDS = [
    {"input_name": "user_id"},
    {"input_name": "item_id"},
    {"input_name": "label", "input_type": "FLOAT"},
]


def plain_job(**more: object) -> dict[str, object]:
    job = shop.pipeline(Path(), features=PLAIN)
    job["data_config"] = {
        "input_fields": FIELDS,
        "label_fields": ["label"],
        "with_header": True,
        "num_epochs": 1,
        "batch_size": 32,
        "use_cache": False,
        **more,
    }
    return job


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    LABELLED[:300].write_csv(place / "train.csv")
    LABELLED[300:].write_csv(place / "test.csv")
    return place


@pytest.fixture(scope="module")
def plain(files: Path) -> Recommender:
    job = plain_job()
    job |= {"train_input_path": str(files / "train.csv"), "test_input_path": str(files / "test.csv")}
    return intarsia.fit(job, run_dir=files / "run")


def test_scores_equal_predictions_of_files_equal_evaluations(plain: Recommender, files: Path) -> None:
    test = LABELLED[300:]
    scores = plain.score(test.drop("label"))
    assert scores.columns == ["logits", "probs"]
    told = predict_files(files / "run", str(files / "test.csv"), str(files / "out.csv"), keep=["user_id", "label"])
    written = pl.read_csv(files / "out.csv")
    assert told["rows"] == test.height
    assert written.columns == ["user_id", "label", "logits", "probs"]
    assert written["user_id"].to_list() == test["user_id"].to_list()
    assert written["probs"].to_numpy() == pytest.approx(scores["probs"].to_numpy(), abs=1e-6)
    auc = roc_auc_score(test["label"].to_numpy(), scores["probs"].to_numpy())
    for data in (
        None,
        str(files / "test.csv"),
        files / "test.csv",
        test,
        test.to_dict(as_series=False),
        test.to_arrow(),
    ):
        found = plain.evaluate(data)
        assert found.num_rows == test.height
        assert found.values["auc"].value == pytest.approx(auc, abs=1e-6)
    assert plain.metrics["test"]["auc"] == pytest.approx(auc, abs=1e-6)


def test_predictions_can_be_parquet(plain: Recommender, files: Path) -> None:
    predict_files(files / "run", str(files / "test.csv"), str(files / "out.parquet"))
    assert pl.read_parquet(files / "out.parquet").equals(plain.score(LABELLED[300:]))
    with pytest.raises(DataError) as caught:
        predict_files(files / "run", str(files / "test.csv"), str(files / "out.txt"))
    assert str(caught.value) == "the output must end in .csv, .tsv, .parquet. Received: out.txt"


def test_the_size_of_batches_changes_no_score(plain: Recommender) -> None:
    whole = plain.score(LABELLED)["logits"].to_numpy()
    for size in (1, 7, 1000):
        assert plain.score(LABELLED[:50], batch_size=size)["logits"].to_numpy() == pytest.approx(whole[:50], abs=1e-6)


def test_columns_that_no_feature_reads_may_be_absent_and_the_others_may_not(plain: Recommender) -> None:
    assert plain.score({"user_id": ["u1"], "item_id": ["i1"], "unread": [None]}).height == 1
    with pytest.raises(DataError, match="item_id"):
        plain.score({"user_id": ["u1"]})


def test_scoring_leaves_the_mode_of_the_model_alone(plain: Recommender) -> None:
    plain.model.train()
    first = plain.score(LABELLED[:5])
    assert plain.model.training
    plain.model.eval()
    assert plain.score(LABELLED[:5]).equals(first)


def test_classes_have_a_column_each(tmp_path: Path) -> None:
    job = plain_job()
    job["model_config"] = {**shop.RANKER, "num_class": 3}
    job["eval_config"] = {"metrics_set": ["accuracy"]}
    frame = LABELLED.with_columns(label=(pl.int_range(pl.len()) % 3).cast(pl.Float32))
    rec = intarsia.fit(job, frame, run_dir=tmp_path)
    found = rec.score(frame[:4])
    assert found.columns == [*(f"logits_{c}" for c in range(3)), *(f"probs_{c}" for c in range(3)), "y"]
    assert sum(found[f"probs_{c}"] for c in range(3)).to_numpy() == pytest.approx([1.0] * 4, abs=1e-5)


# A log: every way of evaluating agrees


def test_a_log_is_evaluated_again_to_the_same_values(folder: Path, tmp_path: Path) -> None:
    rec = shop.fitted(folder, tmp_path)
    assert rec.evaluate().values["auc"].value == pytest.approx(rec.metrics["test"]["auc"], abs=1e-6)
    assert Recommender.load(tmp_path).evaluate().values["auc"].value == pytest.approx(rec.metrics["test"]["auc"])


def test_evaluating_uses_the_vocabularies_of_the_bundle(folder: Path, tmp_path: Path) -> None:
    """Users who came to the data later must not move the rows of the tables."""
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    rec = shop.fitted(copy, tmp_path / "run", features=PLAIN)
    text = (copy / "ml-100k.inter").read_text().replace("\nu0\t", "\na new user\t")
    (copy / "ml-100k.inter").write_text(text)
    renamed = pl.col("user_id").replace({"u0": "a new user"})
    test = shop.interactions()[320:].with_columns(renamed, label=pl.col("rating") >= 4)
    auc = roc_auc_score(test["label"].to_numpy(), rec.score(test)["logits"].to_numpy())
    assert rec.evaluate().values["auc"].value == pytest.approx(auc, abs=1e-6)
    refit = shop.fitted(copy, tmp_path / "other", features=PLAIN)
    assert refit.encoder.vocabularies["user_id"].to_json() != rec.encoder.vocabularies["user_id"].to_json()


def test_a_model_without_test_data_says_what_to_give(tmp_path: Path) -> None:
    rec = intarsia.fit(plain_job(), LABELLED, run_dir=tmp_path)
    with pytest.raises(DataError) as caught:
        rec.evaluate()
    assert str(caught.value) == (
        "the pipeline names no test or validation data. Give `evaluate` some files or a data frame."
    )
    assert rec.evaluate(LABELLED).num_rows == LABELLED.height


def test_a_label_is_needed_for_evaluation_only(plain: Recommender) -> None:
    with pytest.raises((DataError, ConfigError), match="label"):
        plain.evaluate(LABELLED.drop("label"))
    assert json.loads((find_bundle(plain.folder) / "bundle.json").read_text())["known"] is False
