"""The targets of a distributional critic: a mixture over the n-step returns of each token.

In: rewards per token, value quantiles per token, which tokens count. Out: samples of the target distribution
of each token, with weights.

    G_i^(n) = r_i + g r_(i+1) + ... + g^(n-1) r_(i+n-1) + g^n Z_(i+n)   over kept tokens; after them Z = 0
    weight of n: (1 - l) l^(n-1), the rest on the return to the end

A mixture, not the average: the average of n-step returns has the right mean and far too small a variance.
With l = 1 the target is the one return that was seen. The mixture is that of distributional TD(lambda); how
many steps it goes and its projection (none: quantile regression on all samples) are our choice.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign import risk
from pluralign.distributions import Quantiles
from pluralign.precision import widened

__all__ = ["baseline_of", "token_targets", "value_levels"]


def value_levels(count: int, device: torch.device | str = "cpu") -> Float[Tensor, " K"]:
    """The levels of K value quantiles, (2 k - 1) / 2 K: their plain average is the mean."""
    return (torch.arange(count, device=device) + 0.5) / count


def baseline_of(values: Float[Tensor, "B T K"], measure: str) -> Float[Tensor, "B T"]:
    """The critic's values as one number each: a risk measure of its quantiles, or the single value."""
    if values.shape[-1] == 1:
        return values[..., 0]
    levels = value_levels(values.shape[-1], values.device)
    quantiles = Quantiles(values.flatten(0, 1), levels, validate=False)
    return risk.parse(measure)(quantiles).reshape(values.shape[:2])


@torch.no_grad()
def token_targets(
    rewards: Float[Tensor, "B T"],
    quantiles: Float[Tensor, "B T K"],
    keep_mask: Bool[Tensor, "B T"],
    gamma: float,
    lam: float,
    steps: int,
) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B T M"]]:
    """Samples of the target of each token, and their weights.

    Args:
        rewards: [B, T].
        quantiles: Z of the state in which each token was chosen, [B, T, K].
        keep_mask: tokens that the policy chose, [B, T]; may have holes, over which no step is taken.
        gamma: g, in [0, 1].
        lam: l, in [0, 1].
        steps: maximum number of steps before a return is cut off and Z replaces the rest; the remaining
            weight is on the longest. Bounds M = (steps + 1) K.

    Returns:
        [B, T, M] each, at the place of each token, so that no host waits for the number of tokens; weights
        sum to 1. Where not kept, samples are 0, with equal weights. With l = 1 and `steps` beyond the longest
        response all weight is on the return to the end.
    """
    size = quantiles.shape[2]
    count = keep_mask.sum(1, keepdim=True)
    order = (~keep_mask).long().argsort(dim=1, stable=True)  # kept tokens first
    kept = keep_mask.gather(1, order)
    r = widened(rewards.gather(1, order)).masked_fill(~kept, 0.0)
    z = widened(quantiles.gather(1, _wide(order, size))).masked_fill(~kept.unsqueeze(2), 0.0)
    padded = torch.cat([r, r.new_zeros(len(r), 1)], 1)
    behind = torch.cat([z, z.new_zeros(len(z), 1, size)], 1)  # Z = 0 after the last token
    place = torch.arange(keep_mask.shape[1], device=z.device)
    total, discount = torch.zeros_like(r), 1.0
    left = torch.ones_like(r)  # weight that is not yet assigned
    samples, weights = [], []
    for n in range(1, steps + 2):
        total = total + discount * padded.gather(1, torch.minimum(place + n - 1, count))
        discount *= gamma
        after = torch.minimum(place + n, count)
        ended = (after == count) | (n == steps + 1)
        given = torch.where(ended, left, (1 - lam) * left)
        reached = total.unsqueeze(2) + discount * behind.gather(1, _wide(after, size))
        samples.append(reached.to(rewards.dtype))
        weights.append((given / size).to(rewards.dtype).unsqueeze(2).expand(-1, -1, size))
        left = left - given
    gone, back = ~kept.unsqueeze(2), order.argsort(1)
    found = torch.cat(samples, 2).masked_fill(gone, 0.0)
    shares = torch.cat(weights, 2).masked_fill(gone, 1 / found.shape[2])
    return found.gather(1, _wide(back, found.shape[2])), shares.gather(1, _wide(back, found.shape[2]))


def _wide(places: Tensor, size: int) -> Tensor:
    return places.unsqueeze(2).expand(-1, -1, size)
