"""Ensembles of every family: members on resamples of the groups, on one scale, stored and reported."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.distributions import Ensemble
from pluralign.errors import ArgumentError, ArtifactError, DataError
from pluralign.families import FAMILIES, HEADS
from pluralign.fitting.bootstrap import EmbeddedTexts, _resampled
from pluralign.heads import EnsembleHead
from pluralign.report.content import build_content
from pluralign.report.evaluations import read_evaluation
from pluralign.report.page import render_page

TEXTS = [talk(f"{x} {y} words") for x in (-1.5, 0.0, 2.0) for y in (0.3, 1.2)]
CONFIGS: dict[str, dict[str, Any]] = {
    "bradley_terry": {"l2": 0.01},
    "categorical": {"l2": 0.003, "steps": 20, "loss": "cross_entropy", "baselines": False},
    "quantile": {"l1": 0.003, "levels": [0.1, 0.3, 0.5, 0.7, 0.9], "baselines": False},
    "regression": {"l2": 0.1, "residual": "gaussian", "baselines": False},
}


def fit(family: str, members: int = 3, **changes: Any) -> pl.RewardModel:
    tables = {
        "ratings": pl.load_ratings(ratings_rows()),
        "pairs": pl.load_pairs(pairs_rows()),
    }
    kind = "pairs" if "pairs" in FAMILIES[family].data else "ratings"
    tables = {kind: tables[kind]}
    options = {"backbone": FakeBackbone(), "cache": None, "config": CONFIGS[family]} | changes
    return pl.fit(family, **tables, ensemble=members, **options)


@pytest.fixture(scope="module")
def models() -> dict[str, pl.RewardModel]:
    return {family: fit(family) for family in CONFIGS}


def test_these_are_all_families_without_heads_of_their_own():
    assert set(CONFIGS) == {name for name in FAMILIES if not HEADS[name].own_ensemble}


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family_predicts_members_that_differ(models, family):
    model = models[family]
    distribution = model.distribution(TEXTS)
    assert isinstance(distribution, Ensemble)
    assert (model.family, model.head.num_heads, len(distribution.members())) == (family, 3, 3)
    within, between = distribution.variances()
    torch.testing.assert_close(within + between, distribution.std().square())
    assert float(between.max()) > 0
    assert float(torch.corrcoef(distribution.heads().means.T).min()) > 0.7  # they agree on what matters
    inner = torch.stack([one.cvar(0.3) for one in distribution.members()], -1)
    torch.testing.assert_close(model.score(TEXTS, "worst_case(cvar:0.3)"), inner.amin(-1))
    torch.testing.assert_close(model.score(TEXTS, "mean"), distribution.heads().means.mean(-1))
    first = model.preference_probability(TEXTS, TEXTS[::-1])
    torch.testing.assert_close(
        first + model.preference_probability(TEXTS[::-1], TEXTS), torch.ones(len(TEXTS))
    )


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_members_stand_on_the_scale_of_the_fit_on_all_groups(models, family):
    whole = fit(family, 1)
    table = pl.load_pairs(pairs_rows()) if family == "bradley_terry" else pl.load_ratings(ratings_rows())
    sides = ("chosen", "rejected") if family == "bradley_terry" else ("response",)
    texts = [talk(row[side], row["prompt"][0]["content"]) for row in table for side in sides]
    means = models[family].distribution(texts).heads().means
    single = whole.distribution(texts).mean()
    torch.testing.assert_close(means.mean(0), single.mean().expand(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(means.std(0), single.std().expand(3), atol=1e-4, rtol=1e-4)
    assert models[family].head.reference == whole.head.reference


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_the_folder_brings_them_back(models, family, tmp_path):
    model = models[family]
    model.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    assert isinstance(again.head, EnsembleHead)
    for risk in ("uwo:1(mean)", "cvar:0.4"):
        assert torch.equal(again.score(TEXTS, risk), model.score(TEXTS, risk))
    assert again.fitted["ensemble"] == 3
    assert f"A `{family}` reward model" in (tmp_path / "model" / "README.md").read_text()


def test_damaged_folders_are_refused(models, tmp_path):
    models["quantile"].save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    kept = json.loads(file.read_text())

    def refused(change: Any, said: str) -> None:
        config = copy.deepcopy(kept)
        change(config["head"])
        file.write_text(json.dumps(config))
        with pytest.raises(ArtifactError, match=said):
            pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)

    refused(lambda head: head["ensemble"].pop(), "does not fit its config|changed since")
    refused(lambda head: head.update(ensemble=head["ensemble"][:1]), "head.ensemble")
    refused(lambda head: head["ensemble"][1].update(width=7), r"ensemble\[1\]")
    refused(lambda head: head["ensemble"][0].pop("levels"), "lacks 'levels'")
    refused(lambda head: head.update(more=1), "more")
    refused(lambda head: head.update(ensemble=4), "head.ensemble")


def test_copies_of_a_group_count_as_often_as_they_were_drawn():
    """A member equals a fit on a table in which the rows stand that often, as texts of their own."""
    ratings = pl.load_ratings(ratings_rows(num_prompts=4))
    groups = list(ratings["group"])
    counts = {"g0": 0, "g1": 1, "g2": 3, "g3": 2}
    drawn = _resampled(ratings, groups, counts)
    assert [list(drawn["group"]).count(name) for name in counts] == [0, 4, 12, 8]
    assert len({json.dumps([row["prompt"], row["response"]]) for row in drawn}) == 24
    assert drawn.features == ratings.features
    asked: list[Any] = []
    backbone = FakeBackbone()

    def embed(conversations: Any) -> Any:
        asked.extend(conversations)
        return backbone.embed(conversations)

    texts = EmbeddedTexts(embed)
    plain = texts([talk("1 2 x", "p"), talk("3 4 y", "p")])
    marked = [[{"role": "system", "content": "pluralign copy 2"}, *talk("3 4 y", "p")], talk("5 6 z", "p")]
    found = texts(marked)
    assert torch.equal(found.response[0], plain.response[1])
    assert len(asked) == len(texts.conversations) == 3
    assert texts.conversations[2] == talk("5 6 z", "p")


def test_the_bootstrap_has_the_spread_that_theory_gives():
    """The mean rating is one number per group here, whose standard error is known."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"prompt {i}",
            "response": f"{draw.normal():.4f} 0.5 answer {i}",
            "attribute": "a",
            "ratings": [float(draw.uniform(0, 1))],
            "scale": [0, 1],
            "group": f"g{i}",
        }
        for i in range(100)
    ]
    config = {"l2": 1e6, "residual": "point", "baselines": False}  # weights of 0: predicts the mean rating
    options = {"config": config, "backbone": FakeBackbone(), "cache": None}
    model = pl.fit("regression", ratings=pl.load_ratings(rows), ensemble=60, **options)
    means = model.attribute_distributions(TEXTS[:1])["a"].heads().means[0].double()
    values = np.array([row["ratings"][0] for row in rows])
    assert float(means.mean()) == pytest.approx(values.mean(), abs=0.02)
    assert float(means.std()) == pytest.approx(values.std() / 10, rel=0.25)


