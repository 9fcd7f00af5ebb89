"""`evaluate` and `cross_fit` on models whose numbers can be derived by hand, and on every kind of data."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.errors import ArgumentError, DataError
from pluralign.evaluation import cross_fit, evaluate
from pluralign.evaluation.rows import pair_rows, rating_rows
from pluralign.heads import (
    Attribute,
    BradleyTerryHead,
    CategoricalHead,
    Categories,
    ColumnScaling,
    QuantileHead,
)
from pluralign.heads.categorical import CategoryLogits

FIVE = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)


def uniform_model(attributes=("a",), slope=0.0, **baselines) -> pl.RewardModel:
    """Quantiles of U(1 + 4 slope x, 5 + 4 slope x) on the scale 1 to 5, for responses that begin with x."""
    count = len(attributes)
    weight = torch.zeros(count, 5, WIDTH)
    weight[:, :, 0] = slope
    head = QuantileHead(
        ColumnScaling.empty(WIDTH),
        weight,
        FIVE.float().expand(count, 5).clone(),
        FIVE,
        tuple(Attribute(name, 1.0, 5.0) for name in attributes),
    )
    return pl.RewardModel(FakeBackbone(), head, baselines=baselines)


def linear_model(weight: float = 1.0) -> pl.RewardModel:
    """A Bradley-Terry score that is `weight` times the first number of the response."""
    coef = torch.zeros(WIDTH)
    coef[0] = weight
    return pl.RewardModel(FakeBackbone(), BradleyTerryHead(ColumnScaling.empty(WIDTH), coef))


def ratings(*rows):
    base = {"prompt": "p", "attribute": "a", "scale": [1, 5]}
    return pl.load_ratings([base | {"group": f"g{i}", "id": f"{i}"} | row for i, row in enumerate(rows)])


def pairs(*sides):
    return pl.load_pairs(
        [{"prompt": f"p{i}", "chosen": c, "rejected": r, "group": f"g{i}"} for i, (c, r) in enumerate(sides)]
    )


def finite_json(results) -> None:
    json.dumps(results, allow_nan=False)


# -- numbers by hand -------------------------------------------------------------------------------


def test_pinball_of_a_known_distribution():
    """Mean over the 19 levels of the pinball loss of 1 + 4 q(t) against 3 and 5; q linear, flat outside."""
    columns = rating_rows(
        uniform_model(),
        ratings({"response": "0 0 x", "ratings": [3.0]}, {"response": "1 0 y", "ratings": [5.0, 5.0]}),
    )
    levels = np.arange(1, 20) / 20
    distribution = pl.Quantiles((1 + 4 * FIVE)[None], FIVE)
    predicted = distribution.quantile(torch.tensor(levels))[0].numpy()
    for row, rated in enumerate((3.0, 5.0)):
        expected = np.mean(np.maximum(levels * (rated - predicted), (levels - 1) * (rated - predicted)))
        assert columns["model_pinball"][row] == pytest.approx(expected, rel=1e-5)
    assert columns["model_crossing"].tolist() == [0, 0]
    assert columns["observed_mean"].tolist() == [3, 5]
    assert columns["model_mean"][0] == pytest.approx(3, abs=1e-5)


def test_losses_on_the_grid_round_predictions_and_leave_ratings_as_they_are():
    """A model whose quantiles leave the scale: its cells by its distribution function, losses as sums."""
    distribution = pl.Quantiles(
        (1 + 4 * FIVE)[None] - 1.9, FIVE
    )  # of the response whose first number is -1.9 / 4
    table = ratings(
        {"response": "-0.475 0 x", "ratings": [1.0, 2.0]}, {"response": "0 0 y", "ratings": [3.5]}
    )
    model = uniform_model(slope=1.0)
    model.head.attributes = (Attribute("a", 1.0, 5.0, 0.5),)
    columns = rating_rows(model, table)
    grid = torch.arange(1, 5.25, 0.5, dtype=torch.float64)
    below = distribution.cdf((grid[:-1] + 0.25)[None])[0]
    probs = torch.cat([below.new_zeros(1), below, below.new_ones(1)]).diff().numpy()
    levels = np.arange(1, 20) / 20
    predicted = grid.numpy()[np.searchsorted(probs.cumsum(), levels)]
    expected = np.mean(
        [np.maximum(levels * (r - predicted), (levels - 1) * (r - predicted)).mean() for r in (1.0, 2.0)]
    )
    assert columns["model_pinball_on_grid"][0] == pytest.approx(expected, rel=1e-5)
    apart = probs @ (grid[:, None] - grid[None]).abs().numpy() @ probs / 2
    crps = np.mean([probs @ np.abs(grid.numpy() - r) - apart for r in (1.0, 2.0)])
    assert columns["model_crps_on_grid"][0] == pytest.approx(crps, rel=1e-5)
    assert columns["model_pinball"][0] > expected  # it pays for what lies below the scale
    part = evaluate(model, ratings=table)["ratings"]["a"]
    assert part["pinball_on_grid"]["model"]["estimate"] == pytest.approx(
        columns["model_pinball_on_grid"].mean()
    )


def test_losses_on_the_grid_are_of_attributes_on_one_and_over_all_only_where_all_are():
    def both(step):
        model = uniform_model(attributes=("a", "b"))
        model.head.attributes = (Attribute("a", 1.0, 5.0, 1.0), Attribute("b", 1.0, 5.0, step))
        table = ratings(
            *({"response": f"{i} 0 x", "ratings": [i + 1], "attribute": n} for i in range(4) for n in "ab")
        )
        return evaluate(model, ratings=table)["ratings"]

    some, every = both(None), both(1.0)
    assert "pinball_on_grid" in some["a"]
    assert "pinball_on_grid" not in some["b"] | some["all"]
    of_all = every["all"]["crps_on_grid"]["model"]["estimate"]
    parts = [every[name]["crps_on_grid"]["model"]["estimate"] for name in "ab"]
    assert of_all == pytest.approx(np.mean(parts) / 4)  # as shares of the scale


def test_quantile_error_against_the_truth():
    truth = [1 + 4 * t + 0.5 for t in (0.25, 0.5, 0.75)]
    columns = rating_rows(
        uniform_model(), ratings({"response": "0 0 x", "ratings": [3.1], "true_quantiles": truth})
    )
    distribution = pl.Quantiles((1 + 4 * FIVE)[None], FIVE)
    expected = (
        distribution.quantile(torch.tensor([0.25, 0.5, 0.75]).double()) - torch.tensor(truth).double()
    ).abs()
    assert columns["model_quantile_error"][0] == pytest.approx(float(expected.mean()), rel=1e-5)
    some = ratings(
        {"response": "0 0 x", "ratings": [3.1], "true_quantiles": truth},
        {"response": "0 0 y", "ratings": [2]},
    )
    assert "model_quantile_error" not in rating_rows(uniform_model(), some)


@pytest.mark.parametrize("edges", [None, (0.0, 1.1, 2.0, 7.0, 10.0)], ids=["grid", "bins"])
def test_a_crowd_that_votes_as_predicted_is_covered_as_it_should_be(edges):
    """Ratings drawn from the predicted categories, which fit without the spreading of ratings."""
    values = (0.1, 1.3, 5.0, 9.0) if edges else (0.1, 1.1, 2.1, 3.1)
    probs = [0.5, 0.3, 0.14, 0.06]
    module = CategoryLogits(WIDTH, 4)
    module.out.bias.data.copy_(torch.tensor(probs).log())
    head = CategoricalHead(
        ColumnScaling.empty(WIDTH),
        [module.requires_grad_(False)],
        (Categories(tuple("abcd"), values, (0.0, 0.1, 0.5, 1.0), edges),),
        (Attribute("a", 0.1, 3.1, 1.0) if edges is None else Attribute("a", 0.0, 10.0),),
    )
    generator = np.random.default_rng(0)
    drawn = generator.choice(4, size=(300, 20), p=probs)
    rated = np.asarray(values)[drawn]
    if edges:  # anywhere in the bin, its ends too
        low, high = np.asarray(edges)[drawn], np.asarray(edges)[drawn + 1]
        rated = low + (high - low) * generator.choice([0.0, 0.3, 0.999], size=low.shape)
    table = ratings(
        *(
            {
                "response": f"{i} 0",
                "ratings": row.tolist(),
                "scale": [head.attributes[0].low, head.attributes[0].high],
            }
            for i, row in enumerate(rated)
        )
    )
    part = evaluate(pl.RewardModel(FakeBackbone(), head), ratings=table)["ratings"]["a"]
    assert part["coverage"]["model"]["estimate"] == pytest.approx(0.9, abs=0.015)
    assert max(abs(share - 0.1) for share in part["pit"]["share"]) < 0.015
    below = part["levels"]
    assert max(abs(b - t) for b, t in zip(below["below"], below["levels"], strict=True)) < 0.02
    assert part["closed_coverage"]["model"]["estimate"] == 1.0  # from the first category to the fourth


def test_pairs_wins_ties_and_length():
    table = pairs(("1 0 long long", "0 0 x"), ("0 0 x", "1 0 y"), ("1 0 x", "1 0 longer"), ("2 0 x", "1 0 y"))
    results = evaluate(linear_model(), pairs=table)["pairs"]["pairs"]
    assert results["accuracy"]["model"]["estimate"] == 0.5
    assert results["ties"] == {"model": 1, "length": 2}
    assert results["accuracy"]["length"]["estimate"] == 0.25
    assert results["difference"]["length"]["estimate"] == 0.25
    assert (results["rows"], results["groups"]) == (4, 4)
    probability = pair_rows(linear_model(), table)["probability"]
    expected = 1 / (1 + np.exp(-np.array([1.0, -1.0, 0.0, 1.0])))
    np.testing.assert_allclose(probability, expected, rtol=1e-5)


def test_ties_of_the_crowd_are_counted_apart():
    votes = pl.load_comparisons(
        [
            {"prompt": f"p{i}", "response_a": "1 0 x", "response_b": "0 0 y", "votes": v, "group": f"g{i}"}
            for i, v in enumerate(([1, 1, -1], [0], [1, -1], [-1, -1]))
        ]
    )
    results = evaluate(linear_model(), votes=votes)["pairs"]["votes"]
    assert (results["rows"], results["tied_in_data"]) == (2, 2)
    assert results["accuracy"]["model"]["estimate"] == 0.5


def voted(*rows):
    return pl.load_comparisons(
        [
            {"prompt": f"p{i}", "response_a": a, "response_b": b, "votes": v, "group": f"g{i}"}
            for i, (a, b, v) in enumerate(rows)
        ]
    )


def test_the_probability_is_compared_with_the_shares_of_votes(tmp_path):
    """P(a over b) is sigmoid(x_a - x_b); a tie is half a vote, and a tied comparison counts like others."""
    drawn = ([1, 1, -1], [-1, -1, 0, -1], [0], [1, -1])
    table = voted(*((f"{i} 0 x", "0.5 0 yy", votes) for i, votes in enumerate(drawn)))
    part = evaluate(linear_model(), votes=table, out=tmp_path)["pairs"]["votes"]
    share_of_a = np.array([2 / 3, 1 / 8, 1 / 2, 1 / 2])
    probability = 1 / (1 + np.exp(-(np.arange(4) - 0.5)))
    assert part["brier"]["estimate"] == pytest.approx(np.square(probability - share_of_a).mean())
    assert part["brier_of_half"] == pytest.approx(np.square(0.5 - share_of_a).mean())
    assert sum(part["reliability"]["count"]) == 4
    assert (part["rows"], part["tied_in_data"], part["accuracy"]["model"]["estimate"]) == (2, 2, 0.0)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [row["vote_share"] for row in rows] == pytest.approx([2 / 3, 7 / 8, 1 / 2, 1 / 2])
    assert [row["id"][-2:] for row in rows] == [":a", ":b", ":a", ":a"]


def test_a_model_that_knows_the_shares_is_calibrated():
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, size=600)
    votes = [np.where(generator.uniform(size=5) < 1 / (1 + np.exp(-v)), 1, -1).tolist() for v in x]
    table = voted(
        *((f"{v:.4f} 0 a{i}", f"0 0 b{i}", of) for i, (v, of) in enumerate(zip(x, votes, strict=True)))
    )
    part = evaluate(linear_model(), votes=table)["pairs"]["votes"]
    # The error of a mean of 60 shares of 5 votes is about .02. By majorities it was .13: they are surer.
    assert part["expected_calibration_error"] < 0.04
    shares = zip(part["reliability"]["predicted"], part["reliability"]["observed"], strict=True)
    assert max(abs(p - o) for p, o in shares if p is not None) < 0.1


def test_a_rule_that_hardly_decides_is_named():
    rows = [(f"{i} 0 xxx", f"{-i} 0 x", [1]) for i in range(1, 3)]
    same = [(f"{i / 9:.2f} 0 x", f"{(i + 1) / 9:.2f} 0 x", [-1]) for i in range(1, 20)]
    part = evaluate(linear_model(), votes=voted(*rows, *same[:8]))["pairs"]["votes"]
    assert part["tied_rules"] == []
    part = evaluate(linear_model(), votes=voted(rows[0], *same))["pairs"]["votes"]
    assert (part["rows"], part["tied_rules"]) == (20, ["length"])
    table = ratings(
        *({"response": f"{i} 0 x", "ratings": [1 + i % 5], "group": "g"} for i in range(9)),
    )
    found = evaluate(uniform_model(slope=0.01), ratings=table)["ratings"]["a"]["within_prompt"]
    assert "length" not in found
    assert "difference" not in found


def test_the_digest_of_the_rows_is_theirs_alone():
    """Equal for the same rows in another order, under other ids and in folds; not for other ratings."""
    rows = ratings_rows(12)
    table = pl.load_ratings(rows)
    digest = evaluate(uniform_model(("a0",)), ratings=table)["row_digests"]["ratings"]
    turned = pl.load_ratings([row | {"id": f"x{i}"} for i, row in enumerate(rows[::-1])])
    assert evaluate(uniform_model(("a0",), slope=0.1), ratings=turned)["row_digests"]["ratings"] == digest
    options = {"num_folds": 3, "backbone": FakeBackbone(), "config": {"l1": 0.01}, "cache": None}
    assert cross_fit("quantile", ratings=table, **options)["row_digests"] == {"ratings": digest}
    for change in ({"ratings": [5]}, {"response": "1 0 other"}):
        other = pl.load_ratings([rows[0] | change, *rows[1:]])
        assert evaluate(uniform_model(("a0",)), ratings=other)["row_digests"]["ratings"] != digest
    twice = evaluate(
        linear_model(), pairs=pl.load_pairs(pairs_rows(9)), votes=pl.load_comparisons(votes_rows(9))
    )
    assert list(twice["row_digests"]) == ["pairs", "votes"]


def test_the_baseline_heads_stand_beside_the_model():
    model = uniform_model(slope=0.2, constant=uniform_model().head, bradley_terry=linear_model(-1.0).head)
    table = ratings(
        *(
            {"response": f"{x} 0 t{i}", "ratings": [3 + 0.8 * x], "group": f"g{i % 4}"}
            for i, x in enumerate(np.linspace(-2, 2, 12))
        )
    )
    results = evaluate(model, ratings=table)
    loss = results["ratings"]["a"]["pinball"]
    difference = loss["model"]["estimate"] - loss["constant"]["estimate"]
    assert loss["difference"]["estimate"] == pytest.approx(difference)
    assert difference < 0
    assert results["ratings"]["a"]["spearman_mean"] == pytest.approx(1)
    derived = results["pairs"]["pairs_from_ratings"]["accuracy"]
    assert (derived["model"]["estimate"], derived["bradley_terry"]["estimate"]) == (1.0, 0.0)
    assert "constant" not in derived


def test_pairs_from_ratings_are_evaluated_by_attribute():
    """a is rated like x, b against it, and the model predicts x for both: right on a, wrong on b."""
    table = pl.load_ratings(
        [
            {"prompt": "p", "response": f"{x} 0 t{i}", "attribute": name, "ratings": [3 + sign * x],
             "scale": [1, 5], "group": f"g{i // 2}", "id": f"{i}"}
            for i, x in enumerate((0.0, 1.0, 0.2, 0.7))
            for name, sign in (("a", 1), ("b", -1))
        ]
    )  # fmt: skip
    model = uniform_model(("a", "b"), slope=0.2)
    part = evaluate(model, ratings=table)["pairs"]["pairs_from_ratings"]
    accuracy = {name: found["accuracy"]["model"]["estimate"] for name, found in part["attributes"].items()}
    assert accuracy == {"a": 1.0, "b": 0.0}
    assert part["accuracy"]["model"]["estimate"] == 0.5
    assert {(found["rows"], found["groups"]) for found in part["attributes"].values()} == {(2, 2)}
    model.head.weight[1] *= -1.5  # now b's own prediction is right, and outweighs a's in the mix
    part = evaluate(model, ratings=table)["pairs"]["pairs_from_ratings"]
    of = {name: found["accuracy"] for name, found in part["attributes"].items()}
    assert {name: found["model"]["estimate"] for name, found in of.items()} == {"a": 0.0, "b": 1.0}
    assert {name: found["own_attribute"]["estimate"] for name, found in of.items()} == {"a": 1.0, "b": 1.0}


def test_every_baseline_with_distributions_stands_beside_the_model():
    """A second quantile baseline is measured like the constant one, and judged on pairs by the same risk."""
    model = uniform_model(slope=0.2, constant=uniform_model().head, twin=uniform_model(slope=-0.1).head)
    table = ratings(
        *(
            {"response": f"{x} 0 t{i}", "ratings": [3 + 0.8 * x], "group": f"g{i % 4}"}
            for i, x in enumerate(np.linspace(-2, 2, 12))
        )
    )
    results = evaluate(model, ratings=table)
    loss = results["ratings"]["a"]["pinball"]
    (twin,) = loss["others"].values()
    assert twin["value"]["estimate"] > loss["constant"]["estimate"] > loss["model"]["estimate"]
    assert twin["difference"]["estimate"] == pytest.approx(
        loss["model"]["estimate"] - twin["value"]["estimate"]
    )
    assert list(results["ratings"]["a"]["coverage"]["others"]["twin"]) == ["value"]
    accuracy = results["pairs"]["pairs_from_ratings"]["accuracy"]
    assert {name: accuracy[name]["estimate"] for name in ("model", "twin")} == {"model": 1.0, "twin": 0.0}
    assert list(accuracy) == ["model", "twin", "length"]


def test_all_attributes_together_are_in_shares_of_their_scales():
    table = pl.load_ratings(
        [
            {"prompt": "p", "response": f"0 0 {i}", "attribute": name, "ratings": [low + 0.3 * (high - low)],
             "scale": [low, high], "group": f"g{i}", "id": f"{i}"}
            for i in range(4)
            for name, low, high in (("a", 1, 5), ("b", 0, 100))
        ]
    )  # fmt: skip
    head = uniform_model(("a", "b")).head
    head.attributes = (Attribute("a", 1.0, 5.0), Attribute("b", 0.0, 100.0))
    results = evaluate(pl.RewardModel(FakeBackbone(), head), ratings=table)["ratings"]
    part = {name: results[name]["pinball"]["model"]["estimate"] for name in ("a", "b", "all")}
    assert part["a"] / 4 == pytest.approx(part["b"] / 100, rel=1e-4)
    assert part["all"] == pytest.approx(part["a"] / 4, rel=1e-4)
    assert results["all"]["unit"] == "share of the scale"


def test_intervals_are_over_groups():
    rows = [{"response": f"{i} 0 x", "ratings": [float(1 + i % 5)], "group": f"g{i // 5}"} for i in range(20)]
    whole = evaluate(uniform_model(), ratings=ratings(*rows))["ratings"]["a"]["pinball"]["model"]
    assert (whole["rows"], whole["groups"]) == (20, 4)
    lonely = evaluate(uniform_model(), ratings=ratings(*[r | {"group": "g"} for r in rows]))
    part = lonely["ratings"]["a"]["pinball"]["model"]
    assert (part["low"], part["high"]) == (None, None)
    finite_json(lonely)


# -- every kind of data ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        ratings({"response": "0 0 x", "ratings": [3]}),
        ratings({"response": "0 0 x", "ratings": [3, 3]}, {"response": "1 0 y", "ratings": [3]}),
        ratings(*({"response": f"{i} 0 x", "ratings": [1, 5]} for i in range(5))),
        ratings(*({"response": f"{i} 0 x", "ratings": [1 + i], "group": "g"} for i in range(5))),
    ],
    ids=["one row", "constant", "no pairs", "one group"],
)
@pytest.mark.parametrize("make", [uniform_model, linear_model])
def test_little_data_gives_json_without_nan(table, make):
    results = evaluate(make(), ratings=table)
    finite_json(results)
    assert bool(results["ratings"]) == (make is uniform_model)


@pytest.mark.parametrize("family", ["quantile", "bradley_terry"])
@pytest.mark.parametrize("kind", ["ratings", "pairs", "votes"])
def test_every_family_on_every_kind(tmp_path, family, kind):
    load = {"ratings": pl.load_ratings, "pairs": pl.load_pairs, "votes": pl.load_comparisons}[kind]
    rows = {"ratings": ratings_rows(8), "pairs": pairs_rows(20), "votes": votes_rows(20)}[kind]
    train = {"ratings": pl.load_ratings(ratings_rows(12, seed=1))}
    config = {"l1": 0.01, "levels": [0.1, 0.5, 0.9]} if family == "quantile" else {"l2": 0.1}
    model = pl.fit(family, **train, backbone=FakeBackbone(), config=config, cache=None)
    results = evaluate(model, **{kind: load(rows)}, out=tmp_path / "out")
    finite_json(results)
    folder = tmp_path / "out"
    assert sorted(p.name for p in folder.iterdir()) == ["examples.jsonl", "results.json", "scores.parquet"]
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    scores = pq.read_table(folder / "scores.parquet").to_pylist()
    judged = sum(part["rows"] for part in results["pairs"].values())
    judged += sum(part["tied_in_data"] for part in results["pairs"].values())  # for calibration alone
    judged += sum(part["rows"] for name, part in results["ratings"].items() if name != "all")
    judged += results["pairwise"].get("rater_pairs", {"rows": 0})["rows"]
    assert len(scores) == (judged if family == "quantile" or kind != "ratings" else judged + len(rows))
    examples = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    assert 0 < len(examples) <= 200
    assert all(sorted(e["reward"]) == e["reward"] and len(e["gate"]) >= 1 for e in examples)


def test_a_risk_measure_orders_the_pairs():
    """The mean prefers the wide distribution of x = 1, the lower tail the narrow one of x = 0."""
    weight = torch.zeros(1, 5, WIDTH)
    weight[0, :, 0] = torch.tensor([-1.0, -0.5, 0.2, 0.8, 1.5])
    head = QuantileHead(
        ColumnScaling.empty(WIDTH), weight, torch.full((1, 5), 0.5), FIVE, (Attribute("a", 0.0, 1.0),)
    )
    model = pl.RewardModel(FakeBackbone(), head)
    table = pairs(("1 0 x", "0 0 y"))
    assert evaluate(model, pairs=table)["pairs"]["pairs"]["accuracy"]["model"]["estimate"] == 1.0
    tail = evaluate(model, pairs=table, risk="cvar:0.5")["pairs"]["pairs"]
    assert tail["accuracy"]["model"]["estimate"] == 0.0


def test_what_cannot_be_evaluated():
    with pytest.raises(ArgumentError, match="no data"):
        evaluate(uniform_model())
    with pytest.raises(DataError, match="attribute 'b' is rated"):
        evaluate(uniform_model(), ratings=ratings({"response": "0 0 x", "ratings": [1], "attribute": "b"}))
    with pytest.raises(DataError, match="fitted on 1 to 5"):
        evaluate(uniform_model(), ratings=ratings({"response": "0 0 x", "ratings": [1], "scale": [0, 9]}))
    tied = pl.load_comparisons([{"prompt": "p", "response_a": "1 0", "response_b": "0 0", "votes": [0]}])
    with pytest.raises(DataError, match="every comparison is tied"):
        evaluate(uniform_model(), votes=tied)
    with pytest.raises(ArgumentError, match="ratings: received list; pass what load_ratings returns"):
        evaluate(uniform_model(), ratings=[{"response": "0 0 x"}])
    for name, table in {
        "ratings": ratings({"response": "0 0 x", "ratings": [1]}),
        "pairs": pairs("ab"),
    }.items():
        with pytest.raises(DataError, match=f"{name}: received no rows"):
            evaluate(uniform_model(), **{name: table.select([])})
    with pytest.raises(DataError, match="pairs: no column chosen, rejected"):
        evaluate(uniform_model(), pairs=tied)


# -- cross-fitting ---------------------------------------------------------------------------------


def test_cross_fitting_evaluates_each_row_once_by_a_model_that_has_not_seen_it(tmp_path):
    table = pl.load_ratings(ratings_rows(15))
    lines: list[str] = []
    results = cross_fit(
        "quantile",
        ratings=table,
        num_folds=3,
        backbone=FakeBackbone(),
        config={"l1_grid": (0.01, 0.003), "levels": [0.1, 0.5, 0.9]},
        cache=None,
        journal=tmp_path,
        out=tmp_path / "out",
        report=lines.append,
    )
    finite_json(results)
    assert results["folds"] == 3
    assert results["ratings"]["a0"]["rows"] == len(table)
    assert results["ratings"]["a0"]["pinball"]["difference"]["high"] < 0
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert sorted(s["id"] for s in scores if s["table"] == "ratings") == sorted(table["id"])
    assert len(list(tmp_path.glob("search-fold-*.jsonl"))) == 3
    assert sum(line.startswith("fold ") for line in lines) == 3


@pytest.mark.parametrize("kind", ["pairs", "votes"])
def test_cross_fitting_pairs_and_votes(kind):
    table = pl.load_pairs(pairs_rows(30)) if kind == "pairs" else pl.load_comparisons(votes_rows(30))
    results = cross_fit(
        "bradley_terry", **{kind: table}, num_folds=3, backbone=FakeBackbone(), config={"l2": 0.1}, cache=None
    )
    part = results["pairs"][kind]
    assert part["rows"] + part["tied_in_data"] == 30
    assert part["accuracy"]["model"]["estimate"] > 0.5


@pytest.mark.filterwarnings("ignore::pluralign.errors.GateWarning")  # all prompts have one vector here
def test_cross_fitting_a_gate_takes_ratings_and_pairs_together(tmp_path):
    """Every row of both tables is judged once, by a fit whose rows are all of other groups."""
    tables = {
        "ratings": pl.load_ratings(ratings_rows(20, attributes=2)),
        "pairs": pl.load_pairs([row | {"id": str(i)} for i, row in enumerate(pairs_rows(40))]),
    }
    lines: list[str] = []
    results = cross_fit(
        "regression",
        **tables,
        num_folds=4,
        backbone=FakeBackbone(),
        config={
            "l2": 0.1,
            "gate_layers": 0,
            "gate_batch": 16,
            "gate_temperature": 1.0,
            "gate_lr": 0.1,
            "baselines": False,
        },
        cache=None,
        out=tmp_path,
        report=lines.append,
    )
    scores = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    for name, table in tables.items():
        assert sorted(s["id"] for s in scores if s["table"] == name) == sorted(table["id"])
    assert sorted(results["gate"]) == ["pairs", "pairs_from_ratings", "ratings"]
    assert results["gate"]["pairs"]["rows"] == 40
    assert results["pairs"]["pairs"]["accuracy"]["model"]["estimate"] > 0.5
    folds = [line for line in lines if line.startswith("fold ")]
    assert len(folds) == 4
    assert all(re.search(r"[\d,]+ ratings, [\d,]+ pairs to fit", line) for line in folds)


def test_cross_fitting_takes_some_table_and_enough_groups():
    table = pl.load_pairs(pairs_rows(4))
    with pytest.raises(ArgumentError, match="received no data to cross-fit"):
        cross_fit("bradley_terry", backbone=FakeBackbone())
    with pytest.raises(DataError, match="9 folds for 4 groups"):
        cross_fit("bradley_terry", pairs=table, num_folds=9, backbone=FakeBackbone(), cache=None)
    with pytest.raises(ArgumentError, match="k: received 1"):
        cross_fit("bradley_terry", pairs=table, num_folds=1, backbone=FakeBackbone(), cache=None)


def test_a_conversation_is_embedded_once():
    model = uniform_model()
    table = pairs(("1 0 x", "0 0 y"), ("1 0 x", "0 0 y"))
    pair_rows(model, table)
    assert len(model.backbone.embedded) == 4  # the prompts differ
    same = pl.load_pairs([{"prompt": "p", "chosen": "1 0 x", "rejected": f"{i} 0 y"} for i in range(3)])
    before = len(model.backbone.embedded)
    pair_rows(model, same)
    assert len(model.backbone.embedded) - before == 4
    assert model.score([talk("1 0 x")]).shape == (1,)
