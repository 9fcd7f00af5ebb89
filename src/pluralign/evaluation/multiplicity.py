"""Many comparisons at once: p-values corrected for their number, and letters for systems that cannot be told
apart.

In: p-values, or the pairs that differ. Out: corrected p-values; one string of letters per system.

Papers: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
(1979); Shaffer, "Modified sequentially rejective multiple test procedures", JASA 81 (1986), procedure S1;
Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons", Journal of Computational
and Graphical Statistics 13 (2004).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats

__all__ = ["holm", "letters", "shaffer"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the i-th smallest of m p-values times m - i + 1, never decreasing, at most 1.

    It holds under any dependence between the comparisons.
    """
    return _stepped(p_values, list(range(len(p_values), 0, -1)))


def shaffer(p_values: Sequence[float], systems: int) -> list[float]:
    """Shaffer's correction for all pairs of some systems: Holm's, with what the pairs imply of each other.

    If a differs from b, then a third system differs from one of them; so after i - 1 rejections there are
    fewer than m - i + 1 pairs that may still be equal. It holds under any dependence, and never gives a
    larger p-value than Holm's.

    Args:
        p_values: one per pair of systems.
        systems: how many there are, at least 2.

    Raises:
        ArgumentError: there is not one p-value per pair.
    """
    pairs = systems * (systems - 1) // 2
    if systems < 2 or len(p_values) != pairs:
        raise ArgumentError(f"{systems} systems have {pairs} pairs; got {len(p_values)} p-values")
    possible = sorted(_equal_pairs(systems))
    left = [max(n for n in possible if n <= pairs - done) for done in range(pairs)]
    return _stepped(p_values, left)


def letters(order: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two systems have one in common exactly if they are not known to differ.

    Args:
        order: the names, the best first; `a` is the first letter of the best.
        different: pairs of names, in either order.
    """
    apart = {frozenset(pair) for pair in different}
    columns = [set(order)]
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            if frozenset((first, second)) not in apart:
                continue
            split: list[set[str]] = []
            for column in columns:
                both = first in column and second in column
                split += [column - {first}, column - {second}] if both else [column]
            columns = [
                column
                for place, column in enumerate(split)
                if not any(
                    column < other or (column == other and place > at) for at, other in enumerate(split)
                )
            ]
    place = {name: at for at, name in enumerate(order)}
    columns.sort(key=lambda column: sorted(place[name] for name in column))
    return {name: "".join(_letter(i) for i, c in enumerate(columns) if name in c) for name in order}


def _letter(number: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[number] if number < len(alphabet) else f"({number + 1})"


def _stepped(p_values: Sequence[float], factors: Sequence[int]) -> list[float]:
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped: Floats = np.minimum(1, np.maximum.accumulate(p[order] * np.asarray(factors, np.float64)))
    found = np.empty_like(p)
    found[order] = stepped
    return [float(value) for value in found]


@lru_cache(maxsize=128)
def _equal_pairs(systems: int) -> frozenset[int]:
    """How many pairs can be equal at once: systems in classes of equal ones, each class all its pairs."""
    if systems < 2:
        return frozenset({0})
    return frozenset(
        size * (size - 1) // 2 + rest
        for size in range(1, systems + 1)
        for rest in _equal_pairs(systems - size)
    )
