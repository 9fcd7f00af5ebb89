"""Recipes: penalties, held-out groups, journals, and heads against the solvers and a known distribution."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.errors import ArgumentError, ConfigError, ConstantHeadWarning, DataError
from pluralign.fitting import BradleyTerryConfig, QuantileConfig
from pluralign.fitting.linear import bradley_terry, quantile
from pluralign.fitting.linear.baselines import weighted_quantiles
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.tables.pairs import pair_index, training_pairs
from pluralign.fitting.tables.targets import rating_targets
from pluralign.fitting.train.journal import Journal
from pluralign.fitting.train.search import best_penalty, first_smallest, fold_of

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def fit(family, *, backbone=None, **options):
    return pl.fit(family, backbone=backbone or FakeBackbone(), cache=None, **options)


# -- the search ------------------------------------------------------------------------------------


def test_the_search_goes_down_and_stops_after_two_worse():
    seen = []

    def loss(penalty):
        seen.append(penalty)
        return abs(penalty - 3)

    best, losses = best_penalty((1, 2, 3, 4, 5, 0.5), loss)
    assert best == 3
    assert seen == [5, 4, 3, 2, 1]
    assert losses == {5: 2, 4: 1, 3: 0, 2: 1, 1: 2}
    assert best_penalty((7,), loss)[0] == 7
    assert best_penalty((1, 2), lambda penalty: 0.0)[0] == 2  # of equals the largest
    noise = {3: 0.7, 2: 0.7 - 1e-16, 1: 0.7 - 1e-12}
    assert best_penalty(tuple(noise), noise.__getitem__)[0] == 3  # equal but for rounding
    assert first_smallest([1.0, 0.5 + 1e-12, 0.5, 0.7]) == 1
    assert first_smallest([-1.0, -1.0 - 1e-13, float("nan")]) == 0
    assert first_smallest([float("nan"), 2.0]) == 1
    assert first_smallest([float("nan")] * 2) == 0
    plateau = {5: 1.0, 4: 1.0, 3: 1.00005, 2: 0.5, 1: 0.6, 0.5: 0.7, 0.1: 0.4}
    best, losses = best_penalty(tuple(plateau), plateau.__getitem__)
    assert (best, 0.1 in losses) == (2, False)
    assert best_penalty(tuple(plateau), plateau.__getitem__, stop_early=False)[0] == 0.1


def test_folds_depend_on_names_and_seed_only():
    groups = [f"g{i}" for i in range(200)]
    fold = fold_of(groups, 0, what="l1")
    assert torch.equal(fold.flip(0), fold_of(groups[::-1], 0, what="l1"))
    assert not torch.equal(fold, fold_of(groups, 1, what="l1"))
    assert fold.bincount().tolist() == [40] * 5
    assert fold_of(["a", "b", "a"], 0, what="l1").sort().values.tolist() in ([0, 0, 1], [0, 1, 1])
    with pytest.raises(DataError, match="set l1 yourself"):
        fold_of(["a", "a"], 0, what="l1")


def test_journal_repeats_nothing_and_survives_a_cut_line(tmp_path):
    path = tmp_path / "search.jsonl"
    first = Journal(path)
    assert first.remember("a", lambda: 1.5) == 1.5
    assert first.remember("a", lambda: pytest.fail("computed again")) == 1.5
    with path.open("a") as file:
        file.write('{"key": "b", "val')  # the process ended here
    second = Journal(path)
    assert second.remember("a", lambda: pytest.fail("computed again")) == 1.5
    assert second.remember("b", lambda: 2.5) == 2.5
    assert second.remember("c", lambda: 3.5) == 3.5
    third = Journal(path)
    for key, value in {"a": 1.5, "b": 2.5, "c": 3.5}.items():
        assert third.remember(key, lambda: pytest.fail("lost")) == value
    assert Journal(None).remember("a", lambda: 4.0) == 4.0


def test_an_interrupted_search_continues(tmp_path, monkeypatch):
    ratings = pl.load_ratings(ratings_rows(12))
    options = {"ratings": ratings, "config": {"levels": LEVELS, "l1_grid": (0.1, 0.03, 0.01)}}
    real, calls = quantile.held_out_loss, []

    def seventh_stops(*args):
        calls.append(args[-1])
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(quantile, "held_out_loss", lambda *args: calls.append(args[-1]) or real(*args))
    whole = fit("quantile", **options)
    needed = len(calls)
    calls.clear()
    monkeypatch.setattr(quantile, "held_out_loss", seventh_stops)
    with pytest.raises(KeyboardInterrupt):
        fit("quantile", **options, journal=tmp_path / "j")
    calls.extend([0.0] * 7)  # so that it does not stop again
    before = len(calls)
    again = fit("quantile", **options, journal=tmp_path / "j")
    assert len(calls) - before == needed - 6  # six steps were finished and are not repeated
    assert torch.equal(again.head.weight, whole.head.weight)


# -- quantile --------------------------------------------------------------------------------------


def test_the_head_is_what_the_solver_gives():
    ratings = pl.load_ratings(ratings_rows(20, attributes=2))
    model = fit("quantile", ratings=ratings, config={"levels": LEVELS, "l1": 0.003, "tol": 1e-6})
    targets = rating_targets(ratings)
    response = FakeBackbone().embed(targets.conversations).response.double()
    z = (response - response.mean(0)) / response.std(0, unbiased=False)
    for i, rows in enumerate(targets.attributes):
        direct = pl.solvers.fit_quantiles(
            z[rows.item], rows.target, LEVELS, l1=0.003, sample_weight=rows.weight, tol=1e-6
        )
        torch.testing.assert_close(model.head.weight[i].double(), direct.coef.double(), atol=2e-3, rtol=0)
        torch.testing.assert_close(model.head.bias[i].double(), direct.intercept.double(), atol=2e-3, rtol=0)
    scores = model.score(targets.conversations).double()
    distributions = model.distribution(targets.conversations)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    marginal = distributions.std().double().square().mean() + scores.var(unbiased=False)
    assert float(marginal) == pytest.approx(1, abs=1e-3)


def test_a_linear_distribution_is_recovered():
    """R = 3 + x + (1 + y) U for y in (0, 1): its t-quantile is 3 + x + (1 + y) t, linear in (x, y)."""
    generator = np.random.default_rng(0)
    rows = []
    for i in range(500):
        x, y = generator.normal(), generator.uniform()
        values = 3 + x + (1 + y) * generator.uniform(size=4)
        rows.append(
            {
                "prompt": f"p{i}",
                "response": f"{x:.5f} {y:.5f} {i}",
                "attribute": "a",
                "ratings": values.tolist(),
                "scale": [-5, 15],
            }
        )
    model = fit("quantile", ratings=pl.load_ratings(rows), config={"levels": LEVELS, "l1": 1e-5})
    distribution = model.attribute_distributions([talk("0.5 0.2 new"), talk("-1 0.9 new")])["a"]
    levels = torch.tensor(LEVELS)
    expected = torch.stack([3.5 + 1.2 * levels, 2 + 1.9 * levels])
    assert float((distribution.quantile(levels) - expected).abs().max()) < 0.2
    assert bool((distribution.std()[1] > distribution.std()[0]).all())


def test_attributes_with_other_rows_are_fitted_on_their_own():
    rows = ratings_rows(10, attributes=3)
    config = {"levels": LEVELS, "l1": 0.01, "baselines": False, "dequantise": False}
    rows = [row for i, row in enumerate(rows) if row["attribute"] != "a2" or i % 2]
    model = fit("quantile", ratings=pl.load_ratings(rows), config=config)
    assert [a.name for a in model.head.attributes] == ["a0", "a1", "a2"]
    assert model.baselines == {}
    texts = rating_targets(pl.load_ratings(rows))
    response = FakeBackbone().embed(texts.conversations).response.double()
    z = (response - response.mean(0)) / response.std(0, unbiased=False)
    part = rating_targets(pl.load_ratings(rows), dequantise=False).attributes[2]
    direct = pl.solvers.fit_quantiles(z[part.item], part.target, LEVELS, l1=0.01, sample_weight=part.weight)
    torch.testing.assert_close(model.head.weight[2].double(), direct.coef, atol=5e-3, rtol=0)


def test_the_constant_baseline_holds_the_weighted_quantiles():
    ratings = pl.load_ratings(ratings_rows(20))
    model = fit("quantile", ratings=ratings, config={"levels": LEVELS, "l1": 0.01})
    rows = rating_targets(ratings).attributes[0]
    values = weighted_quantiles(rows.target, rows.weight, torch.tensor(LEVELS, dtype=torch.float64))
    expected = np.quantile(rows.target.numpy(), LEVELS, method="inverted_cdf")  # 5 raters each: equal weights
    np.testing.assert_allclose(values.numpy(), expected)
    distribution = model.with_head(model.baselines["constant"]).distribution([talk("0 1 x"), talk("9 1 y")])
    torch.testing.assert_close(distribution.mean()[0], distribution.mean()[1])


@pytest.mark.filterwarnings("ignore::pluralign.errors.ConstantHeadWarning")
def test_a_penalty_that_leaves_nothing_is_reported():
    ratings = pl.load_ratings(ratings_rows(10))
    with pytest.warns(ConstantHeadWarning, match="all weights are 0 for a0"):
        model = fit("quantile", ratings=ratings, config={"levels": LEVELS, "l1": 10.0})
    assert model.head.constant_attributes == ("a0",)


def test_votes_become_ratings_of_preference():
    model = fit("quantile", votes=pl.load_comparisons(votes_rows()), config={"levels": LEVELS, "l1": 0.003})
    assert [(a.name, a.low, a.high) for a in model.head.attributes] == [("preference", -1, 1)]
    assert set(model.baselines) == {"constant", "bradley_terry"}
    low, high = model.score([talk("-1 0 x"), talk("1 0 x")])
    assert low < high


def test_what_does_not_serve_the_family():
    with pytest.raises(DataError, match="pairs say which response is better"):
        fit("quantile", pairs=pl.load_pairs(pairs_rows()))
    with pytest.raises(DataError, match="fewer than the 5 levels"):
        fit(
            "quantile",
            ratings=pl.load_ratings(ratings_rows(1, 2, raters=2)),
            config={"levels": LEVELS, "l1": 0.1},
        )
    with pytest.raises(ArgumentError, match="did you mean 'quantile'"):
        fit("quantil", pairs=pl.load_pairs(pairs_rows()))
    with pytest.raises(ArgumentError, match="no data"):
        fit("quantile")


# -- Bradley-Terry ---------------------------------------------------------------------------------


def test_bradley_terry_is_logistic_regression_on_differences():
    pairs = pl.load_pairs(pairs_rows(80))
    model = fit("bradley_terry", pairs=pairs, config={"l2": 0.05})
    index = pair_index(pl.data.weighted_pairs(pairs))
    x = FakeBackbone().embed(index.conversations).response.double()
    z = (x - x.mean(0)) / x.std(0, unbiased=False)
    differences = (z[index.chosen] - z[index.rejected]).numpy()
    both, labels = np.vstack([differences, -differences]), np.repeat([1, 0], len(differences))
    # Its objective sums 2P losses + |w|^2 / (2C); ours is the mean over P pairs + (l2/2) |w|^2.
    peer = LogisticRegression(C=1 / (2 * len(differences) * 0.05), fit_intercept=False, tol=1e-10)
    coef = peer.fit(both, labels).coef_[0]
    np.testing.assert_allclose(model.head.weight.numpy(), coef, atol=1e-4)


def test_split_votes_weigh_both_orders():
    votes = [
        {"prompt": f"p{i}", "response_a": f"1 0 {i}", "response_b": f"-1 0 {i}", "votes": [1, 1, 1, -1]}
        for i in range(30)
    ]
    model = fit("bradley_terry", votes=pl.load_comparisons(votes), config={"l2": 1e-6})
    probability = model.preference_probability([talk("1 0 5")], [talk("-1 0 5")])
    assert 0.5 < float(probability) < 1
    index = pair_index(pl.data.weighted_pairs(pl.load_comparisons(votes)))
    assert len(index.chosen) == 60
    assert sorted(set(index.weight.tolist())) == [0.25, 0.75]


def test_ratings_become_pairs_and_ratings_that_cannot_are_refused():
    model = fit("bradley_terry", ratings=pl.load_ratings(ratings_rows(20)), config={"l2": 0.01})
    low, high = model.score([talk("-1 1 x"), talk("1 1 x")])
    assert low < high
    with pytest.raises(DataError, match="no pairs can be derived"):
        fit("bradley_terry", ratings=pl.load_ratings(ratings_rows(10, per_prompt=1)))


def test_pairs_come_before_votes_and_ratings():
    tables = {
        "pairs": pl.load_pairs(pairs_rows(7)),
        "votes": pl.load_comparisons(votes_rows()),
        "ratings": pl.load_ratings(ratings_rows()),
    }
    inputs = Inputs(**tables, embed=lambda c: None, journal=Journal(), report=print)
    assert len(training_pairs(inputs, 0.0, 500)) == 7


def test_the_chosen_penalty_is_that_of_the_smallest_held_out_loss(tmp_path):
    fit("bradley_terry", pairs=pl.load_pairs(pairs_rows(60)), journal=tmp_path / "j")
    entries = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    losses = {}
    for entry in entries:
        penalty = float(entry["key"].split("l2=")[1].split()[0])
        losses[penalty] = losses.get(penalty, 0.0) + entry["value"]
    assert all(high > low for high, low in pairwise(losses))
    model = fit("bradley_terry", pairs=pl.load_pairs(pairs_rows(60)))
    assert model.fitted["l2"] == min(losses, key=losses.get)


@pytest.mark.parametrize("finished", [1, 5, 8, 14])
def test_where_a_penalty_search_was_interrupted_does_not_matter(finished, tmp_path, monkeypatch):
    """The same bits: the steps that are left are computed as an uninterrupted search computes them."""
    options = {"pairs": pl.load_pairs(pairs_rows(60)), "config": {"l2_grid": (1.0, 0.1, 0.01)}}
    whole = fit("bradley_terry", **options, journal=tmp_path / "whole")
    steps = (tmp_path / "whole").read_text().splitlines()
    assert len(steps) == 15  # five folds, three penalties
    real, calls = bradley_terry.fit_bradley_terry, []

    def stops(*args, **settings):
        calls.append(settings["l2"])
        if len(calls) == finished + 1:
            raise KeyboardInterrupt
        return real(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(bradley_terry, "fit_bradley_terry", stops)
        with pytest.raises(KeyboardInterrupt):
            fit("bradley_terry", **options, journal=tmp_path / "cut")
    again = fit("bradley_terry", **options, journal=tmp_path / "cut")
    assert (tmp_path / "cut").read_text().splitlines() == steps
    assert again.fitted["l2"] == whole.fitted["l2"]
    assert torch.equal(again.head.weight, whole.head.weight)


# -- configs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (QuantileConfig, {"levels": (0.5, 0.1)}, "increase strictly"),
        (QuantileConfig, {"levels": (0.5, 0.5)}, "increase strictly"),
        (QuantileConfig, {"levels": (0.0, 0.5)}, "inside"),
        (QuantileConfig, {"levels": (1e-300, 0.5)}, "1e-09 away"),
        (QuantileConfig, {"levels": (0.5, 1 - 1e-12)}, "1e-09 away"),
        (QuantileConfig, {"levels": ()}, "levels"),
        (QuantileConfig, {"levels": (float("nan"),)}, "inside"),
        (QuantileConfig, {"l1": -1.0}, "at least 0"),
        (QuantileConfig, {"l1": float("nan")}, "finite"),
        (QuantileConfig, {"l1_grid": ()}, "l1_grid is empty"),
        (QuantileConfig, {"raters": "median"}, "raw, mean, majority"),
        (QuantileConfig, {"tol": 0.0}, "relative gap"),
        (BradleyTerryConfig, {"l2": 0.0}, "above 0"),
        (BradleyTerryConfig, {"l2_grid": ()}, "l2_grid is empty"),
        (BradleyTerryConfig, {"margin": -1.0}, "at least 0"),
        (BradleyTerryConfig, {"max_pairs_per_group": 0}, "at least 1"),
    ],
)
def test_illegal_values(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        kind(**values)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"l11": 1}, "did you mean 'l1'"),
        ({"levels": "abc"}, "wrong type"),
        (3, "a mapping"),
        (BradleyTerryConfig(), "QuantileConfig"),
    ],
)
def test_configs_of_the_wrong_kind(config, message):
    with pytest.raises(ConfigError, match=message):
        fit("quantile", ratings=pl.load_ratings(ratings_rows(3)), config=config)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (None, {}, "unknown family None"),
        ("quantile", {"ratings": "ratings.jsonl"}, "pass what load_ratings returns"),
        ("quantile", {"backbone": 3}, "backbone: received 3"),
    ],
)
def test_illegal_arguments(family, options, message):
    given = {"ratings": pl.load_ratings(ratings_rows(4))} | options
    with pytest.raises(ArgumentError, match=message):
        fit(family, **given)
    with pytest.raises(ArgumentError, match="cache: received 5"):
        pl.fit("quantile", ratings=pl.load_ratings(ratings_rows(4)), backbone=FakeBackbone(), cache=5)


def test_bradley_terry_stays_in_logits():
    model = fit("bradley_terry", pairs=pl.load_pairs(pairs_rows(20)))
    chosen, rejected = [talk("0.5 1"), talk("2 0")], [talk("0.1 0.3"), talk("1 1")]
    expected = torch.sigmoid(model.score(chosen) - model.score(rejected))
    torch.testing.assert_close(model.preference_probability(chosen, rejected), expected)
