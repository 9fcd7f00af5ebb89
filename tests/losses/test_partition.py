"""log Z, the break-even rank and the KL of the optimum, against sums, closed forms and published numbers."""

from __future__ import annotations

import math

import pytest
import torch

from pluralign.errors import ArgumentError
from pluralign.losses.partition import break_even_quantile, log_partition, optimum_kl

NAMES = ["identity", "log", "square", "sqrt", "normal:0.2:0.5"]


def test_exact_and_published_form():
    assert log_partition(1.0).item() == pytest.approx(math.log(math.e - 1), rel=1e-14)
    assert log_partition(1.0).shape == ()
    assert log_partition(1.0).dtype == torch.float64
    for beta, error in ((0.1, 4.5e-6), (1.0, 0.46)):  # of b log Z, by the paper's b log b + 1
        assert beta * math.log(beta) + 1 - beta * log_partition(beta).item() == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_one_beta_per_example(name):
    betas = torch.tensor([1e-4, 0.03, 1.0, 10.0])
    together = log_partition(betas, name)
    assert together.tolist() == pytest.approx(
        [log_partition(b, name).item() for b in betas.double()], rel=1e-12
    )


def test_finite_form_is_the_mean_over_references():
    ranks = torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.1, 0.5, 0.9, 0.3]], dtype=torch.float64)
    keep = torch.tensor([[True, True, True, True], [True, True, False, False]])
    ours = log_partition(0.2, reference_ranks=ranks, keep_mask=keep)
    expected = [
        math.log(sum(math.exp(c / 0.2) for c in row) / len(row))
        for row in ([0.25, 0.25, 0.75, 0.75], [0.1, 0.5])
    ]
    assert ours.tolist() == pytest.approx(expected, rel=1e-14)
    per_row = log_partition(torch.tensor([0.2, 3.0]), "square", ranks, keep)
    expected[0] = math.log(sum(math.exp(c * c / 0.2) for c in (0.25, 0.75)) / 2)
    expected[1] = math.log(sum(math.exp(c * c / 3.0) for c in (0.1, 0.5)) / 2)
    assert per_row.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["identity", "square", "sqrt", "log"])
def test_finite_form_tends_to_the_exact_one(name):
    ranks = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).unsqueeze(0)
    for beta in (0.05, 1.0):
        ours = log_partition(beta, name, reference_ranks=ranks)
        assert ours.item() == pytest.approx(log_partition(beta, name).item(), abs=1e-6)


@pytest.mark.parametrize(("n", "expected"), [(1, 1.0), (3, 0.894), (10, 0.816)])
def test_a_finite_partition_of_few_references_would_raise_break_even(n, expected):
    """Continuous rewards use the exact form: there break-even is .770; here nothing could go up at n = 1."""
    ranks = (torch.arange(1, n + 1, dtype=torch.float64) / n).unsqueeze(0)
    assert 0.1 * log_partition(0.1, reference_ranks=ranks).item() == pytest.approx(expected, abs=5e-4)


def test_nothing_overflows():
    ranks = torch.tensor([[0.0, 1.0]])
    assert log_partition(1e-4, reference_ranks=ranks).item() == pytest.approx(1e4 - math.log(2), rel=1e-14)
    assert log_partition(1e-6, "square").isfinite()
    assert log_partition(1e6, "sqrt").item() == pytest.approx(2 / 3 * 1e-6, rel=1e-5)


def test_break_even_quantile():
    assert break_even_quantile(0.1).item() == pytest.approx(0.770, abs=5e-4)
    assert break_even_quantile(0.001).item() == pytest.approx(1 - 0.0069, abs=1e-4)
    assert break_even_quantile(torch.tensor([0.1, 0.3])).shape == (2,)
    # log: f(t) = log t = b log(b / (b + 1))
    assert break_even_quantile(0.5, "log").item() == pytest.approx((1 / 3) ** 0.5, rel=1e-12)
    # normal: Phi^-1(t) = 1 / (2 b)
    expected = torch.special.ndtr(torch.tensor(1.0, dtype=torch.float64)).item()
    assert break_even_quantile(0.5, "normal").item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [*NAMES, lambda t: t * t])
