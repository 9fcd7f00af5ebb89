"""The pretended device itself: it computes as the CPU does, refuses what a device refuses, counts waits."""

from __future__ import annotations

import copy

import pytest
import torch
from pretended import DEVICE, NAME, OnDevice, on_cpu, waits
from torch import nn


def there(*values: float) -> torch.Tensor:
    return torch.tensor(values, device=DEVICE)


def test_where_tensors_are():
    assert str(DEVICE) == f"{NAME}:0"
    for made in (
        there(1.0, 2.0),
        torch.zeros(2, device=NAME),
        torch.arange(4, device=DEVICE),
        torch.ones(2).to(DEVICE),
        torch.randn(2, device=DEVICE),
        there(1.0).new_full((2,), 3.0),
        torch.cat([there(1.0), there(2.0)]).sort().values,
    ):
        assert isinstance(made, OnDevice)
        assert made.device == DEVICE
    assert type(there(1.0).cpu()) is torch.Tensor
    with pytest.raises(AssertionError, match="left on the cpu"):
        on_cpu([there(1.0), torch.ones(1)])


@pytest.mark.parametrize(
    "mix",
    [
        lambda: there(1.0, 2.0) + torch.ones(2),
        lambda: torch.ones(2) * there(1.0, 2.0),
        lambda: torch.cat([there(1.0), torch.ones(1)]),
        lambda: there(1.0, 2.0) @ torch.ones(2),
        lambda: torch.where(there(1.0) > 0, there(1.0), torch.ones(1)),
        lambda: torch.ones(2).add_(there(1.0, 2.0)),
        lambda: torch.ones(2)[there(1.0).long()],
        lambda: there(1.0).gather(0, torch.zeros(1, dtype=torch.long)),
        lambda: nn.functional.linear(there(1.0), torch.ones(1, 1)),
        lambda: torch.ones(1).gather(0, there(0.0).long()),
    ],
)
def test_tensors_of_the_cpu_are_refused(mix):
    with pytest.raises(RuntimeError, match="to be on the same device"):
        mix()


def test_what_a_device_takes_from_the_cpu():
    x = there(1.0, 2.0)
    assert on_cpu(x + torch.tensor(1.0)).tolist() == [2.0, 3.0]
    assert on_cpu(x[torch.tensor([1])]).tolist() == [2.0]
    x.copy_(torch.zeros(2))
    assert x.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("act", "count"),
    [
        (lambda x: float(x.sum()), 1),
        (lambda x: bool((x > 0).all()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: torch.unique(x), 1),
        (lambda x: torch.equal(x, x), 1),
        (lambda x: x[torch.tensor([1])], 1),
        (lambda x: x + torch.tensor([1.0, 2.0]).to(DEVICE), 1),
        (lambda x: torch.tensor([1.0], device=DEVICE), 1),
        (lambda x: torch.ones(2).to(DEVICE, non_blocking=True), 0),
        (lambda x: x.masked_fill(x > 0, 0.0), 0),
        (lambda x: torch.where(x > 0, x, 0.0).cumsum(0).sort(), 0),
        (lambda x: x[x.long() - 1], 0),
        (lambda x: x[0] + x[-1:] + torch.arange(2, device=DEVICE), 0),
    ],
)
def test_what_waits(act, count):
    x = there(1.0, 2.0)
    with waits() as waited:
        act(x)
    assert len(waited) == count, waited


def test_views_share_their_values():
    x = there(1.0, 2.0, 3.0, 4.0)
    x.view(2, 2)[1].mul_(10)
    x[0] = 7.0
    assert x.tolist() == [7.0, 2.0, 30.0, 40.0]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_step_of_training_is_that_of_the_cpu(kind):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    other = copy.deepcopy(module).to(DEVICE)
    data = torch.randn(5, 3)
    for one, rows in ((module, data), (other, data.to(DEVICE))):
        optimizer = kind(one.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(rows).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(on_cpu(dict(other.state_dict())), dict(module.state_dict()))
