"""Losses for training a policy on its own samples: advantages, clipped objectives, KL estimates, a quantile
critic.

In: log-probabilities, rewards and values per token [B, T], or per response [B]. Out: one value per token or
per example; the caller masks and reduces. Differences and exponentials are computed in float32 at least,
whatever the inputs are.

Notation: r reward, V value, A advantage, g discount, l decay, p ratio of the policy's probability to that of
the sampling policy, e clip, t level.

    gae                A_i = d_i + g l A_next(i),   d_i = r_i + g V_next(i) - V_i
    clipped_surrogate  -min(p A, clip(p, 1 - e, 1 + e) A)
    clipped_value      1/2 max((V - R)^2, (V_old + clip(V - V_old, -e, e) - R)^2)
    kl_estimate        k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d,   d = log pi - log ref
    quantile_huber     |t - 1[u < 0]| L_kappa(u) / kappa,   u = target - value
    group_advantages   r minus the mean of the others (RLOO); (r - mean) / (std + 1e-4) (GRPO)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_number, require_real, require_tensors

__all__ = [
    "GROUP_ADVANTAGES",
    "KL_ESTIMATORS",
    "clipped_surrogate",
    "clipped_value",
    "gae",
    "group_advantages",
    "grpo_advantages",
    "kl_estimate",
    "quantile_huber",
    "rloo_advantages",
]

_STD_FLOOR = 1e-4  # for GRPO, as in TRL


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    keep_mask: Bool[Tensor, "B T"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Generalised advantage estimates, and the returns that a critic is fitted to.

    The value after a token is that of the next kept token, and 0 after the last one: tokens between two kept
    tokens (a prompt, the output of a tool) are not steps. Nothing is whitened.

    Args:
        rewards: r, [B, T]; ignored where not kept.
        values: V of the state in which each token was chosen, [B, T].
        keep_mask: true at tokens that the policy chose, [B, T]; may have gaps (several turns).
        gamma: g in [0, 1].
        lam: l in [0, 1].

    Returns:
        Advantages and returns (advantage + value), [B, T] each, without gradient, 0 where not kept.

    Raises:
        ArgumentError: shapes do not fit, g or l is outside [0, 1], or (on the CPU) a kept reward or value is
            not finite.

    Reference: Schulman et al. 2015 (arXiv 1506.02438), equation 16; skipping tokens that are not kept is
    ours.
    """
    _same_shape("gae", 2, rewards=rewards, values=values, keep_mask=keep_mask)
    for name, number in (("gamma", gamma), ("lam", lam)):
        require_number(f"gae: {name}", number)
        if number > 1:
            raise ArgumentError(f"gae: {name} must lie in [0, 1], received {number}")
    keep = keep_mask.bool()
    with torch.no_grad():
        r, v = (_wide(one).masked_fill(~keep, 0.0) for one in (rewards, values))
        require(r.isfinite() & v.isfinite(), "gae: kept rewards and values must be finite")
        advantages = torch.zeros_like(r + v)
        next_value = next_advantage = advantages.new_zeros(len(r))
        for place in range(r.shape[1] - 1, -1, -1):
            here = r[:, place] + gamma * next_value - v[:, place] + gamma * lam * next_advantage
            kept = keep[:, place]
            advantages[:, place] = here.where(kept, advantages.new_zeros(()))
            next_advantage = here.where(kept, next_advantage)
            next_value = v[:, place].where(kept, next_value)
    return advantages, advantages + v


def clipped_surrogate(
    log_probs: Float[Tensor, "B T"],
    old_log_probs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    clip: float = 0.2,
) -> Float[Tensor, "B T"]:
    """PPO's objective with the sign flipped, to be minimised: -min(p A, clip(p, 1 - e, 1 + e) A).

    Args:
        log_probs: of each token under the policy, [B, T] (or [B], for whole responses).
        old_log_probs: under the sampling policy, same shape.
        advantages: A, same shape.
        clip: e >= 0.

    Returns:
        Same shape; differentiable in `log_probs`.

    Raises:
        ArgumentError: shapes do not fit, or clip is negative.

    Reference: Schulman et al. 2017 (arXiv 1707.06347), equation 7.
    """
    given = {"log_probs": log_probs, "old_log_probs": old_log_probs, "advantages": advantages}
    _same_shape("clipped_surrogate", None, **given)
    require_number("clipped_surrogate: clip", clip)
    ratio = (_wide(log_probs) - _wide(old_log_probs)).exp()
    gain = _wide(advantages)
    return -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)


