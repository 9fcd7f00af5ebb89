"""What is measured on samples: each number by hand, and the trainer's use of it."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from scipy import stats

import tiny_policy
import tiny_tables
from pluralign.errors import ArgumentError, ConfigError
from pluralign.policy import FunctionReward, OfflineConfig, OfflineTrainer
from pluralign.policy.rewards.sample_evaluator import evaluation_prompts
from pluralign.policy.rewards.samples import ScoredSample, draw_and_score, kl_at_least, summarize
from pluralign.policy.sampling.settings import Completion, SamplingSettings


def sample(**changes):
    given = {
        "num_tokens": 4,
        "cut_off": False,
        "reward": 1.0,
        "log_ratio": 0.0,
        "k3": 0.0,
        "ref_rewards": [0.0, 2.0],
        "ref_lengths": [3, 5],
    }
    return ScoredSample(**(given | changes))


def test_numbers_by_hand():
    ratios = [0.5, -0.2, 1.0, 0.1]
    samples = [
        sample(num_tokens=n, reward=r, log_ratio=d, k3=d**2, cut_off=c)
        for n, r, d, c in zip(
            [2, 4, 6, 5], [0.0, 1.0, 3.0, 2.0], ratios, [False, True, False, False], strict=True
        )
    ]
    found = summarize(samples)
    assert found["length"] == 4.25
    assert found["cut_off"] == 0.25
    assert found["reward"] == 1.5
    assert found["reward_q50"] == 1.5
    # ranks among [0, 2], ties half: 1/4, 1/2, 1, 3/4
    assert found["rank"] == pytest.approx((0.25 + 0.5 + 1 + 0.75) / 4)
    assert found["kl"] == pytest.approx(sum(ratios) / 4)
    assert found["kl_k3"] == pytest.approx(sum(d**2 for d in ratios) / 4)
    assert found["length_correlation"] == pytest.approx(stats.spearmanr([2, 4, 6, 5], ratios).statistic)


def test_what_is_not_known_is_left_out():
    found = summarize([sample(reward=None, log_ratio=None, k3=None)])
    assert set(found) == {"length", "cut_off"}
    assert "rank" not in summarize([sample(ref_rewards=None)])
    assert "length_correlation" not in summarize([sample(), sample()])  # constants have no ranks
    with pytest.raises(ArgumentError, match="at least one sample"):
        summarize([])


class Sampler:
    """Names the prompt and the number of the completion; the second one is cut off."""

    def describe(self):
        return {}

    def check(self, prompts, settings):
        pass

    def sample(self, prompts, settings):
        return [
            [Completion(f"{p[0]['content']}{i}", i + 1, i == 1) for i in range(settings.completions)]
            for p in prompts
        ]


def test_both_estimators_tend_to_the_kl():
    """Two tokens, each a sample of N(m, 1) against N(0, 1): KL = m^2."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(50_000, 2, generator=generator, dtype=torch.float64) + 0.3
    ratios = 0.3 * draws - 0.045
    rows, settings = [{"prompt": tiny_policy.user("a")}], SamplingSettings(50_000, 5)
    samples = draw_and_score(
        rows, Sampler(), settings, None, lambda *_: list(ratios), lambda *_: list(torch.zeros_like(ratios))
    )
    found = summarize(samples)
    assert found["kl"] == pytest.approx(ratios.sum(1).mean().item())
    assert found["kl"] == pytest.approx(0.09, abs=0.006)
    assert found["kl_k3"] == pytest.approx(0.09, abs=0.002)


def test_rows_samples_and_scores_belong_together():
    rows = [{"prompt": tiny_policy.user(name), "ref_rewards": [float(len(name))]} for name in ("a", "bb")]
    reward = FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length")

    def score(scale):
        return lambda prompts, samples: torch.tensor([scale * s.num_tokens for s in samples])

    found = draw_and_score(rows, Sampler(), SamplingSettings(2, 5), reward, score(-1.0), score(-3.0))
    assert [s.reward for s in found] == [2.0, 2.0, 3.0, 3.0]
    assert [s.log_ratio for s in found] == [2.0, 4.0, 2.0, 4.0]
    assert [s.cut_off for s in found] == [False, True, False, True]
    assert [s.ref_rewards for s in found] == [[1.0], [1.0], [2.0], [2.0]]


