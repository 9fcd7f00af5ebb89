"""Quantile rewards: the rank of a response's reward among those of the reference policy's completions.

    R_q(x, y) = P(R(x, y') <= R(x, y)),  y' drawn from the reference policy

In: rewards [B] and reference rewards [B, N], with an optional mask. Out: ranks in [0, 1] in the dtype of the
rewards (at least float32; float64 for lists and integers). Rewards and references of different precision are
compared in the lower one, so that a response still ties with its own entry.

Notation: of n references, L are below the reward and E equal it; V is uniform on (0, 1).

    inclusive   (L + E) / n              the published estimator
    mid         (L + E/2) / n            ties count half; the default
    randomised  (L + V (E + 1)) / (n + 1)  exactly uniform under the reference policy, also with atoms

***Leave one out.** A training response that is itself one of the references counts among the E, which raises
its rank: the mean of the inclusive estimate is (n + 1)/(2n) instead of 1/2. So its own entry is left out, and
L, E and n are those of the others. Equal rewards do not show that a response is a reference: if rewards have
atoms, other responses tie too, and leaving out their ties would distort their ranks. So nothing is left out
unless the caller says that the response is among its references.

Reference: Matrenok et al. 2025 (arXiv 2507.08068), equation 8; all but `inclusive` is this project's.
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
    Flags,
    Mask,
    ReferenceRewards,
    Rewards,
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

# L, E, n (float64, equal shapes) and a random generator -> rank
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
    """(L + V (E + 1)) / (n + 1): a uniform draw over the ranks that the ties allow."""
    draw = torch.rand(below.shape, generator=generator, dtype=torch.float64, device=below.device)
    return (below + draw * (equal + 1)) / (count + 1)


ESTIMATORS: Mapping[str, Estimator] = {"inclusive": inclusive, "mid": mid, "randomised": randomised}


def quantile_rewards(
    rewards: Rewards,
    reference_rewards: ReferenceRewards,
    estimator: str | Estimator = "mid",
    leave_one_out: Flags | None = None,
    keep_mask: Mask | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " B"]:
    """Estimated quantile rewards.

    Args:
        rewards: rewards of the training responses, [B].
        reference_rewards: rewards of N completions of the reference policy to the same prompts, [B, N].
        estimator: `inclusive`, `mid`, `randomised`, or a function of (L, E, n, generator).
        leave_one_out: True if the response is one of its references, [B] or one value for all; one entry
            that equals its reward is then left out. For False and None, none is. (In tables this is the
            column `among_references`, which the trainer and `diagnose_table` use.)
        keep_mask: bool [B, N], false for references to ignore; None keeps all. See `pad_references`.
        generator: random generator for V of `randomised`; None for torch's default.

    Returns:
        [B], in [0, 1].

    Raises:
        ArgumentError: a reward is NaN or infinite, shapes do not fit, a row has no references (or none but
            the response itself), a response marked as being among its references is not, or there is no
            such estimator.

    >>> quantile_rewards(torch.tensor([2.0]), torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([0.5000])
    """
    below, equal, count = _counts(rewards, reference_rewards, leave_one_out, keep_mask)
    ranks = _estimator(estimator)(below, equal, count, generator)
    return ranks.to(widest_dtype(rewards, reference_rewards))


def num_references(
    rewards: Rewards,
    reference_rewards: ReferenceRewards,
    leave_one_out: Flags | None = None,
    keep_mask: Mask | None = None,
) -> Int[Tensor, " B"]:
    """The number of references of each rank, without the response's own entry: n of `clamp_ranks`.

    Args:
        rewards: as in `quantile_rewards`.
        reference_rewards: as in `quantile_rewards`.
        leave_one_out: as in `quantile_rewards`.
        keep_mask: as in `quantile_rewards`.

    Returns:
        int64, [B], at least 1.

    Raises:
        ArgumentError: as for `quantile_rewards`.
    """
    return _counts(rewards, reference_rewards, leave_one_out, keep_mask)[2].long()


def reference_ranks(
    reference_rewards: ReferenceRewards,
    estimator: str | Estimator = "mid",
    leave_one_out: bool = True,
    keep_mask: Mask | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B N"]:
    """The rank of each reference, among the others or among all, for the finite partition function.

    Args:
        reference_rewards: [B, N].
        estimator: as in `quantile_rewards`, and the same as for the training responses.
        leave_one_out: whether a reference is left out of its own rank.
        keep_mask: bool [B, N]; the rank of ignored entries is 1/2 and has no meaning.
        generator: random generator for V of `randomised`.

    Returns:
        [B, N], in [0, 1].

    Raises:
        ArgumentError: as for `quantile_rewards`.
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
    """Ranks clamped to [1/(2n), 1 - 1/(2n)], for transforms that are infinite at 0 or 1 (log, normal).

    Args:
        ranks: in [0, 1], any shape.
        num_references: n, a number or a tensor that broadcasts with the ranks.

    Returns:
        The shape of the ranks. The published bounds [1/n, 1 - 1/n] are empty for n = 1.

    Raises:
        ArgumentError: n is less than 1.
    """
    count = torch.as_tensor(num_references, dtype=torch.float64, device=ranks.device)
    if not bool(((count >= 1) & count.isfinite()).all()):
        raise ArgumentError(f"clamp_ranks: num_references must be at least 1, received {num_references}")
    half = 0.5 / count
    return torch.minimum(torch.maximum(ranks.double(), half), 1 - half)


def tied_prompts(reference_rewards: ReferenceRewards, keep_mask: Mask | None = None) -> Bool[Tensor, " B"]:
    """Whether all references of a prompt have the same reward, so that ranks have no information.

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
    rewards: Rewards,
    reference_rewards: ReferenceRewards,
    keep_mask: Mask | None = None,
) -> float:
    """Share of responses whose reward is exactly that of one of their references.

    With continuous rewards this is the share of responses that are references themselves; with atoms it
    has no such meaning.

    Args:
        rewards: [B], B at least 1.
        reference_rewards: [B, N].
        keep_mask: bool [B, N]; None keeps all.

    Returns:
        In [0, 1].

    Raises:
        ArgumentError: as for `quantile_rewards`.
    """
    return float((_all_counts(rewards, reference_rewards, keep_mask)[1] > 0).double().mean())


def pad_references(
    lists: Sequence[Sequence[float]],
) -> tuple[Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Lists of reference rewards of different lengths as one tensor and its mask.

    Args:
        lists: one list of rewards per prompt, none empty.

    Returns:
        rewards [B, N], float64, padded with 0, and keep_mask [B, N].

    Raises:
        ArgumentError: there are no prompts, a prompt has no references, or a reward is not finite.
    """
    if not len(lists) or not all(isinstance(row, Sequence) and len(row) for row in lists):
        raise ArgumentError("pad_references: every prompt needs a list of at least one reference reward")
    width = max(map(len, lists))
    padded = [[*row, *[0.0] * (width - len(row))] for row in lists]
    rewards = as_rewards("pad_references", padded, 2)
    counts = torch.tensor([len(row) for row in lists])
    return rewards, torch.arange(width) < counts.unsqueeze(-1)


def _counts(
    rewards: Any, reference_rewards: Any, leave_one_out: Flags | None, keep_mask: Mask | None
) -> tuple[Tensor, Tensor, Tensor]:
    """L, E and n of each response, without its own entry if it is left out; [B] each, float64."""
    below, equal, count = _all_counts(rewards, reference_rewards, keep_mask)
    own = _own_entries(leave_one_out, equal)
    count = count - own
    if not bool((count > 0).all()):
        row = int((count <= 0).nonzero()[0])
        raise ArgumentError(
            f"quantile_rewards: row {row} has no reference besides the response itself; sample at least two "
            "completions per prompt"
        )
    return below, equal - own, count


def _all_counts(
    rewards: Any, reference_rewards: Any, keep_mask: Mask | None
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


def _own_entries(leave_one_out: Flags | None, equal: Tensor) -> Tensor:
    """The number of own entries of the response in each row: 0 or 1."""
    if leave_one_out is None:
        return torch.zeros_like(equal)
    flags = as_flags("leave_one_out", leave_one_out, equal.device)
    if flags.dtype != torch.bool or flags.shape not in ((), equal.shape):
        raise ArgumentError(
            f"leave_one_out must be a bool, None or bool of shape {list(equal.shape)}, "
            f"received {flags.dtype} {list(flags.shape)}"
        )
    own = flags.expand(equal.shape)
    if not bool((~own | (equal > 0)).all()):
        row = int((own & (equal == 0)).nonzero()[0])
        raise ArgumentError(
            f"leave_one_out: row {row} is marked as being among its references, but none has its reward"
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