@pytest.mark.parametrize("beta", [0.05, 0.7, 5.0])
def test_kl_of_the_optimum_by_a_sum(name, beta):
    from pluralign.losses.transforms import parse_transform

    t = (torch.arange(2_000_000, dtype=torch.float64) + 0.5) / 2_000_000
    if name == "normal:0.2:0.5":  # a Gaussian shifted by s/b standard deviations
        assert optimum_kl(beta, name).item() == pytest.approx(0.5 * (0.5 / beta) ** 2, rel=1e-9)
        return
    log_ratio = parse_transform(name)(t) / beta
    log_ratio = log_ratio - torch.logsumexp(log_ratio, 0) + math.log(len(t))
    expected = (log_ratio.exp() * log_ratio).mean().item()
    assert optimum_kl(beta, name).item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_kl_for_small_beta():
    ranks = torch.tensor([[0.0, 1.0, 1.0], [0.2, 0.7, 0.0]], dtype=torch.float64)
    keep = torch.tensor([[True, True, True], [True, True, False]])
    weights = (ranks / 0.3).exp() * keep
    probs = weights / weights.sum(-1, keepdim=True)
    apart = torch.xlogy(probs, probs).sum(-1) + keep.sum(-1).double().log()
    torch.testing.assert_close(optimum_kl(0.3, reference_ranks=ranks, keep_mask=keep), apart)
    torch.testing.assert_close(optimum_kl(torch.tensor([0.3, 0.3]), "identity", ranks, keep), apart)
    assert optimum_kl(1e-3).item() == pytest.approx(math.log(1e3) - 1, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_kl_is_not_negative_where_it_vanishes(name):
    assert (optimum_kl(10.0 ** torch.arange(1, 12), name) >= 0).all()


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_illegal_beta(beta):
    for function in (log_partition, break_even_quantile, optimum_kl):
        with pytest.raises(ArgumentError, match="beta must be positive and finite"):
            function(beta)


@pytest.mark.parametrize("beta", ["0.1", None, [[0.1], [0.1, 0.2]]])
def test_beta_that_is_not_a_number(beta):
    with pytest.raises(ArgumentError, match="beta must be a positive number or a tensor of them, received"):
        log_partition(beta)


def test_illegal_ranks():
    good = torch.tensor([[0.5, 1.0]])
    with pytest.raises(ArgumentError, match="ranks must lie in"):
        log_partition(1.0, reference_ranks=good + 0.1)
    with pytest.raises(ArgumentError, match="ranks must lie in"):
        log_partition(1.0, reference_ranks=good * math.nan)
    with pytest.raises(ArgumentError, match="at least one reference"):
        log_partition(1.0, reference_ranks=good, keep_mask=torch.tensor([[False, False]]))
    with pytest.raises(ArgumentError, match=r"\[B, N\]"):
        log_partition(1.0, reference_ranks=good[0])
    with pytest.raises(ArgumentError, match="bool of shape"):
        log_partition(1.0, reference_ranks=good, keep_mask=torch.tensor([True]))
    with pytest.raises(ArgumentError, match="keep_mask must be a tensor, received list"):
        log_partition(1.0, reference_ranks=good, keep_mask=[[True, True]])
    with pytest.raises(ArgumentError, match="needs reference_ranks"):
        log_partition(1.0, keep_mask=torch.tensor([[True]]))
    with pytest.raises(ArgumentError, match="clamp their ranks"):
        log_partition(1.0, "log", reference_ranks=torch.zeros(1, 3))
    with pytest.raises(ArgumentError, match=r"beta must be a number or have shape \[1\]"):
        log_partition(torch.ones(2), reference_ranks=good)
