"""Distances from the people who rated: by hand, by pool, and by halves of lenient and strict people."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, ratings_rows
from pluralign.evaluation import evaluate
from pluralign.heads import Attribute, BradleyTerryHead, ColumnScaling, QuantileHead

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)


def certain(rating: float, attribute: str = "a") -> pl.RewardModel:
    """Everybody gives this rating, whatever the text."""
    share = (rating - 1) / 4
    head = QuantileHead(
        ColumnScaling.empty(WIDTH),
        torch.zeros(1, 5, WIDTH),
        torch.full((1, 5), share),
        LEVELS,
        (Attribute(attribute, 1.0, 5.0, 1.0),),
    )
    return pl.RewardModel(FakeBackbone(), head)


def rated(*rows):
    base = {"prompt": "p", "attribute": "a", "scale": [1, 5]}
    return pl.load_ratings(
        [base | {"id": str(i), "group": f"g{i}", "response": f"{i} 0 x"} | row for i, row in enumerate(rows)]
    )


def test_distances_by_hand():
    """All at 3 against 1, 5 and 3, 4: W1 2 and .5; energy E|X - Y| - E|Y - Y'|/2 over pairs of people."""
    found = evaluate(certain(3), ratings=rated({"ratings": [1, 5]}, {"ratings": [3, 4]}))["crowd"]["a"]["all"]
    assert found["rows"] == 2
    assert found["w1"]["model"]["estimate"] == pytest.approx((2 + 0.5) / 2)
    assert found["energy"]["model"]["estimate"] == pytest.approx(((2 - 2) + (0.5 - 0.5)) / 2)
    assert found["split_half"] == pytest.approx((4 + 1) / 2)
    assert 0 < found["floor"] < found["split_half"]


def test_pools_are_groups_of_raters():
    table = rated(
        {"ratings": [3, 3], "subset": "expert"},
        {"ratings": [3, 3], "subset": "expert"},
        {"ratings": [1, 1], "subset": "crowd"},
        {"ratings": [5, 5], "subset": "crowd"},
    )
    found = evaluate(certain(3), ratings=table)["crowd"]["a"]
    assert set(found) == {"all", "expert", "crowd"}
    assert found["expert"]["w1"]["model"]["estimate"] == pytest.approx(0, abs=1e-6)
    assert found["crowd"]["w1"]["model"]["estimate"] == pytest.approx(2)


def test_the_lenient_and_the_strict_half_are_found_on_other_groups():
    """Two people always give 4 and 5, two 1 and 2: a model at 4.5 is nearer to the first."""
    people = {"ratings": [5, 4, 2, 1], "rater_ids": ["ann", "bob", "cem", "dua"]}
    table = rated(*[people] * 24)
    found = evaluate(certain(4), ratings=table)["crowd"]["a"]
    assert found["more lenient half"]["w1"]["model"]["estimate"] == pytest.approx(0.5)
    assert found["stricter half"]["w1"]["model"]["estimate"] == pytest.approx(2.5)
    few = evaluate(certain(4), ratings=rated(*[people] * 4))["crowd"]["a"]
    assert set(few) == {"all"}  # two groups a half tell nothing of people


def test_a_good_model_is_nearer_than_the_constant_one():
    table = pl.load_ratings(ratings_rows(num_prompts=60, raters=6))
    config = {"l1": 0.01}
    model = pl.fit("quantile", ratings=table, backbone=FakeBackbone(), cache=None, config=config)
    found = next(iter(evaluate(model, ratings=table)["crowd"].values()))["all"]
    w1, energy = ({who: one["estimate"] for who, one in found[key].items()} for key in ("w1", "energy"))
    assert w1["model"] < 0.6 * w1["constant"]
    assert energy["model"] < 0.2 * energy["constant"]
    assert found["floor"] < found["split_half"] < w1["constant"]


def test_models_without_ratings_on_a_grid_have_no_crowd():
    table = rated({"ratings": [1, 5]}, {"ratings": [3, 4]})
    model = pl.RewardModel(FakeBackbone(), BradleyTerryHead(ColumnScaling.empty(WIDTH), torch.ones(WIDTH)))
    assert evaluate(model, ratings=table)["crowd"] == {}
    smooth = certain(3)
    smooth.head.attributes = (Attribute("a", 1.0, 5.0, None),)
    assert evaluate(smooth, ratings=table)["crowd"] == {}


def test_one_rater_has_a_distance_but_no_energy():
    found = evaluate(certain(3), ratings=rated({"ratings": [1]}, {"ratings": [2]}))["crowd"]["a"]["all"]
    assert found["w1"]["model"]["estimate"] == pytest.approx(1.5)
    assert found["energy"] == {}
    assert found["floor"] is found["split_half"] is None
    assert np.isfinite(found["w1"]["model"]["estimate"])
