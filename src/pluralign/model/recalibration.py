"""Predicted distributions of ratings, corrected so that their intervals hold for new groups.

In: an attribute's predicted distributions and the ratings of texts that the model was not fitted on. Out: a
`Recalibration`, which corrects any other prediction of the attribute.

Notation: F_x the predicted distribution function of text x, u = F_x(y) the randomised PIT of a rating y. If
u had the distribution function R, the corrected distribution is R(F_x(y)): one map for all texts, so that
every text keeps its own shape and order.

R is conformal: with one draw from each of G groups, u_(1) < ... < u_(G), the next group's u lies below u_(k)
with a mean probability of k / (G + 1), whatever its distribution. All draws of a group are used, each with
the weight 1 / (number of draws of the group), so that groups count alike. They are then as good as n
independent draws: G where the draws of a group are all the same, their number where they are independent.

    R(u_(k)) = (n (W_k - w_k / 2) / G + 1/2) / (n + 1),   W_k = w_1 + ... + w_k;   linear between

Atoms are not split: where R(F_x) is to be a distribution over them, R is chosen such that the randomised PIT
of the *corrected* distributions is uniform, by repeating the step on its result.

Quantiles are unknown beyond the outermost levels t_1 and t_K: draws there are ordered by their distance from
q_1(x) or q_K(x) instead, and the corrected quantiles beyond are `q_1(x) - distance` and `q_K(x) + distance`.

Papers: Vovk, Shen, Manokhin and Xie 2019, "Nonparametric predictive distributions based on conformal
prediction" (Machine Learning 108); Chernozhukov, Wuethrich and Zhu 2021, "Distributional conformal
prediction" (PNAS 118), for the PIT as the score; Romano, Patterson and Candes 2019 for residuals from
quantiles. Weights by group, the effective number of draws, and the three parts of one order are this
project's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.distributions import Categorical, Quantiles, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import schema

__all__ = ["FEWEST_GROUPS", "Draws", "Recalibration"]

FEWEST_GROUPS = 20
"""Below this no level is known better than to a twentieth."""

_LEVELS = (0.005, 0.01, 0.025, *(round(0.05 * k, 2) for k in range(1, 20)), 0.975, 0.99, 0.995)
_FINITE = 1e-6  # of a level whose quantile is finite in single precision, whatever the tails
_KNOTS = 400  # of R, as stored, for distributions of atoms
_REPEATS = 12  # of the step for atoms; it converges, as each leaves less to correct

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Ratings under the distributions that were predicted for them.

    Attributes:
        below: [N], F(y-) of each rating.
        at_most: [N], F(y).
        noise: [N], V of the randomised PIT, in [0, 1].
        beyond: [N], how far the rating lies below the lowest quantile (negative) or above the highest one;
            0 for all others.
        groups: [N], a number for the group of each.
        tails: masses of the ends, `tail_masses` of the distributions.
        discrete: whether the distributions have atoms only.
    """

    below: Floats
    at_most: Floats
    noise: Floats
    beyond: Floats
    groups: NDArray[np.int64]
    tails: tuple[float, float]
    discrete: bool


