"""Fitting on the pretended device: heads answer, solvers and training loops compute as on the CPU."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from pretended import DEVICE, OnDevice, on_cpu, waits
from torch import nn

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk
from pluralign.errors import ConvergenceWarning
from pluralign.fitting.train.loop import Schedule, train

CONFIGS = {
    "quantile": {"l1": 0.01, "levels": [0.1, 0.5, 0.9], "baselines": False},
    "gaussian_ensemble": {"heads": 2, "l2": 0.1, "std_l2": 1.0, "steps": 5, "baselines": False},
    "categorical": {"l2": 0.1, "steps": 5, "baselines": False},
    "regression": {"l2": 1.0, "baselines": False, "gate_steps": 10},
    "bradley_terry": {"l2": 1.0},
}


def test_every_family_is_here():
    assert CONFIGS.keys() == pl.families.FAMILIES.keys()


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
@pytest.mark.parametrize("family", CONFIGS)
def test_heads_answer_where_they_are(family):
    data = {"ratings": pl.load_ratings(ratings_rows(12, attributes=2))}
    if "ratings" not in pl.families.FAMILIES[family].data or family == "regression":
        data["pairs"] = pl.load_pairs(pairs_rows(20))
    fitted = pl.fit(family, **data, backbone=FakeBackbone(), config=CONFIGS[family], cache=None)
    talks = [talk(f"{i / 4} 0.5 answer") for i in range(5)]
    embedded = FakeBackbone().embed(talks)
    inputs = (embedded.response, embedded.prompt, torch.arange(1.0, 6.0))
    head = fitted.head
    other = copy.deepcopy(head).to(DEVICE)
    there = [one.to(DEVICE) for one in inputs]
    with waits() as waited, torch.no_grad():
        distribution = other.distribution(*there)
        parts = other.attribute_distributions(there[0])
    assert distribution.device == DEVICE
    with torch.no_grad():
        torch.testing.assert_close(
            on_cpu(distribution.mean()), head.distribution(*inputs).mean(), rtol=0, atol=0
        )
        for name, part in head.attribute_distributions(inputs[0]).items():
            torch.testing.assert_close(on_cpu(parts[name].std()), part.std())
    assert [place for place in waited if not place.endswith(" copy_")] == []  # constants go to the device


@pytest.mark.parametrize("weighted", [False, True])
def test_quantile_regression(weighted):
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=draw)
    targets = features[:, 0] + torch.randn(60, generator=draw)
    weight = torch.rand(60, generator=draw) + 0.5 if weighted else None
    levels = torch.tensor([0.2, 0.5, 0.8])
    wanted = pl.solvers.fit_quantiles(features, targets, levels, l1=0.01, sample_weight=weight)
    found = pl.solvers.fit_quantiles(
        features.to(DEVICE),
        targets.to(DEVICE),
        levels.to(DEVICE),
        l1=0.01,
        sample_weight=None if weight is None else weight.to(DEVICE),
    )
    assert isinstance(found.coef, OnDevice)
    torch.testing.assert_close(on_cpu(found.coef), wanted.coef)
    torch.testing.assert_close(on_cpu(found.intercept), wanted.intercept)
    assert found.iterations == wanted.iterations


def trained(device, steps, eval_every, batch, loss_of=lambda error: error.square().mean()):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.0), nn.Linear(8, 1))
    features, targets = torch.randn(40, 3).to(device), torch.randn(40).to(device)
    module.to(device)
    rows = slice(None) if batch is None else torch.arange(40, device=device)
    schedule = Schedule(lr=0.05, steps=steps, eval_every=eval_every, batch=batch)

    def objective(rows):
        return loss_of(module(features[rows]).squeeze(-1) - targets[rows])

    with waits() as waited:
        summary = train(module, objective, rows, schedule)
    return module, summary, waited


@pytest.mark.parametrize("batch", [None, 8])
def test_training_waits_only_where_it_evaluates(batch):
    module, summary, _ = trained("cpu", 12, 6, batch)
    other, summary_there, waited = trained(DEVICE, 12, 6, batch)
    assert summary_there == pytest.approx(summary)
    torch.testing.assert_close(on_cpu(dict(other.state_dict())), dict(module.state_dict()))
    assert len(waited) == len(trained(DEVICE, 4, 2, batch)[2])


def test_training_that_diverges_keeps_the_last_state():
    def loss_of(error):
        calls.append(None)
        loss = error.square().mean()
        return loss * math.inf if len(calls) == 9 else loss

    found = []
    for device in ("cpu", DEVICE):
        calls: list[None] = []
        with pytest.warns(ConvergenceWarning, match="not finite after step 6; the best weights"):
            module, summary, _ = trained(device, 12, 3, None, loss_of)
        found.append((summary, {k: v.cpu() for k, v in module.state_dict().items()}))
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][0]["diverged"]
    torch.testing.assert_close(found[1][1], found[0][1])
