"""Knowing the vectors of a model again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from vector_cases import drawn

from intarsia.core.errors import CheckpointError
from intarsia.retrieval import build_index, load_index
from intarsia.retrieval.fingerprint import Fingerprint


def check(a: torch.Tensor, b: torch.Tensor) -> None:
    Fingerprint.of(a).check(Fingerprint.of(b), "the index")


def test_the_same_vectors_are_known_again() -> None:
    vectors = drawn(0, 30, 5)
    check(vectors, vectors.clone())
    check(vectors, vectors.t().contiguous().t())  # other strides


def test_rounding_is_no_other_model() -> None:
    vectors = drawn(0, 30, 5)
    check(vectors, vectors * (1 + 1e-6))
    check(vectors, vectors + 1e-6)


def test_one_vector_of_another_model_is_told() -> None:
    other = drawn(0, 30, 5)
    other[7, 4] += 0.01
    with pytest.raises(
        CheckpointError, match=r"the index is of another model: 1 of its 30 vectors are not the model's"
    ):
        check(drawn(0, 30, 5), other)


def test_vectors_in_another_order_are_told() -> None:
    vectors = drawn(0, 30, 5)
    with pytest.raises(CheckpointError, match=r"30 of its 30 vectors .* nothing has to be trained"):
        check(vectors, vectors.flip(0))
    with pytest.raises(CheckpointError, match=r"of another model: 30 of its 30"):
        check(vectors, vectors.flip(1))


def test_another_shape_is_told() -> None:
    with pytest.raises(CheckpointError, match=r"it holds 30 vectors of width 5, the model has 31 of width 5"):
        check(drawn(0, 30, 5), drawn(0, 31, 5))
    with pytest.raises(CheckpointError, match=r"the model has 30 of width 6"):
        check(drawn(0, 30, 5), drawn(0, 30, 6))


def test_vectors_that_are_no_numbers_are_nobodys() -> None:
    broken = drawn(0, 30, 5)
    broken[3] = torch.nan
    with pytest.raises(CheckpointError, match=r"1 of its 30 vectors"):
        check(drawn(0, 30, 5), broken)


def test_vectors_of_zeros_are_told_from_others() -> None:
    check(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(CheckpointError, match=r"3 of its 3 vectors"):
        check(torch.zeros(3, 2), torch.ones(3, 2))


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_index_of_another_model_is_refused(kind: str, tmp_path: Path) -> None:
    build_index(drawn(0, 30, 5), kind).save(tmp_path)
    load_index(tmp_path, vectors=drawn(0, 30, 5))
    with pytest.raises(CheckpointError, match=r"the index in .* is of another model: 30 of its 30 vectors"):
        load_index(tmp_path, vectors=drawn(1, 30, 5))
