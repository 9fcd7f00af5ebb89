"""The trainer reaches optima that are known: pi* is proportional to ref exp(R / beta)."""

from __future__ import annotations

import pytest
import torch

import tiny_bandit
from pluralign.policy import PPOConfig, PPOTrainer

PROMPTS = ["xa", "xb", "xc", "xd"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def worth(text: str) -> float:
    """Best to say a, then c; an answer that repeats itself loses."""
    return (
        {"": 0.2, "a": 1.0, "b": 0.0}.get(text[:1], 0.5)
        + 0.5 * (text[1:2] == "c")
        - 0.3 * (text[:1] == text[1:2])
    )


def reward(conversations):
    return [worth(one[-1]["content"]) for one in conversations]


def train(folder, kind, length, **options):
    settings = {
        "steps": 25,
        "prompts_per_step": 4,
        "completions": 16,
        "beta": 0.5,
        "learning_rate": 1.5e-2,
        "critic_learning_rate": 3e-2,
        "missing_end_penalty": 0.0,
        "micro_batch_size": 256,
        "rollout_batch_size": 256,
        "lam": 1.0,
    }
    config = PPOConfig(
        str(folder), advantages=kind, max_new_tokens=length, use_cpu=True, **(settings | options)
    )
    trainer = PPOTrainer(
        tiny_bandit.model(), config, prompts=PROMPTS, reward=reward, processing_class=tiny_bandit.tokenizer()
    )
    trainer.train()
    return trainer


# GRPO differs from RLOO in the formula of its advantages, which has a test of its own.
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("grpo", 1), ("rloo", 2), ("grpo", 2))]


@pytest.mark.parametrize(("kind", "length"), [("gae", 1), ("rloo", 1), ("gae", 2), *SLOW])
def test_bandit_and_chain_reach_their_optima(tmp_path, kind, length):
    steps = {1: {"steps": 20}, 2: {"steps": 35, "prompts_per_step": 8, "learning_rate": 1e-2}}[length]
    trainer = train(tmp_path, kind, length, **steps)
    rewards = torch.tensor([worth(tiny_bandit.text_of(one)) for one in tiny_bandit.answers(length)]).double()
    for prompt in PROMPTS:
        reference = tiny_bandit.log_probs(tiny_bandit.model(), prompt, length)
        policy = tiny_bandit.log_probs(trainer.policy, prompt, length)
        best, value = tiny_bandit.optimum(reference, rewards, 0.5)
        start = tiny_bandit.objective(reference, reference, rewards, 0.5)
        reached = tiny_bandit.objective(policy, reference, rewards, 0.5)
        assert value - start > 0.1  # there is something to learn
        assert 0 <= value - reached < 0.1 * (value - start)
        assert float((policy.exp() - best).abs().sum()) / 2 < 0.1
