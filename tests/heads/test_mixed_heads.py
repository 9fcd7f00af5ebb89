"""Gate, debiasing, mix and steering of heads with rated attributes, against plain computations."""

from __future__ import annotations

import pytest
import torch

from pluralign.distributions import GaussianEnsemble, Point, Quantiles, mixture
from pluralign.errors import ArgumentError, TailWarning
from pluralign.heads import (
    FAMILIES,
    Attribute,
    BradleyTerryHead,
    ColumnScaling,
    Debias,
    Gate,
    GateShape,
    QuantileHead,
    RegressionHead,
    Steering,
)

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
NAMES = ("help", "safe", "long")
ATTRIBUTES = tuple(Attribute(name, 1, 5, 1.0) for name in NAMES)
WIDTH, N = 6, 30
RESPONSE = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0))
PROMPT = torch.randn(N, 4, generator=torch.Generator().manual_seed(1))
LENGTH = torch.randint(5, 60, (N,), generator=torch.Generator().manual_seed(2)).float()


def a_gate(**shape):
    torch.manual_seed(3)
    gate = Gate(GateShape(**({"width": 4, "num_attributes": 3, "hidden": 8, "layers": 2} | shape)))
    torch.nn.init.normal_(gate.out.weight, std=3.0)
    gate.scale.data.fill_(2.5)
    return gate.eval().requires_grad_(False)


def quantile(**parts):
    generator = torch.Generator().manual_seed(4)
    spread = torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2])
    return QuantileHead(
        ColumnScaling.fitted(RESPONSE),
        0.03 * torch.randn(3, 5, WIDTH, generator=generator),
        0.5 + spread.expand(3, -1),
        LEVELS,
        ATTRIBUTES,
        **parts,
    )


def regression(**parts):
    weight = 0.1 * torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5))
    return RegressionHead(ColumnScaling.fitted(RESPONSE), weight, torch.full((3,), 0.5), ATTRIBUTES, **parts)


def gaussian(**parts):
    return regression(residual_std=torch.tensor([0.1, 0.2, 0.3]), **parts)


HEADS = (quantile, regression, gaussian)


class TestGate:
    def test_a_new_gate_gives_equal_weights(self):
        gate = Gate(GateShape(width=4, num_attributes=3)).eval()
        torch.testing.assert_close(gate(PROMPT), torch.full((N, 3), 1 / 3))
        assert [m.out_features for m in gate.hidden if isinstance(m, torch.nn.Linear)] == [1024] * 3

    def test_the_scale_multiplies_after_the_softmax(self):
        for make in HEADS:
            gated, plain = make(gate=a_gate()), make()
            weights = gated.gate_weights(PROMPT)
            torch.testing.assert_close(weights.sum(1), torch.ones(N))
            expected = 2.5 * (weights * plain.attribute_means(RESPONSE)).sum(1)
            torch.testing.assert_close(gated.raw(RESPONSE, PROMPT).mean(), expected)

    def test_other_parts_make_another_head(self):
        for make in HEADS:
            plain, gate = make(), a_gate()
            gated = plain.with_parts(gate=gate)
            assert plain.gate is None
            assert list(plain.state_dict()) == [k for k in gated.state_dict() if not k.startswith("gate.")]
            same = make(gate=gate).raw(RESPONSE, PROMPT).mean()
            assert torch.equal(gated.raw(RESPONSE, PROMPT).mean(), same)
            again = gated.with_parts(gate=None).in_units_of(RESPONSE, PROMPT)
            assert gated.gate is gate
            assert again.reference != plain.reference
            assert float(again.distribution(RESPONSE, PROMPT).mean().mean()) == pytest.approx(0, abs=1e-5)

    def test_temperature_flattens(self):
        sharp, flat = a_gate(temperature=1.0), a_gate(temperature=50.0)
        assert bool((sharp(PROMPT).amax(1) > flat(PROMPT).amax(1)).all())

    @pytest.mark.parametrize(
        "bad",
        [{"hidden": 0}, {"layers": -1}, {"regularisation": "l1"}, {"dropout": 1.0}, {"temperature": 0.0}],
    )
    def test_illegal_shapes(self, bad):
        with pytest.raises(ArgumentError):
            GateShape(**({"width": 4, "num_attributes": 3} | bad))

    def test_parts_that_do_not_fit(self):
        with pytest.raises(ArgumentError, match="weighs 2 attributes"):
            quantile(gate=a_gate(num_attributes=2))
        with pytest.raises(ArgumentError, match="debias is for 2"):
            quantile(debias=Debias(torch.eye(2)))
        with pytest.raises(ArgumentError, match="vincentize, mixture"):
            quantile(mix="sum")
        with pytest.raises(ArgumentError, match="mixture of points"):
            regression(mix="mixture")
        with pytest.raises(ArgumentError, match="width 5"):
            Gate(GateShape(width=4, num_attributes=3), ColumnScaling.empty(5))
        with pytest.raises(ArgumentError, match="do not fit 3"):
            RegressionHead(ColumnScaling.empty(6), torch.zeros(2, 6), torch.zeros(3), ATTRIBUTES)


