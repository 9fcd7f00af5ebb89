"""`Ensemble`: what it says beyond its mixture, whose numbers the oracles of every distribution check."""

from __future__ import annotations

import pytest
import torch

from pluralign.distributions import (
    Categorical,
    Empirical,
    Ensemble,
    GaussianEnsemble,
    Point,
    Quantiles,
)
from pluralign.errors import ArgumentError

LEVELS = [0.1, 0.5, 0.9]


def members() -> list[Quantiles]:
    draw = torch.Generator().manual_seed(0)
    return [Quantiles(torch.randn(4, 3, generator=draw, dtype=torch.float64), LEVELS) for _ in range(3)]


def test_the_two_variances_sum_to_the_variance():
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    distribution = Ensemble(members(), weights)
    within, between = distribution.variances()
    each = torch.stack([one.std().square() for one in distribution.members()])
    means = torch.stack([one.mean() for one in distribution.members()])
    torch.testing.assert_close(within, weights @ each)
    torch.testing.assert_close(between, weights @ (means - weights @ means) ** 2)
    torch.testing.assert_close(within + between, distribution.std().square())
    heads = GaussianEnsemble([[0.0, 2.0]], [[1.0, 2.0]])
    assert [float(part) for part in heads.variances()] == [2.5, 1.0]
    single = members()[0]
    torch.testing.assert_close(single.variances().within, single.std().square())
    assert not single.variances().between.any()


def test_gaussian_members_are_one_gaussian_ensemble():
    first = GaussianEnsemble([[0.0, 1.0]], [[1.0, 0.5]], [0.25, 0.75])
    second = GaussianEnsemble([[3.0]], [[2.0]])
    distribution = Ensemble([first, second], [0.4, 0.6])
    same = GaussianEnsemble([[0.0, 1.0, 3.0]], [[1.0, 0.5, 2.0]], [0.1, 0.3, 0.6])
    for name in ("mean", "std"):
        torch.testing.assert_close(getattr(distribution, name)(), getattr(same, name)())
    for found, wanted in zip(distribution.mixture().heads(), same.heads(), strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        distribution.heads().means, torch.tensor([[0.75, 3.0]])
    )  # of members, not of their heads
    torch.testing.assert_close(distribution.quantile(0.2), same.quantile(0.2))


def test_categories_are_kept_where_members_share_them():
    atoms = [1.0, 2.0, 3.0]
    distribution = Ensemble([Categorical([[0.2, 0.3, 0.5]], atoms), Categorical([[0.6, 0.3, 0.1]], atoms)])
    found, probs = distribution.point_masses()
    torch.testing.assert_close(found, torch.tensor([atoms]))
    torch.testing.assert_close(probs, torch.tensor([[0.4, 0.3, 0.3]]))
    other = Ensemble([Categorical([[0.2, 0.8]], [1.0, 2.0]), Categorical([[0.5, 0.5]], [0.0, 2.0])])
    found, probs = other.point_masses()
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 0.0, 2.0]]))
    torch.testing.assert_close(probs, torch.tensor([[0.1, 0.4, 0.25, 0.25]]))
    assert Ensemble(members()).point_masses() is None


def test_rows_and_dtypes_keep_the_members():
    distribution = Ensemble(members())
    for index in (2, slice(1, 3), [3, 0], torch.tensor([True, False, True, False])):
        part = distribution[index]
        assert len(part.members()) == 3
        torch.testing.assert_close(part.heads().means, distribution.heads().means[index].reshape(-1, 3))
        torch.testing.assert_close(part.std(), distribution.std()[index].reshape(-1))
    narrow = distribution.to(torch.float32)
    assert {one.dtype for one in (narrow, *narrow.members())} == {torch.float32}
    moved = distribution.scale_shift(2.0, 1.0)
    torch.testing.assert_close(moved.members()[1].mean(), 2 * distribution.members()[1].mean() + 1)
    torch.testing.assert_close(moved.std(), 2 * distribution.std())
    torch.testing.assert_close(
        distribution.crossing_rate, torch.stack([m.crossing_rate for m in members()]).mean(0)
    )
    assert Ensemble([Point([1.0]), Point([2.0])]).crossing_rate is None


def test_only_discrete_members_are_transformed():
    distribution = Ensemble([Empirical([[0.0, 1.0]]), Point([2.0])])
    mapped = distribution.transformed(torch.exp)
    torch.testing.assert_close(mapped.mean(), torch.tensor([(1 + 2.718282) / 4 + 7.389056 / 2]))
    assert len(mapped.members()) == 2
    assert Ensemble(members()).transformed(torch.exp) is None


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ([], None, "at least one; received none"),
        (members()[0], None, "received none"),
        ([1.0], None, "received float"),
        ([Point([1.0]), Point([1.0, 2.0])], None, r"one batch shape, received \[1\], \[2\]"),
        ([Point([1.0]), GaussianEnsemble([[0.0]], [[1.0]])], None, "received Point, GaussianEnsemble"),
        ([Ensemble([Point([1.0])]), Point([1.0])], None, "received Ensemble, Point"),
        ([Point([1.0]), Point([1.0])], [0.5], r"weights must have shape \[2\]"),
        ([Point([1.0]), Point([1.0])], [0.5, 0.4], "sum to 1"),
        ([Point([1.0]), Point([1.0])], [1.5, -0.5], "not negative"),
        ([Point([1.0]), Point([1.0])], [float("nan"), 1.0], "finite"),
    ],
)
def test_bad_members_and_weights_are_refused(parts, weights, message):
    with pytest.raises(ArgumentError, match=message):
        Ensemble(parts, weights)
