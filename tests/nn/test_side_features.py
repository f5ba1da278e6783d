from __future__ import annotations

import pytest
import torch

from intarsia.core.batch import Dense, Jagged
from intarsia.nn.id_table import IdTable
from intarsia.nn.side_features import CatalogueFeatures, ItemEncoder, SideFeature, SideFeatures

GENRES = SideFeature("genres", num_ids=4, multi=True, dim=3, size=5)
YEAR = SideFeature("year", width=2)
STUDIO = SideFeature("studio", num_ids=3, dim=2)
ALL = {
    "genres": Jagged(torch.tensor([0, 1, 3, 2, 2]), torch.tensor([0, 2, 2, 5])),
    "year": Dense(torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])),
    "studio": Dense(torch.tensor([1, -1, 0])),
}


@pytest.mark.parametrize("sparse", [False, True])
def test_missing_numbers_read_zeros_and_get_no_gradient(sparse: bool) -> None:
    table = IdTable(5, 3, std=1.0, sparse=sparse)
    found = table(torch.tensor([[0, -1], [4, 4]]))
    assert found.shape == (2, 2, 3)
    assert not found[0, 1].any()
    assert torch.equal(found[1, 0], table.weight[4])
    found.sum().backward()
    (weight,) = table.parameters()
    assert weight.grad is not None
    gradient = weight.grad.to_dense()[:5]
    assert gradient.sum(dim=1).tolist() == [3, 0, 0, 0, 6]
    assert weight.grad.is_sparse is sparse


def test_the_sum_of_projections() -> None:
    torch.manual_seed(0)
    module = SideFeatures([GENRES, YEAR, STUDIO], dim=6)
    found = module(ALL)
    assert module.tables is not None
    genres, studios = module.tables.weight("genres"), module.tables.weight("studio")
    of_genres, of_year, of_studio = module.project.weight.split([3, 2, 2], dim=1)
    row = genres[[3, 2, 2]].mean(dim=0) @ of_genres.t() + torch.tensor([3.0, -1.0]) @ of_year.t()
    assert torch.allclose(found[2], row + studios[0] @ of_studio.t(), atol=1e-6)
    assert not found[1].any()  # nothing is known of it


def test_items_are_told_by_their_number_alone() -> None:
    module = CatalogueFeatures([GENRES, YEAR, STUDIO], num_items=3, dim=6)
    module.fill(ALL)
    everything = module()
    assert torch.allclose(module(torch.tensor([2, 0, 2])), everything[[2, 0, 2]])
    assert module(torch.tensor([], dtype=torch.int64)).shape == (0, 6)
    again = CatalogueFeatures([GENRES, YEAR, STUDIO], num_items=3, dim=6)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(), everything)


def test_vectors_of_items_with_features() -> None:
    encoder = ItemEncoder(3, 6, std=0.1, features=[GENRES, YEAR, STUDIO])
    assert encoder.features is not None
    encoder.features.fill(ALL)
    everything = encoder()
    found = encoder(torch.tensor([[1, -1], [0, 2]]))
    assert torch.allclose(found[1], everything[[0, 2]], atol=1e-6)
    assert not found[0, 1].any()
    assert torch.equal(ItemEncoder(3, 6, std=0.1)(torch.tensor([-1])), torch.zeros(1, 6))
