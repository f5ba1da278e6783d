import json

import numpy as np
import polars as pl
import pytest
from feature_helpers import encoder_of, ids, rows

from intarsia.core.errors import ConfigError, DataError
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.schema import Schema

ITEM = {"vocab": "auto", "embedding_dim": 4, "embedding_name": "item"}
FEATURES = [
    {"input_names": ["item"], **ITEM},
    {"input_names": ["history"], "feature_type": "SequenceFeature", "max_seq_len": 3, **ITEM},
    {"input_names": ["user"], "hash_bucket_size": 100, "embedding_dim": 4, "embedding_name": "alone"},
    {"input_names": ["price"], "feature_type": "RawFeature", "max_val": 10.0, "normalizer_fn": "tf.math.sqrt"},
    {"input_names": ["size"], "feature_type": "SequenceFeature", "sub_feature_type": "RawFeature",
     "sequence_length": 2},
    {"feature_name": "words", "input_names": ["text"], "feature_type": "TagFeature", "separator": " ",
     "vocab_file": "words.txt", "embedding_dim": 4},
]  # fmt: skip
FRAME = pl.DataFrame(
    {
        "item": ["i1", "i2", "i2"],
        "history": ["i3|i2", "", "i2"],
        "user": [1, 2, None],
        "price": [0.0, 2.5, 10.0],
        "size": ["1|2|3", "", "4"],
        "text": ["a b", "c", ""],
        "unused": [0, 0, 0],
    }
)


