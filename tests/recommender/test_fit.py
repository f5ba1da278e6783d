"""From data to a fitted recommender: files, frames, logs, cache."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import shop
from shop import EVENTS, FEATURES, ITEM_IDS

import intarsia
from intarsia.core.batch import Jagged
from intarsia.core.errors import ConfigError, DataError
from intarsia.core.files import exclusive
from intarsia.recommender.pipeline import pipeline_from
from intarsia.recommender.prepare import prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_log(tmp_path_factory.mktemp("data"))


LABELLED = shop.interactions().select("user_id", "item_id", label=(pl.col("rating") > 4).cast(pl.Float32))
PLAIN = [FEATURES[0], FEATURES[2]]
FIELDS = [{"input_name": "user_id"}, {"input_name": "item_id"}, {"input_name": "label", "input_type": "FLOAT"}]


def plain_job(**more: Any) -> dict[str, Any]:
    job = shop.pipeline(Path(), features=PLAIN)
    data = {"input_fields": FIELDS, "label_fields": ["label"], "with_header": True, "num_epochs": 1, "batch_size": 32}
    return {**job, "data_config": {**data, **more.pop("data", {})}, **more}


def weights(rec: Any) -> dict[str, Any]:
    return {name: value.tolist() for name, value in rec.model.state_dict().items()}


# Frames


def test_frames_of_any_kind_train_the_same_model(tmp_path: Path) -> None:
    kinds = {
        "polars": LABELLED,
        "dict": LABELLED.to_dict(as_series=False),
        "arrow": LABELLED.to_arrow(),
        "arrays": {name: LABELLED[name].to_numpy() for name in LABELLED.columns},
    }
    found = {name: weights(intarsia.fit(plain_job(), frame, run_dir=tmp_path / name)) for name, frame in kinds.items()}
    assert all(one == found["polars"] for one in found.values())


def test_frames_and_files_train_the_same_model(tmp_path: Path) -> None:
    LABELLED.write_csv(tmp_path / "train.csv")
    job = plain_job(data={"use_cache": False})
    of_file = intarsia.fit({**job, "train_input_path": str(tmp_path / "train.csv")}, run_dir=tmp_path / "a")
    assert weights(of_file) == weights(intarsia.fit(job, LABELLED, run_dir=tmp_path / "b"))


def test_parts_may_be_frames_too(tmp_path: Path) -> None:
    rec = intarsia.fit(plain_job(), LABELLED[:200], valid=LABELLED[200:300], test=LABELLED[300:], run_dir=tmp_path)
    assert set(rec.metrics) == {"valid", "test"}
    assert rec.metrics["test"]["auc"] == pytest.approx(rec.evaluate(LABELLED[300:]).values["auc"].value, abs=1e-6)


def test_a_frame_can_be_split_at_random(tmp_path: Path) -> None:
    job = plain_job(data={"split": {"by": "random", "valid": 0.25, "test": 0.25}})
    assert set(intarsia.fit(job, LABELLED, run_dir=tmp_path).metrics) == {"valid", "test"}


def test_parts_without_training_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        intarsia.fit(plain_job(), test=LABELLED, run_dir=tmp_path)
    assert str(caught.value) == (
        "`valid` and `test` are data frames beside `data`. Received: test without a data frame as `data`. Give the "
        "training "
        "rows too, or name files in the pipeline."
    )


def test_the_name_of_a_model_needs_data() -> None:
    with pytest.raises(DataError) as caught:
        intarsia.fit("DeepFM")
    assert str(caught.value) == "`DeepFM` is the name of a model, so `data` must name a data set, such as 'ml-100k'."


def test_the_short_form_trains_on_a_local_copy(folder: Path, tmp_path: Path) -> None:
    rec = intarsia.fit(
        "DeepFM",
        data=f"ml-100k:{folder}",
        run_dir=tmp_path,
        overrides=["data_config.num_epochs=1", "train_config.device=cpu"],
    )
    assert rec.recommend(history=[["i1", "i2"]], k=3).height == 3
    assert rec.recommend(users=["u1"], k=3)["title"].str.starts_with("The ").all()


def test_one_seed_gives_one_model(folder: Path, tmp_path: Path) -> None:
    one = shop.fitted(folder, tmp_path / "a")
    assert weights(one) == weights(shop.fitted(folder, tmp_path / "b"))
    train = {"optimizer": "adam", "learning_rate": 0.01, "device": "cpu", "seed": 99}
    assert weights(one) != weights(shop.fitted(folder, tmp_path / "c", train_config=train))


# Cache


def test_encoded_columns_are_reused_and_give_the_same_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    LABELLED[:300].write_csv(tmp_path / "train.csv")
    LABELLED[300:].write_csv(tmp_path / "test.csv")
    job = plain_job(data={"cache_dir": str(tmp_path / "cache")})
    job |= {"train_input_path": str(tmp_path / "train.csv"), "test_input_path": str(tmp_path / "test.csv")}
    first = intarsia.fit(job, run_dir=tmp_path / "a")
    with caplog.at_level(logging.INFO, logger="intarsia"):
        second = intarsia.fit(job, run_dir=tmp_path / "b")
    assert "Encoded data come from the cache" in caplog.text
    assert weights(first) == weights(second)
    assert first.metrics == second.metrics
    assert first.encoder.to_json() == second.encoder.to_json()
    uncached = plain_job(data={"use_cache": False})
    uncached |= {key: job[key] for key in ("train_input_path", "test_input_path")}
    assert weights(intarsia.fit(uncached, run_dir=tmp_path / "c")) == weights(first)


# Logs


def prepared(folder: Path, **more: Any) -> Any:
    return prepare(pipeline_from(shop.pipeline(folder, **more)).config)


def history_rows(found: Any, part: str) -> tuple[list[list[str]], Any]:
    """The histories of a part's rows as raw ids, in the order of the part, and its batch."""
    loader = found.train if part == "train" else found.parts[part]
    source = loader.dataset
    batch = source.take(np.arange(source.num_rows))
    feature = batch.features["history"]
    assert isinstance(feature, Jagged)
    vocabulary = found.encoder.vocabularies["history"]
    flat = vocabulary.raw(feature.values.numpy()).to_list()
    return [flat[a:b] for a, b in pairwise(feature.offsets.tolist())], batch


