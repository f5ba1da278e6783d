"""Shape trees: reading and printing them."""

from __future__ import annotations

import pytest
import torch

from intarsia.core.errors import BuildError
from intarsia.nn.shapes import describe, one_tensor, sequence, shape_of, tensor_list, width


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ((None, 16), "(B, 16)"),
        ((None, None, 32), "(B, L, 32)"),
        ((None,), "(B,)"),
        ([(None, 4), (None, 5)], "[(B, 4), (B, 5)]"),
        (((None, None, 32), (None,), None), "((B, L, 32), (B,), none)"),
        ([[(None, 4)], (None, 2, None, None)], "[[(B, 4)], (B, 2, ?, ?)]"),
        ([], "[]"),
        (None, "none"),
    ],
)
def test_describe(shapes, text):
    assert describe(shapes) == text


def test_shape_of_nests_as_the_tensors_do():
    x, n = torch.zeros(3, 5, 2), torch.zeros(3)
    assert shape_of(x) == (None, 5, 2)
    assert shape_of((x, n, None)) == ((None, 5, 2), (None,), None)
    assert shape_of([x, [n]]) == [(None, 5, 2), [(None,)]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one_tensor("X", (None,)), r"`X` reads one tensor of rank 2 or 3\. Received: \(B,\)\."),
        (lambda: one_tensor("X", [(None, 2)]), r"Received: \[\(B, 2\)\]\. Concatenate the inputs"),
        (
            lambda: tensor_list("X", (None, 2)),
            r"`X` reads a list of 1 or more tensors\. Received: \(B, 2\)\. Set merge",
        ),
        (lambda: tensor_list("X", [(None, 2)], 2), r"list of 2 or more tensors\. Received: \[\(B, 2\)\]\."),
        (lambda: tensor_list("X", [[(None, 2)]]), r"Received: \[\[\(B, 2\)\]\]\."),
        (
            lambda: width("X", (None, None)),
            r"`X` needs an input whose last axis has a known size\. Received: \(B, L\)\.",
        ),
        (lambda: sequence("X", (None, 2), "reads a pair"), r"`X` reads a pair\. Received: \(B, 2\)\. Feed it an input"),
        (lambda: sequence("X", ((None, 2), (None,)), "r"), r"Received: \(\(B, 2\), \(B,\)\)\."),
        (lambda: sequence("X", ((None, None, 2), (None, 1)), "r"), r"Received: \(\(B, L, 2\), \(B, 1\)\)\."),
        (
            lambda: sequence("X", ((None, None, 2), (None,), (None,)), "r"),
            r"Received: \(\(B, L, 2\), \(B,\), \(B,\)\)\.",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(BuildError, match=message):
        call()