class TestMix:
    def test_a_mixture_of_quantile_functions_is_not_their_average(self):
        gate = a_gate()
        head = quantile(gate=gate, mix="mixture")
        expected = mixture(head.values(RESPONSE), gate(PROMPT), LEVELS.tolist())
        raw = head.raw(RESPONSE, PROMPT)
        torch.testing.assert_close(raw.values, 2.5 * expected.values)
        assert bool((raw.std() > quantile(gate=gate).raw(RESPONSE, PROMPT).std()).any())

    def test_gaussians_average_to_a_gaussian_or_mix_to_an_ensemble(self):
        gate = a_gate()
        weights, means = gate(PROMPT), gaussian().attribute_means(RESPONSE)
        average = gaussian(gate=gate).raw(RESPONSE, PROMPT)
        assert isinstance(average, GaussianEnsemble)
        torch.testing.assert_close(average.std(), 2.5 * weights @ torch.tensor([0.1, 0.2, 0.3]))
        at = torch.tensor([0.2, 0.7])
        by_hand = sum(
            weights[:, a, None] * GaussianEnsemble(means[:, a, None], torch.full((N, 1), std)).quantile(at)
            for a, std in enumerate((0.1, 0.2, 0.3))
        )
        torch.testing.assert_close(average.quantile(at), 2.5 * by_hand, rtol=1e-4, atol=1e-5)
        mixed = gaussian(gate=gate, mix="mixture").raw(RESPONSE, PROMPT)
        torch.testing.assert_close(mixed.weights, weights)
        torch.testing.assert_close(mixed.mean(), average.mean())

    def test_a_tail_below_the_levels_is_reported(self):
        for head in (quantile(), quantile(gate=a_gate(), mix="mixture", debias=attribute_debias())):
            with pytest.warns(TailWarning, match="lowest level 0.1"):
                head.distribution(RESPONSE, PROMPT).cvar(0.05)
            with pytest.warns(TailWarning):
                head.attribute_distributions(RESPONSE)["safe"].cvar(0.05)

    def test_regression_answers_with_points_or_gaussians_on_the_rating_scale(self):
        means = regression().attribute_means(RESPONSE)
        for make, kind, std in ((regression, Point, 0.0), (gaussian, GaussianEnsemble, 0.2 * 4)):
            distribution = make().attribute_distributions(RESPONSE)["safe"]
            assert isinstance(distribution, kind)
            torch.testing.assert_close(distribution.mean(), 1 + 4 * means[:, 1])
            torch.testing.assert_close(distribution.std(), torch.full((N,), std))


def attribute_debias(coupling="shift"):
    transform = torch.eye(3)
    transform[2] = torch.tensor([-0.2, -0.4, 0.0])
    return Debias(transform, coupling)


class TestDebias:
    def test_means_lose_lambda_times_the_bias(self):
        for make in HEADS:
            means = make().attribute_means(RESPONSE)
            expected = torch.stack(
                [means[:, 0] - 0.2 * means[:, 2], means[:, 1] - 0.4 * means[:, 2], 0 * means[:, 2]], 1
            )
            debiased = make(debias=attribute_debias())
            torch.testing.assert_close(debiased.attribute_means(RESPONSE), expected)
            torch.testing.assert_close(debiased.raw(RESPONSE, PROMPT).mean(), expected.mean(1))
            for a, b in zip(
                make().attribute_distributions(RESPONSE).values(),
                debiased.attribute_distributions(RESPONSE).values(),
                strict=True,
            ):
                assert torch.equal(a.mean(), b.mean())  # what raters say is predicted as it is

    def test_shift_keeps_the_shape_and_parity_subtracts_levels(self):
        plain = quantile().values(RESPONSE)
        weights = Steering.of(NAMES, {"safe": 1})
        shifted = quantile(debias=attribute_debias()).raw(RESPONSE, PROMPT, steering=weights)
        ordered = plain[:, 1].sort(-1).values
        torch.testing.assert_close(shifted.values.diff(dim=-1), ordered.diff(dim=-1))
        parity = quantile(debias=attribute_debias("parity")).raw(RESPONSE, PROMPT, steering=weights)
        expected = (plain[:, 1] - 0.4 * plain[:, 2]).sort(-1).values
        torch.testing.assert_close(parity.values, expected)
        torch.testing.assert_close(parity.plain_average(), (plain[:, 1] - 0.4 * plain[:, 2]).mean(-1))

    @pytest.mark.parametrize("coupling", ["shift", "parity"])
    def test_length_comes_off_every_attribute(self, coupling):
        slope = torch.tensor([0.1, 0.0, 0.3])
        debias = Debias(torch.eye(3), coupling, length_slope=slope, length_unit="tokens", length_span=20.0)
        for make in HEADS:
            head, plain = make(debias=debias), make()
            assert head.length_unit == "tokens"
            assert plain.length_unit is None
            lost = plain.attribute_means(RESPONSE) - head.attribute_means(RESPONSE, LENGTH)
            torch.testing.assert_close(lost, LENGTH[:, None] / 20 * slope, rtol=1e-4, atol=1e-5)
            with pytest.raises(ArgumentError, match="number of tokens"):
                head.raw(RESPONSE, PROMPT)

    @pytest.mark.parametrize(
        "options",
        [
            {"coupling": "both"},
            {"length_unit": "tokens"},
            {"length_slope": torch.zeros(3)},
            {"length_slope": torch.zeros(2), "length_unit": "tokens"},
            {"length_slope": torch.zeros(3), "length_unit": "words"},
            {"length_span": 0.0},
        ],
    )
    def test_illegal_values(self, options):
        with pytest.raises(ArgumentError):
            Debias(torch.eye(3), **options)


