"""pass@k: the probability that one of k programs passes, estimated from n of them without bias.

In: how many of n programs pass. Out: the probability that k drawn without replacement hold one that does,

    pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i=n-c+1..n} (1 - k / i)

whose mean over draws of n independent programs is 1 - (1 - p)^k exactly, for each k <= n.

Reference: Chen et al. 2021 (arXiv 2107.03374), equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pluralign.errors import ArgumentError

__all__ = ["pass_at_k"]


def pass_at_k(passed: Sequence[Sequence[bool]], k: int) -> float:
    """The mean over prompts of the unbiased pass@k.

    Args:
        passed: for each prompt, for each of its n >= k programs whether it passes all tests; n may vary.
        k: programs drawn, at least 1.

    Returns:
        In [0, 1].

    Raises:
        ArgumentError: k is not a whole number of at least 1, or a prompt has fewer programs, or there are
            none.

    >>> pass_at_k([[True, False, False]], 1), pass_at_k([[True, False, False]], 2)
    (0.33333333333333337, 0.6666666666666667)
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ArgumentError(f"pass@k: k is {k!r}; allowed: a whole number of at least 1")
    if not passed:
        raise ArgumentError("pass@k: there are no prompts")
    total = 0.0
    for prompt, programs in enumerate(passed):
        n, c = len(programs), sum(map(bool, programs))
        if n < k:
            raise ArgumentError(
                f"pass@{k}: prompt {prompt} has {n} programs; allowed: at least {k}. Draw more, or lower k"
            )
        total += 1.0 - math.comb(n - c, k) / math.comb(n, k)
    return total / len(passed)
