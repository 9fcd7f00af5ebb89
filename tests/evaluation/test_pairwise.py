"""Pairwise calibration: shares of raters by hand, a model that is right, and models that are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, votes_rows
from pluralign.data.table_columns import ragged
from pluralign.evaluation import evaluate
from pluralign.evaluation.pairwise import rater_pair_rows, summarise_pairwise
from pluralign.evaluation.texts import Texts
from pluralign.evaluation.votes import summarise_votes
from pluralign.heads import BradleyTerryHead, ColumnScaling


def scores(slope: float = 1.0) -> pl.RewardModel:
    coef = torch.zeros(WIDTH)
    coef[0] = slope
    return pl.RewardModel(FakeBackbone(), BradleyTerryHead(ColumnScaling.empty(WIDTH), coef))


def rated(*rows):
    base = {"prompt": "p", "attribute": "a", "scale": [1, 5], "group": "g"}
    return pl.load_ratings([base | {"id": str(i)} | row for i, row in enumerate(rows)])


def shares(table, model=None, **options):
    model = model or scores()
    texts = Texts.read(model, table, "response")
    return rater_pair_rows(model, table, texts, ragged(table, "ratings"), **options)


def share_for(columns, first_id: str) -> float:
    (pair,) = columns["id"]
    share = columns["vote_share"][0]
    return share if pair.split("|")[0] == first_id else 1 - share


def test_people_who_rated_both_are_the_voters():
    """Of b, c, d, who rated both: 4 > 2, 3 = 3, 1 < 5; a and e rated one."""
    table = rated(
        {"response": "1 0 x", "ratings": [5, 4, 3, 1], "rater_ids": ["a", "b", "c", "d"]},
        {"response": "0 0 y", "ratings": [5, 3, 2, 1], "rater_ids": ["d", "c", "b", "e"]},
    )
    assert share_for(shares(table), "0") == pytest.approx(1.5 / 3)


def test_raters_without_names_are_compared_as_independent_draws():
    table = rated({"response": "1 0 x", "ratings": [5, 3]}, {"response": "0 0 y", "ratings": [3, 4, 1]})
    assert share_for(shares(table), "0") == pytest.approx((3 + 0.5 + 1) / 6)


def test_pairs_without_a_common_rater_and_of_equal_texts_are_none():
    strangers = rated(
        {"response": "1 0 x", "ratings": [5], "rater_ids": ["a"]},
        {"response": "0 0 y", "ratings": [3], "rater_ids": ["b"]},
    )
    assert not len(shares(strangers).get("vote_share", ()))
    same = rated({"response": "1 0 x", "ratings": [5]}, {"response": "1 0 x", "ratings": [3]})
    assert shares(same) == {}


def test_pairs_that_are_rated_equal_are_among_them():
    table = rated({"response": "1 0 x", "ratings": [3]}, {"response": "0 0 y", "ratings": [3]})
    assert shares(table)["vote_share"].tolist() == [0.5]


def test_the_model_that_made_the_votes_is_calibrated_and_steeper_ones_are_not():
    """votes_rows: P(a) = sigmoid(2 (x_a - x_b)), a tenth of the votes are ties."""
    table = pl.load_comparisons(votes_rows(600, raters=5))
    errors = {}
    for slope in (0.0, 2.0, 20.0):
        found = evaluate(scores(slope), votes=table)["pairwise"]["votes"]
        errors[slope] = found["by"]["model"]["error"]
        assert found["rows"] == 600
    assert errors[2.0] < 0.06
    assert errors[20.0] > 3 * errors[2.0]


def test_every_baseline_that_tells_texts_apart_has_its_own_curve():
    model = scores(2.0)
    model.baselines["bradley_terry"] = scores(-2.0).head
    found = evaluate(model, votes=pl.load_comparisons(votes_rows(200)))["pairwise"]["votes"]
    assert set(found["by"]) == {"model", "bradley_terry"}
    briers = {name: part["brier"]["estimate"] for name, part in found["by"].items()}
    assert briers["model"] < found["of_half"] < briers["bradley_terry"]


def test_the_summary_by_hand():
    columns = {
        "group": ["g", "h"],
        "vote_share": np.array([1.0, 0.25]),
        "probability": np.array([0.75, 0.75]),
    }
    found = summarise_pairwise(columns)
    assert found["by"]["model"]["brier"]["estimate"] == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert found["of_half"] == pytest.approx((0.5**2 + 0.25**2) / 2)
    assert sum(found["by"]["model"]["curve"]["count"]) == 2
    assert summarise_pairwise({"group": []}) == {}


def test_intervals_of_brier_scores_hold_only_scores_that_there_can_be():
    """One of six groups is far off: a symmetric interval would begin below 0, or end above the most."""
    share, certain = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), np.full(6, 0.99)
    for observed, given in ((share, certain), (1 - share, certain)):
        columns = {"group": list("abcdef"), "vote_share": observed, "probability": given}
        value = summarise_pairwise(columns)["by"]["model"]["brier"]
        assert 0.0 <= value["low"] < value["estimate"] < value["high"] <= 1.0
        both = {"observed": np.stack([observed, 0 * given, 1 - observed], 1)}
        both |= {"model": np.stack([given, 0 * given, 1 - given], 1)}
        named = {f"{n}_{side}": v[:, i] for n, v in both.items() for i, side in enumerate(("a", "tie", "b"))}
        value = summarise_votes({"group": list("abcdef"), **named})["brier"]["value"]["model"]
        assert 0.0 <= value["low"] < value["estimate"] < value["high"] <= 2.0