def clipped_value(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    clip: float = 0.2,
) -> Float[Tensor, "B T"]:
    """Half the squared error of a critic, or of its value clipped to e around the old one, whichever is
    larger.

    Args:
        values: V, [B, T].
        old_values: V when the tokens were sampled, [B, T].
        returns: R, [B, T].
        clip: e >= 0, in units of the values.

    Returns:
        [B, T]; differentiable in `values`.

    Raises:
        ArgumentError: shapes do not fit, or clip is negative.

    Reference: the value loss of OpenAI's baselines (ppo2); the factor 1/2 as in TRL, verl and OpenRLHF.
    """
    given = {"values": values, "old_values": old_values, "returns": returns}
    _same_shape("clipped_value", None, **given)
    require_number("clipped_value: clip", clip)
    v, old, target = _wide(values), _wide(old_values), _wide(returns)
    near = old + (v - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((v - target) ** 2, (near - target) ** 2)


def _k1(d: Tensor) -> Tensor:
    return d


def _k2(d: Tensor) -> Tensor:
    return d**2 / 2


def _k3(d: Tensor) -> Tensor:
    return torch.expm1(-d) + d


KL_ESTIMATORS: Mapping[str, Callable[[Tensor], Tensor]] = {"k1": _k1, "k2": _k2, "k3": _k3}
"""Estimators of KL(pi || ref) from tokens sampled from pi, as functions of d = log pi - log ref."""


def kl_estimate(
    log_probs: Float[Tensor, " *S"], reference_log_probs: Float[Tensor, " *S"], estimator: str = "k1"
) -> Float[Tensor, " *S"]:
    """An estimate of KL(pi || ref) from each token sampled from pi.

    `k1` and `k3` are unbiased, `k3` is never negative and less noisy near 0; `k2` is biased, but its gradient
    is that of the KL.

    Args:
        log_probs: log pi of the sampled tokens, any shape.
        reference_log_probs: log ref of the same tokens, same shape.
        estimator: k1, k2 or k3.

    Returns:
        Same shape, in nats; differentiable in both.

    Raises:
        ArgumentError: shapes do not fit, or there is no such estimator.

    Reference: Schulman 2020, "Approximating KL divergence".
    """
    given = {"log_probs": log_probs, "reference_log_probs": reference_log_probs}
    _same_shape("kl_estimate", None, **given)
    estimate = _choose("kl_estimate: estimator", estimator, KL_ESTIMATORS)
    return estimate(_wide(log_probs) - _wide(reference_log_probs))


def quantile_huber(
    values: Float[Tensor, "B K"],
    targets: Float[Tensor, "B M"],
    levels: Float[Tensor, " K"],
    kappa: float = 1.0,
    weights: Float[Tensor, " M"] | Float[Tensor, "B M"] | None = None,
) -> Float[Tensor, " B"]:
    """Quantile Huber loss of K value quantiles against M samples of the target.

    Divided by kappa, so that kappa -> 0 gives the pinball loss; kappa = 0 is exactly that.

    Args:
        values: the quantiles, [B, K].
        targets: samples or quantiles of the target distribution, [B, M]; no gradient flows into them.
        levels: t in (0, 1), [K].
        kappa: where the error changes from quadratic to linear, at least 0, in units of the values.
        weights: of the targets, [M] or [B, M], not negative, each row not all 0; None for equal weights.

    Returns:
        [B]: the mean over levels and the weighted mean over targets.

    Raises:
        ArgumentError: shapes do not fit, kappa is negative, or (on the CPU) a level is outside (0, 1) or a
            weight is negative.

    Reference: Dabney et al. 2017 (arXiv 1710.10044), equations 9 and 10, which sum over levels and do not
    divide by kappa.
    """
    require_tensors("quantile_huber", values=values, targets=targets, levels=levels)
    shapes = [list(one.shape) for one in (values, targets, levels)]
    if values.ndim != 2 or targets.ndim != 2 or len(values) != len(targets) or not targets.shape[1]:
        raise ArgumentError(f"quantile_huber needs values [B, K] and targets [B, M], received {shapes[:2]}")
    if levels.shape != values.shape[1:] or not len(levels):
        raise ArgumentError(f"quantile_huber needs levels [{values.shape[1]}], received {shapes[2]}")
    require_number("quantile_huber: kappa", kappa)
    t = _wide(levels).to(values.device)
    require((t > 0) & (t < 1), "quantile_huber: levels must lie in (0, 1)")
    u = _wide(targets).detach()[:, None, :] - _wide(values)[:, :, None]  # [B, K, M]
    size = u.abs()
    if kappa > 0:
        size = torch.where(size <= kappa, u**2 / (2 * kappa), size - kappa / 2)
    error = ((t[:, None] - (u < 0).to(u.dtype)).abs() * size).mean(1)  # [B, M]
    if weights is None:
        return error.mean(1)
    require_tensors("quantile_huber", weights=weights)
    if weights.shape not in (targets.shape, targets.shape[1:]):
        raise ArgumentError(
            f"quantile_huber needs weights [M] or [B, M] with M = {targets.shape[1]}, received "
            f"{list(weights.shape)}"
        )
    w = _wide(weights).to(error.device).expand_as(error)
    require((w >= 0) & (w.sum(1, keepdim=True) > 0), "quantile_huber: weights must be at least 0, not all 0")
    return (error * w).sum(1) / w.sum(1)


def rloo_advantages(rewards: Float[Tensor, " B"], group: Any) -> Float[Tensor, " B"]:
    """Each reward minus the mean of the other rewards of its group.

    Args:
        rewards: r, [B].
        group: the prompt that each belongs to, B ids in any order.

    Raises:
        ArgumentError: a group has one member, or shapes do not fit.

    Reference: Ahmadian et al. 2024 (arXiv 2402.14740).
    """
    r, place, count = _grouped(rewards, group)
    if bool((count < 2).any()):
        raise ArgumentError(
            f"rloo: {int((count < 2).sum())} groups have a single response, with nothing to compare it "
            "with; sample at least two per prompt"
        )
    total = r.new_zeros(len(count)).index_add(0, place, r)
    own = count[place].to(r.dtype)
    return (r * own - total[place]) / (own - 1)


def grpo_advantages(rewards: Float[Tensor, " B"], group: Any) -> Float[Tensor, " B"]:
    """(r - mean) / (std + 1e-4) within each group; 0 if a group has one member, or all rewards are equal.

    Args:
        rewards: r, [B].
        group: the prompt that each belongs to, B ids in any order.

    Raises:
        ArgumentError: shapes do not fit.

    Reference: Shao et al. 2024 (arXiv 2402.03300), with the unbiased standard deviation and the floor of TRL.
    """
    r, place, count = _grouped(rewards, group)
    own = count.to(r.dtype)
    centred = r - (r.new_zeros(len(count)).index_add(0, place, r) / own)[place]
    squares = r.new_zeros(len(count)).index_add(0, place, centred**2)
    std = (squares / (own - 1).clamp(min=1)).sqrt()
    return centred / (std[place] + _STD_FLOOR)


GROUP_ADVANTAGES: Mapping[str, Callable[[Tensor, Any], Tensor]] = {
    "rloo": rloo_advantages,
    "grpo": grpo_advantages,
}
"""Advantages from the other responses to the same prompt, by name."""


def group_advantages(rewards: Float[Tensor, " B"], group: Any, kind: str = "rloo") -> Float[Tensor, " B"]:
    """Advantages of responses relative to the others to the same prompt.

    Args:
        rewards: [B].
        group: the prompt that each belongs to: B ids (a tensor of integers, or any hashable), in any order.
        kind: `rloo` (`rloo_advantages`) or `grpo` (`grpo_advantages`).

    Returns:
        [B].

    Raises:
        ArgumentError: there is no such kind, shapes do not fit, a reward is not finite (on the CPU), or
            a group has one member (`rloo`).
    """
    advantages = _choose("group_advantages: kind", kind, GROUP_ADVANTAGES)
    return advantages(rewards, group)


def _grouped(rewards: Tensor, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, the index of each one's group, and the size of each group."""
    require_tensors("group_advantages", rewards=rewards)
    if rewards.ndim != 1 or not isinstance(group, Tensor | Sequence) or len(group) != len(rewards):
        size = list(group.shape) if isinstance(group, Tensor) else getattr(group, "__len__", lambda: "?")()
        raise ArgumentError(
            f"group_advantages needs rewards [B] and B group ids, received {list(rewards.shape)} and {size}"
        )
    r = _wide(rewards)
    require(r.isfinite(), "group_advantages: rewards must be finite")
    if isinstance(group, Tensor):
        _, place = torch.unique(group.reshape(len(r)), return_inverse=True)
    else:
        numbers: dict[Any, int] = {}
        place = torch.tensor([numbers.setdefault(one, len(numbers)) for one in group], dtype=torch.long)
    place = place.to(r.device)
    return r, place, torch.bincount(place)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _same_shape(name: str, dims: int | None, **arguments: Tensor) -> None:
    require_tensors(name, **arguments)
    require_real(name, **arguments)
    shapes = {argument: list(tensor.shape) for argument, tensor in arguments.items()}
    first = next(iter(shapes.values()))
    if any(shape != first for shape in shapes.values()) or (dims is not None and len(first) != dims):
        found = ", ".join(f"{argument} {shape}" for argument, shape in shapes.items())
        raise ArgumentError(f"{name} needs tensors of one shape, [B, T]; received {found}")


def _choose(what: str, name: Any, table: Mapping[str, Callable[..., Tensor]]) -> Callable[..., Tensor]:
    if not isinstance(name, str) or name not in table:
        raise ArgumentError(f"{what} must be one of {', '.join(table)}, received {name!r}")
    return table[name]
