"""Calibrated distributions keep their promise on groups that nobody saw, whatever was predicted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, talk
from pluralign.distributions import Categorical, GaussianEnsemble, Quantiles
from pluralign.errors import ArgumentError, ArtifactError, DataError
from pluralign.model.recalibration import Draws, Recalibration
from property_examples import examples


def draws(pit, groups=None, beyond=None, tails=(0.0, 0.0)):
    """Of continuous distributions, with these u."""
    pit = np.asarray(pit, dtype=float)
    groups = np.arange(len(pit)) if groups is None else np.asarray(groups)
    beyond = np.zeros(len(pit)) if beyond is None else np.asarray(beyond, dtype=float)
    return Draws(pit, pit, np.zeros(len(pit)), beyond, groups, tails, discrete=False)


def drawn(distribution, y, noise, groups=None, discrete=False):
    """Ratings [N] under N distributions."""
    below, at_most = (cdf(y[:, None])[:, 0].numpy() for cdf in (distribution.cdf_left, distribution.cdf))
    groups = np.arange(len(y)) if groups is None else groups
    beyond = (y - distribution.quantile(0.0)).clamp(max=0) + (y - distribution.quantile(1.0)).clamp(min=0)
    beyond = beyond.numpy() if any(distribution.tail_masses) else np.zeros(len(y))
    return Draws(below, at_most, noise, beyond, groups, distribution.tail_masses, discrete)


def test_one_draw_per_group_is_at_its_rank():
    """The k-th smallest of G draws is at k / (G + 1): with 39, the levels .05, .1 ... are every second."""
    pit = np.sort(np.random.default_rng(0).beta(2, 5, size=39))
    found = Recalibration.fitted(draws(pit))
    levels = dict(zip(np.round(found.levels, 3).tolist(), found.inner, strict=True))
    for k in range(1, 20):
        assert levels[round(0.05 * k, 2)] == pytest.approx(pit[2 * k - 1])
    assert found.offset == (0.0,) * len(found.levels)


def test_a_group_weighs_as_much_as_another():
    """Copies of a group's draws change nothing, up to where within the group's weight each stands."""
    generator = np.random.default_rng(1)
    pit = np.sort(generator.uniform(size=30))
    many = np.repeat([1, 1, 50, 1, 9] * 6, 1)
    crowded = Recalibration.fitted(draws(np.repeat(pit, many), np.repeat(np.arange(30), many)))
    plain = Recalibration.fitted(draws(pit))
    np.testing.assert_allclose(crowded.inner, plain.inner, atol=1 / 31)
    assert (crowded.groups, crowded.rows) == (30, int(many.sum()))


def gaussian(means, std):
    means = torch.as_tensor(means, dtype=torch.float64)[:, None]
    return GaussianEnsemble(means, torch.full_like(means, std))


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_intervals_have_their_nominal_share_in_new_groups(std):
    """Truth N(m, 1) and N(m, std^2) predicted, with an effect of the group: too narrow, and too wide."""
    generator = np.random.default_rng(int(10 * std))
    inside, before = [], []
    for _ in range(examples(150)):
        effect = generator.normal(size=(40, 1)) * 0.6
        mean = generator.normal(size=(40, 5)) * 3
        y = mean + effect + generator.normal(size=(40, 5)) * 0.8  # of variance 1 in all
        predicted = gaussian(mean.ravel(), std)
        groups = np.repeat(np.arange(40), 5)
        correct = Recalibration.fitted(drawn(predicted, torch.from_numpy(y.ravel()), np.zeros(200), groups))
        new = gaussian([0.0], std)
        low, high = correct(new).quantile(torch.tensor([0.1, 0.9], dtype=torch.float64))[0].tolist()
        truth = torch.distributions.Normal(0.0, 1.0)
        inside.append(float(truth.cdf(torch.tensor(high)) - truth.cdf(torch.tensor(low))))
        low, high = new.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64))[0].tolist()
        before.append(float(truth.cdf(torch.tensor(high)) - truth.cdf(torch.tensor(low))))
    assert abs(np.mean(before) - 0.8) > 0.15
    assert np.mean(inside) == pytest.approx(0.8, abs=0.01)


def test_beyond_the_outermost_levels_distances_decide():
    """Levels .3 to .7 say nothing of the tails; the corrected 5 % and 95 % quantiles are right."""
    generator = np.random.default_rng(3)
    levels = [0.3, 0.5, 0.7]
    truth = torch.distributions.Normal(0.0, 1.0)
    ends = truth.icdf(torch.tensor(levels, dtype=torch.float64))
    found = []
    for _ in range(100):
        mean = generator.normal(size=60) * 2
        y = torch.from_numpy(mean + generator.normal(size=60))
        predicted = Quantiles(torch.from_numpy(mean)[:, None] + ends, levels)
        correct = Recalibration.fitted(drawn(predicted, y, generator.uniform(size=60)))
        new = correct(Quantiles(ends[None], levels))
        at = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
        found.append(truth.cdf(new.quantile(at)[0]).numpy())
        assert bool((new.values.diff() >= 0).all())
    np.testing.assert_allclose(np.mean(found, 0), [0.05, 0.5, 0.95], atol=0.015)


def test_atoms_keep_their_places_and_get_the_shares_of_people():
    """Everybody is told 3 with .8, people say 1 to 5 alike: the corrected shares are even."""
    generator = np.random.default_rng(4)
    told = torch.tensor([[0.05, 0.05, 0.8, 0.05, 0.05]], dtype=torch.float64)
    atoms = torch.arange(1.0, 6.0, dtype=torch.float64)
    count = 4000
    predicted = Categorical(told.expand(count, -1), atoms)
    y = torch.from_numpy(generator.integers(1, 6, size=count).astype(float))
    correct = Recalibration.fitted(drawn(predicted, y, generator.uniform(size=count), discrete=True))
    new = correct(Categorical(told, atoms))
    assert new.atoms[0].tolist() == atoms.tolist()
    np.testing.assert_allclose(new.probs[0], np.full(5, 0.2), atol=0.03)


def test_what_needs_no_correction_hardly_gets_one():
    pit = (np.arange(200) + 0.5) / 200
    found = Recalibration.fitted(draws(pit))
    np.testing.assert_allclose(found.inner, found.levels, atol=0.01)
    before, after = gaussian([1.0], 2.0), found(gaussian([1.0], 2.0))
    assert float(after.wasserstein(before)) < 0.1


def test_few_groups_are_refused_with_their_number():
    with pytest.raises(ArgumentError, match="19 groups of ratings; needed: at least 20"):
        Recalibration.fitted(draws(np.linspace(0, 1, 190), np.repeat(np.arange(19), 10)))


# -- a whole model ---------------------------------------------------------------------------------

CONFIGS = {
    "quantile": {"l1": 1e-3, "baselines": False},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 0.1, "heads": 2, "steps": 30, "baselines": False},
    "categorical": {"l2": 0.003, "steps": 30, "baselines": False},
}


def rated(seed, noise, num=150, groups=50, attribute="help"):
    """Three raters each, 1 to 5 around 3 + x with this noise."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        x = generator.uniform(-1, 1)
        given = np.clip(np.round(3 + x + noise * generator.normal(size=3)), 1, 5)
        row = {"prompt": f"p{i}", "response": f"{x:.4f} 0 {seed} {i}", "attribute": attribute}
        row |= {"ratings": given.tolist(), "scale": [1, 5], "group": f"{seed} {i % groups}"}
        rows.append(row)
    return pl.load_ratings(rows)


