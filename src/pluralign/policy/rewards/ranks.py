"""Quantile rewards: where a response's reward stands among those of the reference policy's completions.

    R_q(x, y) = P(R(x, y') <= R(x, y)),  y' drawn from the reference policy

In: rewards [B] and reference rewards [B, N], any number of which a mask may leave out. Out: ranks in [0, 1]
in the dtype of the rewards (at least float32; float64 for lists and integers). Rewards and references of
different precision are compared in the lower one: a response keeps its tie with its own entry. It knows
nothing about models, transforms or losses.

Notation: of n references L lie below the reward and E equal it; V is uniform on (0, 1).

    inclusive   (L + E) / n              the published estimator
    mid         (L + E/2) / n            fair to ties; the default
    randomised  (L + V (E + 1)) / (n + 1)  exactly uniform under the reference policy, atoms or not

**Leave one out.** A training response that is itself one of the references counts among the E, and drags
its rank up: the mean of the inclusive estimate is (n + 1)/(2n) instead of 1/2. So its own entry is left
out, and L, E and n are those of the others. Equal rewards do not show that a response is a reference: where
rewards have atoms a stranger ties too, and without its ties its ranks are pulled apart. So nothing is left
out unless the caller says that the response is among its references.

Reference: Matrenok et al. 2025 (arXiv 2507.08068), equation 8; everything but `inclusive` is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError, did_you_mean
from pluralign.policy.rewards.tensors import (
    as_flags,
    as_mask,
    as_rewards,
    comparable,
    floating_dtypes,
    widest_dtype,
)

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "clamp_ranks",
    "inclusive",
    "matched_share",
    "mid",
    "num_references",
    "pad_references",
    "quantile_rewards",
    "randomised",
    "reference_ranks",
    "tied_prompts",
]

# L, E, n (float64, one shape) and a source of randomness -> rank
Estimator = Callable[[Tensor, Tensor, Tensor, torch.Generator | None], Tensor]


def inclusive(
    below: Tensor, equal: Tensor, count: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """(L + E) / n, the empirical distribution function; for an integer judge it favours the top atom."""
    return (below + equal) / count


def mid(below: Tensor, equal: Tensor, count: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(L + E/2) / n: ties count half, so the mean over the references is 1/2."""
    return (below + 0.5 * equal) / count


