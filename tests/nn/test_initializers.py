"""Scales of initial values."""

from __future__ import annotations

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.initializers import initialize_

OUT, IN = 300, 500


@pytest.mark.parametrize(
    ("name", "std", "largest"),
    [
        ("he_uniform", (2 / IN) ** 0.5, (6 / IN) ** 0.5),
        ("he_normal", (2 / IN) ** 0.5, 2 * (2 / IN) ** 0.5 / 0.8796),
        ("glorot_uniform", (2 / (IN + OUT)) ** 0.5, (6 / (IN + OUT)) ** 0.5),
        ("xavier_uniform", (2 / (IN + OUT)) ** 0.5, (6 / (IN + OUT)) ** 0.5),
        ("glorot_normal", (2 / (IN + OUT)) ** 0.5, 2 * (2 / (IN + OUT)) ** 0.5 / 0.8796),
        ("lecun_uniform", (1 / IN) ** 0.5, (3 / IN) ** 0.5),
        ("lecun_normal", (1 / IN) ** 0.5, 2 * (1 / IN) ** 0.5 / 0.8796),
        ("truncated_normal", 0.05 * 0.8796, 0.1),
        ("random_normal", 0.05, 1.0),
        ("random_uniform", 0.05 / 3**0.5, 0.05),
    ],
)
def test_spread(name, std, largest):
    torch.manual_seed(0)
    weight = initialize_(torch.empty(OUT, IN), name)
    assert weight.mean().item() == pytest.approx(0, abs=0.001)
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert weight.abs().max().item() <= largest * 1.0001


def test_convolutions_count_their_width():
    weight = initialize_(torch.empty(30, 20, 5), "he_uniform")
    assert weight.abs().max().item() == pytest.approx((6 / 100) ** 0.5, rel=0.01)


def test_constants_and_orthogonal():
    assert initialize_(torch.empty(3), "zeros").sum() == 0
    assert initialize_(torch.empty(3), "ones").sum() == 3
    q = initialize_(torch.empty(4, 4), "orthogonal")
    torch.testing.assert_close(q @ q.T, torch.eye(4), atol=1e-5, rtol=0)


def test_unknown_name():
    with pytest.raises(BuildError, match=r"no initializer is called `glorot_unifrm`\. Did you mean `glorot_uniform`"):
        initialize_(torch.empty(2, 2), "glorot_unifrm")