def expected_histories(limit: int) -> list[list[str]]:
    rows = shop.interactions().to_dicts()
    out = []
    for row in rows:
        past = [
            other["item_id"]
            for other in rows
            if other["user_id"] == row["user_id"] and other["timestamp"] < row["timestamp"] and other["rating"] >= 4
        ]
        out.append(past[-limit:])
    return out


def test_rows_of_a_log_have_the_latest_items_before_them(folder: Path) -> None:
    found = prepared(folder)
    expected = expected_histories(3)
    train, valid, test = (history_rows(found, part)[0] for part in ("train", "valid", "test"))
    assert [len(train), len(valid), len(test)] == [280, 40, 80]
    assert train == expected[:280]
    assert valid == expected[280:320]
    assert test == expected[320:]


def test_the_first_items_are_kept_only_where_the_feature_says_so(folder: Path) -> None:
    history = {**FEATURES[4], "keep": "first"}
    found = prepared(folder, features=[*FEATURES[:4], history])
    expected = [past[:3] for past in expected_histories(50)]
    assert history_rows(found, "test")[0] == expected[320:]


def test_a_history_without_a_length_of_its_own_has_that_of_the_log(folder: Path) -> None:
    history = {k: v for k, v in FEATURES[4].items() if k != "max_seq_len"}
    found = prepared(folder, features=[*FEATURES[:4], history], log={"max_history": 7})
    assert found.schema.features["history"].max_length == 7
    assert history_rows(found, "test")[0] == expected_histories(7)[320:]


