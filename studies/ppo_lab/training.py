"""Policies that are trained in the lab's language: the runs of `samples`, `pressure`, `people` and `critic`.

In: settings. Out: what the crowd thinks of the trained policy's answers to held-out prompts, its KL, and
evaluations on the way.

Online runs use `PPOTrainer` with `normalize_rewards`, so that beta is in standard deviations of the reward
for every family and measure. Their settings were not searched; those of the offline methods are the best of
the grids of `studies.lab_policy`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import pluralign as pl
from pluralign.lab.world import Request
from studies.lab_policy.training import best_settings
from studies.lab_policy.world import CROWD, MAX_NEW_TOKENS
from studies.ppo_lab.world import Lab, lab, outcome, pairs, wins

METHODS = ("gae", "rloo", "grpo", "qrpo", "dpo", "rebel")
WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
PRESSED = (
    ("bradley_terry", "mean"),
    *(("gaussian_ensemble", f"robust:{weight:g}") for weight in WEIGHTS),
    ("gaussian_ensemble", "mean"),
    ("quantile", "mean"),
    *(("quantile", f"exponential:{rate:g}") for rate in RATES),
    ("quantile", "entropic:1"),
)
AUTOMATIC = {"reward": "gaussian_ensemble", "risk": "robust:1", "robust_weight": "disagreement"}
CRITICS = (
    {"critic_quantiles": 1},
    {"critic_quantiles": 16},
    {"critic_quantiles": 16, "critic_baseline": "cvar:0.25"},
)

COMMON: dict[str, Any] = {
    "max_new_tokens": MAX_NEW_TOKENS,
    "prompts_per_step": 16,
    "completions": 4,
    "normalize_rewards": True,
    "learning_rate": 3e-4,
    "critic_learning_rate": 1e-3,
    "epochs": 2,
    "rollout_batch_size": 256,
    "micro_batch_size": 64,
    "use_cpu": True,
}
# Both: 16 steps of 64 answers, as many as offline methods learn from.
EQUAL: dict[str, Any] = {"steps": 16, "beta": 0.1}
# A weak penalty and larger updates: the policy goes far, and is evaluated on the way.
PRESSURE: dict[str, Any] = {
    "steps": 16,
    "beta": 0.02,
    "learning_rate": 1e-3,
    "eval_steps": 4,
    "eval_prompts": 64,
}


def online(
    own: Lab, reward: Any, risk: str, prompts: Sequence[Request] | None = None, **settings: Any
) -> tuple[Any, list[dict[str, float]]]:
    """The policy that `PPOTrainer` makes, and its evaluations.

    Args:
        own: the lab of a seed.
        reward: a reward model, or a function of conversations.
        risk: the measure of a reward model's distributions.
        prompts: to train on; None for all that are trained on.
        settings: of the trainer, where they are not `COMMON`.
    """
    from pluralign.policy import PPOConfig, PPOTrainer
    from pluralign.policy.logprobs.loading import load_policy

    model, tokenizer = load_policy(str(own.base))
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            model,
            PPOConfig(folder, risk=risk, seed=own.seed, **COMMON | settings),
            prompts=[prompt.text for prompt in prompts or own.trained],
            reward=reward,
            processing_class=tokenizer,
            eval_prompts=[prompt.text for prompt in own.held_out] if "eval_prompts" in settings else None,
            gold=CROWD.gold,
        )
        trainer.train()
    names = ("eval/gold", "eval/reward", "eval/kl_k3")
    path = [
        {"step": line["step"], **{name.removeprefix("eval/"): line[name] for name in names}}
        for line in trainer.history
        if "eval/gold" in line
    ]
    for name in ("value/explained", "reward/robust_weight"):
        values = [line[name] for line in trainer.history if name in line]
        if values:
            path.append({name.split("/")[1]: sum(values) / len(values)})
    return trainer.policy.eval(), path


def offline(own: Lab, method: str, family: str) -> Any:
    """The policy that an offline method makes of as many answers of the language model."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    best = best_settings()
    assert best is not None, "the records of studies.lab_policy hold whole grids"
    beta, rate = best[method]
    model = AutoModelForCausalLM.from_pretrained(own.base)
    table = Dataset.from_list(pairs(own, own.reward_model(family).score, own.seed))
    with tempfile.TemporaryDirectory() as folder:
        config = pl.policy.OfflineConfig(
            folder,
            method=method,
            beta=beta,
            learning_rate=rate,
            leave_one_out=True,
            per_device_train_batch_size=16,
            seed=own.seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = pl.policy.OfflineTrainer(model, config, table)
        trainer.train()
    return model.eval()


def _answers(own: Lab, name: str, family: str, risk: str, **settings: Any) -> dict[str, Any]:
    """Answers of an online run."""
    return own.answers(
        f"{name}-{family}-{risk}", lambda: online(own, own.reward_model(family), risk, **settings)
    )


def samples(method: str, seed: int) -> dict[str, Any]:
    """A method at 1,024 answers, with one Bradley-Terry reward."""
    own = lab(seed)
    if method in ("qrpo", "dpo", "rebel"):
        answers = own.answers(f"samples-{method}", lambda: (offline(own, method, "bradley_terry"), []))
    else:
        answers = _answers(own, f"samples-{method}", "bradley_terry", "mean", advantages=method, **EQUAL)
    return {"outcome": outcome(answers)}


def pressed(seed: int) -> list[dict[str, Any]]:
    """Every family with its measures, and w from the disagreement of heads."""
    found = [{"reward": family, "risk": risk, "seed": seed} for family, risk in PRESSED]
    return [*found, {**AUTOMATIC, "seed": seed}]


def pressure(reward: str, risk: str, seed: int, robust_weight: str = "fixed") -> dict[str, Any]:
    """A family and a measure under a weak penalty: where gold goes while the reward rises."""
    name = "pressure" if robust_weight == "fixed" else f"pressure-{robust_weight}"
    answers = _answers(lab(seed), name, reward, risk, robust_weight=robust_weight, **PRESSURE)
    return {"outcome": outcome(answers), "path": answers["path"]}


def people(seed: int) -> dict[str, Any]:
    """DPRM's reward, the crowd's categories, beside Bradley-Terry's: win rates under each persona."""
    own = lab(seed)
    aligned = _answers(own, "samples-gae", "categorical", "mean", advantages="gae", **EQUAL)
    rival = _answers(own, "samples-gae", "bradley_terry", "mean", advantages="gae", **EQUAL)
    ours, theirs = aligned["responses"], rival["responses"]
    return {
        "outcome": outcome(aligned),
        "rival": outcome(rival),
        "against_vanilla": wins(ours, own.untrained["responses"]),
        "rival_against_vanilla": wins(theirs, own.untrained["responses"]),
        "against_rival": wins(ours, theirs),
    }


def critic(seed: int, **settings: Any) -> dict[str, Any]:
    """A scalar critic, or quantiles of the return, with the mean of a quantile model as reward."""
    name = "critic-" + "-".join(str(value) for value in settings.values())
    answers = _answers(lab(seed), name, "quantile", "mean", **EQUAL, **settings)
    return {"outcome": outcome(answers), "path": answers["path"]}


def before(seed: int) -> dict[str, Any]:
    """The language model itself."""
    return {"outcome": outcome(lab(seed).untrained)}
