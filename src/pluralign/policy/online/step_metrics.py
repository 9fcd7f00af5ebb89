"""Metrics of a step before its update, under fixed names.

    reward/utility, reward/utility_std   mean and standard deviation of utilities over responses
    reward/mean, std, tail, disagreement means over responses of these statistics of their distributions
    reward/shaped                        mean after normalization and the penalty for a missing end token
    kl, kl_k3                            KL of responses from the reference, nats: sums over tokens
    entropy                              nats per token: the mean of -log pi of sampled tokens
    length, cut_off                      tokens; share without an end token
    value/explained                      1 - Var(returns - values) / Var(returns), if there is a critic

In: tensors of one batch. Out: numbers.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.losses.online import kl_estimate
from pluralign.policy.online.shaping import Shaped
from pluralign.policy.rewards.scoring import ResponseScores

__all__ = ["step_metrics"]


def step_metrics(
    scores: ResponseScores,
    ended: Bool[Tensor, " B"],
    log_probs: Float[Tensor, "B T"],
    reference_log_probs: Float[Tensor, "B T"],
    keep_mask: Bool[Tensor, "B T"],
    shaped: Shaped,
    values: Float[Tensor, "B T"] | None,
) -> dict[str, float]:
    """The numbers above, means over the responses or tokens of this process."""
    kept = keep_mask.sum().clamp(min=1)

    def per_response(estimator: str) -> float:
        tokens = kl_estimate(log_probs, reference_log_probs, estimator).masked_fill(~keep_mask, 0.0)
        return float(tokens.sum(1).mean())

    found = {
        "reward/utility": float(scores.utilities.mean()),
        "reward/utility_std": float(scores.utilities.std(correction=0)),
        "reward/shaped": float(shaped.rewards.mean()),
        "kl": per_response("k1"),
        "kl_k3": per_response("k3"),
        "entropy": float(-log_probs.masked_fill(~keep_mask, 0.0).sum() / kept),
        "length": float(keep_mask.sum(1).float().mean()),
        "cut_off": float((~ended).float().mean()),
        **{f"reward/{key}": value for key, value in scores.metrics.items()},
    }
    if values is not None and shaped.returns is not None:
        returns, errors = shaped.returns[keep_mask], (shaped.returns - values)[keep_mask]
        spread = float(returns.var(correction=0)) if len(returns) else 0.0
        found["value/explained"] = 1 - float(errors.var(correction=0)) / spread if spread > 0 else 0.0
    return found
