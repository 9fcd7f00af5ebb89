"""`robust_weight="disagreement"`: w follows the heads, also over an interruption; evaluations keep theirs."""

from __future__ import annotations

import json

import pytest
import torch

import tiny_bandit
from pluralign import risk
from pluralign.distributions import GaussianEnsemble
from pluralign.errors import ConfigError
from pluralign.policy import PPOConfig, PPOTrainer


class Apart:
    """Heads that all like the letter a, and disagree the more of it there is; the first is the surest."""

    heads = 3
    calls = 0
    fails_at = 0

    def distribution(self, conversations):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("down")
        count = torch.tensor([[float(one[-1]["content"].count("a"))] for one in conversations])
        slopes = torch.tensor([[1.5, 0.75, 0.5]])[:, : self.heads]
        stds = torch.tensor([[0.5, 1.0, 1.0]])[:, : self.heads]
        return GaussianEnsemble(
            0.1 * torch.tensor([[2.0, 0.0, 1.0]])[:, : self.heads] + count * slopes,
            stds.expand(len(count), -1).contiguous(),
        )


def trainer(folder, reward, **options):
    settings = {
        "steps": 5,
        "prompts_per_step": 8,
        "completions": 4,
        "max_new_tokens": 5,
        "beta": 0.01,
        "learning_rate": 3e-2,
        "advantages": "rloo",
        "risk": "robust:0.8",
        "robust_weight": "disagreement",
        "use_cpu": True,
    }
    return PPOTrainer(
        tiny_bandit.model(),
        PPOConfig(str(folder), **(settings | options)),
        prompts=["xa", "xbc", "c", "ddda", "b", "ab", "cd", "dd"],
        reward=reward,
        processing_class=tiny_bandit.tokenizer(),
        eval_prompts=["b", "cc"],
    )


def steps(made):
    return [line for line in made.history if "reward/utility" in line]


def test_w_is_that_of_the_step_before(tmp_path):
    made = trainer(tmp_path, Apart())
    made.train()
    lines = steps(made)
    weights = [line["reward/robust_weight"] for line in lines]
    variances = [line["reward/variance_between_heads"] for line in lines]
    assert weights[0] == weights[1] == 0.8  # the first step is the reference's
    for used, before in zip(weights[2:], variances[1:], strict=False):
        assert used == pytest.approx(risk.robust_weight_from_disagreement(before, variances[0], 0.8))
    assert weights[-1] < 0.6, "the policy learned the letter about which heads disagree"


def test_utilities_have_the_weight_that_is_logged(tmp_path):
    """Training has robust:w with the logged w; evaluations have robust:0.8 from first to last."""
    seen = []

    class Recorded(Apart):
        def distribution(self, conversations):
            seen.append(super().distribution(conversations))
            return seen[-1]

    made = trainer(tmp_path, Recorded(), eval_steps=3)
    made.train()
    trained = [distribution for distribution in seen if len(distribution) == 32]
    for line, distribution in zip(steps(made), trained, strict=True):
        expected = risk.Robust(line["reward/robust_weight"])(distribution).mean()
        assert line["reward/utility"] == pytest.approx(float(expected), rel=1e-5)
    evaluated = [distribution for distribution in seen if len(distribution) == 2]
    lines = [line for line in made.history if "eval/reward" in line]
    for line, distribution in zip(lines, evaluated, strict=True):
        assert line["eval/reward"] == pytest.approx(float(risk.Robust(0.8)(distribution).mean()), rel=1e-5)


def test_an_interruption_changes_nothing(tmp_path):
    whole = trainer(tmp_path / "whole", Apart())
    whole.train()
    broken = Apart()
    broken.fails_at = 5  # an evaluation, then the fourth step
    with pytest.raises(RuntimeError, match="down"):
        trainer(tmp_path / "parts", broken).train()
    state = json.loads((tmp_path / "parts" / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["risk"] != "robust:0.8"
    again = trainer(tmp_path / "parts", Apart())
    again.train(resume_from_checkpoint=True)
    for one, other in zip(steps(whole), steps(again), strict=True):
        timed = {key for key in one if key.startswith("seconds/")}
        assert {k: one[k] for k in one.keys() - timed} == {k: other[k] for k in other.keys() - timed}


def test_what_has_no_w_is_refused(tmp_path):
    for measure in ("mean", "worst_case", "robust:0"):
        with pytest.raises(ConfigError, match="robust_weight: received 'disagreement' with risk"):
            PPOConfig(str(tmp_path), risk=measure, robust_weight="disagreement")
    with pytest.raises(ConfigError, match="allowed: fixed, disagreement"):
        PPOConfig(str(tmp_path), risk="robust:0.5", robust_weight="calibration")
    one = Apart()
    one.heads = 1
    with pytest.raises(ConfigError, match="several heads"):
        trainer(tmp_path, one).train()
