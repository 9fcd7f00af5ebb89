"""How far the language model's own responses can be reweighted: the frontier that training is measured by.

In: a `World`. Out: points of KL, proxy and gold for three ways to tilt towards the proxy. Nothing is trained.

The optimum of `E[f] - b KL` gives the response y the weight exp(f(y)/b). Over the 16 sampled responses of a
held-out prompt the tilted policy has weights w_j, reward sum w_j r_j and KL sum w_j log(16 w_j), so each b is
a point that a policy could reach if it learned the tilt perfectly and said nothing new. The proxy is in
standard deviations over the trained prompts' responses, gold on the scale of ratings.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pluralign.evaluation.best_of_n import best_of_n, best_of_n_kl
from studies.lab_policy.world import World

RANK_BETAS = (3.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03)
REWARD_BETAS = (10.0, 3.0, 2.0, 1.0, 0.7, 0.5, 0.3, 0.1)
SIZES = (1, 2, 3, 4, 6, 8, 12, 16)


def ideal(world: World) -> dict[str, Any]:
    """Points along each way, for a proxy that is learned and for one that is the gold reward."""
    gold_units = world.rewards("before", "gold")
    shift, scale = world.unit("gold")
    gold = shift + scale * gold_units
    return {
        name: {
            "rank": [_tilt(_ranks(reward) / b, reward, gold) | {"beta": b} for b in RANK_BETAS],
            "reward": [_tilt(reward / b, reward, gold) | {"beta": b} for b in REWARD_BETAS],
            "best_of_n": _best_of_n(reward, gold),
        }
        for name, reward in (("mean", world.rewards("before", "mean")), ("gold", gold_units))
    }


def _ranks(reward: Tensor) -> Tensor:
    return (reward[:, :, None] > reward[:, None, :]).double().mean(2)


def _tilt(exponent: Tensor, proxy: Tensor, gold: Tensor) -> dict[str, float]:
    weights = exponent.softmax(1)
    divergence = (weights * (weights * weights.shape[1]).log()).sum(1)
    return {
        "kl": float(divergence.mean()),
        "proxy": float((weights * proxy).sum(1).mean()),
        "gold": float((weights * gold).sum(1).mean()),
    }


def _best_of_n(proxy: Tensor, gold: Tensor) -> list[dict[str, float]]:
    curves = (best_of_n(proxy, values, SIZES).mean(0) for values in (proxy, gold))
    return [
        {"n": n, "kl": float(kl), "proxy": float(p), "gold": float(g)}
        for n, kl, p, g in zip(SIZES, best_of_n_kl(SIZES), *curves, strict=True)
    ]
