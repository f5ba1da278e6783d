"""Tests for the NeuMF model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from retrieval_contract import RetrieverContract, planted_log

from intarsia.core.batch import Batch, Dense
from intarsia.core.errors import BuildError
from intarsia.data.schema import Schema
from intarsia.models.neumf import NeuMF
from intarsia.objectives.retrieval import build_objective
from intarsia.recommender.retrieval import RetrievalRecommender


class TestNeuMF(RetrieverContract):
    model = {"model_class": "NeuMF", "neumf": {"hidden_size": 8, "layer_size": 16, "hidden_units": [32, 16]}}
    learning_rate = 0.03
    batch_size = 128
    epochs = 20

    def test_scores_are_the_equations_pair_by_pair(self) -> None:
        """Equation 12 for one pair at a time, with the first layer as one matrix."""
        model = self.made(seed=2)
        assert isinstance(model, NeuMF)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
            users, items = model.users.weight.normal_(), model.items.weight.normal_()
        batch = Batch({"user": Dense(torch.tensor([4, 9, 30]))}, size=3)
        first = torch.cat([model.of_user.weight, model.of_item.weight], dim=1)
        found = self.scores(model, batch)
        with torch.no_grad():
            for row, user in enumerate((4, 9, 30)):
                for item in (0, 7, 71):
                    product = users[user, :8] * items[item, :8]
                    z = torch.relu(first @ torch.cat([users[user, 8:], items[item, 8:]]) + model.of_user.bias)
                    for layer in model.hidden:
                        z = torch.relu(layer(z))
                    expected = model.output(torch.cat([product, z])).item()
                    assert found[row, item].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_training_and_ranking_see_the_same_scores(self) -> None:
        model = self.made(seed=2)
        assert isinstance(model, NeuMF)
        batch = Batch({"user": Dense(torch.tensor([4, 9, 30]))}, size=3)
        whole = self.scores(model, batch)
        with torch.no_grad():
            scorer = model.scorer(model.encode_queries(batch))
            assert torch.allclose(scorer.block(torch.arange(72)), whole, atol=1e-6)
            items = torch.tensor([[5, 1], [5, 5], [71, 0]])
            assert torch.allclose(scorer.pairs(items), whole.gather(1, items), atol=1e-6)
            assert torch.allclose(scorer.pairs(items[:, 0]), whole.gather(1, items)[:, 0], atol=1e-6)

    def test_items_are_similar_that_go_to_the_same_people(self) -> None:
        """There is no index of pair scores: similar items are what somebody gets who took the item alone."""
        model = self.made()
        assert not model.indexable
        recommender = RetrievalRecommender.from_data(self.config(), self.data(), model)
        similar = recommender.similar_items(["i5"], k=4)
        told = recommender.recommend(history=[["i5"]], k=4)
        assert similar["item"].to_list() == told["item"].to_list()

    def test_new_items_can_be_taken_in(self) -> None:
        recommender = RetrievalRecommender.from_data(self.config(), self.data(), self.made())
        larger = recommender.extend_items(["fresh"])
        before, after = (r.score({"user": ["u1"], "item": ["i3"]})["score"][0] for r in (recommender, larger))
        assert after == pytest.approx(before, abs=1e-6)
        assert np.isfinite(larger.score({"user": ["u1"], "item": ["fresh"]})["score"][0])
        assert planted_log()["item"].n_unique() + 1 == len(larger.memory.item_ids)


def test_a_net_without_layers_is_refused() -> None:
    with pytest.raises(BuildError, match=r"`NeuMF` needs at least one layer\. Received: hidden_units = \[\]\."):
        NeuMF(
            schema=Schema({}, num_users=2, num_items=3),
            objective=build_objective("bce", num_items=3),
            hidden_units=[],
        )
