"""A critic with a model of its own: its values, what it leaves alone, what it learns, what is refused."""

from __future__ import annotations

import copy

import peft
import pytest
import torch

import tiny_bandit
from pluralign.errors import ArgumentError, ConfigError
from pluralign.policy import PPOConfig, PPOTrainer, lora_config
from tiny_bandit import PROMPTS, SETTINGS, reward


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trainer(folder, critic=None, made=None, **options):
    settings = SETTINGS | {"steps": 2, "minibatches": 2, "use_cpu": True}
    return PPOTrainer(
        tiny_bandit.model(),
        PPOConfig(str(folder), **(settings | options)),
        prompts=PROMPTS,
        reward=reward,
        processing_class=tiny_bandit.tokenizer(),
        critic_model=critic,
        **(made or {}),
    )


def policy_of(one):
    return {name: value.detach().clone() for name, value in one.policy.named_parameters()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=0, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_values_are_the_head_on_the_states_of_its_own_model(tmp_path):
    made = trainer(tmp_path, tiny_bandit.model(7), critic_quantiles=3)
    head = made._models.plain.critic.head
    with torch.no_grad():
        head.linear.weight.normal_()
    rollouts = made._drawing.of_step(0)
    width = max(len(one.response_ids) for one in rollouts)
    log_probs, values = made._models.scores(rollouts, width)
    other = tiny_bandit.model(7)
    for row, own, one in zip(values, log_probs, rollouts, strict=True):
        ids = torch.tensor([[*one.prompt_ids, *one.response_ids]])
        with torch.no_grad():
            states = other(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
            logits = made.policy(input_ids=ids).logits[0].log_softmax(-1)
        before = states[len(one.prompt_ids) - 1 : -1]
        expected = before @ head.linear.weight.T + head.linear.bias
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=1e-5)
        chosen = logits[len(one.prompt_ids) - 1 : -1].gather(1, torch.tensor(one.response_ids)[:, None])[:, 0]
        torch.testing.assert_close(own[: len(chosen)], chosen, atol=1e-5, rtol=1e-5)


def test_its_loss_does_not_reach_the_policy_and_a_shared_one_does(tmp_path):
    """Advantages of a first step are known before the critic has learned anything."""
    found = {}
    for shared in (True, False):
        for weight in (0.0, 5.0):
            critic = None if shared else tiny_bandit.model(7)
            made = trainer(
                tmp_path / f"{shared}{weight}", critic, steps=1, value_weight=weight, max_grad_norm=0.1
            )
            made.train()
            found[shared, weight] = policy_of(made)
    assert_equal(found[False, 0.0], found[False, 5.0])
    moved = max((found[True, 0.0][n] - found[True, 5.0][n]).abs().max() for n in found[True, 0.0])
    assert float(moved) > 1e-4


def test_all_of_it_is_trained_but_the_unused_head(tmp_path):
    critic = tiny_bandit.model(7)
    start = copy.deepcopy(critic.state_dict())
    made = trainer(tmp_path, critic)
    made.train()
    same = {name for name, value in critic.state_dict().items() if torch.equal(value, start[name])}
    assert same == {"lm_head.weight"}
    assert made._models.plain.critic.head.linear.weight.abs().max() > 0
    lines = [line for line in made.history if "value/explained" in line]
    assert len(lines) == 2


def test_it_learns_values_that_the_policy_does_not_know(tmp_path):
    """With a policy that stands still, the critic comes to explain the returns of prompts."""

    def by_prompt(conversations):
        return [float(one[0]["content"].startswith("x")) for one in conversations]

    config = {"learning_rate": 0.0, "beta": 0.0, "missing_end_penalty": 0.0, "critic_learning_rate": 3e-2}
    made = PPOTrainer(
        tiny_bandit.model(),
        PPOConfig(
            str(tmp_path), steps=25, prompts_per_step=4, completions=4, max_new_tokens=3, value_clip=10.0,
            use_cpu=True, **config,
        ),
        prompts=PROMPTS,
        reward=by_prompt,
        processing_class=tiny_bandit.tokenizer(),
        critic_model=tiny_bandit.model(7),
    )  # fmt: skip
    made.train()
    explained = [line["value/explained"] for line in made.history]
    assert explained[0] == pytest.approx(0, abs=1e-6)  # values are 0 before anything was learned
    assert explained[-1] > 0.9


def test_it_is_resumed_exactly(tmp_path):
    whole = trainer(tmp_path / "whole", tiny_bandit.model(7), steps=4)
    whole.train()
    trainer(tmp_path / "parts", tiny_bandit.model(7), steps=4, save_steps=2).train()
    again = trainer(tmp_path / "parts", tiny_bandit.model(8), steps=4, save_steps=2)  # weights come from disk
    again.train(resume_from_checkpoint=tmp_path / "parts" / "checkpoint-2")
    assert_equal(policy_of(whole), policy_of(again))
    one, other = (dict(made._models.plain.critic.named_parameters()) for made in (whole, again))
    trained = {name for name, weight in one.items() if weight.requires_grad}
    assert_equal({n: one[n] for n in trained}, {n: other[n] for n in trained})


def test_a_name_and_an_adapter_on_the_policy(tmp_path):
    tiny_bandit.model(7).save_pretrained(tmp_path / "critic")
    given = {"peft_config": lora_config(2, 4, 0.0, "q_proj,v_proj")}
    made = trainer(tmp_path / "run", str(tmp_path / "critic"), given)
    made.train()
    names = {name for name, weight in made._models.plain.named_parameters() if weight.requires_grad}
    assert {name for name in names if name.startswith("policy.")} == {n for n in names if "lora" in n}
    assert "critic.model.model.embed_tokens.weight" in names


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="critic_model: received with advantages rloo"):
        trainer(tmp_path, tiny_bandit.model(7), advantages="rloo")
    with pytest.raises(ConfigError, match="critic_detached"):
        trainer(tmp_path, tiny_bandit.model(7), critic_detached=True)
    other = tiny_bandit.model(7)
    with pytest.raises(ArgumentError, match="received the policy or its reference"):
        trainer(tmp_path, other, {"ref_model": other})
    adapted = peft.get_peft_model(other, lora_config(2, 4, 0.0, "q_proj"))
    with pytest.raises(ArgumentError, match="needed: a whole model"):
        trainer(tmp_path, adapted)
    small = tiny_bandit.model(7)
    small.resize_token_embeddings(3)
    with pytest.raises(ArgumentError, match="6 tokens and the model knows 3"):
        trainer(tmp_path, small)
    with pytest.raises(ConfigError, match="critic_model: sequences have up to 9 tokens"):
        trainer(tmp_path, tiny_bandit.model(7, positions=8))
