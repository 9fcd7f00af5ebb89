"""PPO in the lab: does gold rise, and what does the risk measure change?

In: a work folder, advantages, risk measures, seeds. Out: one JSON line per run: gold, proxy, KL, length and
cut-offs on held-out prompts before and after, and the share of time that drawing took. The proxy is a
quantile model on 2,000 rated texts, its backbone the frozen language model; gold is the crowd's exact mean
and never trained on.

    python examples/lab_ppo.py --work work --seeds 0 --arms gae:mean rloo:mean gae:cvar:0.1
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pluralign.policy import PPOConfig, PPOTrainer
from pluralign.policy.logprobs.loading import load_policy
from studies.lab_policy.world import CROWD, MAX_NEW_TOKENS, World

NOTED = ("gold", "gold_q10", "reward", "kl", "kl_k3", "length", "cut_off")


def gold(conversations: list[Any]) -> torch.Tensor:
    """The crowd's exact mean."""
    return CROWD.gold(conversations)


def run(world: World, arm: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One run; `arm` is ADVANTAGES:RISK."""
    kind, _, risk = arm.partition(":")
    model, tokenizer = load_policy(str(world.base))
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            folder,
            advantages=kind,
            risk=risk,
            max_new_tokens=MAX_NEW_TOKENS,
            seed=world.seed,
            use_cpu=True,
            **settings,
        )
        trainer = PPOTrainer(
            model,
            config,
            prompts=[prompt.text for prompt in world.trained],
            reward=world.proxy,
            processing_class=tokenizer,
            eval_prompts=[prompt.text for prompt in world.held_out],
            gold=gold,
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    evaluations = [line for line in trainer.history if "eval/gold" in line]
    steps = [line for line in trainer.history if "seconds/draw" in line]
    shares = {
        key: sum(line[f"seconds/{key}"] for line in steps)
        / sum(line[f"seconds/{other}"] for line in steps for other in ("draw", "score", "learn"))
        for key in ("draw", "score", "learn")
    }
    return {
        "arm": arm,
        "seed": world.seed,
        "seconds": round(seconds, 1),
        "shares": {key: round(value, 3) for key, value in shares.items()},
        "before": {key: round(evaluations[0][f"eval/{key}"], 4) for key in NOTED},
        "after": {key: round(evaluations[-1][f"eval/{key}"], 4) for key in NOTED},
        "settings": settings,
    }


def main() -> None:
    """Runs every arm for every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--arms", nargs="+", default=["gae:mean", "rloo:mean", "grpo:mean"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--completions", type=int, default=4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    given = parser.parse_args()
    settings = {
        "steps": given.steps,
        "prompts_per_step": given.prompts,
        "completions": given.completions,
        "beta": given.beta,
        "learning_rate": given.learning_rate,
        "critic_learning_rate": 1e-3,
        "epochs": 2,
        "rollout_batch_size": 256,
        "micro_batch_size": 32,
        "eval_prompts": 0,
    }
    for seed in given.seeds:
        world = World(given.work, seed)
        for arm in given.arms:
            print(json.dumps(run(world, arm, settings)), flush=True)


if __name__ == "__main__":
    main()