@pytest.mark.parametrize("adapter", [False, True])
def test_the_trainer_measures_the_way_from_its_reference(tmp_path, adapter):
    from peft import LoraConfig

    torch.set_num_threads(1)
    config = OfflineConfig(
        str(tmp_path),
        method="qrpo",
        beta=0.5,
        learning_rate=1e-3,
        max_steps=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        eval_prompts=3,
        eval_completions=2,
        eval_max_new_tokens=8,
    )
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": True}
    trainer = OfflineTrainer(
        tiny_policy.model(),
        config,
        tiny_tables.pairs(),
        tiny_tables.pairs(5, seed=1),
        tiny_policy.tokenizer(),
        peft_config=LoraConfig(**settings) if adapter else None,
        reward=FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length"),
    )
    before = trainer.evaluate()
    assert before["eval_samples/kl"] == pytest.approx(0, abs=1e-4)
    assert before["eval_samples/optimum_kl"] == pytest.approx(0.1516, abs=1e-4)
    again = trainer.evaluate()
    assert again["eval_samples/reward"] == before["eval_samples/reward"]  # the same draws each time
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_samples/kl_k3"] > 1e-4
    assert after["eval_samples/kl"] == pytest.approx(after["eval_samples/kl_k3"], abs=0.1)
    assert {"eval_samples/rank", "eval_samples/cut_off", "eval_samples/reward_q90"} <= set(after)


def test_a_policy_far_beyond_its_optimum_is_reported_once(tmp_path, caplog):
    config = OfflineConfig(
        str(tmp_path), beta=2.0, report_to="none", use_cpu=True, disable_tqdm=True, eval_max_new_tokens=8
    )
    trainer = OfflineTrainer(
        tiny_policy.model(),
        config,
        tiny_tables.pairs(),
        tiny_tables.pairs(8, seed=1),
        tiny_policy.tokenizer(),
        reward=FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length"),
    )
    with caplog.at_level(logging.WARNING, "pluralign"):
        trainer.evaluate()
        assert "warning sign" not in caplog.text
        with torch.no_grad():
            trainer.model.lm_head.weight *= 2
        trainer.evaluate()
        found = trainer.evaluate()
    assert caplog.text.count("warning sign, KL beyond the optimum's") == 1
    ratio = found["eval_samples/signs/kl_beyond_optimum"]
    assert f"{ratio:.3g} times" in caplog.text
    # Two standard errors below the mean KL, over the KL that the optimum of beta has.
    assert 2 < ratio < found["eval_samples/kl"] / found["eval_samples/optimum_kl"]


def test_the_kl_less_two_standard_errors():
    assert kl_at_least([sample(log_ratio=d) for d in (1.0, 2.0, 3.0, 4.0)]) == pytest.approx(
        2.5 - stats.sem([1.0, 2.0, 3.0, 4.0]) * 2
    )
    assert kl_at_least([sample(log_ratio=5.0)]) == -math.inf
    assert kl_at_least([sample(log_ratio=None, k3=None)] * 3) == -math.inf


def test_prompts_that_leave_no_room_are_left_out():
    table = tiny_tables.pairs(6)
    tokenizer = tiny_policy.tokenizer()
    rows = evaluation_prompts(table, tokenizer, 4, 10, None)
    assert len(rows) == 4
    assert rows[0]["prompt"] == tiny_policy.user(table[0]["prompt"])
    with pytest.raises(ConfigError, match="no prompt leaves that room"):
        evaluation_prompts(table, tokenizer, 4, 100, 64)
