"""The exact Bradley-Terry solver against scikit-learn's logistic regression, and its own optimality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from pluralign.errors import ArgumentError
from pluralign.solvers.bradley_terry import fit_bradley_terry
from pluralign.solvers.pair_design import PairDesign


def problem(rows=300, width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    differences = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    truth = torch.randn(width, generator=generator, dtype=torch.float64)
    flip = torch.rand(rows, generator=generator) > torch.sigmoid(differences @ truth)
    differences[flip] *= -1
    weight = torch.rand(rows, generator=generator, dtype=torch.float64)
    return differences, weight


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_equals_scikit_learn(l2):
    differences, weight = problem()
    ours = fit_bradley_terry(differences, l2=l2, sample_weight=weight)
    both = torch.cat([differences, -differences]).numpy()
    label = np.repeat([1, 0], len(differences))
    # scikit-learn sums the loss over rows: C = 1 / (l2 * sum of weights); every pair is there twice.
    strength = 1 / (2 * l2 * float(weight.sum()))
    peer = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    peer.fit(both, label, sample_weight=np.tile(weight.numpy(), 2))
    np.testing.assert_allclose(ours.coef.numpy(), peer.coef_[0], atol=2e-5, rtol=1e-4)
    assert ours.gradient_norm <= 1e-8


def test_swapping_every_pair_flips_the_weights():
    differences, weight = problem(seed=1)
    one = fit_bradley_terry(differences, l2=0.01, sample_weight=weight).coef
    other = fit_bradley_terry(-differences, l2=0.01, sample_weight=weight).coef
    torch.testing.assert_close(one, -other)


def test_weights_are_repeated_rows():
    differences, _ = problem(rows=40, seed=2)
    count = torch.arange(40) % 3 + 1
    repeated = fit_bradley_terry(differences.repeat_interleave(count, 0), l2=0.05).coef
    weighted = fit_bradley_terry(differences, l2=0.05, sample_weight=count).coef
    torch.testing.assert_close(repeated, weighted)


def test_separable_pairs_and_more_columns_than_rows_have_an_optimum():
    differences = torch.eye(5, 40, dtype=torch.float64) * 100
    result = fit_bradley_terry(differences, l2=1e-4)
    assert result.gradient_norm <= 1e-8
    assert bool((differences @ result.coef > 0).all())


def test_float32_rows_in_chunks_give_the_same_as_float64():
    differences, weight = problem(rows=20_000, width=5, seed=3)
    small = differences.float()
    torch.testing.assert_close(
        fit_bradley_terry(small, l2=0.01, sample_weight=weight).coef,
        fit_bradley_terry(small.double(), l2=0.01, sample_weight=weight).coef,
    )


def texts_and_pairs(kind, seed=0):
    """Texts in groups, every two of a group compared; or two texts of their own for each pair."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(120, 9, generator=generator, dtype=torch.float64)
    if kind == "groups":
        one, other = torch.triu_indices(8, 8, 1)
        first = torch.arange(0, 120, 8)[:, None]
        chosen, rejected = (first + one).flatten(), (first + other).flatten()
    else:
        chosen, rejected = torch.randperm(120, generator=generator).reshape(2, 60)
    flip = torch.rand(len(chosen), generator=generator) < torch.sigmoid(
        (features[rejected] - features[chosen])[:, :3].sum(1)
    )
    weight = torch.rand(len(chosen), generator=generator, dtype=torch.float64)
    return features, torch.where(flip, rejected, chosen), torch.where(flip, chosen, rejected), weight


@pytest.mark.parametrize("kind", ["groups", "apart"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pairs_of_texts_are_their_differences(kind, dtype):
    features, chosen, rejected, weight = texts_and_pairs(kind)
    features = features.to(dtype)
    ours = fit_bradley_terry(PairDesign(features, chosen, rejected), l2=0.01, sample_weight=weight)
    rows = features.double()[chosen] - features.double()[rejected]
    plain = fit_bradley_terry(rows, l2=0.01, sample_weight=weight)
    torch.testing.assert_close(ours.coef, plain.coef, atol=1e-6, rtol=0)
    assert ours.gradient_norm <= 1e-8
    # scipy, without Newton's method and without this package's sums
    share, d = (weight / weight.sum()).numpy(), rows.numpy()

    def loss(v):
        return share @ np.logaddexp(0, -d @ v) + 0.005 * v @ v

    peer = minimize(loss, np.zeros(9), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(ours.coef.numpy(), peer.x, atol=1e-5)
    np.testing.assert_allclose(ours.objective, peer.fun, rtol=1e-9)


@pytest.mark.parametrize("width", [9, 150])
def test_the_curvature_of_a_graph_is_that_of_its_edges(width):
    """X' L X, also where it is summed block by block and chunk by chunk."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(40_000, width, generator=generator)
    ends = torch.randint(0, 40_000, (2, 45_000), generator=generator)
    ends = torch.cat([ends, ends[:, :500].flip(0), ends[:, :20]], 1)  # other orders, and edges twice
    ends = ends[:, ends[0] != ends[1]]
    curvature = torch.rand(ends.shape[1], generator=generator, dtype=torch.float64)
    design = PairDesign(features, ends[0], ends[1])
    rows = features.double()[ends[0]] - features.double()[ends[1]]
    expected = (rows.T @ (rows * curvature[:, None])).tril()
    torch.testing.assert_close(design.gram(curvature).tril(), expected, rtol=1e-4, atol=2e-2)
    torch.testing.assert_close(design.total(curvature), rows.T @ curvature, rtol=1e-8, atol=1e-6)
    coef = torch.randn(width, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(design.margins(coef), rows @ coef)
    torch.testing.assert_close(design.margins(coef), -PairDesign(features, ends[1], ends[0]).margins(coef))


def test_a_text_that_is_not_finite_is_refused():
    features, chosen, rejected, _ = texts_and_pairs("groups")
    features[3, 2] = float("inf")
    with pytest.raises(ArgumentError, match="features hold NaN"):
        PairDesign(features, chosen, rejected)


def test_texts_of_no_pair_play_no_part():
    features, chosen, rejected, weight = texts_and_pairs("groups")
    more = torch.cat([features, 1e6 * torch.ones(50, 9, dtype=torch.float64)])
    one = fit_bradley_terry(PairDesign(features, chosen, rejected), l2=0.01, sample_weight=weight).coef
    other = fit_bradley_terry(PairDesign(more, chosen, rejected), l2=0.01, sample_weight=weight).coef
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"differences": torch.zeros(0, 3)}, "at least 1"),
        ({"l2": 0.0}, "positive penalty"),
        ({"l2": float("nan")}, "positive penalty"),
        ({"differences": torch.full((2, 3), float("nan"))}, "NaN"),
        ({"sample_weight": torch.tensor([1.0, -1.0])}, "non-negative"),
        ({"sample_weight": torch.zeros(2)}, "not all 0"),
    ],
)
def test_bad_input(change, message):
    arguments = {"differences": torch.ones(2, 3), "l2": 0.1} | change
    with pytest.raises(ArgumentError, match=message):
        fit_bradley_terry(arguments.pop("differences"), **arguments)
