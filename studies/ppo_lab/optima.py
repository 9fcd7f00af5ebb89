"""What risk measures choose in the lab's bandit: the runs of `optimum`.

In: features, seed. Out: what the crowd thinks of what a policy chooses, at which distance. It is the exact
optimum of E[u] - beta KL for every measure and many beta: a curve of gold over KL that no training can beat
or spoil.

Utilities are in standard deviations over the reference's responses, so that one beta means the same for all
measures.
"""

from __future__ import annotations

from typing import Any

from studies.ppo_lab import bandit

FEATURES = ("minilm",)
BETAS = (10.0, 5.0, 3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1)
MEASURES = {
    "gaussian_ensemble": (
        *("mean", "nominal", "robust:0.8", "robust:0.6", "robust:0.4", "robust:0.2", "worst_case"),
        *("mean_std:1", "cvar:0.1"),
    ),
    "quantile": (
        *("mean", "exponential:0.1", "exponential:0.3", "exponential:1", "exponential:3", "exponential:10"),
        *("entropic:1", "cvar:0.25", "cvar:0.1"),
    ),
}


def optima(seed: int) -> list[dict[str, Any]]:
    """One run for each kind of features."""
    return [{"features": features, "seed": seed} for features in FEATURES]


def optimum(features: str, seed: int) -> dict[str, Any]:
    """Curves over beta of every measure: KL, utility, gold, tail and the share of unusual choices."""
    reference = bandit.log_probs(bandit.policy(seed))
    known = bandit.truth()
    start = bandit.outcome(reference, reference, known.gold)
    found: dict[str, Any] = {
        "betas": BETAS,
        "start": {key: start[key] for key in ("gold", "tail", "unusual")},
        "best": float(known.gold.max(1).values.mean()),
        "curves": {"gold": curve(reference, known.gold)},
    }
    for family, measures in MEASURES.items():
        for measure in measures:
            utility = bandit.utilities(family, features, seed, measure)
            found["curves"][f"{family}/{measure}"] = curve(reference, utility)
    return found


def curve(reference: Any, utility: Any) -> dict[str, list[float]]:
    """Expectations under the optimum for every beta; beta in standard deviations of the utility."""
    _, std = bandit.unit(utility, reference)
    points = [
        bandit.outcome(bandit.optimum(reference, utility, beta * std), reference, utility) for beta in BETAS
    ]
    return {key: [point[key] for point in points] for key in points[0]}
