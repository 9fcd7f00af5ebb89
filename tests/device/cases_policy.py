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
    torch.testing.assert_close(on_cpu(there), losses, rtol=0, atol=0)
    torch.testing.assert_close(on_cpu(slopes_there), slopes, rtol=0, atol=0)
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
    torch.testing.assert_close(on_cpu(found[1]), found[0], rtol=0, atol=0)
    assert waited == []


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
