"""What every model of the catalogue must hold to. A model's test class names its configuration and inherits this."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import intarsia
from intarsia.config.resolve import dump_yaml
from intarsia.config.schema import PipelineConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.data.dataset import SampleDataset
from intarsia.data.features import FeatureEncoder
from intarsia.data.schema import Schema
from intarsia.models.base import AUXILIARY, Model
from intarsia.models.catalogue import build
from intarsia.recommender.pipeline import load_pipeline, pipeline_from
from intarsia.recommender.recommender import Recommender
from intarsia.recommender.row_recommender import RowRecommender

FEATURES = [
    {"input_names": ["user"], "hash_bucket_size": 50, "embedding_dim": 8},
    {"input_names": ["gender"], "vocab_list": ["?", "f", "m"], "embedding_dim": 8},
    {"input_names": ["item"], "hash_bucket_size": 60, "embedding_dim": 8, "embedding_name": "item"},
    {
        "input_names": ["tags"],
        "feature_type": "TagFeature",
        "kv_separator": ":",
        "hash_bucket_size": 20,
        "embedding_dim": 8,
    },
    {"input_names": ["price"], "feature_type": "RawFeature", "embedding_dim": 8},
    {
        "input_names": ["history"],
        "feature_type": "SequenceFeature",
        "hash_bucket_size": 60,
        "embedding_dim": 8,
        "embedding_name": "item",
        "sequence_combiner": {"attention": {}},
    },
]
FIELDS = [
    {"input_name": "label", "input_type": "FLOAT"},
    {"input_name": "price", "input_type": "FLOAT"},
    *({"input_name": name} for name in ("user", "gender", "item", "tags", "history")),
]


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    """Raw rows with histories of 0 to 6 items."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{k}" for k in rng.integers(0, 30, count)],
            "gender": [("f", "m")[k] for k in rng.integers(0, 2, count)],
            "item": [f"i{k}" for k in rng.integers(0, 40, count)],
            "tags": [
                "|".join(f"t{k}:{w}" for k, w in zip(rng.integers(0, 9, n), rng.random(n)))
                for n in rng.integers(1, 4, count)
            ],
            "price": rng.random(count).astype(np.float32),
            "history": ["|".join(f"i{k}" for k in rng.integers(0, 40, n)) for n in rng.integers(0, 7, count)],
            "label": rng.integers(0, 2, count).astype(np.float32),
        },
        schema_overrides={"history": pl.String},
    )


def planted(count: int, seed: int) -> pl.DataFrame:
    """Rows whose label is the product of a hidden sign of the user and one of the item.

    Each user likes half of the items and each item is liked by half of the users, so neither says anything alone.
    """
    signs = np.random.default_rng(0).permutation([-1, 1] * 10)
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 20, (2, count))
    label = (signs[user] * signs[item] > 0).astype(np.float32)
    return pl.DataFrame({"user": [f"u{k}" for k in user], "item": [f"i{k}" for k in item], "label": label})