def test_the_same_seed_gives_the_same_members_and_every_text_is_embedded_once():
    backbone = FakeBackbone()
    one = fit("quantile", backbone=backbone)
    assert len(backbone.embedded) == len(set(backbone.embedded)) == 120
    assert torch.equal(one.score(TEXTS, "worst_case"), fit("quantile").score(TEXTS, "worst_case"))
    other = fit("quantile", config=CONFIGS["quantile"] | {"seed": 1})
    assert not torch.equal(one.score(TEXTS, "worst_case"), other.score(TEXTS, "worst_case"))


def test_gates_and_penalties_are_found_for_members_too():
    config = {"l1_grid": [0.003, 0.1], "levels": [0.2, 0.5, 0.8], "gate_steps": 20, "baselines": False}
    ratings = pl.load_ratings(ratings_rows(attributes=2))
    options = {"backbone": FakeBackbone(), "cache": None, "config": config}
    model = pl.fit("quantile", ratings=ratings, pairs=pl.load_pairs(pairs_rows()), ensemble=2, **options)
    assert model.head.has_gate
    torch.testing.assert_close(model.gate_weights(TEXTS).sum(1), torch.ones(len(TEXTS)))
    steered = model.score(TEXTS, weights={"a0": 1.0}, steer={"a0": "quantile:0.2"})
    assert (
        float(torch.corrcoef(torch.stack([steered, torch.tensor([-1.5] * 2 + [0.0] * 2 + [2.0] * 2)]))[0, 1])
        > 0.9
    )