@dataclass(frozen=True)
class Recalibration:
    """The correction of one attribute's distributions.

    Attributes:
        groups: number of groups that it was measured on.
        rows: number of ratings.
        before: knots of R, ascending from 0 to 1; empty for continuous distributions.
        after: R of these.
        levels: [L] of the corrected quantiles, ascending, inside (0, 1); empty for atoms.
        inner: [L], the level of the predicted distribution whose quantile is taken.
        offset: [L], what is added to that, on the rating scale; 0 but at the ends.
    """

    groups: int
    rows: int
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    inner: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()

    @classmethod
    def fitted(cls, draws: Draws, fewest: int = FEWEST_GROUPS) -> Self:
        """From draws of at least `fewest` groups.

        Raises:
            ArgumentError: there are fewer groups.
        """
        _, group = np.unique(draws.groups, return_inverse=True)
        count = int(group.max(initial=-1)) + 1
        if count < fewest:
            raise ArgumentError(
                f"{count} groups of ratings; needed: at least {fewest}, since the ratings of one group (a "
                "prompt, a source) say little about another. Hold out more groups, or leave it uncalibrated"
            )
        if draws.discrete:
            before, after = _atoms_moved(draws, group)
            return cls(count, len(group), before=tuple(before.tolist()), after=tuple(after.tolist()))
        pit = draws.below + draws.noise * (draws.at_most - draws.below)
        order = np.lexsort((pit, draws.beyond))  # below the ends, between them, above them
        ranks = _Ranks.of(pit, group, order)
        least = 1 / (count + 1)
        levels = np.array([level for level in _LEVELS if least <= level <= 1 - least] or [0.5])
        inner, offset = _placed(levels, ranks, pit[order], draws.beyond[order], draws.tails)
        return cls(
            count,
            len(pit),
            levels=tuple(levels.tolist()),
            inner=tuple(inner.tolist()),
            offset=tuple(offset.tolist()),
        )

    def __call__(self, distribution: RewardDistribution) -> RewardDistribution:
        """The corrected distributions: `Quantiles`, or a `Categorical` with the same atoms."""
        if self.levels:
            like = distribution.mean()
            inner, offset = (torch.tensor(part, dtype=like.dtype) for part in (self.inner, self.offset))
            values = distribution.quantile(inner.to(like.device)) + offset.to(like.device)
            return Quantiles(values, self.levels, validate=False)
        masses = distribution.point_masses()
        if masses is None:
            raise ArgumentError(
                f"calibrated on distributions of atoms; received {type(distribution).__name__}"
            )
        atoms, _ = masses
        shares = self._moved(distribution.cdf(atoms)) - self._moved(distribution.cdf_left(atoms))
        return Categorical(shares / shares.sum(-1, keepdim=True), atoms, validate=False)

    def spec(self) -> dict[str, Any]:
        """As JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Of a checked `spec`."""
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
        return cls(**parts)

    @staticmethod
    def check_spec(spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        share = schema.number(0, 1)
        schema.record(
            {
                "groups": schema.whole(1),
                "rows": schema.whole(1),
                "before": schema.listed(share),
                "after": schema.listed(share),
                "levels": schema.listed(share, ascending=True),
                "inner": schema.listed(share),
                "offset": schema.listed(schema.number()),
            }
        )(spec, where)
        for names in (("before", "after"), ("levels", "inner", "offset")):
            if len({len(spec[name]) for name in names}) > 1:
                raise schema.refuse(where, spec[names[0]], f"{' and '.join(names)} of one length")
        if bool(spec["before"]) == bool(spec["levels"]):
            raise schema.refuse(where, spec["levels"], "either levels, or knots before and after")
        for name in ("before", "after", "inner"):
            if spec[name] != sorted(spec[name]):
                raise schema.refuse(f"{where}.{name}", spec[name], "an ascending list")
        if spec["levels"] and not 0 < spec["levels"][0] <= spec["levels"][-1] < 1:
            raise schema.refuse(f"{where}.levels", spec["levels"], "levels inside (0, 1)")

    def _moved(self, u: Tensor) -> Tensor:
        """R(u)."""
        found = np.interp(u.detach().cpu().double().numpy(), self.before, self.after)
        return torch.from_numpy(found).to(u)


@dataclass(frozen=True)
class _Ranks:
    """R at the draws in their order, and after a share of all of them.

    Attributes:
        values: [N], R(u_(k)).
        effective: n, the number of independent draws that they are as good as.
        shares: [N], w_k / G.
    """

    values: Floats
    effective: float
    shares: Floats

    @classmethod
    def of(cls, pit: Floats, group: NDArray[np.int64], order: NDArray[np.int64]) -> Self:
        """Of draws of u whose order is known."""
        sizes = np.bincount(group)
        shares = (1 / sizes[group] / len(sizes))[order]
        effective = _effective_draws(pit, group, sizes)
        middle = shares.cumsum() - shares / 2
        return cls((effective * middle + 0.5) / (effective + 1), effective, shares)

    def after(self, share: float) -> float:
        """R where this share of the draws lies below."""
        return (self.effective * share + 0.5) / (self.effective + 1)


def _effective_draws(pit: Floats, group: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """The number of independent draws whose distribution function would vary as much as the groups' does."""
    count = len(sizes)
    plain = varied = 0.0
    for level in np.quantile(pit, (0.1, 0.3, 0.5, 0.7, 0.9)):
        share = np.bincount(group, pit <= level) / sizes
        mean = share.mean()
        plain += mean * (1 - mean)
        varied += np.square(share - mean).sum() / (count * (count - 1))
    return float(np.clip(plain / varied, count, len(pit))) if varied else float(len(pit))


def _atoms_moved(draws: Draws, group: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Knots of R, and R of them, for distributions of atoms."""
    before = _thinned(np.unique(np.r_[0.0, draws.below, draws.at_most, 1.0]))
    after = before
    for _ in range(_REPEATS):
        low, high = np.interp(draws.below, before, after), np.interp(draws.at_most, before, after)
        pit = low + draws.noise * (high - low)
        order = np.argsort(pit, kind="stable")
        ranks = _Ranks.of(pit, group, order)
        after = np.interp(after, np.r_[0.0, pit[order], 1.0], np.r_[0.0, ranks.values, 1.0])
    return before, np.maximum.accumulate(after)


def _placed(
    levels: Floats, ranks: _Ranks, pit: Floats, beyond: Floats, tails: tuple[float, float]
) -> tuple[Floats, Floats]:
    """For each corrected level the predicted level and what is added to its quantile.

    Interpolates in one coordinate for all draws in their order: `beyond` below the ends, then u - t_1 from 0
    on, and above the ends the length of the inside plus `beyond`.
    """
    low, high = tails[0], 1 - tails[1]
    inside = max(high - low, 0.0)
    place = np.where(beyond < 0, beyond, np.where(beyond > 0, inside + beyond, np.clip(pit - low, 0, inside)))
    below, above = (float(ranks.shares[side].sum()) for side in (beyond < 0, beyond > 0))
    known = np.r_[ranks.values, ranks.after(below), ranks.after(1 - above)]
    order = np.argsort(known, kind="stable")
    found = np.interp(levels, known[order], np.maximum.accumulate(np.r_[place, 0.0, inside][order]))
    offset = np.minimum(found, 0) + np.maximum(found - inside, 0)
    shortest = max(_FINITE, low), min(1 - _FINITE, high)
    return np.clip(low + np.clip(found, 0, inside), *shortest), offset


def _thinned(knots: Floats) -> Floats:
    """At most `_KNOTS` of these, evenly by rank, with both ends."""
    if len(knots) <= _KNOTS:
        return knots
    kept: Floats = knots[np.unique(np.linspace(0, len(knots) - 1, _KNOTS).round().astype(int))]
    return kept
