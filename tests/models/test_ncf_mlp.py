"""Tests for the NCFMLP model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from retrieval_contract import RetrieverContract, query

from intarsia.core.batch import Batch, Dense
from intarsia.core.errors import BuildError
from intarsia.data.schema import Schema
from intarsia.models import ncf_net
from intarsia.models.ncf_mlp import NCFMLP
from intarsia.objectives.retrieval import build_objective


class TestNCFMLP(RetrieverContract):
    model = {"model_class": "NCFMLP", "ncf_mlp": {"hidden_size": 16, "hidden_units": [32, 16]}}
    learning_rate = 0.03
    batch_size = 128
    epochs = 20

    def test_starts_as_in_the_paper(self) -> None:
        model = self.made(ncf_mlp={"hidden_size": 32, "hidden_units": [64, 16]})
        assert isinstance(model, NCFMLP)
        assert model.objective.name == "bce"
        assert model.objective.needs_seen
        assert model.users.weight.std().item() == pytest.approx(0.01, rel=0.1)
        # Glorot's bound of the first layer counts both halves of its input: 64 in, 64 out.
        bound = (6 / (64 + 64)) ** 0.5
        for part in (model.of_user, model.of_item):
            assert 0.95 * bound < part.weight.abs().max().item() <= bound
        assert model.output.weight.abs().max().item() <= (3 / 16) ** 0.5

    def test_a_stranger_gets_the_mean_of_the_users_with_the_nearest_histories(self) -> None:
        model = self.made(seed=3)
        assert isinstance(model, NCFMLP)
        division = self.data().division
        windows = zip(division.train_starts, division.train_ends)
        histories = [torch.from_numpy(division.log.items[a:b].astype("int64")) for a, b in windows]
        means = torch.stack([model.items.weight[items].mean(dim=0) for items in histories])
        usual = means.mean(dim=0)
        stranger = torch.tensor([3, 5, 5])
        own = model.items.weight[stranger].mean(dim=0) - usual
        cosines = torch.nn.functional.cosine_similarity(own.unsqueeze(0), means - usual)
        nearest = sorted(range(len(cosines)), key=lambda user: -cosines[user].item())[:10]
        with torch.no_grad():
            found = model.encode_queries(query(stranger))[0]
            assert torch.allclose(found, model.of_user(model.users.weight[nearest].mean(dim=0)), atol=1e-6)
            nobody = model.encode_queries(query(torch.tensor([], dtype=torch.int64)))[0]
            assert torch.allclose(nobody, model.of_user(model.users.weight.mean(dim=0)), atol=1e-6)


def mlp(**options: Any) -> NCFMLP:
    """Two users, three items, vectors of two, layers of two and one."""
    schema = Schema({}, num_users=2, num_items=3)
    given = {"hidden_size": 2, "hidden_units": [2, 1], **options}
    return NCFMLP(schema=schema, objective=build_objective("bce", num_items=3), **given).eval()


def pairs() -> Batch:
    return Batch({"user": Dense(torch.tensor([0, 1])), "target": Dense(torch.tensor([0, 2]))}, size=2)


def test_layers_read_the_vectors_of_user_and_item_side_by_side() -> None:
    model = mlp()
    model.users.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.5]]))
    model.items.weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 2.0], [-2.0, 4.0]]))
    with torch.no_grad():
        model.of_user.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        model.of_user.bias.copy_(torch.tensor([0.5, -1.0]))
        model.of_item.weight.copy_(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
        model.hidden[0].get_parameter("weight").copy_(torch.tensor([[1.0, -2.0]]))
        model.hidden[0].get_parameter("bias").fill_(4.0)
        model.output.weight.fill_(3.0)
        model.output.bias.fill_(-1.0)
        scores = model.score_block(model.queries(pairs()), model.catalogue(), 0, 3)
    # User 0, item 0: relu(1 + 1 + .5), relu(4 - 3 - 1) = 2.5, 0; relu(2.5 + 4) = 6.5; 3 * 6.5 - 1.
    # User 0, item 2: 5.5, relu(4 + 2 - 1) = 5; relu(5.5 - 10 + 4) = 0. User 1, item 0: .5, 0; 4.5.
    assert scores[0].tolist() == [18.5, 3 * (3.5 - 6 + 4) - 1, -1.0]
    assert scores[1].tolist() == [12.5, 3 * (1.5 + 4) - 1, 3 * (3.5 - 4 + 4) - 1]


def test_a_net_without_layers_is_refused() -> None:
    with pytest.raises(BuildError) as caught:
        mlp(hidden_units=[])
    assert str(caught.value) == (
        "`NCFMLP` needs at least one layer. Received: hidden_units = []. Name the widths, or use `GMF`, which has no "
        "layers."
    )


def test_cosines_of_a_net_are_refused() -> None:
    model = mlp()
    model.objective = build_objective("info_nce", num_items=3)
    with pytest.raises(BuildError, match="NetScorer, which scores pairs"):
        model.losses(model(pairs()), pairs())


@pytest.mark.parametrize("objective", ["sampled_softmax", {"bce": {"num_negatives": 2}}, {"bpr": {"shared": True}}])
def test_parts_of_the_pairs_give_the_loss_and_the_gradients_of_all_at_once(
    objective: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = mlp(hidden_size=4, hidden_units=[8, 4]).train()
    model.objective = build_objective(objective, num_items=3)
    many = Batch({"user": Dense(torch.arange(40) % 2), "target": Dense(torch.arange(40) % 3)}, size=40)

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(1)
        loss = torch.stack(list(model.losses(model(many), many).values())).sum()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return [loss.detach(), *(g.to_dense() if g.is_sparse else g for g in gradients)]

    whole = run()
    monkeypatch.setattr(ncf_net, "KEPT_NUMBERS", 0)
    monkeypatch.setattr(ncf_net, "rows_at_a_time", lambda width, like: 7)
    parts = run()
    assert len(whole) == len(parts) > 6
    for one, two in zip(whole, parts):
        assert torch.allclose(one, two, atol=1e-6)
