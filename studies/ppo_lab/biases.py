"""Heads that are wrong on purpose, in the lab's bandit: the runs of `biases`.

In: features, seed. Out: gold of the exact optimum at 1 nat, by what was done to five fitted heads and by
measure. Nothing is trained, so what differs is the measure alone.

`over` and `under`: a constant of two standard deviations is added to, or taken from, what k of the heads say
of a random tenth of the responses, for k from 0 to 5. `apart`: what the heads say beyond their common mean is
multiplied, so that they correlate more or less.
"""

from __future__ import annotations

from typing import Any

import torch

import pluralign as pl
from pluralign.heads.agreement import head_agreement
from studies.ppo_lab import bandit, curves
from studies.ppo_lab.optima import curve

FEATURES = "minilm"
MEASURES = ("mean", "worst_case", "best_case", "robust:0.4", "robust:1", "uwo:1")
SHIFT = 2.0  # standard deviations of the heads' mean over responses
TENTH = 0.1
FACTORS = (0.25, 1.0, 4.0)
DISTANCE = 1.0  # nats


def biases(seed: int) -> dict[str, Any]:
    """Gold at 1 nat: by direction and k, and by factor, each by measure; correlations by factor."""
    reference = bandit.log_probs(bandit.policy(seed))
    found = bandit.distribution("gaussian_ensemble", FEATURES, seed)
    means, stds = found.means.double(), found.stds.double()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(len(means), generator=generator) < TENTH
    found: dict[str, Any] = {"apart": {}, "correlation": {}}
    for direction, sign in (("over", 1.0), ("under", -1.0)):
        found[direction] = {}
        for k in range(means.shape[1] + 1):
            moved = means.clone()
            moved[chosen, :k] += sign * SHIFT * means.mean(1).std()
            found[direction][str(k)] = _gold(reference, moved, stds)
    common = means.mean(1, keepdim=True)
    for factor in FACTORS:
        apart = common + factor * (means - common)
        found["apart"][f"{factor:g}"] = _gold(reference, apart, stds)
        found["correlation"][f"{factor:g}"] = head_agreement(apart)["correlation"]
    return found


def _gold(reference: torch.Tensor, means: torch.Tensor, stds: torch.Tensor) -> dict[str, float | None]:
    found = pl.distributions.GaussianEnsemble(means, stds)
    return {
        measure: curves.at(
            curve(reference, pl.risk.parse(measure)(found).double().reshape(reference.shape)),
            DISTANCE,
            "gold",
        )
        for measure in MEASURES
    }
