"""Warning signs and samples of an online run: measured, logged once, the same after an interruption."""

from __future__ import annotations

import json
import logging
import math

import pytest
import torch

import tiny_bandit
from pluralign.distributions import GaussianEnsemble
from pluralign.policy import PPOConfig, PPOTrainer
from pluralign.policy.training.sample_files import read_samples


class Heads:
    """Three heads that like the letter a, each with an error of its own."""

    def distribution(self, conversations):
        texts = [one[-1]["content"] for one in conversations]
        liked = torch.tensor([[float(text.count("a"))] * 3 for text in texts])
        errors = torch.tensor([[len(text) % 2, len(text) % 3, text.count("b")] for text in texts])
        return GaussianEnsemble(liked + 0.2 * errors, 1 + 0.1 * errors)


def trainer(folder, reward, steps=6, **options):
    settings = {
        "prompts_per_step": 8,
        "completions": 4,
        "max_new_tokens": 5,
        "beta": 0.01,
        "epochs": 4,
        "learning_rate": 3e-2,
        "advantages": "rloo",
        "eval_steps": 3,
        "eval_completions": 16,
    }
    return PPOTrainer(
        tiny_bandit.model(),
        PPOConfig(str(folder), steps=steps, use_cpu=True, **(settings | options)),
        prompts=["xa", "xbc", "c", "ddda", "b", "ab", "cd", "dd"],
        reward=reward,
        processing_class=tiny_bandit.tokenizer(),
        eval_prompts=["b", "cc"],
        gold=lambda talks: [one[-1]["content"].count("b") for one in talks],
    )


def numbers(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in lines]


def test_no_head_objects_to_what_all_like(tmp_path, caplog):
    """The reward is the letter a without end: heads that agree on it rise together, and the log says so."""
    with caplog.at_level(logging.WARNING, "pluralign"):
        made = trainer(tmp_path / "whole", Heads())
        made.train()
    steps = [line for line in made.history if "reward/utility" in line]
    shares = [line["signs/heads_above_reference"] for line in steps]
    assert shares[0] <= 0.1  # the policy is the reference still
    assert shares[-1] > 0.5
    assert caplog.text.count("warning sign, all heads above the reference") == 1
    last = [line for line in made.history if "eval/reward" in line][-1]
    assert last["eval/signs/heads_above_reference"] > 0.5

    class Down(Heads):
        calls = 0

        def distribution(self, conversations):
            self.calls += 1
            if self.calls == 5:  # evaluation, three steps, then the evaluation after them
                raise RuntimeError("down")
            return super().distribution(conversations)

    with pytest.raises(RuntimeError, match="down"):
        trainer(tmp_path / "parts", Down()).train()
    again = trainer(tmp_path / "parts", Heads())
    again.train(resume_from_checkpoint=True)
    assert again.step == 6
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_evaluations_keep_the_samples(tmp_path):
    made = trainer(tmp_path, Heads(), steps=3)
    made.train()
    for step in (0, 3):
        said = read_samples(tmp_path, step)
        assert len(said) == 32
        line = next(one for one in made.history if one["step"] == step and "eval/reward" in one)
        assert sum(one["reward"] for one in said) / 32 == pytest.approx(line["eval/reward"])
        assert sum(one["gold"] for one in said) / 32 == pytest.approx(line["eval/gold"])
        assert sum(one["log_ratio"] for one in said) / 32 == pytest.approx(line["eval/kl"], abs=1e-9)
        assert [one["response"].count("b") for one in said] == [one["gold"] for one in said]
        assert all(one["reward"] == pytest.approx(one["profile"]["utility"]) for one in said)
        assert {"head_0", "head_1", "head_2", "std", "width"} <= set(said[0]["profile"])
    assert [one["prompt"] for one in read_samples(tmp_path, 0)] == [one["prompt"] for one in said]


def test_kl_without_gain_is_a_sign_only_while_kl_has_a_price(tmp_path, caplog):
    """A policy that is pushed far away for a reward it does not get."""

    def nothing(conversations):
        return [0.0] * len(conversations)

    with caplog.at_level(logging.WARNING, "pluralign"):
        made = trainer(tmp_path, nothing, missing_end_penalty=0.0)
        made._evaluate_and_keep()
        with torch.no_grad():
            made.policy.lm_head.weight *= 3
        found = made.evaluate()
        assert found["signs/kl_beyond_optimum"] == 99.0
        made._watch.read(found)
        made._watch.read(found)
    assert caplog.text.count("warning sign, KL beyond the optimum's") == 1
    assert math.isfinite(found["kl"])
    free = trainer(tmp_path / "free", nothing, beta=0.0)
    free._evaluate_and_keep()
    with torch.no_grad():
        free.policy.lm_head.weight *= 3
    assert free.evaluate()["signs/kl_beyond_optimum"] == 0.0
