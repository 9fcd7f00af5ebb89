"""What training a policy does with each micro-batch, on the pretended device: numbers of the CPU, no wait."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pretended import DEVICE, on_cpu, waits

import tiny_policy
from pluralign.policy.logprobs.chunked import token_log_probs
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import attach, response_log_probs
from pluralign.policy.offline.measurements import RunningMeans, batch_values
from pluralign.policy.offline.objectives import OBJECTIVES, Responses, Settings
from pluralign.policy.online.actor_critic import ActorCritic, ValueHead, token_scores
from pluralign.policy.online.update_loss import (
    Drawn,
    quantile_value_error,
    scalar_value_error,
    update_loss,
)
from pluralign.policy.rewards.columns import PAIRS
from pluralign.training.distributed import new_rows

B = 4
SEQUENCES = [((5, 6, 7), (8, 9, 1)), ((5, 6), (10, 11, 12, 1)), ((7,), (9, 1)), ((5, 6, 7, 8), (13, 1))]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sides(objective: Any, device: Any) -> dict[str, Responses]:
    names = ("chosen", "rejected") if PAIRS in objective.shapes else ("completion",)
    found = {}
    for place, name in enumerate(names):
        numbers = [normal(B, seed=10 * place + i).to(device) for i in range(3)]
        found[name] = Responses(
            log_probs=(numbers[0] - 20).requires_grad_(),
            num_tokens=torch.tensor([5, 7, 9, 2]).to(device),
            reference_log_probs=numbers[1] - 20 if objective.reference else None,
            rewards=numbers[2] if objective.rewards else None,
            quantile_rewards=numbers[2].sigmoid() if objective.ranks else None,
        )
    return found


@pytest.mark.parametrize("length_normalized", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_of_offline_training(name, length_normalized):
    objective = OBJECTIVES[name]
    settings = Settings(beta=objective.beta, length_normalized=length_normalized)
    found = []
    for device in ("cpu", DEVICE):
        batch = sides(objective, device)
        cut_off = torch.tensor([0.0, 1.0, 0.0, 0.5]).to(device)
        means = RunningMeans()
        with waits() as waited:
            state = SimpleNamespace(end_of_dataloader=True, remainder=3)
            keep = new_rows(state, B, 0, device)
            losses = objective.loss(batch, settings)
            for _ in range(2):
                means.add(batch_values(batch, losses, cut_off, settings), keep)
            (losses * keep).sum().backward()
        gradients = [one.log_probs.grad for one in batch.values()]
        found.append((losses, gradients, waited, means))
    (losses, slopes, _, means), (there, slopes_there, waited, means_there) = found
    torch.testing.assert_close(on_cpu(there), losses)
    torch.testing.assert_close(on_cpu(slopes_there), slopes)
    assert waited == []
    with waits() as waited:
        read = means_there.take()
    assert read == means.take()
    assert len(waited) == 1  # when a line is logged


@pytest.mark.parametrize("bias", [False, True])
def test_log_probs_of_tokens(bias):
    hidden, weight = normal(7, 8), normal(20, 8, seed=1)
    offsets = normal(20, seed=2) if bias else None
    tokens = torch.tensor([3, 1, 19, 0, 5, 5, 2])
    found = []
    for device in ("cpu", DEVICE):
        inputs = [one.clone().to(device).requires_grad_() for one in (hidden, weight)]
        moved = tokens.to(device), None if offsets is None else offsets.to(device)
        with waits() as waited:
            scored = token_log_probs(*inputs, *moved, chunk=3)
            scored.sum().backward()
        found.append((scored, [one.grad for one in inputs]))
    torch.testing.assert_close(on_cpu(found[1]), found[0])
    assert waited == []


KEEP = torch.tensor([[True, True, False, True, True], [False, True, True, False, False], [True] * 5])


@pytest.mark.parametrize("error", [scalar_value_error(0.1), quantile_value_error(3, 0.9, 0.6, 4, 1.0), None])
def test_the_loss_of_an_online_update(error):
    shape = KEEP.shape
    drawn = Drawn(
        log_probs=normal(*shape) - 3,
        keep_mask=KEEP,
        advantages=normal(*shape, seed=1),
        rewards=normal(*shape, seed=2),
        values=normal(*shape, 3, seed=3),
        returns=normal(*shape, seed=4),
    )
    found = []
    for device in ("cpu", DEVICE):
        parts = {name: value.clone().to(device) for name, value in vars(drawn).items()}
        new = [(normal(*shape, seed=5) - 3).to(device), normal(*shape, 3, seed=6).to(device)]
        inputs = [one.requires_grad_() for one in (new if error else new[:1])]
        with waits() as waited:
            values = new[1] if error else None
            loss, sums = update_loss(new[0], values, Drawn(**parts), 0.2, error, 0.5)
            loss.backward()
        found.append((loss, sums, [one.grad for one in inputs], waited))
    torch.testing.assert_close(on_cpu(found[1][:3]), found[0][:3])
    assert found[1][3] == []


@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_policy_and_critic_score_tokens(outputs):
    model = tiny_policy.model()
    critic = None if outputs is None else ValueHead(model.config.hidden_size, outputs)
    if critic is not None:
        torch.nn.init.normal_(critic.linear.weight)
    plain = ActorCritic(model, critic)
    other = copy.deepcopy(plain).to(DEVICE)
    for one in (plain, other):
        one.policy.set_attn_implementation("eager")
        attach(one.policy)
    packed = pack(SEQUENCES, 1)
    there = packed.to(DEVICE)
    wanted = token_scores(plain, packed)
    with waits() as waited:
        found = token_scores(other, there)
    torch.testing.assert_close(on_cpu(found), wanted)
    assert len(waited) == len(packed.bins)  # see below


def test_a_model_that_ends_on_another_device_than_it_begins():
    """As `device_map` spreads one: ids and the first layers here, the last states and the head there."""
    model = tiny_policy.model()
    attach(model)
    critic = ValueHead(model.config.hidden_size)
    torch.nn.init.normal_(critic.linear.weight)
    spread = copy.deepcopy(model)
    spread.set_attn_implementation("eager")
    spread.model.to(DEVICE)
    attach(spread)

    def to_cpu(_module, _inputs, out):
        out.last_hidden_state = out.last_hidden_state.cpu()
        return out

    spread.model.register_forward_hook(to_cpu)
    spread.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    packed = pack(SEQUENCES, 1)
    wanted = token_scores(ActorCritic(model, critic), packed)
    found = token_scores(ActorCritic(spread, copy.deepcopy(critic)), packed.to(DEVICE))
    torch.testing.assert_close(on_cpu(found), wanted)
    torch.testing.assert_close(
        on_cpu(response_log_probs(spread, packed.to(DEVICE))), response_log_probs(model, packed)
    )


def test_a_language_model_scores_packed_responses():
    model = tiny_policy.model()
    other = copy.deepcopy(model).to(DEVICE)
    for one in (model, other):
        one.set_attn_implementation("eager")
        attach(one)
    packed = pack(SEQUENCES, 1)
    there = packed.to(DEVICE)
    wanted = response_log_probs(model, packed)
    wanted.sum().backward()
    with waits() as waited:
        found = response_log_probs(other, there)
        found.sum().backward()
    torch.testing.assert_close(on_cpu(found), wanted)
    for (name, one), (_, two) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(on_cpu(two.grad), one.grad, msg=name)
    # transformers reads in each of its calls whether positions start again.
    assert len(waited) == len(packed.bins)
    assert len(set(waited)) == 1
