"""PPO in the lab's bandit: the runs of `optimum` and `trained`.

In: features, family, measure, seed. Out: what the crowd thinks of what a policy chooses, at which distance.
`optimum` is the exact optimum of E[u] - beta KL for every measure and many beta: a curve of gold over KL that
no training can beat or spoil. `trained` is what `PPOTrainer` makes of one of them.

Utilities are in standard deviations over the reference's responses, so that one beta means the same for all
measures.
"""

from __future__ import annotations

import tempfile
from typing import Any

from studies.brme import world as brme
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
# BRME's w is 1, .6 and 0; QRM's neutral and risk-aware utilities.
TRAINED = (
    ("gaussian_ensemble", "nominal"),
    ("gaussian_ensemble", "robust:0.6"),
    ("gaussian_ensemble", "worst_case"),
    ("quantile", "mean"),
    ("quantile", "exponential:1"),
)
BETA = 0.5
PPO = {
    "steps": 48,
    "prompts_per_step": brme.PROMPTS,
    "completions": 8,
    "max_new_tokens": 1,
    "advantages": "rloo",
    "missing_end_penalty": 0.0,
    "epochs": 2,
    "learning_rate": 3e-3,
    "micro_batch_size": 512,
    "rollout_batch_size": 512,
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
        "curves": {"gold": _curve(reference, known.gold)},
    }
    for family, measures in MEASURES.items():
        for measure in measures:
            utility = bandit.utilities(family, features, seed, measure)
            found["curves"][f"{family}/{measure}"] = _curve(reference, utility)
    return found


def _curve(reference: Any, utility: Any) -> dict[str, list[float]]:
    _, std = bandit.unit(utility, reference)
    points = [
        bandit.outcome(bandit.optimum(reference, utility, beta * std), reference, utility) for beta in BETAS
    ]
    return {key: [point[key] for point in points] for key in points[0]}


def training(seed: int) -> list[dict[str, Any]]:
    """Each of the measures that are trained."""
    return [{"family": family, "measure": measure, "seed": seed} for family, measure in TRAINED]


def trained(family: str, measure: str, seed: int) -> dict[str, Any]:
    """What PPO makes of the measure, beside the optimum at the same beta; and its curves on the way."""
    from pluralign.policy import PPOConfig, PPOTrainer

    model = bandit.policy(seed)
    reference = bandit.log_probs(model)
    utility = bandit.utilities(family, "minilm", seed, measure)
    _, std = bandit.unit(utility, reference)
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(folder, risk=measure, beta=BETA * std, seed=seed, use_cpu=True, **PPO)
        trainer = PPOTrainer(
            model,
            config,
            prompts=[bandit.prompt_of(place) for place in range(brme.PROMPTS)],
            reward=bandit.Scorer(family, "minilm", seed),
            processing_class=bandit.tokenizer(),
        )
        trainer.train()
        steps = [line for line in trainer.history if "reward/utility" in line]
    reached = bandit.log_probs(trainer.policy)
    best = bandit.optimum(reference, utility, BETA * std)
    every = steps[:: len(steps) // 10]
    return {
        "beta": BETA,
        "start": bandit.outcome(reference, reference, utility),
        "trained": bandit.outcome(reached, reference, utility),
        "optimum": bandit.outcome(best, reference, utility),
        "path": {key: [line[key] for line in every] for key in ("kl_k3", "entropy", "reward/utility_std")},
    }
