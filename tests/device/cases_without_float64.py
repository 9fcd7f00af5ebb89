"""A device without float64, as Apple's GPUs are: the same numbers, as far as float32 has them."""

from __future__ import annotations

import itertools

import cases_distributions
import cases_losses
import pytest
import torch
from pretended import DEVICE, on_cpu, without_float64

import tiny_policy
from pluralign.fitting.train.loop import Schedule, train
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import attach, response_log_probs
from pluralign.policy.offline.measurements import RunningMeans
from pluralign.policy.online.critic_targets import token_targets
from pluralign.policy.online.whitening import whiten

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def narrow(value):
    """What came from the device, and what came from the CPU, in one dtype."""
    if isinstance(value, tuple):
        return tuple(map(narrow, value))
    return value.float() if value.dtype is torch.float64 else value


@pytest.fixture(autouse=True)
def no_float64():
    with without_float64():
        yield


def test_the_device_refuses_it():
    with pytest.raises(TypeError, match="has no float64"):
        torch.ones(2).to(DEVICE).double()
    with pytest.raises(TypeError, match="has no float64"):
        torch.zeros(2, dtype=torch.float64, device=DEVICE)


@pytest.mark.parametrize("name", [name for name in cases_losses.CASES if "transport, cost" not in name])
def test_losses(name):
    function, arguments, options = cases_losses.CASES[name]
    found = []
    for device in ("cpu", DEVICE):
        placed = [cases_losses.placed_on(device, value) for value in arguments]
        named = {key: cases_losses.placed_on(device, value) for key, value in options.items()}
        for value in placed:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                value.requires_grad_()
        out = function(*placed, **named)
        first = out[0] if isinstance(out, tuple) else out
        if first.requires_grad:
            first.sum().backward()
        found.append(out)
    torch.testing.assert_close(narrow(on_cpu(found[1])), narrow(found[0]), **CLOSE)


@pytest.mark.parametrize(
    ("name", "method"), list(itertools.product(cases_distributions.NAMES, cases_distributions.METHODS))
)
def test_methods_of_distributions(name, method):
    function, distribution = cases_distributions.METHODS[method], cases_distributions.build()[name]
    found = function(distribution.to(DEVICE), lambda tensor: tensor.to(DEVICE))
    torch.testing.assert_close(on_cpu(found), function(distribution, lambda tensor: tensor), **CLOSE)


@pytest.mark.parametrize("method", ["prob_greater", "wasserstein"])
@pytest.mark.parametrize("name", cases_distributions.NAMES)
def test_pairs_of_distributions(name, method):
    distributions = cases_distributions.build()
    one, other = distributions[name], distributions["ensemble"].scale_shift(0.5, 0.2)
    found = getattr(one.to(DEVICE), method)(other.to(DEVICE))
    torch.testing.assert_close(on_cpu(found), getattr(one, method)(other), **CLOSE)


def test_training():
    model = tiny_policy.model()
    attach(model)
    packed = pack([((5, 6, 7), (8, 9, 1)), ((5, 6), (10, 1))], None)
    wanted = response_log_probs(model, packed).detach()
    found = response_log_probs(model.to(DEVICE), packed.to(DEVICE))
    found.sum().backward()
    torch.testing.assert_close(on_cpu(found), wanted, **CLOSE)
    means, keep = RunningMeans(), torch.tensor([True, False]).to(DEVICE)
    means.add({"loss": torch.tensor([3.0, 9.0]).to(DEVICE)}, keep)
    assert means.take() == {"loss": 3.0}
    drawn = torch.Generator().manual_seed(0)
    rewards, quantiles = torch.randn(2, 4, generator=drawn), torch.randn(2, 4, 2, generator=drawn)
    kept = torch.tensor([[True, True, False, True], [True] * 4])
    one = token_targets(rewards, quantiles, kept, 0.9, 0.5, 3)
    other = token_targets(*(part.to(DEVICE) for part in (rewards, quantiles, kept)), 0.9, 0.5, 3)
    torch.testing.assert_close(on_cpu(other), one, **CLOSE)
    torch.testing.assert_close(
        on_cpu(whiten(rewards.to(DEVICE), kept.to(DEVICE))), whiten(rewards, kept), **CLOSE
    )


def test_a_fit_by_steps():
    found = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        module, rows = torch.nn.Linear(3, 1), torch.randn(20, 3)
        module.to(device)
        rows = rows.to(device)
        train(
            module, lambda _, m=module, r=rows: m(r).square().mean(), slice(None), Schedule(steps=6, lr=0.1)
        )
        found.append(dict(module.state_dict()))
    torch.testing.assert_close(on_cpu(found[1]), found[0], **CLOSE)