@pytest.fixture
def encoder(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    return encoder_of(*FEATURES, base_dir=tmp_path, fields=[{"input_name": "user", "input_type": "INT64"}])


def content(columns):
    return {name: rows(c) if hasattr(c, "starts") else c.values.tolist() for name, c in columns.items()}


def test_shared_tables_learn_one_vocabulary(encoder):
    encoder.fit(FRAME)
    columns = encoder.transform(FRAME)
    # i2 occurs four times, i1 and i3 once each.
    assert ids(columns["item"]) == [2, 1, 1]
    assert rows(columns["history"]) == [[3, 1], [], [1]]
    specs = encoder.schema_features
    assert (specs["item"].table, specs["history"].table, specs["user"].table) == ("item", "item", "")
    assert specs["item"].num_ids == specs["history"].num_ids == 4
    assert encoder.vocabularies["item"].raw([3, 0]).to_list() == ["i3", None]


def test_only_the_needed_columns_are_read(encoder):
    assert encoder.input_columns == ("item", "history", "user", "price", "size", "text")
    encoder.fit(FRAME.select("item", "history"))
    assert ids(encoder.transform(FRAME.select("item"), only=["item"])["item"]) == [2, 1, 1]


def test_learning_in_pieces_equals_learning_at_once(encoder, tmp_path):
    whole = encoder.fit(FRAME).to_json()
    again = encoder_of(*FEATURES, base_dir=tmp_path, fields=[{"input_name": "user", "input_type": "INT64"}])
    assert again.fit(FRAME.slice(k, 1) for k in range(3)).to_json() == whole


def test_fitting_again_changes_nothing(encoder):
    before = encoder.fit(FRAME).to_json()
    assert encoder.fit(FRAME.head(1)).to_json() == before


def test_saved_encoders_encode_the_same_without_the_vocabulary_file(encoder, tmp_path):
    encoder.fit(FRAME)
    expected, specs = content(encoder.transform(FRAME)), encoder.schema_features
    assert expected["size"] == [[[1.0], [2.0]], [], [[4.0]]]
    assert expected["words"] == [[0, 1], [0], []]
    encoder.save(tmp_path / "saved")
    (tmp_path / "words.txt").unlink()
    for again in (
        FeatureEncoder.load(tmp_path / "saved"),
        FeatureEncoder.from_json(json.loads(json.dumps(encoder.to_json()))),
    ):
        assert again.is_fitted
        assert content(again.transform(FRAME)) == expected
        assert again.schema_features == specs
        assert again.vocabularies["item"] is again.vocabularies["history"]
    assert len(list((tmp_path / "saved" / "vocabularies").iterdir())) == 2


def test_defaults_and_policy_survive_saving(tmp_path):
    encoder = encoder_of(
        {"input_names": ["a"], "num_buckets": 3, "embedding_dim": 1},
        fields=[{"input_name": "a", "input_type": "INT64", "default_val": "2"}],
        ignore_error=True,
    )
    encoder.save(tmp_path)
    again = FeatureEncoder.load(tmp_path)
    assert ids(again.transform(pl.DataFrame({"a": [None, 9]}))["a"]) == [2, 0]


def test_damaged_and_foreign_files_are_refused(encoder, tmp_path):
    with pytest.raises(DataError, match=r"must be a folder with features\.json\. Received .*nowhere"):
        FeatureEncoder.load(tmp_path / "nowhere")
    encoder.fit(FRAME).save(tmp_path)
    data = json.loads((tmp_path / "features.json").read_text())
    (tmp_path / "features.json").write_text(json.dumps({**data, "format": 99}))
    with pytest.raises(DataError, match=r"must have format 1\. Received 99"):
        FeatureEncoder.load(tmp_path)


def test_vocabularies_of_different_size_cannot_share_a_table(tmp_path):
    (tmp_path / "one.txt").write_text("a\n")
    (tmp_path / "two.txt").write_text("a\nb\n")
    shared = {"embedding_dim": 2, "embedding_name": "t"}
    encoder = encoder_of(
        {"input_names": ["a"], "vocab_file": "one.txt", **shared},
        {"input_names": ["b"], "vocab_file": "two.txt", **shared},
        base_dir=tmp_path,
    )
    with pytest.raises(ConfigError, match=r"`t` must agree in table size\. Received 2 for `b` and 1 for `a`"):
        _ = encoder.schema_features


def test_encoding_does_not_depend_on_the_neighbours(encoder):
    encoder.fit(FRAME)
    whole = content(encoder.transform(FRAME))
    single = [content(encoder.transform(FRAME.slice(k, 1))) for k in range(3)]
    assert {name: [row[name][0] for row in single] for name in whole} == whole


def test_an_empty_frame_has_empty_columns(encoder):
    encoder.fit(FRAME)
    columns = encoder.transform(FRAME.head(0))
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(columns, 0)
    dataset = SampleDataset(Schema(encoder.schema_features), columns, num_rows=0)
    assert dataset.take(slice(None)).size == 0


def test_encoded_columns_make_batches(encoder):
    columns = encoder.fit(FRAME).transform(FRAME)
    batch = SampleDataset(Schema(encoder.schema_features), columns, num_rows=3).take(np.array([2, 0]))
    assert batch.features["item"].values.tolist() == [1, 2]
    assert batch.features["history"].values.tolist() == [1, 3, 1]
    assert batch.features["history"].offsets.tolist() == [0, 1, 3]
    np.testing.assert_allclose(batch.features["price"].values, [[1.0], [0.0]])


def test_columns_of_nulls_are_missing():
    encoder = encoder_of(
        {"input_names": ["a"], "hash_bucket_size": 3, "embedding_dim": 1},
        {"input_names": ["b"], "feature_type": "RawFeature"},
        {"input_names": ["c"], "feature_type": "TagFeature", "hash_bucket_size": 3, "embedding_dim": 1},
    )
    columns = encoder.transform(pl.DataFrame({"a": [None, None], "b": [None, None], "c": [None, None]}))
    assert content(columns) == {"a": [-1, -1], "b": [[0.0], [0.0]], "c": [[], []]}


def test_large_frames_are_encoded_by_threads_to_the_same_columns_and_the_same_first_error():
    features = [{"input_names": [f"c{k}"], "num_buckets": 100, "embedding_dim": 1} for k in range(6)]
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({f"c{k}": rng.integers(0, 100, 30_000) for k in range(6)})
    columns = encoder_of(*features).transform(frame)
    assert list(columns) == frame.columns
    assert all(np.array_equal(columns[name].values, frame[name].to_numpy()) for name in columns)
    bad = frame.with_columns(c2=pl.lit(100), c4=pl.lit(200))
    for _ in range(3):
        with pytest.raises(DataError, match=r"row 1: feature `c2`.*Received: 100"):
            encoder_of(*features).transform(bad)
    skipping = encoder_of(*features, on_bad_rows="skip")
    skipping.transform(bad)
    assert sorted(skipping.skipped.values()) == [30_000, 30_000]
