"""A device without float64, as Apple's GPUs are: the same numbers, as far as float32 has them."""

from __future__ import annotations

import copy
import itertools

import cases_distributions
import cases_fitting
import cases_losses
import pytest
import torch
from pretended import DEVICE, on_cpu, without_float64

import pluralign as pl
import tiny_policy
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk
from pluralign.fitting.train.loop import Schedule, train
from pluralign.heads.agreement import head_agreement
from pluralign.heads.linearity import linear_form
from pluralign.heads.scaling import ColumnScaling
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import attach, response_log_probs
from pluralign.policy.offline.measurements import RunningMeans
from pluralign.policy.online.critic_targets import token_targets
from pluralign.policy.online.whitening import whiten
from pluralign.policy.sampling.local import draw_tokens
from pluralign.solvers.bradley_terry import fit_bradley_terry

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


def fitted_head(family, **options):
    data = {"ratings": pl.load_ratings(ratings_rows(12, attributes=2))}
    if "ratings" not in pl.families.FAMILIES[family].data or family == "regression":
        data["pairs"] = pl.load_pairs(pairs_rows(20))
    config = cases_fitting.CONFIGS[family]
    return pl.fit(family, **data, backbone=FakeBackbone(), config=config, cache=None, **options).head


def answers(head, inputs):
    """What a head says of five responses, and of itself."""
    response, prompt, _ = inputs
    reward = head.distribution(*inputs)
    yield reward.mean()
    yield reward.std()
    yield head.preference_probability(reward[:2], reward[2:4])
    yield head.gate_weights(prompt)
    yield head.in_units_of(*inputs).distribution(*inputs).mean()
    parts = head.attribute_distributions(response)
    for part in (*parts.values(), *head.rounded(parts).values()):
        yield part.mean()
    yield linear_form(lambda x: head.distribution(x, *inputs[1:]).mean(), response).weight.float()
    if head.num_heads > 1:
        agreement = head_agreement(reward.heads().means)
        yield torch.tensor(list(agreement.values()), device=response.device)
    if hasattr(head, "with_equal_heads"):
        yield head.with_equal_heads(*inputs).distribution(*inputs).mean()


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
@pytest.mark.parametrize(
    ("family", "options"),
    [*((family, {}) for family in cases_fitting.CONFIGS), ("quantile", {"ensemble": 2})],
)
def test_heads(family, options):
    head = fitted_head(family, **options)
    embedded = FakeBackbone().embed([talk(f"{i / 4} 0.5 answer") for i in range(5)])
    inputs = (embedded.response, embedded.prompt, torch.arange(1.0, 6.0))
    wanted = list(answers(head, inputs))
    other = copy.deepcopy(head).to(DEVICE)
    found = list(answers(other, [one.to(DEVICE) for one in inputs]))
    torch.testing.assert_close(on_cpu(found), wanted, **CLOSE)
    torch.testing.assert_close(dict(other.cpu().state_dict()), dict(head.state_dict()))


def test_a_column_scaling_is_fitted():
    rows = 3 + torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    rows[:, 2] = 7.0
    found = ColumnScaling.fitted(rows.to(DEVICE))(rows.to(DEVICE))
    torch.testing.assert_close(on_cpu(found), ColumnScaling.fitted(rows)(rows), **CLOSE)
    assert not on_cpu(found)[:, 2].any()


def test_tokens_are_drawn():
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    uniforms = torch.linspace(0.05, 0.95, 6)
    found = draw_tokens(logits.to(DEVICE), uniforms.to(DEVICE), 0.7, 0.9)
    assert on_cpu(found).tolist() == draw_tokens(logits, uniforms.double(), 0.7, 0.9).tolist()


@pytest.mark.parametrize(
    "fit",
    [
        lambda x: pl.solvers.fit_quantiles(x, x[:, 0], [0.5], l1=0.1),
        lambda x: fit_bradley_terry(x, l2=0.1),
    ],
)
def test_solvers_say_that_they_need_it(fit):
    with pytest.raises(pl.errors.ArgumentError, match="no float64; fits compute in it: use a CPU"):
        fit(torch.randn(6, 2).to(DEVICE))
