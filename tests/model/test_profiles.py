"""Profiles of distributions and the measured numbers of warning signs, against values derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, Point, Quantiles
from pluralign.model.profiles import heads_of, profile, sign_values, unstable
from pluralign.warning_signs import SIGNS, is_seen

NORMAL = torch.distributions.Normal(0.0, 1.0)


def normal_grid(count):
    """Quantiles of the standard normal in the middle of equal shares."""
    return NORMAL.icdf((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def test_columns_of_quantiles():
    levels = torch.tensor([0.05, 0.5, 0.95])
    made = Quantiles(torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 2.0]]), levels)
    found = profile(made, made.mean())
    assert set(found) == {"utility", "std", "width", "crossing"}
    torch.testing.assert_close(found["width"], torch.tensor([4.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(found["crossing"], torch.tensor([0.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(found["std"], made.std().double())
    assert all(column.dtype == torch.float64 and column.shape == (2,) for column in found.values())


def test_columns_of_categories_points_and_samples():
    made = Categorical(torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]]), torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(profile(made, made.mean())["top"], torch.tensor([0.5, 1.0]).double())
    assert set(profile(Point([1.0, 2.0]), torch.tensor([1.0, 2.0]))) == {"utility"}
    four = Empirical(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    torch.testing.assert_close(profile(four, four.mean())["top"], torch.tensor([0.25]).double())


def test_columns_of_an_ensemble_are_in_the_order_of_its_heads():
    means = torch.arange(24.0).reshape(2, 12)  # head_10 comes after head_9, not after head_1
    made = GaussianEnsemble(means, torch.ones(2, 12))
    torch.testing.assert_close(heads_of(profile(made, made.mean())), means.double())
    assert heads_of(profile(Point([1.0]), torch.tensor([1.0]))) is None
    alone = GaussianEnsemble(torch.zeros(2, 1), torch.ones(2, 1))
    assert "head_0" not in profile(alone, alone.mean())  # one head has nothing to agree with


def test_the_entropy_of_a_gate():
    gate = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    found = profile(Point([0.0, 0.0, 0.0]), torch.zeros(3), gate)["gate"]
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64))
    assert "gate" not in profile(Point([0.0]), torch.zeros(1), torch.ones(1, 1))


def test_how_many_responses_make_up_a_spread():
    assert unstable(normal_grid(20_000)) == pytest.approx(2 / math.pi, rel=1e-3)
    assert unstable(torch.tensor([-1.0, 1.0] * 50)) == pytest.approx(1.0)
    for count in (32, 1000):  # one against all others: by hand (2 (n-1) / n)^2 / (n (n-1) / n)
        alone = torch.zeros(count)
        alone[3] = 7.0
        assert unstable(alone) == pytest.approx(4 * (count - 1) / count**2)
    assert unstable(torch.ones(40)) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_share_knows_neither_scale_nor_shift(values, scale, shift):
    one = torch.tensor(values, dtype=torch.float64)
    found = unstable(one)
    if one.max() - one.min() < 1e-3:
        return
    assert 0 < found <= 1 + 1e-12
    assert unstable(scale * one + shift) == pytest.approx(found, rel=1e-6)


def columns(count=64, **changed):
    grid = normal_grid(count)
    return {"utility": grid, "std": 1 + 0.3 * grid.abs(), "width": 3 + grid.abs()} | changed


def test_a_model_that_is_well_shows_no_sign():
    heads = {f"head_{h}": normal_grid(64) + 0.5 * (torch.arange(64) * (h + 3) % 7) for h in range(3)}
    well = columns(
        crossing=torch.full((64,), 0.1), gate=torch.full((64,), 0.7), top=torch.full((64,), 0.6), **heads
    )
    reference = torch.stack([normal_grid(64)] * 3, 1)
    found = sign_values(well, reference)
    assert set(found) == set(SIGNS) - {"kl_beyond_optimum"}  # that one is of runs
    assert not [name for name, value in found.items() if is_seen(name, value)]


@pytest.mark.parametrize(
    ("sign", "changed", "value"),
    [
        ("crossing", {"crossing": torch.full((64,), 0.5)}, 0.5),
        ("uniform_gate", {"gate": torch.full((64,), 0.999, dtype=torch.float64)}, 0.999),
        ("peaked_predictions", {"width": torch.tensor([0.05] * 16 + [1.0] * 48)}, 0.25),
        ("unstable_utility", {"utility": torch.eye(64)[0]}, 4 * 63 / 64**2),
        ("equal_stds", {"std": torch.full((64,), 2.0)}, 0.0),
        ("correlated_heads", {"head_0": normal_grid(64), "head_1": 3 * normal_grid(64) - 1}, 1.0),
        ("overconfident_categories", {"top": torch.tensor([0.999] * 32 + [0.98] * 32)}, 0.5),
    ],
)
def test_each_sign_by_hand(sign, changed, value):
    found = sign_values(columns(**changed))
    assert found[sign] == pytest.approx(value, abs=1e-9)
    assert [name for name, number in found.items() if is_seen(name, number)] == [sign]


def test_all_heads_above_the_reference_means_every_head():
    reference = torch.stack([normal_grid(200), normal_grid(200) + 10], 1)
    high = float(NORMAL.icdf(torch.tensor(0.95)))
    head_0 = torch.tensor([high + 0.1] * 30 + [high - 0.1] * 34)
    head_1 = torch.tensor([high + 10.1] * 20 + [high + 9.9] * 44)
    found = sign_values(columns(head_0=head_0, head_1=head_1), reference)
    assert found["heads_above_reference"] == pytest.approx(20 / 64)
    assert "heads_above_reference" not in sign_values(columns(head_0=head_0, head_1=head_1))
    assert "heads_above_reference" not in sign_values(columns(head_0=head_0, head_1=head_1), reference[:31])


def test_few_responses_have_no_spread_to_speak_of():
    heads = {"head_0": normal_grid(64), "head_1": normal_grid(64)}
    few = {name: column[:31] for name, column in columns(**heads).items()}
    assert set(sign_values(few)) == {"peaked_predictions"}
