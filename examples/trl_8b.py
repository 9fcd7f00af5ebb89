"""GRPO of an 8B model in TRL on a node of GPUs, with a distributional reward.

    pluralign fit --family quantile --ratings ratings.jsonl --backbone my/backbone --out runs/quality
    accelerate launch --num_processes 8 --mixed_precision bf16 --use_deepspeed --zero_stage 3 \
        examples/trl_8b.py

TRL samples with vLLM in the same processes (`vllm_mode="colocate"`). Every process holds the reward model on
its own GPU and asks it for the answers of its own prompts, one call at a time; `cache=None`, since answers
seldom repeat. Logged beside TRL's own numbers: `pluralign/mean`, `std`, `tail`, `disagreement` and
`attribute/NAME`. This file was not run: no such node was at hand.
"""

from __future__ import annotations

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

import pluralign as pl
from pluralign.integrations.trl import RewardFunction

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
REWARD = "runs/quality/model"
PROMPTS = "prompts.jsonl"  # a column `prompt`: text or messages


def main() -> None:
    """Trains and saves."""
    config = GRPOConfig(
        "runs/llama-grpo",
        learning_rate=1e-6,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=4,
        num_generations=8,
        max_completion_length=512,
        beta=0.02,
        use_vllm=True,
        vllm_mode="colocate",
        bf16=True,
        gradient_checkpointing=True,
        logging_steps=5,
        save_steps=100,
        report_to="none",
    )
    trainer = GRPOTrainer(
        MODEL,
        reward_funcs=[RewardFunction(pl.RewardModel.from_pretrained(REWARD, cache=None), risk="cvar:0.1")],
        args=config,
        train_dataset=load_dataset("json", data_files=PROMPTS, split="train"),
    )
    trainer.train()
    trainer.save_model("runs/llama-grpo/final")


if __name__ == "__main__":
    main()
