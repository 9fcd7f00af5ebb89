"""The checker of annotations finds what is false, and leaves refusals to the functions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from pluralign.errors import ArgumentError
from shape_checks import checked

SQUARE, WIDE = torch.zeros(2, 2), torch.zeros(2, 3)


def sums(x: Float[Tensor, "N N"], label: int = 0) -> Float[Tensor, " N"]:
    """Its annotation says more than it checks."""
    return x.sum(-1)


def strict_sums(x: Float[Tensor, "N N"]) -> Float[Tensor, " N"]:
    if x.shape[0] != x.shape[1]:
        raise ArgumentError("not square")
    return x.sum(-1)


def wrong_axis(x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    return x.sum(0)


def nothing_to_return(x: Float[Tensor, " N"] | float | None) -> None:
    pass


@dataclasses.dataclass
class Pair:
    first: Float[Tensor, "N D"]
    second: Float[Tensor, "N D"]


def with_checks(what):
    return jaxtyped(typechecker=checked)(what)


def test_true_annotations_pass_and_other_types_are_left_to_mypy():
    assert with_checks(sums)(SQUARE, label="no number").tolist() == [0, 0]
    for each in (None, 1):
        with_checks(nothing_to_return)(each)
    with_checks(Pair)(WIDE, WIDE)


@pytest.mark.parametrize("wrong", [WIDE, torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64)])
def test_an_argument_that_should_have_been_refused_is_found(wrong):
    with pytest.raises(TypeCheckError, match="sums"):
        with_checks(sums)(wrong)


def test_an_argument_that_is_refused_has_the_error_of_the_function():
    with pytest.raises(ArgumentError, match="not square"):
        with_checks(strict_sums)(WIDE)


def test_a_false_result_is_found():
    assert with_checks(wrong_axis)(SQUARE).tolist() == [0, 0]
    with pytest.raises(TypeCheckError, match="return value"):
        with_checks(wrong_axis)(WIDE)


def test_functions_without_result_and_dataclasses_are_checked():
    with pytest.raises(TypeCheckError, match="nothing_to_return"):
        with_checks(nothing_to_return)(WIDE)
    with pytest.raises(TypeCheckError, match="__init__"):
        with_checks(Pair)(WIDE, SQUARE)