def fitted(family="quantile", **options):
    """On raters who differ little; those it is calibrated on differ more."""
    options = {"ratings": rated(0, 0.4)} | options
    return pl.fit(family, backbone=FakeBackbone(), cache=None, config=CONFIGS.get(family), **options)


def coverage(model, ratings):
    return pl.evaluation.evaluate(model, ratings=ratings)["ratings"]["help"]["coverage"]["model"]["estimate"]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_calibrated_model_covers_what_it_says(family, tmp_path):
    model = fitted(family)
    calibrated, new = model.calibrate(rated(1, 1.2)), rated(2, 1.2, num=300, groups=100)
    assert coverage(model, new) < 0.8
    assert coverage(calibrated, new) == pytest.approx(0.9, abs=0.03)
    texts = [talk("0.9 0 a"), talk("-0.9 0 b")]
    found = calibrated.attribute_distributions(texts)["help"]
    assert found.mean()[0] > found.mean()[1]
    assert bool((found.std() > model.attribute_distributions(texts)["help"].std()).all())
    on_grid = calibrated.attribute_distributions(texts, on_grid=True)["help"]
    assert on_grid.atoms[0].tolist() == [1, 2, 3, 4, 5]
    torch.testing.assert_close(calibrated.score(texts), model.score(texts))
    same = calibrated.uncalibrated.attribute_distributions(texts)["help"]
    torch.testing.assert_close(same.mean(), model.attribute_distributions(texts)["help"].mean())
    calibrated.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    levels = torch.tensor([0.05, 0.3, 0.95])
    torch.testing.assert_close(
        again.attribute_distributions(texts)["help"].quantile(levels), found.quantile(levels)
    )
    assert "450 ratings in 50 groups" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_one_seed_one_calibration():
    model, ratings = fitted(), rated(1, 1.2)
    first, second, other = (model.calibrate(ratings, seed=s).calibration["help"] for s in (0, 0, 1))
    assert first == second
    assert first.inner != other.inner  # other draws of the randomised PIT


