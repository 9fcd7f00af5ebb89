"""Distance of a predicted distribution from the raters, and the smallest distance that is possible.

In: predicted distributions of N responses and their ratings [N, R], NaN for a missing rater. Out: one number
per response, or the floor of a data set.

Raters choose among ordered categories with rewards `atoms`. A continuous distribution is converted to them
(`category_probs`), so that families are not penalised for not being discrete. A few raters are not the whole
crowd: even the true distribution has the distance `wasserstein_floor` from them, and the squared distance is
estimated without that bias.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Categorical, Empirical, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Values, rating_table, rounding

__all__ = [
    "category_probs",
    "energy_distance",
    "fit_dirichlet",
    "majority_accuracy",
    "on_categories",
    "rater_counts",
    "split_half_distance",
    "wasserstein_floor",
    "wasserstein_to_raters",
]


def category_probs(distribution: RewardDistribution, atoms: Float[Tensor, " C"]) -> Float[Tensor, "N C"]:
    """The probability of each category: the mass closer to its atom than to any other.

    Args:
        distribution: N distributions on the scale of the atoms.
        atoms: strictly increasing rewards of the categories, at least 2.

    Returns:
        `[N, C]`, rows sum to 1. Mass exactly between two atoms belongs to the lower one.

    Raises:
        ArgumentError: the atoms do not increase.
    """
    atoms = _atoms(atoms)
    below = distribution.cdf(((atoms[1:] + atoms[:-1]) / 2).expand(distribution.batch_shape[0], -1))
    edge = below.new_ones(len(below), 1)
    return torch.diff(torch.cat([torch.zeros_like(edge), below, edge], 1), dim=1).clamp(min=0)


def rater_counts(ratings: Values, atoms: Float[Tensor, " C"]) -> Float[Tensor, "N C"]:
    """Number of raters who chose each category (that of the nearest atom): `[N, C]`."""
    atoms = _atoms(atoms)
    given = torch.from_numpy(rating_table(ratings)).double()
    given = given if given.ndim == 2 else given[:, None]
    nearest = torch.bucketize(given.nan_to_num(), (atoms[1:] + atoms[:-1]) / 2)
    chosen = torch.nn.functional.one_hot(nearest, len(atoms)).double()
    return (chosen * ~given.isnan()[:, :, None]).sum(1)


def wasserstein_to_raters(distribution: RewardDistribution, ratings: Values) -> Float[Tensor, " N"]:
    """Wasserstein-1 distance of each distribution to that of its raters, in units of the ratings."""
    raters, keep = _raters(ratings)
    return distribution.to(dtype=torch.float64).wasserstein(Empirical(raters, keep))


def energy_distance(distribution: RewardDistribution, ratings: Values) -> Float[Tensor, " N"]:
    """Integral of (F - G)^2 for the distribution F and the crowd's G, from which the raters are a sample.

    E crps(F, Y) - E|Y - Y'| / 2, with the second term over pairs of different raters: unbiased for every
    number of raters, so means over responses are comparable even if the numbers differ. The value of a
    single response can be negative.

    Returns:
        `[N]`; NaN for fewer than two raters, since their spread is unknown.
    """
    raters, keep = _raters(ratings)
    count = keep.sum(1)
    filled = raters.nan_to_num()
    both = keep[:, :, None] & keep[:, None, :]
    apart = ((filled[:, :, None] - filled[:, None, :]).abs() * both).sum((1, 2)) / (count * (count - 1))
    loss = distribution.to(dtype=torch.float64).crps(torch.where(keep, raters, math.nan))
    return torch.where(count > 1, loss - apart / 2, math.nan)


def majority_accuracy(
    probs: Float[Tensor, "N C"], ratings: Values, atoms: Float[Tensor, " C"]
) -> Float[Tensor, " N"]:
    """Whether the most likely category is the one that most raters chose.

    If several are chosen equally often, any of them is correct; if several are equally likely, the result is
    the share of these that are correct.
    """
    counts = rater_counts(ratings, atoms)
    right = (counts == counts.amax(1, keepdim=True)).double()
    likeliest = (probs >= probs.amax(1, keepdim=True) * (1 - rounding(probs))).double()
    return (right * likeliest).sum(1) / likeliest.sum(1)


def fit_dirichlet(counts: Float[Tensor, "N C"], iterations: int = 500) -> Float[Tensor, " C"]:
    """Maximum likelihood of a Dirichlet-multinomial: how the crowd's distributions vary over responses.

    Minka's fixed-point iteration, started at the share of each category times 5.

    Args:
        counts: raters per category, at least two for some response.
        iterations: maximum; stops earlier if no relative change is above 1e-10.

    Returns:
        `[C]`, float64, all positive. Categories that nobody chose keep 1e-6.

    Raises:
        ArgumentError: no response has two raters or more.

    Reference:
        Minka, "Estimating a Dirichlet distribution" (2000), the fixed point for the Polya distribution.
    """
    counts = counts.double()
    counts = counts[counts.sum(1) > 1]
    if not len(counts):
        raise ArgumentError("no response has two raters, so the spread of ratings cannot be estimated")
    size = counts.sum(1, keepdim=True)
    alpha = 5 * counts.sum(0) / counts.sum() + 1e-6
    for _ in range(iterations):
        total = alpha.sum()
        rise = (torch.digamma(counts + alpha) - torch.digamma(alpha)).sum(0)
        fall = (torch.digamma(size + total) - torch.digamma(total)).sum()
        new = (alpha * rise / fall).clamp(1e-6, 1e6)
        done = bool(((new - alpha).abs() <= 1e-10 * alpha).all())
        alpha = new
        if done:
            break
    return alpha


def wasserstein_floor(
    counts: Float[Tensor, "N C"], atoms: Float[Tensor, " C"], *, draws: int = 20_000, seed: int = 0
) -> float:
    """The expected Wasserstein-1 distance of the true distribution from the raters of these responses.

    This is the average score of a perfect model: distributions are drawn from the Dirichlet that
    `fit_dirichlet` finds, and raters from the distributions.

    Args:
        counts: raters per category of each response.
        atoms: increasing rewards of the categories.
        draws: number of distributions; the standard error is about .4 % of the result for 20,000.
        seed: of the draws.

    Reference:
        This project; the distance between halves of the raters (`split_half_distance`) is larger than this.
    """
    atoms, generator = _atoms(atoms), torch.Generator().manual_seed(seed)
    alpha = fit_dirichlet(counts)
    sizes = counts.sum(1)
    sizes = sizes[sizes > 0][torch.randint(int((sizes > 0).sum()), (draws,), generator=generator)].long()
    distributions = torch._standard_gamma(alpha.expand(draws, -1).contiguous(), generator=generator)
    distributions = distributions / distributions.sum(1, keepdim=True)
    chosen = torch.multinomial(distributions, int(sizes.max()), replacement=True, generator=generator)
    keep = torch.arange(chosen.shape[1]) < sizes[:, None]
    drawn = torch.zeros_like(distributions).scatter_add_(1, chosen, keep.double()) / sizes[:, None]
    return float(((drawn - distributions).cumsum(1)[:, :-1].abs() @ torch.diff(atoms)).mean())


def split_half_distance(ratings: Values, *, seed: int = 0) -> Float[Tensor, " N"]:
    """Wasserstein-1 distance between two random halves of a response's raters.

    An odd rater is left out. The distance is larger than the score of a perfect model, so it is not a floor.

    Returns:
        `[N]`; NaN for fewer than two raters.
    """
    raters, keep = _raters(ratings)
    order = torch.rand(raters.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    place = torch.where(keep, order, math.inf).argsort(1).argsort(1)
    half = (keep.sum(1) // 2)[:, None]
    enough = half[:, 0] > 0
    result = torch.full((len(raters),), math.nan, dtype=torch.float64)
    if bool(enough.any()):
        first = Empirical(raters[enough], (place < half)[enough])
        second = Empirical(raters[enough], ((place >= half) & (place < 2 * half))[enough])
        result[enough] = first.wasserstein(second)
    return result


def on_categories(distribution: RewardDistribution, atoms: Float[Tensor, " C"]) -> Categorical:
    """A distribution converted to the categories, so that all families are evaluated in the same way."""
    return Categorical(category_probs(distribution, atoms), _atoms(atoms), validate=False)


def _atoms(atoms: Tensor) -> Tensor:
    values = torch.as_tensor(atoms, dtype=torch.float64)
    if values.ndim != 1 or len(values) < 2 or not bool((values.diff() > 0).all()):
        raise ArgumentError(f"atoms must be at least 2 rewards that increase; received {values.tolist()}")
    return values


def _raters(ratings: Values) -> tuple[Tensor, Tensor]:
    """Ratings [N, R] and which of them exist; a row without any is an error."""
    given = torch.from_numpy(rating_table(ratings)).double()
    given = given if given.ndim == 2 else given[:, None]
    keep = ~given.isnan()
    if not bool(keep.any(1).all()):
        raise ArgumentError(f"row {int((~keep.any(1)).nonzero()[0])} has no ratings: leave it out")
    return given, keep
