"""Names, arguments and defaults of the online parts, as people call them."""

from __future__ import annotations

import inspect

import pytest
import torch
from datasets import Dataset

import pluralign as pl
import tiny_bandit

SIGNATURES = {
    "gae": "rewards, values, keep_mask, gamma=1.0, lam=0.95",
    "clipped_surrogate": "log_probs, old_log_probs, advantages, clip=0.2",
    "clipped_value": "values, old_values, returns, clip=0.2",
    "kl_estimate": "log_probs, reference_log_probs, estimator='k1'",
    "quantile_huber": "values, targets, levels, kappa=1.0, weights=None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_losses_take_what_their_table_says(name):
    found = inspect.signature(getattr(pl.losses, name)).parameters.values()
    told = ", ".join(one.name if one.default is one.empty else f"{one.name}={one.default!r}" for one in found)
    assert told == SIGNATURES[name]


def test_group_advantages_by_position_and_name():
    rewards, group = torch.tensor([1.0, 5.0, 3.0, 1.0]), torch.tensor([7, 2, 7, 2])
    torch.testing.assert_close(
        pl.losses.group_advantages(rewards, group, kind="rloo"), torch.tensor([-2.0, 4.0, 2.0, -4.0])
    )
    scaled = pl.losses.group_advantages(rewards, group, kind="grpo")
    torch.testing.assert_close(scaled[1], torch.tensor(2 / (8**0.5 + 1e-4)))


def test_the_trainer_is_made_and_trained_as_the_documentation_has_it(tmp_path):
    table = Dataset.from_list([{"prompt": text, "topic": "t"} for text in ("xa", "b", "cd")])
    trainer = pl.policy.PPOTrainer(
        tiny_bandit.model(),
        pl.policy.PPOConfig(
            str(tmp_path), steps=1, prompts_per_step=2, completions=2, max_new_tokens=3, use_cpu=True
        ),
        prompts=table,
        reward=pl.policy.FunctionReward(
            lambda prompts, texts: [float(len(text)) for text in texts], "length"
        ),
        processing_class=tiny_bandit.tokenizer(),
        eval_prompts=["ab"],
        gold=lambda talks: [1.0] * len(talks),
    )
    assert trainer.train()["gold"] == 1.0


def test_the_reward_function_is_called_as_trl_does():
    f = pl.integrations.trl.RewardFunction(
        lambda talks: [float(len(one[-1]["content"])) for one in talks], risk="mean"
    )
    logged, columns = {}, {}
    found = f(
        prompts=["q", "q"],
        completions=["ab", "abc"],
        completion_ids=[[1, 2], [1, 2, 3]],
        trainer_state=None,
        log_extra=columns.__setitem__,
        log_metric=logged.__setitem__,
        difficulty=[1, 2],
    )
    assert found == [2.0, 3.0]
    assert all(isinstance(one, float) for one in found)
    assert logged["pluralign/mean"] == 2.5  # also without a trainer_state
    assert columns["reward_mean"] == [2.0, 3.0]