class TestSteering:
    def test_weights_replace_the_gate_and_only_ratios_count(self):
        for make in HEADS:
            head = make(gate=a_gate())
            means = head.attribute_means(RESPONSE)
            for wish in ({"help": 1, "long": 3}, [2.0, 0.0, 6.0], torch.tensor([0.25, 0.0, 0.75])):
                steering = Steering.of(NAMES, wish)
                expected = 2.5 * (0.25 * means[:, 0] + 0.75 * means[:, 2])
                raw = head.raw(RESPONSE, PROMPT, steering=steering)
                torch.testing.assert_close(raw.mean(), expected)

    def test_a_measured_attribute_counts_by_its_number(self):
        head = quantile()
        steering = Steering.of(NAMES, [1, 1, 0], {"safe": lambda distribution: distribution.quantile(0.1)})
        raw = head.raw(RESPONSE, PROMPT, steering=steering)
        help_distribution, safe_distribution = (
            Quantiles(head.values(RESPONSE)[:, i], LEVELS.float()) for i in (0, 1)
        )
        expected = 0.5 * help_distribution.values + 0.5 * safe_distribution.quantile(0.1)[:, None]
        torch.testing.assert_close(raw.values, expected)
        alone = Steering.of(NAMES, [0, 1, 0], {"safe": lambda distribution: distribution.cvar(0.3)})
        for make in (quantile, gaussian):
            distribution = make().raw(RESPONSE, PROMPT, steering=alone)
            torch.testing.assert_close(distribution.std(), torch.zeros(N), atol=1e-6, rtol=0)
        normal = GaussianEnsemble(gaussian().attribute_means(RESPONSE)[:, 1:2], torch.full((N, 1), 0.2))
        torch.testing.assert_close(distribution.mean(), normal.cvar(0.3))

    @pytest.mark.parametrize(
        ("names", "weights", "message"),
        [
            (NAMES, {"hepl": 1}, "did you mean 'help'"),
            (NAMES, {"help": -1}, "at least 0"),
            (NAMES, {"help": float("nan")}, "at least 0"),
            (NAMES, {"help": 0}, "one of them above 0"),
            (NAMES, {}, "one of them above 0"),
            (NAMES, [1, 2], "one per attribute"),
            ((), {"help": 1}, "has none"),
        ],
    )
    def test_steering_that_is_not_possible(self, names, weights, message):
        with pytest.raises(ArgumentError, match=message):
            Steering.of(names, weights)

    def test_unknown_attributes_to_measure(self):
        with pytest.raises(ArgumentError, match="unknown attribute 'x'"):
            Steering.of(NAMES, None, {"x": lambda distribution: distribution.mean()})

    def test_no_steering_changes_nothing(self):
        head = BradleyTerryHead(ColumnScaling.fitted(RESPONSE), torch.ones(WIDTH))
        steering = Steering.of((), None, {})
        assert torch.equal(
            head.raw(RESPONSE, PROMPT, steering=steering).mean(), head.raw(RESPONSE, PROMPT).mean()
        )


@pytest.mark.parametrize("make", [quantile, regression, gaussian])
@pytest.mark.parametrize(
    "parts",
    [
        {"gate": "dropout", "debias": None},
        {"gate": "batchnorm", "debias": "shift"},
        {"gate": None, "debias": "parity"},
        {"gate": "none", "debias": "length"},
    ],
)
def test_spec_and_state_dict_rebuild_the_head(make, parts):
    gate = None if parts["gate"] is None else a_gate(regularisation=parts["gate"])
    debias = None if parts["debias"] in (None, "length") else attribute_debias(parts["debias"])
    if parts["debias"] == "length":
        slope = torch.tensor([0.1, 0.0, 0.3])
        debias = Debias(torch.eye(3), length_slope=slope, length_unit="characters", length_span=9.0)
    mix = "vincentize" if make is regression else "mixture"
    head = make(gate=gate, debias=debias, mix=mix).eval()
    twin = FAMILIES[head.family].from_spec(head.spec()).eval()
    twin.load_state_dict(head.state_dict())
    assert twin.spec() == head.spec()
    ours, theirs = (h.distribution(RESPONSE, PROMPT, LENGTH) for h in (head, twin))
    assert type(ours) is type(theirs)
    assert torch.equal(ours.mean(), theirs.mean())
    assert torch.equal(ours.std(), theirs.std())
