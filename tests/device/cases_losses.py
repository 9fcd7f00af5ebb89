"""Every loss on the pretended device: values and gradients of the CPU, and no wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended import DEVICE, on_cpu, waits
from torch import Tensor

import pluralign as pl

B, K, C, T = 6, 5, 4, 7
DRAW = torch.Generator().manual_seed(0)
LOSSES = pl.losses


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=DRAW)


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=DRAW)


def probs() -> Tensor:
    return normal(B, C).softmax(-1)


LEVELS = torch.linspace(0.1, 0.9, K)
ATOMS = torch.tensor([0.0, 1.0, 3.0, 4.0])
RANKS = uniform(B, 8)
KEEP = torch.ones(B, T, dtype=torch.bool)
KEEP[0, 4:] = KEEP[2, 1] = False
GROUP = torch.tensor([3, 1, 3, 1, 7, 7])
PAIR = tuple(normal(B) for _ in range(4))

# Function, positional and keyword arguments.
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "pinball": (LOSSES.pinball, (normal(B, K), normal(B), LEVELS), {}),
    "quantile_huber": (
        LOSSES.quantile_huber,
        (normal(B, K), normal(B, 3), LEVELS),
        {"weights": uniform(B, 3)},
    ),
    "quantile_huber, kappa 0": (LOSSES.quantile_huber, (normal(B, K), normal(B, 3), LEVELS, 0.0), {}),
    "bradley_terry": (LOSSES.bradley_terry, PAIR[:2], {"margin": uniform(B), "label_smoothing": 0.1}),
    "gaussian_nll": (LOSSES.gaussian_nll, (normal(B), uniform(B) + 0.1, normal(B)), {}),
    "beta_nll": (LOSSES.beta_nll, (normal(B), uniform(B) + 0.1, normal(B)), {}),
    "cross_entropy": (LOSSES.cross_entropy, (normal(B, C), probs()), {}),
    "ranked_probability_score": (LOSSES.ranked_probability_score, (probs(), probs()), {}),
    "ranked_probability_score, by atoms": (LOSSES.ranked_probability_score, (probs(), probs(), ATOMS), {}),
    "smooth_neighbours": (LOSSES.smooth_neighbours, (probs(), 0.1), {}),
    "transport": (LOSSES.transport, (probs(), probs()), {"atoms": ATOMS, "floor": 0.2}),
    "transport, cost of the CPU": (
        LOSSES.transport,
        (probs(), probs()),
        {"cost": [LOSSES.two_axis_cost(ATOMS, ATOMS.flip(0))], "floor": 0.1},
    ),
    "qrpo": (LOSSES.qrpo, (normal(B), normal(B), uniform(B)), {"beta": 0.3}),
    "qrpo, beta and partition per row": (
        LOSSES.qrpo,
        (normal(B), normal(B), uniform(B), uniform(B) + 0.1, "log"),
        {"log_partition": normal(B)},
    ),
    "qrpo_absolute": (LOSSES.qrpo_absolute, (normal(B), normal(B), uniform(B), 0.3), {}),
    "qrpo_pair": (LOSSES.qrpo_pair, (*PAIR, uniform(B), uniform(B), 0.3), {}),
    "qrpo_target": (LOSSES.qrpo_target, (uniform(B), 0.3), {}),
    "length_normalised_beta": (LOSSES.length_normalised_beta, (0.3, torch.arange(1, B + 1)), {}),
    "dpo": (LOSSES.dpo, PAIR, {"beta": 0.1}),
    "dpo, beta per row": (LOSSES.dpo, PAIR, {"beta": uniform(B) + 0.1}),
    "rebel": (LOSSES.rebel, (*PAIR, normal(B), normal(B), 0.2), {}),
    "simpo": (LOSSES.simpo, (*PAIR[:2], 2.0), {}),
    "gae": (LOSSES.gae, (normal(B, T), normal(B, T), KEEP), {}),
    "clipped_surrogate": (LOSSES.clipped_surrogate, (normal(B, T), normal(B, T), normal(B, T)), {}),
    "clipped_value": (LOSSES.clipped_value, (normal(B, T), normal(B, T), normal(B, T)), {}),
    "kl_estimate k1": (LOSSES.kl_estimate, (*PAIR[:2], "k1"), {}),
    "kl_estimate k2": (LOSSES.kl_estimate, (*PAIR[:2], "k2"), {}),
    "kl_estimate k3": (LOSSES.kl_estimate, (*PAIR[:2], "k3"), {}),
    "two_axis_cost": (LOSSES.two_axis_cost, (normal(C), normal(C)), {}),
    "log_partition": (LOSSES.log_partition, (0.3,), {"reference_ranks": RANKS}),
}

# What waits: constants that are given on the CPU ([tensor]), and what reads values by its nature.
WAITING = {
    "pinball, levels of the CPU": (LOSSES.pinball, (normal(B, K), normal(B), [LEVELS]), {}),
    "quantile_huber, levels of the CPU": (LOSSES.quantile_huber, (normal(B, K), normal(B, 3), [LEVELS]), {}),
    "transport, atoms of the CPU": (LOSSES.transport, (probs(), probs()), {"atoms": [ATOMS]}),
    "ranked_probability_score, atoms of the CPU": (
        LOSSES.ranked_probability_score,
        (probs(), probs(), [ATOMS]),
        {},
    ),
    "transport, cost": (
        LOSSES.transport,
        (probs(), probs()),
        {"cost": LOSSES.two_axis_cost(ATOMS, ATOMS.flip(0))},
    ),
    "transport, entropic": (
        LOSSES.transport,
        (probs(), probs()),
        {"cost": LOSSES.two_axis_cost(ATOMS, ATOMS.flip(0)), "regularization": 10.0},
    ),
    "rloo_advantages": (LOSSES.rloo_advantages, (normal(B), GROUP), {}),
    "grpo_advantages": (LOSSES.grpo_advantages, (normal(B), GROUP), {}),
    "group_advantages": (LOSSES.group_advantages, (normal(B), tuple(GROUP.tolist())), {}),
}

# Not functions of tensors, or tested beside their draws.
NOT_HERE = {"Transform", "parse_transform", "break_even_quantile", "optimum_kl", "reparameterized_mse"}


def test_every_loss_is_here():
    tried = {case[0].__name__ for case in (CASES | WAITING).values()}
    assert tried | NOT_HERE == set(LOSSES.__all__)


@pytest.mark.parametrize("name", CASES | WAITING)
def test_values_and_gradients(name):
    function, arguments, options = (CASES | WAITING)[name]
    found = []
    for device in ("cpu", DEVICE):
        placed = {i: placed_on(device, value) for i, value in enumerate(arguments)}
        named = {key: placed_on(device, value) for key, value in options.items()}
        # Constants that stay on the CPU ([tensor] below) have no gradients.
        moved = [*arguments, *options.values()]
        inputs = [
            value
            for value, before in zip((*placed.values(), *named.values()), moved, strict=True)
            if isinstance(before, Tensor) and value.is_floating_point()
        ]
        for value in inputs:
            value.requires_grad_()
        with waits() as waited:
            out = function(*placed.values(), **named)
            outs = out if isinstance(out, tuple) else (out,)
            total = sum(one.double().square().sum() for one in outs)
            gradients = torch.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else ()
        found.append((outs, gradients, waited))
    (values, slopes, _), (there, slopes_there, waited) = found
    torch.testing.assert_close(on_cpu(there), values)
    torch.testing.assert_close(on_cpu(slopes_there), slopes)
    assert bool(waited) == (name in WAITING)


def placed_on(device: Any, value: Any) -> Any:
    if isinstance(value, list):
        return value[0].clone()
    return value.clone().to(device) if isinstance(value, Tensor) else value


def test_draws_are_made_on_the_device():
    mean, std, target = (normal(B).to(DEVICE) for _ in range(3))
    with waits() as waited:
        loss = LOSSES.reparameterized_mse(mean, std.abs() + 0.1, target)
    assert on_cpu(loss).shape == (B,)
    assert waited == []
