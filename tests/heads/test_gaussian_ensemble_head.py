"""Members of an ensemble against one network at a time, and the head that reads them."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import softplus

import pluralign as pl
from pluralign.errors import ArgumentError
from pluralign.heads import (
    FAMILIES,
    Attribute,
    ColumnScaling,
    Debias,
    Gate,
    GateShape,
    GaussianEnsembleHead,
    Reference,
    Steering,
)
from pluralign.heads.agreement import head_agreement
from pluralign.heads.ensemble_members import Members

WIDTH, HEADS = 6, 3
ATTRIBUTES = (Attribute("a", 1, 5, 1.0), Attribute("b", 0, 10))


def drawn(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def rows(count: int = 7, seed: int = 9, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def head(attributes=ATTRIBUTES, outputs=2, hidden=0, **options) -> GaussianEnsembleHead:
    count = max(len(attributes), 1)
    scaling = ColumnScaling.fitted(rows(50, seed=3))
    return GaussianEnsembleHead(
        scaling,
        drawn(Members(count * HEADS, WIDTH, outputs, hidden)),
        attributes,
        target_center=torch.linspace(0.3, 0.5, count),
        target_scale=torch.linspace(0.2, 0.4, count),
        std_floor=0.05,
        **options,
    )


@pytest.mark.parametrize("hidden", [0, 4])
def test_members_are_separate_networks(hidden):
    members, x = drawn(Members(5, WIDTH, 2, hidden)), rows()
    together = members(x)
    assert together.shape == (7, 5, 2)
    for m in range(5):
        inside = x
        if hidden:
            inside = torch.relu(x @ members.hidden_weight[m].T + members.hidden_bias[m])
        torch.testing.assert_close(together[:, m], inside @ members.weight[m].T + members.bias[m])


@pytest.mark.parametrize("hidden", [0, 4])
def test_rotated_members_are_the_same_functions(hidden):
    members, x = drawn(Members(5, WIDTH, 2, hidden)), rows()
    axes = torch.linalg.qr(rows(WIDTH, seed=1)).Q
    before = members(x @ axes)
    members.rotate_(axes)
    torch.testing.assert_close(members(x), before, atol=1e-5, rtol=1e-5)


def test_sizes_of_members_are_checked():
    for sizes in [(0, 3, 1), (2, 0, 1), (2, 3, 0), (2, 3, 1, -1)]:
        with pytest.raises(ArgumentError, match="at least 1"):
            Members(*sizes)


def test_attributes_are_answered_on_their_scales():
    model, x = head(), rows()
    output = model.members(model.scaling(x))
    distributions = model.attribute_distributions(x)
    assert list(distributions) == ["a", "b"]
    for i, a in enumerate(ATTRIBUTES):
        own = output[:, i * HEADS : (i + 1) * HEADS]
        mean = model.target_center[i] + model.target_scale[i] * own[..., 0]
        std = model.target_scale[i] * (0.05 + softplus(own[..., 1]))
        torch.testing.assert_close(distributions[a.name].means, a.low + (a.high - a.low) * mean)
        torch.testing.assert_close(distributions[a.name].stds, (a.high - a.low) * std)


def test_attributes_are_mixed_head_by_head():
    gate = drawn(Gate(GateShape(WIDTH, 2, hidden=4, layers=1, regularisation="none")), seed=5)
    model, x, prompt = head(gate=gate), rows(), rows(seed=2)
    gate.scale.data.fill_(2.0)
    means, stds = model.values(x)
    weights = model.gate_weights(prompt)
    mixed = model.raw(x, prompt)
    assert mixed.means.shape == (7, HEADS)  # not A x H: a head stays one opinion
    for h in range(HEADS):
        torch.testing.assert_close(mixed.means[:, h], 2 * (weights * means[:, :, h]).sum(1))
        torch.testing.assert_close(mixed.stds[:, h], 2 * (weights * stds[:, :, h]).sum(1))
    weighted = 2 * (weights * model.attribute_means(x)).sum(1)
    torch.testing.assert_close(mixed.mean(), weighted)


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
def test_every_head_measure_applies_to_the_mix():
    model, x = head(), rows()
    distribution = model.distribution(x, x)
    surest = distribution.stds.argmin(1)
    assert torch.equal(pl.risk.parse("nominal")(distribution), distribution.means[torch.arange(7), surest])
    assert torch.equal(pl.risk.parse("worst_case")(distribution), distribution.means.min(1).values)
    assert torch.equal(pl.risk.parse("best_case")(distribution), distribution.means.max(1).values)
    uwo = distribution.means.mean(1) - 2 * distribution.means.var(1, unbiased=False)
    torch.testing.assert_close(pl.risk.parse("uwo:2")(distribution), uwo)
    robust = 0.4 * pl.risk.parse("nominal")(distribution) + 0.6 * pl.risk.parse("worst_case")(distribution)
    torch.testing.assert_close(pl.risk.parse("robust:0.4")(distribution), robust)


def test_standardised_heads_have_one_mean_and_spread_and_keep_the_unit():
    model, x = head(), rows(200)
    before = model.head_means(x, x)
    plain, model = model, model.with_equal_heads(x, x)
    assert torch.equal(plain.head_means(x, x), before)
    after = model.head_means(x, x)
    spread = before.std(0, unbiased=False)
    torch.testing.assert_close(after.mean(0), before.mean().expand(HEADS), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std(0, unbiased=False), spread.mean().expand(HEADS), atol=1e-5, rtol=0)
    assert head_agreement(after)["correlation"] == pytest.approx(
        head_agreement(before)["correlation"], abs=1e-5
    )
    again = model.with_equal_heads(x, x)  # measured on what was predicted, not on what was standardised
    torch.testing.assert_close(again.head_means(x, x), after)


def test_a_constant_head_is_shifted_only():
    model, x = head(attributes=()), rows(50)
    model.members.weight.data[0] = 0.0
    model = model.with_equal_heads(x, x)
    means = model.head_means(x, x)
    assert bool(means.isfinite().all())
    assert float(means[:, 0].std()) < 1e-6
    torch.testing.assert_close(means.mean(0), means.mean().expand(HEADS), atol=1e-5, rtol=0)


def test_heads_without_a_std_are_bradley_terry():
    model, x = head(attributes=(), outputs=1), rows()
    model.reference = Reference(0.1, 3.0)
    assert not model.has_std
    distribution = model.distribution(x, x)
    assert float(distribution.stds.abs().max()) == 0.0
    first, second = distribution[:3], distribution[3:6]
    logits = model.values(x)[0][:, 0]
    expected = torch.sigmoid(logits[:3] - logits[3:6]).mean(1)
    torch.testing.assert_close(model.preference_probability(first, second), expected)
    torch.testing.assert_close(model.preference_probability(second, first), 1 - expected)
    assert list(model.attribute_distributions(x)) == ["preference"]
    assert torch.equal(model.gate_weights(x), torch.ones(7, 1))
    spread = head(attributes=())
    pair = spread.distribution(x, x)
    torch.testing.assert_close(
        spread.preference_probability(pair[:3], pair[3:6]), pair[:3].prob_greater(pair[3:6])
    )


def test_debiasing_shifts_every_head_alike():
    debias = Debias(torch.tensor([[1.0, -0.5], [0.0, 0.0]]))
    plain, shifted, x = head(), head(debias=debias), rows()
    means, stds = plain.values(x)
    a, b = means.mean(-1).unbind(1)
    distribution = shifted.raw(x, x)
    expected = 0.5 * means[:, 0] + 0.5 * (means[:, 1] - 0.5 * a[:, None] - b[:, None])
    torch.testing.assert_close(distribution.means, expected)
    torch.testing.assert_close(distribution.stds, stds.mean(1))


def test_a_steered_attribute_is_one_number_for_all_heads():
    model, x = head(), rows()
    steering = Steering.of(["a", "b"], {"a": 1.0}, {"a": pl.risk.parse("quantile:0.05")})
    distribution = model.raw(x, x, steering=steering)
    means, stds = model.values(x)
    expected = pl.GaussianEnsemble(means[:, 0], stds[:, 0]).quantile(0.05)
    torch.testing.assert_close(distribution.means, expected[:, None].expand(-1, HEADS))
    assert float(distribution.stds.abs().max()) == 0.0


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_head_is_rebuilt_from_spec_and_state(hidden):
    gate = drawn(Gate(GateShape(WIDTH, 2, hidden=4, layers=1, regularisation="none")), seed=5).eval()
    model, x = head(hidden=hidden, gate=gate), rows()
    model = model.with_equal_heads(x, x)
    spec = json.loads(json.dumps(model.spec()))
    again = FAMILIES["gaussian_ensemble"].from_spec(spec)
    again.load_state_dict(model.state_dict())
    again.eval()
    assert torch.equal(again.raw(x, x).means, model.raw(x, x).means)
    assert torch.equal(again.raw(x, x).stds, model.raw(x, x).stds)


def test_parts_that_do_not_fit_are_named():
    scaling = ColumnScaling.empty(WIDTH)
    with pytest.raises(ArgumentError, match="5 members"):
        GaussianEnsembleHead(scaling, Members(5, WIDTH, 2), ATTRIBUTES)
    with pytest.raises(ArgumentError, match="3 outputs"):
        GaussianEnsembleHead(scaling, Members(4, WIDTH, 3), ATTRIBUTES)
    with pytest.raises(ArgumentError, match="positive"):
        GaussianEnsembleHead(scaling, Members(4, WIDTH, 2), ATTRIBUTES, target_scale=torch.zeros(2))
    with pytest.raises(ArgumentError, match="positive"):
        GaussianEnsembleHead(scaling, Members(4, WIDTH, 2), ATTRIBUTES, std_floor=0.0)


def test_agreement_of_heads():
    x = rows(400)[:, 0]
    same = head_agreement(torch.stack([x, x + 1e-9], 1))
    assert same["correlation"] == pytest.approx(1)
    assert same["disagreement"] == pytest.approx(0, abs=1e-8)
    opposed = head_agreement(torch.stack([x, -x, x], 1))
    assert opposed["correlation"] == pytest.approx(-1 / 3, abs=1e-6)
    shifted = head_agreement(torch.stack([x - 1, x + 1], 1))  # a correlation does not see a shift
    assert shifted["disagreement"] == pytest.approx(1 / float(x.std(unbiased=False)), rel=1e-5)
    assert head_agreement(torch.ones(5, 3)) == {"correlation": 1.0, "disagreement": 0.0}
