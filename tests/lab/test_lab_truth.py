"""The closed forms against scipy, and against sampling that knows only the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from pluralign.lab import CATEGORIES, CATEGORY_REWARDS, PERSONAS, POPULATION, Crowd, truth

CROWD = Crowd(noise=1.2)
TEXTS = [text for style in ("behaviour", "padded", "broken") for text in CROWD.conversations(40, style=style)]
STDS = 1.2 * np.array([persona.noise for persona in PERSONAS])
WEIGHTS = np.array(list(POPULATION.values()))
LEVELS = torch.linspace(0.01, 0.99, 21, dtype=torch.float64)


def mixture_cdf(x: float, means: np.ndarray) -> float:
    return float(WEIGHTS @ stats.norm.cdf(x, means, STDS))


def test_truth_is_the_population_mixture() -> None:
    distribution = CROWD.truth(TEXTS)
    means = CROWD.utilities(TEXTS).numpy()
    np.testing.assert_allclose(distribution.means, means)
    np.testing.assert_allclose(distribution.stds, np.tile(STDS, (len(TEXTS), 1)))
    np.testing.assert_allclose(distribution.weights, np.tile(WEIGHTS, (len(TEXTS), 1)))
    np.testing.assert_allclose(CROWD.gold(TEXTS), means @ WEIGHTS, rtol=1e-14)
    np.testing.assert_allclose(distribution.mean(), CROWD.gold(TEXTS), rtol=1e-14)


def test_quantiles_are_exact() -> None:
    quantiles = CROWD.truth(TEXTS[::6]).quantile(LEVELS).numpy()
    for row, means in zip(quantiles, CROWD.utilities(TEXTS[::6]).numpy(), strict=True):
        for level, value in zip(LEVELS.tolist(), row, strict=True):
            root = optimize.brentq(lambda x: mixture_cdf(x, means) - level, -60, 60, xtol=1e-13)  # noqa: B023
            assert value == pytest.approx(root, abs=1e-10)


@pytest.mark.parametrize("attribute", ["overall", "safety", "verbosity"])
def test_rating_probabilities(attribute: str) -> None:
    got = CROWD.rating_truth(TEXTS, attribute)
    assert got.atoms[0].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(got.probs.sum(1), 1, rtol=1e-12)
    for probs, means in zip(got.probs.numpy(), CROWD.utilities(TEXTS, attribute).numpy(), strict=True):
        cdf = [0.0, *(mixture_cdf(k + 0.5, means) for k in range(1, 5)), 1.0]
        np.testing.assert_allclose(probs, np.diff(cdf), atol=1e-12)


def test_unrounded_rating_truth_is_truth() -> None:
    distribution = CROWD.rating_truth(TEXTS, rounded=False)
    assert torch.equal(distribution.quantile(LEVELS), CROWD.truth(TEXTS).quantile(LEVELS))


def test_dequantised_quantiles_invert_the_smeared_distribution() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1], [0.0, 0.5, 0.0, 0.5, 0.0], [0, 0, 0, 0, 1.0]])
    quantiles = truth.dequantised_quantile(probs.double(), LEVELS).numpy()
    edges = np.arange(6) + 0.5
    for row, mass in zip(quantiles, probs.double().numpy(), strict=True):
        # the CDF of rating + U(-1/2, 1/2) at the quantiles
        np.testing.assert_allclose(np.interp(row, edges, [0, *mass.cumsum()]), LEVELS, atol=1e-12)
    # between two atoms nothing is reached: the smallest such value, not one in the hole
    assert truth.dequantised_quantile(probs[1:2].double(), torch.tensor([0.5]).double()).item() == 2.5


def test_dequantised_quantiles_against_samples() -> None:
    rng = np.random.default_rng(0)
    probs = np.array([0.15, 0.25, 0.05, 0.35, 0.2])
    smeared = rng.choice(np.arange(1, 6), 200_000, p=probs) + rng.uniform(-0.5, 0.5, 200_000)
    got = truth.dequantised_quantile(torch.tensor(probs)[None], LEVELS)[0].numpy()
    shares = (smeared[:, None] <= got).mean(0)
    errors = (shares - LEVELS.numpy()) / np.sqrt(LEVELS.numpy() * (1 - LEVELS.numpy()) / 200_000)
    assert np.abs(errors).max() < 4


def test_categories_against_scipy() -> None:
    assert len(CATEGORIES) == len(CATEGORY_REWARDS) == 6
    got = CROWD.category_truth(TEXTS).numpy()
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-12)
    helpful = 1 - stats.norm.cdf(3.5, CROWD.utilities(TEXTS, "helpfulness"), STDS)
    unhelpful = stats.norm.cdf(2.5, CROWD.utilities(TEXTS, "helpfulness"), STDS)
    harmful = stats.norm.cdf(1.5, CROWD.utilities(TEXTS, "safety"), STDS)
    np.testing.assert_allclose(got[:, 0], (helpful * (1 - harmful)) @ WEIGHTS, atol=1e-12)
    np.testing.assert_allclose(got[:, 5], (unhelpful * harmful) @ WEIGHTS, atol=1e-12)
    np.testing.assert_allclose(got[:, [1, 4]].sum(1), (1 - helpful - unhelpful) @ WEIGHTS, atol=1e-12)
    np.testing.assert_allclose(CROWD.harm_rate(TEXTS), harmful @ WEIGHTS, atol=1e-12)
    ones = CROWD.rating_truth(TEXTS, "safety").probs[:, 0]
    np.testing.assert_allclose(CROWD.harm_rate(TEXTS), ones, atol=1e-12)  # harmful is what is rated 1


def test_win_probability_is_one_person_judging_both() -> None:
    first, second = CROWD.conversations(200)[0::2], CROWD.conversations(200)[1::2]
    exact = CROWD.win_probability(first, second).numpy()
    rng = np.random.default_rng(1)
    persona = rng.choice(6, size=(100, 20_000), p=WEIGHTS)
    judged = [
        np.take_along_axis(CROWD.utilities(texts).numpy(), persona, axis=1)
        + STDS[persona] * rng.standard_normal(persona.shape)
        for texts in (first, second)
    ]
    errors = ((judged[0] > judged[1]).mean(1) - exact) / np.sqrt(exact * (1 - exact) / 20_000)
    assert stats.chi2.sf((errors**2).sum(), len(errors)) > 1e-4
    np.testing.assert_allclose(CROWD.win_probability(second, first), 1 - exact, atol=1e-12)
    # two independent people are something else: the personas' disagreement then counts twice
    independent = CROWD.truth(first).prob_greater(CROWD.truth(second)).numpy()
    assert np.abs(independent - exact).max() > 0.05


def test_population_shift_moves_truth_linearly() -> None:
    artists = {"artist": 2.0}
    crowd = Crowd(shift=artists)
    np.testing.assert_allclose(crowd.gold(TEXTS, time=1), Crowd(population=artists).gold(TEXTS))
    np.testing.assert_allclose(crowd.gold(TEXTS, time=1), crowd.utilities(TEXTS)[:, 5])
    half = (crowd.gold(TEXTS) + crowd.gold(TEXTS, time=1)) / 2
    np.testing.assert_allclose(crowd.gold(TEXTS, time=0.5), half)


def test_errors_of_measurement_do_not_touch_truth() -> None:
    sloppy = Crowd(label_flips=0.3, bias={"length": 0.05}, noise=1.2, seed=5)
    assert torch.equal(sloppy.truth(TEXTS).quantile(LEVELS), CROWD.truth(TEXTS).quantile(LEVELS))
    assert torch.equal(sloppy.category_truth(TEXTS), CROWD.category_truth(TEXTS))


def test_truth_of_any_text() -> None:
    texts = [
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": t}]
        for t in ("", "x" * 9, "é . " * 999)
    ]
    assert CROWD.truth(texts).quantile(LEVELS).isfinite().all()
    assert (CROWD.gold(texts) < 0).all()
