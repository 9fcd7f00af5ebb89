"""Contrastive rewards: against a computation by hand, for several families and measures, and bad input."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk
from pluralign.errors import ArgumentError, RiskError
from pluralign.model import Contrastive

ASKED = [talk("1 1 mine", "p"), talk("0 1 mine", "q"), talk("-1 1 mine", "p")]
REFERENCES = [talk("0.2 1 r", "p"), talk("0.3 1 r", "q"), talk("-0.6 1 r", "p"), talk("2 0.5 r", "p")]


@pytest.fixture(scope="module")
def models():
    options = {"backbone": FakeBackbone(), "cache": None}
    ensemble = pl.fit(
        "gaussian_ensemble",
        ratings=pl.load_ratings(ratings_rows(12)),
        config={"l2": 0.1, "std_l2": 1.0, "steps": 100, "baselines": False},
        **options,
    )
    point = pl.fit("bradley_terry", pairs=pl.load_pairs(pairs_rows(40)), config={"l2": 0.1}, **options)
    return {"ensemble": ensemble, "point": point}


@pytest.mark.parametrize(
    ("name", "risk"),
    [("ensemble", "mean"), ("ensemble", "robust:0.4"), ("ensemble", "cvar:0.1"), ("point", "mean")],
)
def test_the_references_of_the_same_prompt_are_taken_off(models, name, risk):
    model = models[name]
    utility, reference = model.score(ASKED, risk), model.score(REFERENCES, risk)
    p, q = reference[[0, 2, 3]].mean(), reference[1]
    contrastive = Contrastive(model, REFERENCES)
    torch.testing.assert_close(contrastive.score(ASKED, risk), utility - torch.stack([p, q, p]))
    torch.testing.assert_close(contrastive.baseline(ASKED, risk), torch.stack([p, q, p]))


def test_references_average_to_nothing_and_are_scored_once(models):
    backbone = models["ensemble"].backbone
    contrastive = Contrastive(models["ensemble"], REFERENCES)
    scores = contrastive.score(REFERENCES)
    assert float(scores[[0, 2, 3]].sum()) == pytest.approx(0, abs=1e-5)
    assert float(scores[1]) == pytest.approx(0, abs=1e-6)
    before = len(backbone.embedded)
    contrastive.score(ASKED)
    assert len(backbone.embedded) - before == len(ASKED)


def test_what_is_the_same_for_all_responses_of_a_prompt_drops_out(models):
    model = models["point"]

    class Lenient:
        """Adds 7 wherever the prompt is p."""

        def score(self, conversations, risk):
            extra = torch.tensor([7.0 if c[0]["content"] == "p" else 0.0 for c in conversations])
            return model.score(conversations, risk) + extra

    torch.testing.assert_close(
        Contrastive(Lenient(), REFERENCES).score(ASKED), Contrastive(model, REFERENCES).score(ASKED)
    )


def test_any_iterable_of_conversations_will_do(models):
    contrastive = Contrastive(models["point"], iter(REFERENCES))
    torch.testing.assert_close(contrastive.score(iter(ASKED)), contrastive.score(ASKED))


def test_bad_input_is_named(models):
    contrastive = Contrastive(models["point"], REFERENCES)
    with pytest.raises(ArgumentError, match=r"1 of 2 conversations.*number 1: 'unknown'"):
        contrastive.score([ASKED[0], talk("1 1 x", "unknown")])
    with pytest.raises(ArgumentError, match="no reference responses"):
        Contrastive(models["point"], [])
    with pytest.raises(ArgumentError, match="list of messages"):
        contrastive.score([["hello", "there"]])
    for conversations in ("hello", ASKED[0][0]):
        with pytest.raises(ArgumentError, match="needed: a list of conversations"):
            contrastive.score(conversations)
        with pytest.raises(ArgumentError, match="needed: a list of conversations"):
            Contrastive(models["point"], conversations)
    with pytest.raises(ArgumentError, match="model is str"):
        Contrastive("model", REFERENCES)
    with pytest.raises(RiskError, match="worst_case"):
        contrastive.score(ASKED, "worst_case")