def test_ids_with_a_separator_stay_whole(folder: Path) -> None:
    flat = [item for row in history_rows(prepared(folder), "train")[0] for item in row]
    assert ITEM_IDS[-1] in flat


def test_vocabularies_are_learned_from_the_training_part_alone(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    with (copy / "ml-100k.inter").open("a") as file:
        file.write(f"late user\tlate item\t5\t{EVENTS}\n")
    found = prepared(copy)
    vocabulary = found.encoder.vocabularies
    assert vocabulary["user_id"].rows(pl.Series(["late user", "u1"])).tolist()[0] == 0
    assert vocabulary["item_id"].rows(pl.Series(["late item"])).tolist() == [0]
    assert found.known.items["item_id"].to_list()[-1] == "late item"


def test_a_log_may_be_a_frame(folder: Path, tmp_path: Path) -> None:
    job = shop.pipeline(folder, features=[FEATURES[0], FEATURES[2], FEATURES[4]])
    del job["data_config"]["dataset"], job["data_config"]["log"]["title_field"]
    rec = intarsia.fit(job, shop.interactions(), run_dir=tmp_path / "frame")
    assert set(rec.metrics) == {"valid", "test"}
    assert rec.recommend(users=["u1"], k=3).columns == ["user_id", "rank", "item_id", "score"]
    shop.interactions().write_csv(tmp_path / "log.csv")
    fields = [
        {"input_name": "user_id"},
        {"input_name": "item_id"},
        {"input_name": "rating", "input_type": "FLOAT"},
        {"input_name": "timestamp", "input_type": "INT64"},
    ]
    job["data_config"] |= {"input_fields": fields, "with_header": True}
    of_file = intarsia.fit({**job, "train_input_path": str(tmp_path / "log.csv")}, run_dir=tmp_path / "file")
    assert weights(of_file) == weights(rec)
    with pytest.raises(DataError) as caught:
        intarsia.fit(job, shop.interactions(), test=shop.interactions(), run_dir=tmp_path / "other")
    assert str(caught.value) == (
        "a log in memory is one data frame, which data_config.split divides. Received: train, test. Give the whole log "
        "as "
        "`data` alone."
    )


def test_a_history_is_a_sequence(folder: Path) -> None:
    wrong = {"input_names": ["history"], "vocab": "auto", "embedding_dim": 4}
    with pytest.raises((ConfigError, DataError)):
        prepared(folder, features=[*FEATURES[:4], wrong])


def test_the_run_folder_tells_how_it_went(folder: Path, tmp_path: Path) -> None:
    import json

    shop.fitted(folder, tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["rows"] == {"train": 280, "valid": 40, "test": 80}
    assert result["metrics"]["test"]["auc"] is not None
    assert set(result["seconds"]) == {"data", "train", "evaluate"}
    assert (tmp_path / "pipeline.yaml").exists()


def test_two_trainings_do_not_share_a_folder(tmp_path):
    with exclusive(tmp_path / "run") as free:
        assert free
        with pytest.raises(ConfigError, match="another process is training into"):
            intarsia.fit(PIPELINE_FOR_LOCK, FRAME_FOR_LOCK, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    intarsia.fit(PIPELINE_FOR_LOCK, FRAME_FOR_LOCK, run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / ".lock").exists()


FRAME_FOR_LOCK = {"a": [0, 1, 0, 1] * 10, "y": [0.0, 1.0, 0.0, 1.0] * 10}
PIPELINE_FOR_LOCK = {
    "data_config": {"label_fields": ["y"]},
    "feature_config": {"features": [{"input_names": ["a"], "num_buckets": 2, "embedding_dim": 2}]},
    "model_config": {
        "model_class": "RankModel",
        "feature_groups": [{"group_name": "all", "feature_names": ["a"]}],
        "backbone": {"blocks": [{"name": "x", "inputs": [{"feature_group_name": "all"}]}]},
    },
}
