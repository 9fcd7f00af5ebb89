"""The pool of raters, and the choice of raters for items.

In:  population shares, the size of the pool, a random generator.
Out: rater ids, each rater's persona, and draws of raters for items.

The persona of each judgement is drawn from the population, then a rater of that persona is chosen. So
judgements follow the population exactly, whatever the pool's size; the pool only gives them names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pluralign.errors import ArgumentError
from pluralign.lab.personas import PERSONAS

__all__ = ["RaterPool", "population_shares"]


def population_shares(given: Mapping[str, float], argument: str) -> dict[str, float]:
    """Completes and normalises the shares of a population.

    Args:
        given: shares by persona name, at least 0, with a positive sum; missing personas have share 0.
        argument: name of the user's argument, for messages.

    Returns:
        A share for each persona, in the order of `PERSONAS`, summing to 1.

    Raises:
        ArgumentError: a persona does not exist, or the shares are not valid.
    """
    names = [persona.name for persona in PERSONAS]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ArgumentError(f"{argument} has unknown names {', '.join(unknown)}; allowed: {', '.join(names)}")
    total = math.fsum(given.values())
    if not 0 < total < math.inf or not all(share >= 0 for share in given.values()):
        raise ArgumentError(f"{argument} must be shares of at least 0 with a positive sum; got {dict(given)}")
    return {name: given.get(name, 0.0) / total for name in names}


class RaterPool:
    """Raters whose ids do not reveal their persona.

    Attributes:
        ids: one per rater.
        personas: index of each rater's persona, [num_raters].
    """

    def __init__(self, shares: Sequence[float], num_raters: int, rng: np.random.Generator) -> None:
        """Sets up the pool.

        Args:
            shares: shares of the personas, summing to 1.
            num_raters: size of the pool, at least the number of personas, so that each has a rater.
            rng: random generator for the assignment of personas to ids.
        """
        quota = np.asarray(shares) * (num_raters - len(shares))
        sizes = 1 + np.floor(quota).astype(int)
        leftover = num_raters - sizes.sum()
        sizes[np.argsort(np.floor(quota) - quota, kind="stable")[:leftover]] += 1
        self.ids: tuple[str, ...] = tuple(f"r{i:04d}" for i in range(num_raters))
        self.personas: NDArray[np.int64] = rng.permutation(np.repeat(np.arange(len(shares)), sizes))
        self._members = [np.flatnonzero(self.personas == p) for p in range(len(shares))]

    def draw(
        self, shares: Sequence[float], num_items: int, per_item: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draws raters for items.

        Args:
            shares: shares of the personas, summing to 1, from which the persona of each rater is drawn.
            num_items: number of items.
            per_item: raters per item.
            rng: random generator; the first items do not depend on the number of items.

        Returns:
            Persona and rater of each judgement, [num_items, per_item] each. A rater judges an item twice
            only if more raters of one persona are drawn than the pool has.
        """
        num_personas = len(self._members)
        uniform = rng.random((num_items, per_item + num_personas))
        bounds = np.cumsum(shares)[:-1]
        personas = np.searchsorted(bounds, uniform[:, :per_item], side="right")
        raters = np.empty_like(personas)
        for p, members in enumerate(self._members):
            chosen = personas == p
            start = (uniform[:, per_item + p] * len(members)).astype(int)
            turn = np.cumsum(chosen, axis=1) - 1
            raters[chosen] = members[(start[:, None] + turn) % len(members)][chosen]
        return personas, raters
