"""Losses for the probabilities of categories: pure functions, one value per example, torch only.

The proper scores, in contrast to `transport`, and the smoothing of targets.
Notation: p predicted and t target probabilities, F their distribution functions over ordered categories.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import log_softmax

from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_probs, require_real, require_tensors

__all__ = ["cross_entropy", "ranked_probability_score", "smooth_neighbours"]


def cross_entropy(logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Cross-entropy -sum_k t_k log p_k with p = softmax(logits); it ignores the order of the categories.

    Args:
        logits: [B, C].
        target: t, [B, C], not negative, rows summing to 1.

    Returns:
        [B], at least the entropy of t, in nats.

    Raises:
        ArgumentError: if shapes do not fit or, on the CPU, a value is illegal.
    """
    require_tensors("cross_entropy", logits=logits, target=target)
    require_real("cross_entropy", logits=logits, target=target)
    require_probs("cross_entropy", target)
    if logits.shape != target.shape:
        raise ArgumentError(
            f"cross_entropy needs logits {list(target.shape)} like target, received {list(logits.shape)}"
        )
    require(logits.isfinite(), "cross_entropy: logits must be finite")
    wide = torch.promote_types(logits.dtype, torch.float32)
    return -(target.to(wide) * log_softmax(logits.to(wide), -1)).sum(-1)


def ranked_probability_score(
    probs: Float[Tensor, "B C"], target: Float[Tensor, "B C"], atoms: Float[Tensor, " C"] | None = None
) -> Float[Tensor, " B"]:
    """Squared distance of distribution functions, sum_k (F_p(k) - F_t(k))^2 (R_(k+1) - R_k).

    A proper score with any number of raters, unlike `transport`, whose squared counterpart it is; with a
    target of one rater it is the CRPS of a `Categorical`.

    Args:
        probs: p, [B, C], not negative, rows summing to 1.
        target: t, likewise.
        atoms: rewards R of the categories, [C], in any order; None for categories in the given order,
            one apart, which is Epstein's score.

    Returns:
        [B], not negative, in units of the atoms.

    Raises:
        ArgumentError: if shapes do not fit or, on the CPU, a value is illegal.

    Reference: Epstein 1969; Gneiting and Raftery 2007, section 4.2.
    """
    given = {} if atoms is None else {"atoms": atoms}
    require_tensors("ranked_probability_score", probs=probs, target=target, **given)
    require_real("ranked_probability_score", probs=probs, target=target, **given)
    require_probs("ranked_probability_score", probs, target)
    size = probs.shape[-1]
    if atoms is None:
        atoms = torch.arange(size, device=probs.device)
    if atoms.shape != (size,):
        raise ArgumentError(f"ranked_probability_score needs atoms [{size}], received {list(atoms.shape)}")
    wide = torch.promote_types(torch.promote_types(probs.dtype, target.dtype), torch.float32)
    ascending, order = atoms.to(probs.device, wide).sort()
    require(ascending.isfinite(), "ranked_probability_score: atoms must be finite")
    difference = (probs.to(wide) - target.to(wide))[:, order].cumsum(-1)[:, :-1]
    return (difference.square() * ascending.diff()).sum(-1)


def smooth_neighbours(
    target: Float[Tensor, "B C"], smoothing: float, neighbours: Bool[Tensor, "C C"] | None = None
) -> Float[Tensor, "B C"]:
    """Moves a share of each category's mass to its neighbours, in equal parts.

    Args:
        target: probabilities, [B, C].
        smoothing: the share that moves, in [0, 1).
        neighbours: which categories are adjacent, symmetric, false on the diagonal; None for those before and
            after in the given order. A category without neighbours keeps its mass.

    Returns:
        [B, C], with unchanged row sums.

    Raises:
        ArgumentError: if shapes do not fit, the share is out of range or, on the CPU, a value is illegal.

    Reference: Li et al. 2024, arXiv 2402.09764 (smoothing to neighbours; equal parts are this project's).

    >>> smooth_neighbours(torch.tensor([[0.0, 1.0, 0.0]]), 0.2)
    tensor([[0.1000, 0.8000, 0.1000]])
    """
    require_tensors("smooth_neighbours", target=target)
    require_probs("smooth_neighbours", target)
    if not 0 <= smoothing < 1:
        raise ArgumentError(f"smoothing must lie in [0, 1), received {smoothing}")
    size = target.shape[-1]
    place = torch.arange(size, device=target.device)
    adjacent = (place[:, None] - place).abs() == 1 if neighbours is None else neighbours.to(target.device)
    if adjacent.shape != (size, size):
        raise ArgumentError(f"neighbours must have shape [{size}, {size}], received {list(adjacent.shape)}")
    wide = torch.promote_types(target.dtype, torch.float32)
    shares = adjacent.to(wide)
    counts = shares.sum(1, keepdim=True)
    kept = torch.eye(size, dtype=wide, device=target.device)
    moved = torch.where(counts > 0, shares / counts.clamp_min(1), kept)
    return (1 - smoothing) * target.to(wide) + smoothing * (target.to(wide) @ moved)
