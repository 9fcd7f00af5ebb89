"""Which of a prompt's completions are selected, and how they are paired: pure functions of utilities.

In: the utilities u_1 ... u_N of one prompt's completions. Out: positions in that list.

    top_k               the k highest (best of n: k = 1)
    at_least            all that reach a threshold; `threshold_of_share` finds the one that a share reaches
    rejection_sample    accepted with probability exp((u - max u) / beta)
    pair_with_worst     each selected one against the worst of those that were not selected
    pair_among          the selected ones against each other, in random pairs

Chance comes from a `random.Random`, whose `random()` gives the same numbers on every machine.

References: threshold and share are RAFT's ranking of samples (Dong et al. 2023, arXiv 2304.06767), rejection
and random pairs are those of statistical rejection sampling (Liu et al. 2023, arXiv 2309.06657).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random

from pluralign.errors import ArgumentError

__all__ = ["at_least", "pair_among", "pair_with_worst", "rejection_sample", "threshold_of_share", "top_k"]

Pair = tuple[int, int]  # positions of the chosen and of the rejected


def top_k(utilities: Sequence[float], k: int = 1) -> list[int]:
    """Positions of the k highest utilities, highest first; of equal ones the first. All if there are fewer.

    Raises:
        ArgumentError: k is less than 1, or a utility is not finite.

    >>> top_k([0.1, 0.7, -0.2, 0.7], 2)
    [1, 3]
    """
    _check(utilities)
    if k < 1:
        raise ArgumentError(f"k must be at least 1, received {k}")
    return _best_first(utilities, range(len(utilities)))[:k]


def at_least(utilities: Sequence[float], threshold: float) -> list[int]:
    """Positions of the utilities that reach the threshold, highest first; of equal ones the first.

    Raises:
        ArgumentError: a utility or the threshold is not finite.
    """
    _check(utilities)
    if not math.isfinite(threshold):
        raise ArgumentError(f"threshold must be finite, received {threshold}")
    return _best_first(utilities, (i for i, u in enumerate(utilities) if u >= threshold))


def threshold_of_share(utilities: Sequence[float], share: float) -> float:
    """The highest threshold that at least this share of the utilities reaches.

    More reach it where several utilities equal it.

    Args:
        utilities: of the completions of all prompts.
        share: in (0, 1].

    Raises:
        ArgumentError: the share is outside, there are no utilities, or one is not finite.

    >>> threshold_of_share([1.0, 2.0, 3.0, 4.0], 0.5)
    3.0
    """
    _check(utilities)
    if not 0 < share <= 1:
        raise ArgumentError(f"share must lie in (0, 1], received {share}")
    if not utilities:
        raise ArgumentError("threshold_of_share: received no utilities; at least one is needed")
    exact = share * len(utilities)
    count = math.ceil(exact - 1e-9 * exact)  # .1 of 10 is one, whatever rounding makes of the product
    return sorted(utilities, reverse=True)[count - 1]


def rejection_sample(
    utilities: Sequence[float], beta: float, random: Random, num: int | None = None
) -> list[int]:
    """Positions of completions accepted with probability exp((u - max u) / beta), in the order of acceptance.

    Completions of the policy p become samples of p(y) exp(u(y) / beta) / Z, the optimum of expected utility
    minus beta times the KL to p, up to this: the largest utility of the N stands for the largest that is
    possible, so the best completion is always accepted.

    With `num`, rounds over those that remain are repeated, each with their own largest utility, until so many
    are accepted: Algorithm 1 of Liu et al. 2023, with one deviation: a round visits the completions in random
    order, so that earlier ones are not preferred in the round that ends it.

    Args:
        utilities: [N].
        beta: temperature, positive, in units of the utility; small: only the best, large: all.
        random: source of chance.
        num: how many are accepted, at most N; None for one round.

    Raises:
        ArgumentError: beta is not positive, num is less than 1, or a utility is not finite.
    """
    _check(utilities)
    if not (beta > 0 and math.isfinite(beta)):
        raise ArgumentError(f"beta must be positive and finite, received {beta}")
    if num is not None and num < 1:
        raise ArgumentError(f"num must be at least 1, received {num}")
    accepted: list[int] = []
    remaining = list(range(len(utilities)))
    wanted = len(remaining) if num is None else min(num, len(remaining))
    while len(accepted) < wanted:
        largest = max(utilities[i] for i in remaining)
        for i in _shuffled(remaining, random):
            if len(accepted) < wanted and random.random() < math.exp((utilities[i] - largest) / beta):
                accepted.append(i)
        if num is None:
            break
        remaining = [i for i in remaining if i not in accepted]
    return accepted


def pair_with_worst(utilities: Sequence[float], selected: Sequence[int], margin: float = 0.0) -> list[Pair]:
    """The first selected one against the worst of the others, the second against the next worst, and so on.

    Args:
        utilities: [N].
        selected: positions, best first.
        margin: a pair's utilities differ by more than this.

    Returns:
        (chosen, rejected); fewer than were selected where the others do not suffice.

    >>> pair_with_worst([0.1, 0.9, 0.5, 0.3], [1, 2])
    [(1, 0), (2, 3)]
    """
    _check_margin(margin)
    rest = [i for i in range(len(utilities)) if i not in selected]
    worst_first = sorted(rest, key=lambda i: utilities[i])
    pairs = zip(selected, worst_first, strict=False)
    return [(good, bad) for good, bad in pairs if utilities[good] - utilities[bad] > margin]


def pair_among(
    utilities: Sequence[float], selected: Sequence[int], random: Random, margin: float = 0.0
) -> list[Pair]:
    """The selected ones in random pairs, each used once; the one with the higher utility is chosen.

    Args:
        utilities: [N].
        selected: positions.
        random: source of chance.
        margin: a pair's utilities differ by more than this.
    """
    _check_margin(margin)
    order = _shuffled(selected, random)
    pairs = []
    for one, other in zip(order[::2], order[1::2], strict=False):
        good, bad = (one, other) if utilities[one] >= utilities[other] else (other, one)
        if utilities[good] - utilities[bad] > margin:
            pairs.append((good, bad))
    return pairs


def _best_first(utilities: Sequence[float], positions: Iterable[int]) -> list[int]:
    return sorted(positions, key=lambda i: -utilities[i])


def _shuffled(positions: Sequence[int], random: Random) -> list[int]:
    # Not `Random.shuffle`: only `random()` is promised to stay the same between versions of Python.
    keys = {i: random.random() for i in positions}
    return sorted(positions, key=lambda i: keys[i])


def _check(utilities: Sequence[float]) -> None:
    for i, utility in enumerate(utilities):
        if not math.isfinite(utility):
            raise ArgumentError(f"utilities[{i}]: received {utility}; allowed: finite numbers")


def _check_margin(margin: float) -> None:
    if not (margin >= 0 and math.isfinite(margin)):
        raise ArgumentError(f"margin must be finite and at least 0, received {margin}")
