"""Adding a model touches nothing else: what the folder of the models holds is complete and documented."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import contract
import numpy as np
import polars as pl
import pytest
from contract import ModelContract, planted
from hand import config_of
from retrieval_contract import RetrieverContract

from intarsia.core.errors import BuildError
from intarsia.core.params import StrictModel
from intarsia.models import catalogue
from intarsia.models.base import Model
from intarsia.models.retriever import ItemScorer
from intarsia.recommender.pipeline import short_form

FOLDER = Path(catalogue.__file__).parent
SHARED = {
    "__init__",
    "base",
    "blocks",
    "catalogue",
    "ncf",
    "ncf_net",
    "next_item",
    "retriever",
    "rows",
    "sequential",
    "sides",
    "solver",
}
"""Modules that hold what several models share."""
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)


@pytest.mark.parametrize("module", MODULES)
class TestEveryModule:
    def model(self, module: str) -> type[Model]:
        return importlib.import_module(f"intarsia.models.{module}").MODEL

    def test_defines_a_model_that_the_catalogue_finds(self, module: str) -> None:
        model = self.model(module)
        assert issubclass(model, Model)
        assert catalogue.resolve(model.__name__) is model
        assert model.__module__ == f"intarsia.models.{module}"

    def test_says_what_it_is_and_where_it_comes_from(self, module: str) -> None:
        text = inspect.getdoc(self.model(module)) or ""
        assert "Source:" in text
        assert len(text.splitlines()[0]) <= 120
        assert len((FOLDER / f"{module}.py").read_text().splitlines()) <= 250

    def test_documents_each_option(self, module: str) -> None:
        message = self.model(module).Config
        if message is None:
            assert module == "rank_model"
            return
        assert issubclass(message, StrictModel)
        assert message.__doc__
        for name, field in message.model_fields.items():
            assert field.description, name
        assert catalogue.messages()[module] is message

    def test_ships_a_configuration_that_loads_strictly(self, module: str) -> None:
        model = self.model(module)
        path = catalogue.shipped_yaml(model.__name__)
        if path is None:
            assert module == "rank_model"
            return
        loaded = short_form(model.__name__, "ml-100k")
        assert loaded.config.model.model_class == model.__name__
        assert loaded.config.data_config.dataset == "ml-100k"

    def test_has_a_test_class_with_the_contract(self, module: str) -> None:
        tests = importlib.import_module(f"test_{module}")
        name = f"Test{self.model(module).__name__}"
        contract = RetrieverContract if issubclass(self.model(module), ItemScorer) else ModelContract
        assert issubclass(getattr(tests, name), contract)
        assert getattr(tests, name).model["model_class"] == self.model(module).__name__


@pytest.mark.parametrize("module", sorted(SHARED - {"__init__", "catalogue"}))
def test_what_models_share_is_no_model(module: str) -> None:
    assert not hasattr(importlib.import_module(f"intarsia.models.{module}"), "MODEL")


def test_every_configuration_belongs_to_a_model() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} <= set(MODULES)


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(BuildError) as caught:
        catalogue.resolve("DeepFm")
    assert str(caught.value) == "model_config.model_class: there is no model `DeepFm`. Did you mean `DeepFM`?"
    with pytest.raises(BuildError, match=r"there is no model `zzz`\. Models: ALS, BERT4Rec, "):
        catalogue.resolve("zzz")
    with pytest.raises(BuildError, match="there is no model"):
        catalogue.shipped_yaml("zzz")


def test_a_message_that_was_not_checked_on_reading_is_checked_when_it_is_used() -> None:
    groups = [{"group_name": n, "feature_names": ["*"]} for n in ("wide", "deep")]
    config = config_of({"model_class": "DeepFM", "feature_groups": groups})
    broken = config.model_copy()
    broken.__pydantic_extra__ = {"deepfm": {"wide_output_dim": 0, "dnnn": {}}}
    with pytest.raises(BuildError) as caught:
        catalogue.resolve("DeepFM").from_config(broken, contract.ModelContract.schema())
    assert [problem.path for problem in caught.value.problems] == [
        "model_config.deepfm.wide_output_dim",
        "model_config.deepfm.dnnn",
    ]


def test_the_short_form_refuses_a_model_without_a_configuration() -> None:
    from intarsia.core.errors import ConfigError

    with pytest.raises(
        ConfigError, match=r"`RankModel` ships no configuration\. Write a pipeline file and train that."
    ):
        short_form("RankModel", "ml-100k")


def test_the_planted_data_cannot_be_learned_from_users_and_items_alone() -> None:
    """A linear model over both ids, and the popularity of the items, stay near one half."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import OneHotEncoder

    train, test = planted(4000, 1), planted(1000, 2)
    encoder = OneHotEncoder().fit(train.select("user", "item").to_numpy())
    x, y = (encoder.transform(f.select("user", "item").to_numpy()) for f in (train, test))
    linear = LogisticRegression(max_iter=500).fit(x, train["label"].to_numpy())
    labels = test["label"].to_numpy()
    assert roc_auc_score(labels, linear.predict_proba(y)[:, 1]) < 0.65
    liked = dict(train.group_by("item").agg(pl.col("label").mean()).iter_rows())
    popularity = np.array([liked[item] for item in test["item"]])
    assert roc_auc_score(labels, popularity) < 0.65


def test_a_linear_model_fails_the_contract(tmp_path: Path) -> None:
    """The floor of the contract is one that a model without interactions does not reach."""

    class Linear(ModelContract):
        model = {
            "model_class": "RankModel",
            "feature_groups": [{"group_name": "all", "feature_names": ["*"]}],
            "backbone": {
                "blocks": [
                    {
                        "name": "d",
                        "inputs": [{"feature_group_name": "all"}],
                        "layer": {"class_name": "Dense", "st_params": {"units": 1}},
                    }
                ]
            },
        }

    with pytest.raises(AssertionError):
        Linear().test_learns_what_neither_user_nor_item_tells_alone(tmp_path)


def test_a_model_that_looks_at_its_neighbours_fails_the_contract() -> None:
    class Neighbourly(ModelContract):
        model = {
            "model_class": "RankModel",
            "feature_groups": [{"group_name": "all", "feature_names": ["*"]}],
            "backbone": {
                "blocks": [
                    {
                        "name": "d",
                        "inputs": [{"feature_group_name": "all"}],
                        "lambda": {"expression": "lambda x: x - tf.reduce_mean(x, axis=0, keepdims=True)"},
                    }
                ]
            },
        }

    with pytest.raises(AssertionError):
        Neighbourly().test_the_size_of_batches_changes_nothing()
