"""Heads: scaling, units, attributes on their scales, what a state dict and a spec rebuild."""

from __future__ import annotations

import pytest
import torch

from pluralign.distributions import GaussianEnsemble, Point, Quantiles
from pluralign.errors import ArgumentError
from pluralign.heads import FAMILIES, Attribute, BradleyTerryHead, ColumnScaling, QuantileHead, Reference

LEVELS = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
ATTRIBUTES = (Attribute("help", 1, 5, 1.0), Attribute("harm", -25, 0))


def quantile_head(seed=0, width=6):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(50, width, generator=generator)
    return embeddings, QuantileHead(
        ColumnScaling.fitted(embeddings),
        torch.randn(2, 3, width, generator=generator) * 0.1,
        torch.tensor([[0.2, 0.5, 0.8], [0.1, 0.6, 0.7]]),
        LEVELS,
        ATTRIBUTES,
    )


def bradley_terry_head(width=6):
    embeddings = torch.randn(50, width, generator=torch.Generator().manual_seed(1))
    return embeddings, BradleyTerryHead(ColumnScaling.fitted(embeddings), torch.arange(width).float())


class TestColumnScaling:
    def test_scales_to_mean_0_and_std_1_also_far_from_zero(self):
        x = torch.randn(70_000, 3, generator=torch.Generator().manual_seed(0))
        x = x * torch.tensor([1.0, 0.01, 5.0])
        x = x + torch.tensor([0.0, 1000.0, -3.0])
        z = ColumnScaling.fitted(x)(x)
        torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=5e-3, rtol=0)
        torch.testing.assert_close(z.std(0), torch.ones(3), atol=5e-3, rtol=0)

    def test_constant_columns_are_dropped(self):
        x = torch.randn(100, 3)
        x[:, 1] = 0.1 + 0.2  # not representable, so the sum rounds
        x[:, 2] = 0
        scaling = ColumnScaling.fitted(x)
        assert bool((scaling(x)[:, 1:] == 0).all())

    def test_weights_are_repeated_rows(self):
        x = torch.randn(20, 4, dtype=torch.float64)
        count = torch.arange(20) % 4
        weighted = ColumnScaling.fitted(x, count)
        repeated = ColumnScaling.fitted(x.repeat_interleave(count, 0))
        torch.testing.assert_close(weighted.center, repeated.center)
        torch.testing.assert_close(weighted.inverse_scale, repeated.inverse_scale)

    def test_bad_input(self):
        with pytest.raises(ArgumentError, match="0 rows"):
            ColumnScaling.fitted(torch.zeros(0, 3))
        with pytest.raises(ArgumentError, match="NaN"):
            ColumnScaling.fitted(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
        with pytest.raises(ArgumentError, match="width 3"):
            ColumnScaling.empty(3)(torch.zeros(2, 4))


class TestReference:
    def test_std_is_that_of_the_marginal_distribution(self):
        means = torch.tensor([[0.0], [2.0], [4.0]], dtype=torch.float64)
        stds = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        distribution = GaussianEnsemble(means, stds)
        reference = Reference.of(distribution)
        draws = distribution.sample(200_000, generator=torch.Generator().manual_seed(0))
        assert reference.mean == pytest.approx(2.0)
        assert reference.std == pytest.approx(float(draws.std()), rel=5e-3)

    def test_standardised_references_have_mean_0_and_std_1(self):
        values = torch.randn(40, 5, dtype=torch.float64).sort(-1).values * 7 + 3
        distribution = Quantiles(values, torch.linspace(0.1, 0.9, 5, dtype=torch.float64))
        again = Reference.of(Reference.of(distribution).standardise(distribution))
        assert again.mean == pytest.approx(0, abs=1e-9)
        assert again.std == pytest.approx(1, abs=1e-9)

    def test_a_constant_reward_keeps_its_unit(self):
        assert Reference.of(Point(torch.full((5,), 3.0))).std == 1.0
        last_place = torch.nextafter(torch.full((5,), 3.0), torch.tensor([0.0, 9.0, 3.0, 0.0, 9.0]))
        assert Reference.of(Point(last_place)).std == 1.0
        assert Reference.of(Point(3.0 + torch.tensor([0.0, 1e-4]))).std == pytest.approx(5e-5, rel=1e-2)

    @pytest.mark.parametrize("bad", [{"std": 0.0}, {"std": float("nan")}, {"mean": float("inf")}])
    def test_bad_input(self, bad):
        with pytest.raises(ArgumentError, match="reference needs"):
            Reference(**bad)


class TestQuantileHead:
    def test_attributes_come_back_on_their_scales(self):
        x, head = quantile_head()
        distributions = head.attribute_distributions(x)
        assert list(distributions) == ["help", "harm"]
        by_hand = head.scaling(x) @ head.weight[1, 2] + head.bias[1, 2]
        values = head.values(x)
        torch.testing.assert_close(values[:, 1, 2], by_hand)
        expected = (-25 + 25 * values[:, 1]).sort(-1).values
        torch.testing.assert_close(distributions["harm"].quantile(LEVELS.float()), expected)

    def test_mix_is_the_equal_average_of_quantile_functions(self):
        x, head = quantile_head()
        mixed = head.raw(x, torch.zeros(50, 4))
        torch.testing.assert_close(mixed.quantile(LEVELS.float()), head.values(x).sort(-1).values.mean(1))
        weights = head.gate_weights(torch.zeros(7, 4))
        torch.testing.assert_close(weights, torch.full((7, 2), 0.5))

    def test_constant_attributes_are_named(self):
        _, head = quantile_head()
        head.weight[1] = 0
        assert head.constant_attributes == ("harm",)

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ArgumentError, match="do not fit 2 attributes, 3 levels and width 4"):
            QuantileHead(ColumnScaling.empty(4), torch.zeros(2, 3, 5), torch.zeros(2, 3), LEVELS, ATTRIBUTES)


class TestBradleyTerryHead:
    def test_probability_is_the_sigmoid_of_the_raw_difference(self):
        x, head = bradley_terry_head()
        raw = head.raw(x, x).mean()
        head.reference = Reference.of(head.raw(x, x))
        distribution = head.distribution(x, x)
        probability = head.preference_probability(distribution[:25], distribution[25:])
        torch.testing.assert_close(probability, torch.sigmoid(raw[:25] - raw[25:]))

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ArgumentError, match="needed: \\(4,\\)"):
            BradleyTerryHead(ColumnScaling.empty(4), torch.zeros(5))


@pytest.mark.parametrize("make", [quantile_head, bradley_terry_head])
def test_spec_and_state_dict_rebuild_the_head(make):
    x, head = make()
    head.reference = Reference(0.25, 3.0)
    twin = FAMILIES[head.family].from_spec(head.spec())
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin.distribution(x, x).mean(), head.distribution(x, x).mean(), rtol=0, atol=0)


@pytest.mark.parametrize("make", [quantile_head, bradley_terry_head])
def test_rows_do_not_depend_on_their_batch(make):
    x, head = make()
    whole = head.distribution(x, x).mean()
    single = torch.cat([head.distribution(row[None], row[None]).mean() for row in x])
    torch.testing.assert_close(whole, single, rtol=1e-5, atol=1e-5)
