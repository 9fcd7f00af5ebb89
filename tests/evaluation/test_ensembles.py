"""What an evaluation says of an ensemble: agreement of heads, and doubt against error, from known numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, votes_rows
from pluralign.evaluation import mean_interval
from pluralign.evaluation.ensembles import distribution_columns, margin_columns, summarise_ensemble

COUNT, HEADS = 40, 3


def distribution(seed: int = 0) -> pl.GaussianEnsemble:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(COUNT, HEADS, generator=generator, dtype=torch.float64)
    return pl.GaussianEnsemble(means, torch.rand(COUNT, HEADS, generator=generator, dtype=torch.float64))


def test_both_kinds_of_doubt_add_up_to_the_std_of_the_distribution():
    columns = distribution_columns(distribution())
    assert set(columns) == {"head_0", "head_1", "head_2", "within_std", "between_std"}
    total = (columns["within_std"].square() + columns["between_std"].square()).sqrt()
    torch.testing.assert_close(total, distribution().std())
    torch.testing.assert_close(columns["head_1"], distribution().means[:, 1])


def test_distributions_without_several_heads_have_no_columns():
    assert distribution_columns(pl.Point(torch.zeros(3))) == {}
    assert distribution_columns(pl.GaussianEnsemble(torch.zeros(3, 1), torch.ones(3, 1))) == {}
    assert summarise_ensemble({"attribute": ["a"], "model_mean": np.zeros(1)}) == {}


def test_the_summary_of_ratings_is_made_of_its_columns():
    ensemble, observed = distribution(), np.linspace(-1, 1, COUNT)
    columns = {f"model_{key}": value.numpy() for key, value in distribution_columns(ensemble).items()}
    columns |= {
        "attribute": ["a"] * 25 + ["b"] * 15,
        "model_mean": ensemble.mean().numpy(),
        "model_std": ensemble.std().numpy(),
        "observed_mean": observed,
        "group": [f"g{i // 2}" for i in range(COUNT)],
    }
    summary = summarise_ensemble(columns)
    assert list(summary) == ["a", "b"]
    error = np.abs(ensemble.mean().numpy() - observed)
    means = ensemble.means.numpy()
    for name, part in (("a", slice(0, 25)), ("b", slice(25, 40))):
        found = summary[name]
        pairs = [np.corrcoef(means[part, i], means[part, j])[0, 1] for i, j in ((0, 1), (0, 2), (1, 2))]
        assert found["correlation"] == pytest.approx(np.mean(pairs))
        between = means[part].std(1)
        assert found["disagreement"] == pytest.approx(between.mean() / means[part].mean(1).std())
        assert found["spearman_between_error"] == pytest.approx(spearmanr(between, error[part])[0])
        expected = spearmanr(ensemble.std().numpy()[part], error[part])[0]
        assert found["spearman_std_error"] == pytest.approx(expected)
        assert set(found["intervals"]) == set(found) - {"heads", "intervals"}
        interval = found["intervals"]["spearman_std_error"]
        assert interval["estimate"] == found["spearman_std_error"]
        assert interval["low"] < interval["estimate"] < interval["high"]
        assert interval["groups"] == len(set(columns["group"][part]))


def test_the_summary_of_pairs_counts_split_opinions():
    columns = {
        "margin_head_0": np.array([1.0, 1.0, -1.0, 0.5] * 2),
        "margin_head_1": np.array([2.0, -1.0, -2.0, 0.5] * 2),
        "model_outcome": np.array([1, -1, -1, 1] * 2),
        "group": list("abcdefgh"),
    }
    summary = summarise_ensemble(columns)
    assert summary["split"] == 0.25
    assert summary["heads"] == 2
    expected = spearmanr([0.5, 1.0, 0.5, 0.0], [0, 1, 1, 0])[0]
    assert summary["spearman_between_error"] == pytest.approx(expected)
    split = summary["intervals"]["split"]
    share = mean_interval([0, 1, 0, 0] * 2, list("abcdefgh"), bounds=(0, 1))
    assert (split["low"], split["high"]) == pytest.approx((share.low, share.high))
    assert split["low"] == 0  # a share is not negative
    one = summarise_ensemble({key: value[:1] for key, value in columns.items()})
    assert list(one.pop("intervals")) == ["split"]
    assert one == {"heads": 2, "split": 0.0, "spearman_between_error": None}


def test_margins_are_those_of_each_head():
    model = pl.fit(
        "gaussian_ensemble",
        pairs=pl.load_pairs(pairs_rows(40)),
        backbone=FakeBackbone(),
        cache=None,
        config={"loss": "bradley_terry", "l2": 0.1, "heads": 3, "steps": 50},
    )
    first, second = distribution(0), distribution(1)
    margins = margin_columns(model.head, first, second)
    np.testing.assert_allclose(margins["margin_head_2"], (first.means - second.means)[:, 2])
    assert margin_columns(model.baselines["bradley_terry"], first, second) == {}


def test_every_evaluation_of_an_ensemble_has_it_and_others_do_not(tmp_path):
    config = {"l2": 0.1, "std_l2": 1.0, "steps": 50}
    options = {"backbone": FakeBackbone(), "cache": None}
    ratings, votes = pl.load_ratings(ratings_rows(20)), pl.load_comparisons(votes_rows())
    model = pl.fit("gaussian_ensemble", ratings=ratings, config=config, **options)
    results = pl.evaluation.evaluate(model, ratings=ratings, votes=votes, risk="worst_case", out=tmp_path)
    assert set(results["ensemble"]) == {"ratings", "pairs_from_ratings", "votes"}
    assert results["ensemble"]["ratings"]["a0"]["heads"] == 5
    assert json.loads((tmp_path / "results.json").read_text())["ensemble"] == results["ensemble"]
    crossed = pl.evaluation.cross_fit(
        "gaussian_ensemble", ratings=ratings, config=config, num_folds=2, **options
    )
    assert -1 <= crossed["ensemble"]["ratings"]["a0"]["spearman_between_error"] <= 1
    plain = pl.fit("bradley_terry", votes=votes, config={"l2": 0.1}, **options)
    assert pl.evaluation.evaluate(plain, votes=votes)["ensemble"] == {}
