"""Temperatures: against scipy's minimiser, on known answers, through a model, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import optimize

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.model.temperature import Temperature


def drawn(outcomes, true, num=4000, seed=0):
    """Probabilities that are off by a temperature, and votes by the true ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num, outcomes))
    right = torch.tensor(logits).softmax(1)
    votes = torch.from_numpy(np.stack([generator.multinomial(3, p) / 3 for p in right.numpy()]))
    return torch.tensor(logits * true).softmax(1), votes


@pytest.mark.parametrize("outcomes", [2, 3])
@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_it_finds_what_the_probabilities_are_off_by(outcomes, true):
    probs, votes = drawn(outcomes, true)
    found = Temperature.fitted("votes", probs, votes, groups=100, rows=len(probs))
    assert found.value == pytest.approx(true, rel=0.1)
    logs = probs.log().numpy()

    def loss(inverse):
        powered = inverse * logs
        normal = np.log(np.exp(powered).sum(1, keepdims=True))
        return -(votes.numpy() * (powered - normal)).sum()

    best = optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9})
    assert found.value == pytest.approx(1 / best.x, rel=1e-4)


def test_a_temperature_keeps_order_symmetry_and_sums():
    probs = torch.tensor([0.0, 0.1, 0.5, 0.93, 1.0], dtype=torch.float64)
    for value in (0.3, 1.0, 3.0):
        heat = Temperature("preferences", value, 30, 30)
        found = heat.of_preference(probs)
        assert bool((found.diff() > 0).all())
        assert float(found[2]) == pytest.approx(0.5)
        torch.testing.assert_close(found + heat.of_preference(1 - probs), torch.ones_like(probs))
        odds = (probs / (1 - probs)) ** (1 / value)
        torch.testing.assert_close(found[1:4], (odds / (1 + odds))[1:4])


def test_what_it_refuses():
    probs, votes = drawn(2, 1.0, num=30)
    with pytest.raises(ArgumentError, match="3 groups of comparisons; needed: at least 20"):
        Temperature.fitted("votes", probs, votes, groups=3, rows=30)
    with pytest.raises(ArgumentError, match="equally likely"):
        Temperature.fitted("votes", torch.full((30, 2), 0.5), votes, groups=30, rows=30)


@pytest.mark.parametrize("sure", [True, False])
def test_votes_for_the_impossible_do_not_break_it(sure):
    probs = torch.tensor([[1.0, 0.0]] * 40)
    votes = torch.tensor([[1.0, 0.0]] * (40 if sure else 30) + [[0.0, 1.0]] * (0 if sure else 10))
    found = Temperature.fitted("votes", probs, votes, groups=40, rows=40)
    if sure:
        assert float(found(probs)[0, 0]) > 1 - 1e-9
    else:
        assert float(found(probs)[0, 0]) == pytest.approx(0.75, abs=0.01)


# -- a whole model ---------------------------------------------------------------------------------

CONFIG = {"l2": 0.003, "steps": 60, "baselines": False}


def brier(model, votes):
    return pl.evaluation.evaluate(model, votes=votes)["pairs"]["votes"]["brier"]["estimate"]


def test_ratings_give_preferences_that_are_too_unsure_until_they_are_calibrated(tmp_path):
    model = pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows(num_prompts=40)),
        backbone=FakeBackbone(),
        cache=None,
        config={"l1": 0.003, "levels": (0.1, 0.3, 0.5, 0.7, 0.9), "baselines": False},
    )
    pairs = pl.load_pairs(pairs_rows(80, seed=1))
    better = model.calibrate(pairs=pairs)
    assert better.temperature.kind == "preferences"
    assert (better.temperature.rows, model.temperature) == (80, None)
    a, b = [talk("1 0 x"), talk("0.3 0 x")], [talk("-1 0 y"), talk("0.2 0 y")]
    before, after = model.preference_probability(a, b), better.preference_probability(a, b)
    assert bool(((after - 0.5) * (before - 0.5) > 0).all())
    torch.testing.assert_close(better.score(a), model.score(a))
    new = pl.load_pairs(pairs_rows(200, seed=2))
    losses = [
        pl.evaluation.evaluate(m, pairs=new)["pairs"]["pairs"]["brier"]["estimate"] for m in (model, better)
    ]
    assert losses[1] < losses[0]
    torch.testing.assert_close(better.uncalibrated.preference_probability(a, b), before)
    better.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    assert again.temperature == better.temperature
    torch.testing.assert_close(again.preference_probability(a, b), after)
    assert "80 comparisons in" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_three_way_votes_have_their_own_temperature(tmp_path):
    few = pl.load_comparisons(votes_rows(40))
    model = pl.fit("categorical", votes=few, backbone=FakeBackbone(), cache=None, config=CONFIG | {"l2": 0.1})
    new = pl.load_comparisons(votes_rows(400, seed=3))
    better = model.calibrate(votes=pl.load_comparisons(votes_rows(300, seed=2)))
    assert better.temperature.kind == "votes"
    losses = [
        pl.evaluation.evaluate(m, votes=new)["votes"]["log_loss"]["value"]["model"]["estimate"]
        for m in (model, better)
    ]
    assert losses[1] < losses[0]
    a, b = [talk("1 0 x")], [talk("-1 0 y")]
    votes = better.vote_probabilities(a, b)
    assert float(votes.sum()) == pytest.approx(1)
    torch.testing.assert_close(better.preference_probability(a, b), votes[:, 0] + votes[:, 1] / 2)
    assert brier(better, new) < brier(model, new)


def test_calibrations_of_ratings_and_preferences_stand_side_by_side():
    ratings = pl.load_ratings(ratings_rows(num_prompts=40))
    config = {"l1": 0.01, "levels": (0.1, 0.5, 0.9), "baselines": False}
    model = pl.fit("quantile", ratings=ratings, backbone=FakeBackbone(), cache=None, config=config)
    pairs = pl.load_pairs(pairs_rows(40, seed=1))
    both = model.calibrate(ratings, pairs=pairs)
    in_turn = model.calibrate(pairs=pairs).calibrate(ratings)
    assert (both.calibration, both.temperature) == (in_turn.calibration, in_turn.temperature)
    assert (both.uncalibrated.calibration, both.uncalibrated.temperature) == ({}, None)
    for arguments, match in (
        ({}, "no data to calibrate on"),
        ({"pairs": pairs, "votes": pl.load_comparisons(votes_rows())}, "pairs and votes"),
        ({"pairs": pairs, "attributes": ["help"]}, "attributes are calibrated on ratings"),
        ({"pairs": pl.load_pairs(pairs_rows(3))}, "3 groups of comparisons"),
    ):
        with pytest.raises(ArgumentError, match=match):
            model.calibrate(**arguments)


def test_a_damaged_temperature_is_refused(tmp_path):
    model = pl.fit(
        "bradley_terry",
        pairs=pl.load_pairs(pairs_rows()),
        backbone=FakeBackbone(),
        cache=None,
        config={"l2": 0.1},
    )
    model.calibrate(pairs=pl.load_pairs(pairs_rows(40, seed=1))).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for value, said in ((0.0, "temperature"), (config["temperature"]["value"] * 1.5, "changed since")):
        changed = config | {"temperature": config["temperature"] | {"value": value}}
        file.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(ArtifactError, match=said):
            pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
