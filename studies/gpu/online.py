"""`PPOTrainer` on a GPU: answers per second, where the time goes, memory, and how exact the first ratios are.

In: nothing. Out: numbers by case. A policy of SmolLM2-135M's shape with random weights, prompts of 16 to 64
tokens, answers of 128; the reward is a function of the text, so that what is measured is sampling and
learning. `at_most` ends a case early: steps that would begin later are not done.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from studies.speed.policy import make_tokenizer
from studies.speed.ppo import SHAPES, Shape, draw_prompts, make_models

SHAPE = replace(SHAPES["smollm2"], batch=64, micro_batch=32, new_tokens=128, steps=6)
CASES: dict[str, dict[str, Any]] = {
    "gae, bfloat16": {"advantages": "gae"},
    "gae, float32": {"advantages": "gae", "bf16": False},
    "rloo, 4 answers each": {"advantages": "rloo", "completions": 4},
    "gae, critic of its own": {"advantages": "gae"},
    "rloo, adapter of rank 16": {"advantages": "rloo", "completions": 4},
}
SECONDS = 360.0


class OutOfTimeError(Exception):
    """A case has had its share."""


def run(seed: int) -> dict[str, Any]:
    """All cases; the seed is that of prompts and samples.

    Raises:
        SystemExit: torch can use no GPU here.
    """
    if not torch.cuda.is_available():
        raise SystemExit("this needs a GPU that torch can use")
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name()}
    for name, settings in CASES.items():
        found[name] = measure(SHAPE, name, settings, seed, SECONDS / len(CASES))
    return found


def measure(
    shape: Shape, name: str, settings: dict[str, Any], seed: int, at_most: float, use_cpu: bool = False
) -> dict[str, Any]:
    """A few steps of one case; the first, in which kernels are chosen, does not count."""
    from pluralign.policy import PPOConfig, PPOTrainer, lora_config

    models = make_models(shape, "alike" if "critic" in name else "ours")
    tokenizer = make_tokenizer(shape.vocabulary)
    started, lines = time.perf_counter(), []

    def note(step: int, metrics: dict[str, float]) -> None:
        lines.append(metrics)
        if step > 1 and time.perf_counter() - started > at_most:
            raise OutOfTimeError

    completions = settings.get("completions", 1)
    if not use_cpu:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            models["policy"],
            PPOConfig(
                folder,
                steps=shape.steps,
                prompts_per_step=shape.batch // completions,
                max_new_tokens=shape.new_tokens,
                epochs=shape.epochs,
                micro_batch_size=shape.micro_batch,
                rollout_batch_size=shape.batch,
                seed=seed,
                use_cpu=use_cpu,
                **settings,
            ),
            prompts=draw_prompts(shape, seed),
            reward=lambda talks: [float(len(set(talk[-1]["content"].split()))) for talk in talks],
            processing_class=tokenizer,
            critic_model=models.get("critic"),
            peft_config=lora_config(16, 32, 0.0, "all-linear") if "adapter" in name else None,
            loggers=[note],
        )
        with suppress(OutOfTimeError):
            trainer.train()
    timed = lines[1:] or lines
    parts = ("draw", "judge", "learn")
    seconds = {part: statistics.median(line[f"seconds/{part}"] for line in timed) for part in parts}
    whole = sum(seconds.values())
    return {
        "answers_per_second": shape.batch / whole,
        "shares": {part: value / whole for part, value in seconds.items()},
        "first_ratio_error": max(line["update/first_ratio_error"] for line in lines),
        "peak_mib": 0.0 if use_cpu else torch.cuda.max_memory_allocated() / 2**20,
        "steps": len(lines),
        "kernel": trainer.log_prob_kernel,
    }
