"""A distributional reward inside TRL's own trainer, on this machine: minutes on two cores, no downloads.

    python examples/trl_tiny.py            # GRPO
    python examples/trl_tiny.py RLOO

A small language model answers prompts, a quantile model fitted on what a simulated crowd said of other texts
scores the answers by the mean of the worst quarter of its predictions, and TRL trains. What the crowd truly
thinks is logged beside it and not trained on: a second reward function of weight 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

import pluralign as pl
from pluralign.integrations.trl import RewardFunction
from pluralign.lab import Crowd, cached_language_model

RUN = Path("runs/trl_tiny")
SHOWN = ("pluralign/utility", "pluralign/mean", "pluralign/std", "pluralign/tail", "gold/mean")


def main(method: str = "GRPO", steps: int = 12) -> None:
    """Reward model, training, and what the log says at first and at last."""
    crowd = Crowd(seed=0)
    ratings = crowd.ratings(600)
    model = pl.fit("quantile", ratings=ratings, backbone="minilm", config={"baselines": False})
    model.save_pretrained(RUN / "reward")
    policy = str(cached_language_model(RUN))
    config = getattr(trl, f"{method}Config")(
        str(RUN / method),
        max_steps=steps,
        per_device_train_batch_size=32,
        num_generations=4,
        max_completion_length=64,
        learning_rate=3e-4,
        beta=0.05,
        reward_weights=[1.0, 0.0],
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = getattr(trl, f"{method}Trainer")(
        AutoModelForCausalLM.from_pretrained(policy),
        reward_funcs=[
            RewardFunction(pl.RewardModel.from_pretrained(RUN / "reward", cache=None), risk="cvar:0.25"),
            RewardFunction(crowd.gold, name="gold", prefix="gold"),
        ],
        args=config,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in distinct(ratings["prompt"])]),
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    trainer.train()
    logged = [line for line in trainer.state.log_history if SHOWN[0] in line]
    few = max(1, len(logged) // 4)
    for name in SHOWN:
        first, last = ([line[name] for line in part] for part in (logged[:few], logged[-few:]))
        print(f"{name:>18}  {sum(first) / few:8.3f} -> {sum(last) / few:8.3f}")


def distinct(prompts: list) -> list:
    """Each prompt once, in order."""
    return list({repr(prompt): prompt for prompt in prompts}.values())


if __name__ == "__main__":
    main(*sys.argv[1:2])