def randomised(
    below: Tensor, equal: Tensor, count: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """(L + V (E + 1)) / (n + 1): one of the n + 1 places that the ties allow, spread over its interval."""
    draw = torch.rand(below.shape, generator=generator, dtype=torch.float64, device=below.device)
    return (below + draw * (equal + 1)) / (count + 1)


ESTIMATORS: Mapping[str, Estimator] = {"inclusive": inclusive, "mid": mid, "randomised": randomised}


def quantile_rewards(
    rewards: Float[Tensor, " B"] | Sequence[float],
    reference_rewards: Float[Tensor, "B N"] | Sequence[Sequence[float]],
    estimator: str | Estimator = "mid",
    leave_one_out: bool | Bool[Tensor, " B"] | None = None,
    keep_mask: Bool[Tensor, "B N"] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " B"]:
    """Estimated quantile rewards.

    Args:
        rewards: of the training responses, [B].
        reference_rewards: of N completions of the reference policy to the same prompts, [B, N].
        estimator: `inclusive`, `mid`, `randomised`, or a function of (L, E, n, generator).
        leave_one_out: True where the response is one of its references, [B] or one for all; one entry that
            equals its reward is then left out. False and None: nothing is. (Tables say it in the column
            `among_references`, and whoever reads one passes it on: the trainer, `diagnose_table`.)
        keep_mask: bool [B, N], true where a reference counts; None keeps all. See `pad_references`.
        generator: source of V of `randomised`; None is torch's own.

    Returns:
        [B], in [0, 1].

    Raises:
        ArgumentError: a reward is NaN or infinite, shapes do not fit, a row has no reference (none but the
            response itself), a response said to be among its references is not, or there is no such
            estimator.

    >>> quantile_rewards(torch.tensor([2.0]), torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([0.5000])
    """
    below, equal, count = _counts(rewards, reference_rewards, leave_one_out, keep_mask)
    ranks = _estimator(estimator)(below, equal, count, generator)
    return ranks.to(widest_dtype(rewards, reference_rewards))


def num_references(
    rewards: Float[Tensor, " B"] | Sequence[float],
    reference_rewards: Float[Tensor, "B N"] | Sequence[Sequence[float]],
    leave_one_out: bool | Bool[Tensor, " B"] | None = None,
    keep_mask: Bool[Tensor, "B N"] | None = None,
) -> Int[Tensor, " B"]:
    """How many references stand behind each rank, the response's own entry left out: n of `clamp_ranks`.

    Args:
        rewards: as in `quantile_rewards`, and so are the other arguments.
        reference_rewards: see there.
        leave_one_out: see there.
        keep_mask: see there.

    Returns:
        int64, [B], at least 1.

    Raises:
        ArgumentError: as `quantile_rewards`.
    """
    return _counts(rewards, reference_rewards, leave_one_out, keep_mask)[2].long()


def reference_ranks(
    reference_rewards: Float[Tensor, "B N"] | Sequence[Sequence[float]],
    estimator: str | Estimator = "mid",
    leave_one_out: bool = True,
    keep_mask: Bool[Tensor, "B N"] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B N"]:
    """The rank of each reference, among the others or among all: what the finite partition function needs.

    Args:
        reference_rewards: [B, N].
        estimator: as in `quantile_rewards`, and the same as for the training responses.
        leave_one_out: whether a reference is left out of its own rank.
        keep_mask: bool [B, N]; entries that do not count get a rank of 1/2, which nobody should read.
        generator: source of V of `randomised`.

    Returns:
        [B, N], in [0, 1].

    Raises:
        ArgumentError: as `quantile_rewards`.
    """
    references = as_rewards("reference_rewards", reference_rewards, 2, keep_mask=keep_mask)
    keep = as_mask(keep_mask, references)
    ranks = torch.full_like(references, 0.5)
    for place in range(references.shape[1]):
        rows = keep[:, place]
        ranks[rows, place] = quantile_rewards(
            references[rows, place], references[rows], estimator, leave_one_out, keep[rows], generator
        )
    return ranks.to(widest_dtype(reference_rewards))


def clamp_ranks(ranks: Float[Tensor, " *B"], num_references: int | Tensor) -> Float[Tensor, " *B"]:
    """Ranks moved into [1/(2n), 1 - 1/(2n)], for transforms that are infinite at 0 or 1 (log, normal).

    Args:
        ranks: in [0, 1], any shape.
        num_references: n, a number or a tensor that broadcasts with the ranks.

    Returns:
        The shape of the ranks. The published bounds [1/n, 1 - 1/n] are empty at n = 1.

    Raises:
        ArgumentError: n is less than 1.
    """
    count = torch.as_tensor(num_references, dtype=torch.float64, device=ranks.device)
    if not bool(((count >= 1) & count.isfinite()).all()):
        raise ArgumentError(f"clamp_ranks: num_references must be at least 1, received {num_references}")
    half = 0.5 / count
    return torch.minimum(torch.maximum(ranks.double(), half), 1 - half)


def tied_prompts(
    reference_rewards: Float[Tensor, "B N"], keep_mask: Bool[Tensor, "B N"] | None = None
) -> Bool[Tensor, " B"]:
    """Whether all references of a prompt have one reward: ranks then say nothing about its responses.

    Args:
        reference_rewards: [B, N].
        keep_mask: bool [B, N]; None keeps all.

    Returns:
        bool [B]; true also for a prompt with a single reference.
    """
    references = as_rewards("reference_rewards", reference_rewards, 2, keep_mask=keep_mask)
    keep = as_mask(keep_mask, references)
    low = references.masked_fill(~keep, math.inf).amin(-1)
    high = references.masked_fill(~keep, -math.inf).amax(-1)
    return low >= high


def matched_share(
    rewards: Float[Tensor, " B"] | Sequence[float],
    reference_rewards: Float[Tensor, "B N"] | Sequence[Sequence[float]],
    keep_mask: Bool[Tensor, "B N"] | None = None,
) -> float:
    """Share of responses whose reward is exactly that of one of their references.

    With continuous rewards that is the share of responses that are references themselves; with atoms it
    tells nothing.

    Args:
        rewards: [B], B at least 1.
        reference_rewards: [B, N].
        keep_mask: bool [B, N]; None keeps all.

    Returns:
        In [0, 1].

    Raises:
        ArgumentError: as `quantile_rewards`.
    """
    return float((_all_counts(rewards, reference_rewards, keep_mask)[1] > 0).double().mean())


def pad_references(
    lists: Sequence[Sequence[float]],
) -> tuple[Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Reference rewards of different number as one tensor and its mask.

    Args:
        lists: one list of rewards per prompt, none empty.

    Returns:
        rewards [B, N], float64, padded with 0, and keep_mask [B, N].

    Raises:
        ArgumentError: there are no prompts, one without a reference, or a reward that is no finite number.
    """
    if not len(lists) or not all(isinstance(row, Sequence) and len(row) for row in lists):
        raise ArgumentError("pad_references: every prompt needs a list of at least one reference reward")
    width = max(map(len, lists))
    padded = [[*row, *[0.0] * (width - len(row))] for row in lists]
    rewards = as_rewards("pad_references", padded, 2)
    counts = torch.tensor([len(row) for row in lists])
    return rewards, torch.arange(width) < counts.unsqueeze(-1)


def _counts(
    rewards: Any, reference_rewards: Any, leave_one_out: bool | Tensor | None, keep_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """L, E and n of each response, its own entry left out where it is to be; [B] each, float64."""
    below, equal, count = _all_counts(rewards, reference_rewards, keep_mask)
    own = _own_entries(leave_one_out, equal)
    count = count - own
    if not bool((count > 0).all()):
        row = int((count <= 0).nonzero()[0])
        raise ArgumentError(
            f"quantile_rewards: row {row} has no reference beside the response itself; sample at least two "
            "completions per prompt"
        )
    return below, equal - own, count


def _all_counts(
    rewards: Any, reference_rewards: Any, keep_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """L, E and n of each response among all its references, [B] each, float64."""
    reward = as_rewards("rewards", rewards, 1)
    references = as_rewards("reference_rewards", reference_rewards, 2, like=reward, keep_mask=keep_mask)
    if len(reward) != len(references):
        raise ArgumentError(
            f"quantile_rewards: received {len(reward)} rewards and {len(references)} rows of references"
        )
    keep = as_mask(keep_mask, references)
    reward, references = comparable(reward, references, floating_dtypes(rewards, reference_rewards))
    below = ((references < reward.unsqueeze(-1)) & keep).sum(-1).double()
    equal = ((references == reward.unsqueeze(-1)) & keep).sum(-1).double()
    return below, equal, keep.sum(-1).double()


def _own_entries(leave_one_out: bool | Tensor | None, equal: Tensor) -> Tensor:
    """How many entries of each row are the response's own: 0 or 1."""
    if leave_one_out is None:
        return torch.zeros_like(equal)
    said = as_flags("leave_one_out", leave_one_out, equal.device)
    if said.dtype != torch.bool or said.shape not in ((), equal.shape):
        raise ArgumentError(
            f"leave_one_out must be a bool, None or bool of shape {list(equal.shape)}, "
            f"received {said.dtype} {list(said.shape)}"
        )
    own = said.expand(equal.shape)
    if not bool((~own | (equal > 0)).all()):
        row = int((own & (equal == 0)).nonzero()[0])
        raise ArgumentError(
            f"leave_one_out: row {row} is said to be among its references, but none has its reward"
        )
    return own.double()


def _estimator(estimator: str | Estimator) -> Estimator:
    if callable(estimator):
        return estimator
    if not isinstance(estimator, str) or estimator not in ESTIMATORS:
        hint = did_you_mean(estimator, ESTIMATORS)
        raise ArgumentError(
            f"unknown estimator {estimator!r}{hint}; allowed: {', '.join(ESTIMATORS)}, or a function"
        )
    return ESTIMATORS[estimator]
