"""Best of n as a suite: the true reward of the sample that a rule chooses among n.

In: the prompt of each sample, its reward by a rule and its true reward. Out: a plain dictionary.

Notation: P prompts with N_p samples each, N the smallest of these; n = 1, 2, 4 ... up to N.

Papers: Gao et al. 2022, arXiv 2210.10760; the share of what could be gained is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pluralign.errors import ArgumentError
from pluralign.evaluation.best_of_n import best_of_n, best_of_n_kl, peak
from pluralign.evaluation.columns import Floats, group_codes

__all__ = ["best_of_n_suite"]


def best_of_n_suite(prompts: Sequence[str], proxy: Floats, gold: Floats) -> dict[str, Any]:
    """The true reward of the best of n by a rule, and which share of the possible gain that is.

    With g(n) the mean over prompts of the unbiased estimate of `best_of_n`, and o(n) the same where the true
    reward itself chooses, the share is (g(n) - g(1)) / (o(n) - g(1)): 1 for a perfect rule, 0 for a random
    one, negative for one that is worse.

    Args:
        prompts: [M] what tells the prompts apart.
        proxy: [M] reward by the rule.
        gold: [M] true reward, in any unit.

    Returns:
        `overall`, the share at the largest n; `n` [T] and at these `gold`, `oracle`, `share` (None where
        nothing could be gained) and `kl` (an upper bound, in nats); `drop`, how far the true reward at the
        largest n lies below its peak; `prompts`, `samples`, and `equal_scores`, prompts whose best reward
        several samples share.

    Raises:
        ArgumentError: a prompt has one sample, or a reward is not finite.
    """
    code = group_codes(prompts)
    order = np.argsort(code, kind="stable")
    sizes = np.bincount(code)
    if sizes.min() < 2:
        name = prompts[int(np.flatnonzero(code == int(sizes.argmin()))[0])]
        raise ArgumentError(
            f"best of n needs at least two responses of each prompt; the prompt {name} has one. Responses of "
            "one prompt are recognised by their prompt"
        )
    numbers = [1 << k for k in range(int(sizes.min()).bit_length())]
    parts = np.split(order, np.cumsum(sizes)[:-1])
    chosen, best = [], []
    for size in np.unique(sizes):
        rows = np.stack([part for part in parts if len(part) == size])
        chosen.append(best_of_n(proxy[rows], gold[rows], numbers))
        best.append(best_of_n(gold[rows], gold[rows], numbers))
    reached, possible = np.concatenate(chosen).mean(0), np.concatenate(best).mean(0)
    gain = possible - reached[0]
    share = [float((r - reached[0]) / g) if g > 0 else None for r, g in zip(reached, gain, strict=True)]
    kl = best_of_n_kl(numbers)
    return {
        "overall": share[-1],
        "n": numbers,
        "gold": reached.tolist(),
        "oracle": possible.tolist(),
        "share": share,
        "kl": kl.tolist(),
        "drop": peak(kl, reached).drop,
        "prompts": len(sizes),
        "samples": len(proxy),
        "equal_scores": sum(int((proxy[part] == proxy[part].max()).sum() > 1) for part in parts),
        "sections": {},
        "missing": [],
    }
