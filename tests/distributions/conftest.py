"""One batch of every representation, each with an oracle that shares no code with the package.

The oracle knows a distribution as a heap of atoms, uniform pieces and normal components, computes its CDF
with scipy.special and everything else by scipy's adaptive quadrature or bisection.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special

from pluralign.distributions import (
    Categorical,
    Empirical,
    Ensemble,
    GaussianEnsemble,
    Point,
    Quantiles,
    RewardDistribution,
)

ROWS = 3


@dataclass
class Oracle:
    """One distribution: atoms (x, mass), uniforms (low, high, mass), normals (mean, std, mass)."""

    atoms: list[tuple[float, float]] = field(default_factory=list)
    uniforms: list[tuple[float, float, float]] = field(default_factory=list)
    normals: list[tuple[float, float, float]] = field(default_factory=list)

    def cdf(self, x: float, left: bool = False) -> float:
        total = sum(mass for atom, mass in self.atoms if (atom < x if left else atom <= x))
        total += sum(mass * min(max((x - low) / (high - low), 0.0), 1.0) for low, high, mass in self.uniforms)
        return total + sum(mass * float(special.ndtr((x - mean) / std)) for mean, std, mass in self.normals)

    def points(self) -> list[float]:
        """Where the CDF is not smooth, and the ends beyond which nothing is left."""
        marks = [atom for atom, _ in self.atoms] + [x for low, high, _ in self.uniforms for x in (low, high)]
        marks += [mean + reach * std for mean, std, _ in self.normals for reach in (-9, -3, -1, 0, 1, 3, 9)]
        return sorted(set(marks))

    def expect(self, function: Callable[[float], float], marks: list[float] | None = None) -> float:
        total = sum(mass * function(atom) for atom, mass in self.atoms)
        for low, high, mass in self.uniforms:
            total += mass * quad(function, low, high, marks or []) / (high - low)
        for mean, std, mass in self.normals:
            cuts = (marks or []) + [mean + reach * std for reach in (-9, -3, 0, 3, 9)]
            ends = mean - 15 * std, mean + 15 * std

            def weighted(x: float, mean: float = mean, std: float = std) -> float:
                return function(x) * math.exp(-0.5 * ((x - mean) / std) ** 2)

            total += mass * quad(weighted, *ends, cuts) / (std * math.sqrt(2 * math.pi))
        return total

    def quantile(self, level: float) -> float:
        marks = self.points()
        for mark in marks:
            if self.cdf(mark, left=True) - 1e-14 <= level <= self.cdf(mark) + 1e-14:
                return mark
        low = max((m for m in marks if self.cdf(m) < level), default=marks[0] - 10)
        high = min((m for m in marks if self.cdf(m) > level), default=marks[-1] + 10)
        return float(optimize.brentq(lambda x: self.cdf(x) - level, low, high, xtol=1e-13, rtol=1e-14))


def quad(function: Callable[[float], float], low: float, high: float, marks: list[float]) -> float:
    """Adaptive quadrature, restarted at every mark inside."""
    cuts = [low, *sorted({mark for mark in marks if low < mark < high}), high]
    pieces = (
        integrate.quad(function, a, b, limit=200, epsabs=1e-11, epsrel=1e-10)[0]
        for a, b in itertools.pairwise(cuts)
    )
    return float(sum(pieces))


def _point(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    values = draw.normal(size=ROWS)
    return Point(torch.tensor(values)), [Oracle(atoms=[(v, 1.0)]) for v in values]


def _quantiles(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    levels = np.array([0.05, 0.2, 0.45, 0.5, 0.9])
    values = np.sort(draw.normal(size=(ROWS, 5)), -1)
    oracles = [
        Oracle(
            atoms=[(row[0], levels[0]), (row[-1], 1 - levels[-1])],
            uniforms=[(row[k], row[k + 1], levels[k + 1] - levels[k]) for k in range(4)],
        )
        for row in values
    ]
    return Quantiles(torch.tensor(values), torch.tensor(levels)), oracles


def _tied_quantiles(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    """Equal neighbours (an atom inside) and a gap-free rest."""
    levels = [0.25, 0.5, 0.75]
    base = draw.normal(size=ROWS)
    oracles = [Oracle(atoms=[(b, 0.5), (b + 1, 0.25)], uniforms=[(b, b + 1, 0.25)]) for b in base]
    return Quantiles(torch.tensor(np.stack([base, base, base + 1], -1)), levels), oracles


def _gaussian(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    mean, std = draw.normal(size=(ROWS, 1)), draw.uniform(0.3, 2, size=(ROWS, 1))
    oracles = [Oracle(normals=[(mean[b, 0], std[b, 0], 1.0)]) for b in range(ROWS)]
    return GaussianEnsemble(torch.tensor(mean), torch.tensor(std)), oracles


def _ensemble(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    """Weighted heads of very different spread, one of them an atom."""
    mean, std = draw.normal(size=(ROWS, 4)), np.array([0.02, 0.0, 0.7, 2.0]) * np.ones((ROWS, 1))
    weight = draw.dirichlet(np.ones(4), size=ROWS)
    oracles = [
        Oracle(
            atoms=[(mean[b, 1], weight[b, 1])],
            normals=[(mean[b, h], std[b, h], weight[b, h]) for h in (0, 2, 3)],
        )
        for b in range(ROWS)
    ]
    return GaussianEnsemble(*(torch.tensor(part) for part in (mean, std, weight))), oracles


def _categorical(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    """Atoms out of order, two of them equal, some without probability."""
    atoms = np.array([1.0, -2.0, 0.5, 0.5, 3.0])
    probs = draw.dirichlet(np.ones(5), size=ROWS) * np.array([1, 0, 1, 1, 1])
    probs /= probs.sum(-1, keepdims=True)
    oracles = [Oracle(atoms=[(a, p) for a, p in zip(atoms, row, strict=True) if p > 0]) for row in probs]
    return Categorical(torch.tensor(probs), torch.tensor(atoms)), oracles


def _empirical(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
    """Ragged rows with ties; what is masked is NaN."""
    samples = np.round(draw.normal(size=(ROWS, 8)), 1)
    keep = np.arange(8) < np.array([[8], [5], [1]])
    keep = draw.permuted(keep, axis=1)
    samples[~keep] = np.nan
    oracles = [Oracle(atoms=[(x, 1 / k.sum()) for x in row[k]]) for row, k in zip(samples, keep, strict=True)]
    return Empirical(torch.tensor(samples), torch.tensor(keep)), oracles


def _members(*builders: Callable[..., tuple[RewardDistribution, list[Oracle]]]) -> Callable[..., Any]:
    """The mixture of several of the above, with unequal weights."""

    def build(draw: np.random.Generator) -> tuple[RewardDistribution, list[Oracle]]:
        weights = draw.dirichlet(np.ones(len(builders)))
        distributions, oracles = zip(*(builder(draw) for builder in builders), strict=True)
        mixed = [
            Oracle(
                atoms=[(x, w * m) for w, part in zip(weights, parts, strict=True) for x, m in part.atoms],
                uniforms=[
                    (low, high, w * m)
                    for w, part in zip(weights, parts, strict=True)
                    for low, high, m in part.uniforms
                ],
            )
            for parts in zip(*oracles, strict=True)
        ]
        return Ensemble(distributions, torch.tensor(weights)), mixed

    return build


BUILDERS = {
    "point": _point,
    "quantiles": _quantiles,
    "tied_quantiles": _tied_quantiles,
    "gaussian": _gaussian,
    "ensemble": _ensemble,
    "categorical": _categorical,
    "empirical": _empirical,
    "quantile_members": _members(_quantiles, _tied_quantiles, _point),
    "atom_members": _members(_categorical, _empirical),
}


@dataclass
class Case:
    """A batch and its oracles, one per row."""

    distribution: RewardDistribution
    oracles: list[Oracle]


def _case(name: str, seed: int) -> Case:
    return Case(*BUILDERS[name](np.random.default_rng(seed)))


@pytest.fixture(params=BUILDERS)
def case(request: pytest.FixtureRequest) -> Case:
    return _case(request.param, 1)


@pytest.fixture(params=BUILDERS)
def other_case(request: pytest.FixtureRequest) -> Case:
    return _case(request.param, 2)


@pytest.fixture
def integral() -> Callable[[Callable[[float], float], float, float, list[float]], float]:
    """The oracles' quadrature, for tests that integrate something else."""
    return quad
