"""Programs of a policy: pass@k and the share of tests passed, with intervals over prompts.

In: for each program its prompt, the share of tests that it passed, whether it passed all, and how its tests
ended. Out: a plain dictionary, of the form of a suite's results. It runs no program: `policy.ProgramReward`
does.

pass@k is the probability that one of k programs drawn without replacement from the n of a prompt passes,
1 - C(n - c, k) / C(n, k) where c of them do: the unbiased best of k where the reward is to pass, so it is
computed by `best_of_n`.

Paper: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, equation 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.checks import is_whole
from pluralign.errors import ArgumentError
from pluralign.evaluation.best_of_n import best_of_n
from pluralign.evaluation.columns import as_array, group_codes
from pluralign.evaluation.intervals import mean_interval

__all__ = ["evaluate_programs"]

_RULE = (
    "share of prompts for which one of k programs passes all tests, estimated without bias from all that "
    "were sampled"
)


def evaluate_programs(
    prompts: Sequence[str],
    shares: Sequence[float],
    passed: Sequence[bool],
    ends: Sequence[Mapping[str, int]] = (),
    k: Sequence[int] = (1,),
) -> dict[str, Any]:
    """The numbers of M programs.

    Args:
        prompts: [M] what tells the prompts apart.
        shares: [M] share of its tests that each program passes, in [0, 1].
        passed: [M] whether it passes all.
        ends: [M] how its tests ended, reason -> number of tests; empty where this is not known.
        k: numbers of programs for pass@k, each at most the fewest of a prompt.

    Returns:
        `scores`, of each pass@k its interval over prompts; `share`, the interval of the mean share of tests;
        `rows` and `groups`, the numbers of programs and of prompts; `solved`, the share of prompts with a
        program that passes; `tied`, of those all or none of whose programs do; `ends`, tests by reason.

    Raises:
        ArgumentError: there are no programs, lengths differ, a share is not in [0, 1], or a prompt has fewer
            programs than k.

    >>> found = evaluate_programs(["a", "a", "a"], [1.0, 0.5, 0.0], [True, False, False], k=[1, 2])
    >>> [round(found["scores"][name]["overall"], 4) for name in ("pass@1", "pass@2")]
    [0.3333, 0.6667]
    """
    share, won = as_array(shares), as_array([float(one) for one in passed])
    if not len(prompts) or not len(prompts) == len(share) == len(won) or len(ends) not in (0, len(prompts)):
        raise ArgumentError(
            f"programs: received {len(prompts)} prompts, {len(share)} shares, {len(won)} results and "
            f"{len(ends)} ends; allowed: one each for at least one program"
        )
    if not ((share >= 0) & (share <= 1)).all():
        raise ArgumentError("programs: a share of tests is not in [0, 1]")
    code = group_codes(prompts)
    order, sizes = np.argsort(code, kind="stable"), np.bincount(code)
    _check(k, prompts, code, sizes)
    groups = np.split(won[order], np.cumsum(sizes)[:-1])
    estimates = np.stack([best_of_n(one, one, k) for one in groups])
    means = np.array([one.mean() for one in groups])
    names = [f"pass@{one}" for one in k]
    return {
        "title": "Programs",
        "rule": _RULE,
        "risks": names,
        "rows": len(prompts),
        "groups": len(sizes),
        "scores": {
            name: {
                "overall": float(column.mean()),
                "interval": {"overall": mean_interval(column).to_dict()},
                "sections": {},
                "missing": [],
            }
            for name, column in zip(names, estimates.T, strict=True)
        },
        "difference": {},
        "notes": [],
        "share": mean_interval(share, code).to_dict(),
        "solved": float((means > 0).mean()),
        "tied": float(((means == 0) | (means == 1)).mean()),
        "ends": dict(sum((Counter(one) for one in ends), Counter()).most_common()),
    }


def _check(k: Sequence[int], prompts: Sequence[str], code: Any, sizes: Any) -> None:
    if not len(k) or len(set(k)) < len(k) or not all(is_whole(one, 1) for one in k):
        raise ArgumentError(f"k: received {list(k)}; allowed: whole numbers of at least 1, each once")
    if max(k) > sizes.min():
        name = prompts[int(np.flatnonzero(code == int(sizes.argmin()))[0])]
        raise ArgumentError(
            f"k: received {max(k)}, and the prompt {name} has {int(sizes.min())} programs; allowed: at most "
            "the fewest of a prompt. Sample more, or lower k"
        )
