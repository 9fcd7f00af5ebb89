"""A small policy aligned to a simulated crowd, whole, on this machine: minutes on two cores, no downloads.

    python examples/align_tiny.py

A small language model answers prompts; the answers are rewarded by the mean of the worst quarter of the
crowd's true reward distribution, so that nobody is left behind; QRPO moves the policy. Because the truth is
known, the reward of samples before and after is the true one.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from pluralign.data import conversation
from pluralign.lab import Crowd, cached_language_model
from pluralign.policy import (
    FunctionReward,
    LocalSampler,
    OfflineConfig,
    OfflineTrainer,
    References,
    SamplingSettings,
    diagnose_table,
    read_rewards,
    reward_samples,
    sample_references,
    unpaired_table,
)

RUN = Path("runs/align_tiny")
BETA = 0.1


def main() -> None:
    """Reference completions, rewards, training, and samples before and after."""
    crowd = Crowd(seed=0)
    prompts = distinct(crowd.ratings(600)["prompt"])[:120]
    policy = cached_language_model(RUN)
    reward = FunctionReward(
        lambda asked, said: crowd.truth(list(map(conversation, asked, said))).cvar(0.25), "worst quarter"
    )

    sampler = LocalSampler.from_pretrained(str(policy), device="cpu")
    samples = sample_references(prompts, sampler, RUN / "samples", SamplingSettings(8, 64))
    rewards = reward_samples(samples, reward, RUN / "rewards")
    table = unpaired_table(References(read_rewards(samples, rewards))).rows
    train = table.filter(lambda row: row["prompt"] in prompts[:100])
    held_out = table.filter(lambda row: row["prompt"] in prompts[100:])
    print(diagnose_table(train, BETA))

    trainer = OfflineTrainer(
        AutoModelForCausalLM.from_pretrained(policy),
        OfflineConfig(
            str(RUN / "training"),
            method="qrpo",
            beta=BETA,
            learning_rate=1e-4,
            num_train_epochs=3,
            per_device_train_batch_size=32,
            eval_max_new_tokens=64,
            eval_completions=16,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=AutoTokenizer.from_pretrained(policy),
        reward=reward,
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for name in ("reward", "reward_q10", "rank", "length", "cut_off", "kl"):
        key = f"eval_samples/{name}"
        print(f"{name:>12}  {before[key]:8.3f} -> {after[key]:8.3f}")
    print(f"{'optimum_kl':>12}  {after['eval_samples/optimum_kl']:8.3f}")


def distinct(prompts: list) -> list:
    """Each prompt once, in order."""
    return list({repr(prompt): prompt for prompt in prompts}.values())


if __name__ == "__main__":
    main()