class ModelContract:
    """Inherit as `class TestDeepFM(ModelContract)` and set `model`.

    Attributes:
        model: The `model_config`. Groups take all features (`*`), so that the model can be tried on several data sets.
        num_epochs: Passes over the planted data set.
        floor: AUC that the model must reach on it.
        num_classes: Whether the model can have several classes.
        regression: Whether the model can predict numbers.
    """

    model: ClassVar[dict[str, Any]]
    num_epochs: ClassVar[int] = 6
    floor: ClassVar[float] = 0.9
    num_classes: ClassVar[bool] = True
    regression: ClassVar[bool] = True

    # Making one

    @classmethod
    def pipeline(cls, **model: Any) -> PipelineConfig:
        return pipeline_from(
            {
                "data_config": {"input_fields": FIELDS, "label_fields": ["label"]},
                "feature_config": {"features": FEATURES},
                "model_config": {**cls.model, **model},
            }
        ).config

    @classmethod
    def encoder(cls) -> FeatureEncoder:
        return _encoder()

    @classmethod
    def schema(cls) -> Schema:
        return Schema(_encoder().schema_features, {"label": 1})

    @classmethod
    def made(cls, seed: int = 0, **model: Any) -> Model:
        """The model in evaluation mode, its weights drawn from the seed."""
        torch.manual_seed(seed)
        return build(cls.pipeline(**model).model, cls.schema()).eval()

    @classmethod
    def batch(cls, frame: pl.DataFrame) -> Batch:
        labels = {"label": frame["label"].to_numpy()}
        dataset = SampleDataset(cls.schema(), _encoder().transform(frame), labels, num_rows=frame.height)
        return dataset.take(slice(0, frame.height))

    @classmethod
    def predictions(cls, model: Model, frame: pl.DataFrame) -> dict[str, Tensor]:
        with torch.no_grad():
            return model(cls.batch(frame))

    # Configuration

    def test_configuration_survives_being_written_and_read(self, tmp_path: Path) -> None:
        config = self.pipeline()
        path = tmp_path / "pipeline.yaml"
        path.write_text(dump_yaml(config), encoding="utf-8")
        again = load_pipeline(path).config
        assert again == config
        torch.manual_seed(0)
        same_weights(build(again.model, self.schema()), self.made())

    def test_is_built_without_data(self) -> None:
        schema = Schema.from_json(self.schema().to_json())
        torch.manual_seed(0)
        same_weights(build(self.pipeline().model, schema), self.made())

    def test_building_leaves_the_configuration_alone(self) -> None:
        config = self.pipeline()
        build(config.model, self.schema())
        assert config == self.pipeline()

    def test_one_seed_gives_one_set_of_weights(self) -> None:
        same_weights(self.made(seed=3), self.made(seed=3))
        values = [*self.made(seed=3).state_dict().values()], [*self.made(seed=4).state_dict().values()]
        assert any(not torch.equal(one, two) for one, two in zip(*values))

    # Predictions

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_binary_predictions(self, count: int) -> None:
        found = self.predictions(self.made(), rows(count))
        assert {"logits", "probs"} <= set(found)
        for name in ("logits", "probs"):
            assert found[name].shape == (count,)
            assert found[name].dtype == torch.float32
            assert found[name].isfinite().all()
        assert torch.allclose(found["probs"], found["logits"].sigmoid())
        assert not any(name.startswith(AUXILIARY) for name in found)

    def test_several_classes(self) -> None:
        if not self.num_classes:
            pytest.skip("the model has one class")
        model = self.made(num_class=3)
        frame = rows(6).with_columns(label=pl.Series([0, 1, 2, 0, 1, 2], dtype=pl.Float32))
        found = self.predictions(model, frame)
        assert found["logits"].shape == found["probs"].shape == (6, 3)
        assert torch.allclose(found["probs"].sum(dim=1), torch.ones(6))
        assert torch.equal(found["y"], found["logits"].argmax(dim=1))
        assert total_loss(model, self.batch(frame)).item() > 0

    def test_regression(self) -> None:
        if not self.regression:
            pytest.skip("the model predicts classes")
        model = self.made(loss_type="L2_LOSS")
        frame = rows(6).with_columns(label=pl.Series([-3.0, 0.5, 2, 7, 1, 0], dtype=pl.Float32))
        found = self.predictions(model, frame)
        assert torch.equal(found["y"], found["logits"])
        assert "probs" not in found
        assert total_loss(model, self.batch(frame)).isfinite()

    # Invariances

    def test_padding_changes_nothing(self) -> None:
        """The same rows beside a row with a short, and beside one with a very long history."""
        model, frame = self.made(), rows(8)
        neighbours = [rows(1).with_columns(history=pl.lit(text)) for text in ("i1", "|".join(["i1"] * 40))]
        short, long = (self.predictions(model, pl.concat([frame, one])) for one in neighbours)
        for name in short:
            assert torch.allclose(short[name][:8], long[name][:8], atol=1e-5), name

    def test_the_order_of_rows_changes_nothing(self) -> None:
        model, frame = self.made(), rows(16)
        order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
        straight, mixed = self.predictions(model, frame), self.predictions(model, frame[order.numpy()])
        for name in straight:
            assert torch.allclose(straight[name][order], mixed[name], atol=1e-5), name

    def test_the_size_of_batches_changes_nothing(self) -> None:
        model, frame = self.made(), rows(16)
        whole = self.predictions(model, frame)
        parts = [self.predictions(model, frame[start : start + 5]) for start in range(0, 16, 5)]
        for name in whole:
            assert torch.allclose(whole[name], torch.cat([part[name] for part in parts]), atol=1e-5), name

    def test_missing_and_unknown_values_have_predictions(self) -> None:
        empty = rows(1).with_columns(pl.lit(None).cast(t).alias(n) for n, t in rows(1).schema.items() if n != "label")
        strange = rows(1).with_columns(user=pl.lit("nobody"), gender=pl.lit("x"), item=pl.lit("\u2603"))
        found = self.predictions(self.made(), pl.concat([empty, strange, rows(1).with_columns(history=pl.lit(""))]))
        assert all(value.isfinite().all() for value in found.values())

    # Training

    def test_a_gradient_reaches_every_parameter(self) -> None:
        model, batch = self.made().train(), self.batch(rows(64))
        for module in model.modules():
            if "BatchNorm" in type(module).__name__:
                module.eval()  # in training mode, a norm takes away what the bias before it adds
        total_loss(model, batch).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.to_dense().abs().sum() > 0, name

    def test_tables_get_gradients_for_the_rows_of_the_batch_only(self) -> None:
        model, batch = self.made().train(), self.batch(rows(3))
        total_loss(model, batch).backward()
        seen = sum(ids_of(feature) for feature in batch.features.values())
        assert model.tables
        for collection in model.tables:
            for parameter in collection.parameters():
                touched = parameter.grad.coalesce() if parameter.grad.is_sparse else parameter.grad.to_sparse(1)
                assert 0 < touched.indices().numel() <= 2 * seen
                assert touched.indices().numel() < len(parameter)

    def test_losses_are_named_finite_scalars(self) -> None:
        model, batch = self.made().train(), self.batch(rows(32))
        losses = model.losses(model(batch), batch)
        assert losses
        for name, value in losses.items():
            assert value.dim() == 0, name
            assert value.isfinite(), name
            assert not name.startswith(AUXILIARY)

    def test_learns_what_neither_user_nor_item_tells_alone(self, tmp_path: Path) -> None:
        features = [{"input_names": [n], "vocab": "auto", "embedding_dim": 8} for n in ("user", "item")]
        pipeline = {
            "data_config": {"label_fields": ["label"], "batch_size": 128, "num_epochs": self.num_epochs},
            "feature_config": {"features": features},
            "train_config": {"optimizer": "adam", "learning_rate": 0.01, "seed": 1},
            "eval_config": {"metrics_set": ["auc"]},
            "model_config": self.model,
        }
        train, test = planted(4000, 1), planted(1000, 2)
        rec = intarsia.fit(pipeline, train, test=test, run_dir=tmp_path)
        assert rec.metrics["test"]["auc"] >= self.floor

    # Saving

    def test_weights_can_be_saved_and_loaded(self) -> None:
        one, two = self.made(seed=0), self.made(seed=1)
        two.load_state_dict(one.state_dict())
        found = self.predictions(two, rows(9))
        for name, value in self.predictions(one, rows(9)).items():
            assert torch.equal(found[name], value), name

    def test_a_bundle_scores_raw_rows_as_the_model_did(self, tmp_path: Path) -> None:
        model = self.made(seed=5)
        before = RowRecommender(self.pipeline(), self.schema(), self.encoder(), model)
        before.save(tmp_path / "bundle")
        after = Recommender.load(tmp_path / "bundle")
        assert after.score(rows(20)).equals(before.score(rows(20)))
        found = self.predictions(model, rows(20))["logits"]
        assert before.score(rows(20), batch_size=7)["logits"].to_list() == pytest.approx(found.tolist(), abs=1e-5)


class _AnyModel(ModelContract):
    model = {"model_class": "RankModel"}


@cache
def _encoder() -> FeatureEncoder:
    """The features are those of every model, so they are made once."""
    config = _AnyModel.pipeline()
    assert config.feature_config is not None
    return FeatureEncoder(config.feature_config.features, config.data_config)


def same_weights(one: Model, two: Model) -> None:
    assert list(one.state_dict()) == list(two.state_dict())
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def total_loss(model: Model, batch: Batch) -> Tensor:
    return torch.stack([*model.losses(model(batch), batch).values()]).sum()


def ids_of(feature: Dense | Jagged) -> int:
    """Number of ids that a feature of a batch holds."""
    return 0 if feature.values.is_floating_point() else feature.values.numel()
