"""Spread distributions over categories: closed forms, a sample, and no advantage for continuous families."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, ratings_rows
from pluralign.evaluation import evaluate
from pluralign.evaluation.rows import rating_rows
from pluralign.evaluation.spread import spread_distribution
from pluralign.heads import Attribute, CategoricalHead, Categories, ColumnScaling, QuantileHead
from pluralign.heads.categorical import CategoryLogits

PROBS = [0.1, 0.0, 0.4, 0.3, 0.2]
VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)


def test_two_like_categories_make_one_uniform_distribution():
    distribution = spread_distribution(
        pl.Categorical(torch.tensor([[0.5, 0.5]]), torch.tensor([1.0, 2.0])), 1.0
    )
    levels = torch.tensor([0.1, 0.25, 0.5, 0.9])
    torch.testing.assert_close(distribution.quantile(levels), (0.5 + 2 * levels)[None], atol=1e-5, rtol=0)


def test_a_sample_of_rewards_and_noise_has_the_same_quantiles():
    probs = torch.tensor([PROBS, [0.0, 0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    distribution = pl.Categorical(probs, torch.tensor(VALUES, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    drawn = distribution.sample(200_000, generator=generator)
    drawn = drawn + torch.rand(drawn.shape, generator=generator, dtype=drawn.dtype) - 0.5
    levels = torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)
    expected = torch.quantile(drawn, levels, dim=1).T
    torch.testing.assert_close(
        spread_distribution(distribution, 1.0).quantile(levels), expected, atol=0.01, rtol=0
    )
    torch.testing.assert_close(
        spread_distribution(distribution, 1.0).mean(), distribution.mean(), atol=1e-3, rtol=0
    )


def test_the_same_distribution_as_categories_and_as_quantiles_has_the_same_losses():
    """What a constant model of either family predicts when it knows everything."""
    module = CategoryLogits(WIDTH, 5)
    module.out.bias.data.copy_(torch.tensor(PROBS).clamp_min(1e-9).log())
    attribute = (Attribute("a", 1.0, 5.0, 1.0),)
    scaling = ColumnScaling.empty(WIDTH)
    categories = Categories(tuple("12345"), VALUES, (0.0, 0.25, 0.5, 0.75, 1.0))
    levels = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    distribution = spread_distribution(
        pl.Categorical(torch.tensor([PROBS]).double(), torch.tensor(VALUES)), 1.0
    )
    heads = {
        "categories": CategoricalHead(scaling, [module.requires_grad_(False)], (categories,), attribute),
        "quantiles": QuantileHead(
            scaling,
            torch.zeros(1, 200, WIDTH),
            (distribution.quantile(levels).float() - 1) / 4,
            levels,
            attribute,
        ),
    }
    drawn = torch.multinomial(torch.tensor(PROBS), 600, replacement=True, generator=torch.Generator()) + 1.0
    truth = distribution.quantile(torch.tensor([0.25, 0.5, 0.75]))[0].tolist()
    rows = [
        {"prompt": "p", "response": f"{i} 0", "attribute": "a", "scale": [1, 5], "group": f"g{i}",
         "ratings": part.tolist(), "true_quantiles": truth}
        for i, part in enumerate(drawn.split(6))
    ]  # fmt: skip
    table = pl.load_ratings(rows)
    found = {
        name: evaluate(pl.RewardModel(FakeBackbone(), head), ratings=table)["ratings"]["a"]
        for name, head in heads.items()
    }
    for key in ("pinball", "crps"):
        losses = [found[name][key]["model"]["estimate"] for name in heads]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert found["categories"]["quantile_error"]["model"]["estimate"] == pytest.approx(0, abs=1e-4)


def test_rows_are_measured_alike_in_parts_of_any_size(monkeypatch):
    rows = ratings_rows(5)
    model = pl.fit(
        "categorical",
        ratings=pl.load_ratings(rows),
        backbone=FakeBackbone(),
        cache=None,
        config={"loss": "rps", "l2": 0.1, "steps": 5, "baselines": False},
    )
    whole = rating_rows(model, pl.load_ratings(rows))
    monkeypatch.setattr("pluralign.evaluation.rows._ROWS_AT_ONCE", 3)
    parts = rating_rows(model, pl.load_ratings(rows))
    for key in ("model_pinball", "model_crps"):
        assert len(set(whole[key].tolist())) > 3
        torch.testing.assert_close(torch.tensor(parts[key]), torch.tensor(whole[key]))