def test_it_is_evaluated_reported_and_combined(models, tmp_path):
    tables = {
        "ratings": pl.load_ratings(ratings_rows(seed=1)),
        "votes": pl.load_comparisons(votes_rows(seed=1)),
    }
    results = pl.evaluation.evaluate(models["quantile"], **tables, out=tmp_path)
    found = results["ensemble"]["ratings"]["a0"]
    assert found["heads"] == 3
    assert 0 < found["between_std"] < found["within_std"]
    assert 0 < results["ensemble"]["votes"]["split"] < 1
    page = render_page(build_content([read_evaluation(tmp_path)]))
    assert "How people differ" in page
    assert "What the model does not know" in page
    reference = [talk(f"{x / 10} {y}") for x in range(-20, 21) for y in (0.3, 1.2)]
    both = pl.combine([models["quantile"], models["categorical"]], reference)
    scores = torch.stack([both.score(TEXTS), models["quantile"].score(TEXTS)])
    assert float(torch.corrcoef(scores)[0, 1]) > 0.9


def test_bad_numbers_and_data_are_refused():
    for bad in (0, -1, 2.5, True, "3", None):
        with pytest.raises(ArgumentError, match="ensemble: received"):
            fit("quantile", bad)
    with pytest.raises(ArgumentError, match="several heads by itself; set heads in its config"):
        pl.fit(
            "gaussian_ensemble", ratings=pl.load_ratings(ratings_rows()), ensemble=2, backbone=FakeBackbone()
        )
    with pytest.raises(ArgumentError, match="ensemble and tune: received both.*backbone=model.backbone"):
        fit("quantile", 2, tune="lora")
    single = pl.load_ratings([row | {"group": "g"} for row in ratings_rows()])
    options: dict[str, Any] = {"config": CONFIGS["quantile"], "backbone": FakeBackbone(), "cache": None}
    with pytest.raises(DataError, match="only one"):
        pl.fit("quantile", ratings=single, ensemble=2, **options)
    few = pl.load_ratings(ratings_rows(num_prompts=3, per_prompt=1, raters=1))
    with pytest.raises(DataError, match="fewer than the 5 levels"):
        pl.fit("quantile", ratings=few, ensemble=2, **options)


def test_ensembles_are_exported_by_their_mean(tmp_path):
    from pluralign.heads import BradleyTerryHead, ColumnScaling, Reference
    from tiny_backbones import tiny_decoder

    draw = torch.Generator().manual_seed(0)
    members = [BradleyTerryHead(ColumnScaling.empty(32), torch.randn(32, generator=draw)) for _ in range(3)]
    scale, shift = torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.0, 1.0, -1.0])
    head = EnsembleHead(members, scale, shift, Reference(0.1, 2.0))
    model = pl.RewardModel(tiny_decoder(tmp_path / "backbone"), head)
    model.export(tmp_path / "mean")
    with pytest.raises(ArgumentError, match="worst_case of this model is not linear"):
        model.export(tmp_path / "worst", "worst_case", reference=TEXTS)


def test_an_ensemble_fitted_on_votes_predicts_ties_as_its_members_do_on_average():
    votes = pl.load_comparisons(votes_rows(40))
    config = {"l2": 0.003, "steps": 30}
    options = {"backbone": FakeBackbone(), "cache": None, "config": config}
    model = pl.fit("categorical", votes=votes, ensemble=3, **options)
    assert model.head.predicts_ties
    a, b = [talk("1 0 x"), talk("-0.3 0 x")], [talk("-1 0 y"), talk("0.2 0 y")]
    found = model.vote_probabilities(a, b)
    members = [model.with_head(one).vote_probabilities(a, b) for one in model.head.members]
    torch.testing.assert_close(found, torch.stack(members).mean(0))
    assert float((members[0] - members[1]).abs().max()) > 1e-4
    torch.testing.assert_close(model.preference_probability(a, b), found[:, 0] + found[:, 1] / 2)
    told = pl.evaluation.evaluate(model, votes=votes)["votes"]
    assert told["log_loss"]["value"]["model"]["estimate"] > 0
    rated = fit("quantile")
    assert not rated.head.predicts_ties
    with pytest.raises(ArgumentError, match="knows? no|does not know"):
        rated.vote_probabilities(a, b)
    with pytest.raises(ArgumentError, match="of these 3 heads"):
        model.head.vote_probabilities(pl.Point(torch.zeros(2)), pl.Point(torch.zeros(2)))