def test_what_cannot_be_calibrated_says_why():
    model = fitted()
    with pytest.raises(ArgumentError, match="help: 3 groups of ratings; needed: at least 20"):
        model.calibrate(rated(1, 1.2, num=3))
    with pytest.raises(ArgumentError, match="attributes: received wit; this quantile model rates help"):
        model.calibrate(rated(1, 1.2), attributes=["wit"])
    with pytest.raises(DataError, match="'wit' is rated in this data"):
        model.calibrate(rated(1, 1.2, attribute="wit"))
    point = fitted("regression")
    with pytest.raises(ArgumentError, match="one number per text for help"):
        point.calibrate(rated(1, 1.2))
    pairs = fitted("bradley_terry", ratings=None, pairs=pl.load_pairs(pairs_rows()))
    with pytest.raises(ArgumentError, match="fitted on preferences"):
        pairs.calibrate(rated(1, 1.2))


def test_an_attribute_without_ratings_is_left_out_by_name():
    both = concatenate_datasets([rated(0, 0.4), rated(0, 0.4, attribute="wit")])
    model = fitted(ratings=both)
    with pytest.raises(ArgumentError, match=r"no ratings of wit .* attributes=\['help'\]"):
        model.calibrate(rated(1, 1.2))
    assert list(model.calibrate(rated(1, 1.2), attributes=["help"]).calibration) == ["help"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("levels", [0.5, 0.1]),
        ("levels", []),
        ("inner", [2.0]),
        ("offset", ["far"]),
        ("groups", 0),
        ("before", [0.0, 1.0]),
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path, key, value):
    fitted().calibrate(rated(1, 1.2)).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["calibration"]["help"][key] = value
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ArtifactError, match="calibration"):
        pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)


def test_a_calibration_of_another_attribute_or_another_map_is_refused(tmp_path):
    fitted().calibrate(rated(1, 1.2)).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    renamed = config | {"calibration": {"wit": config["calibration"]["help"]}}
    file.write_text(json.dumps(renamed), encoding="utf-8")
    with pytest.raises(ArtifactError, match="calibration"):
        pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    config["calibration"]["help"]["offset"][0] -= 1
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ArtifactError, match="changed since the weights were saved"):
        pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
