"""The categorical recipe: against scikit-learn, known distributions, own comparisons, doubtful data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.distributions import Categorical
from pluralign.errors import ArgumentError, CategoryWarning, ConfigError, DataError
from pluralign.fitting import CategoricalConfig
from pluralign.fitting.tables.targets import rating_targets

QUICK = {"l2": 0.003, "steps": 100, "baselines": False}


def fit(config=None, **options):
    config = QUICK | (config or {})
    return pl.fit("categorical", backbone=FakeBackbone(), cache=None, config=config, **options)


def crowd(num_texts=150, raters=20, seed=0, **columns):
    """Ratings 0, 1, 2 with the logits (-x, y, x)."""
    generator = np.random.default_rng(seed)
    made = []
    for i in range(num_texts):
        x, y = generator.normal(), generator.uniform()
        logits = np.array([-x, y, x])
        probs = np.exp(logits) / np.exp(logits).sum()
        made.append(
            {
                "prompt": f"p{i}",
                "response": f"{x:.4f} {y:.4f} {i}",
                "attribute": "a",
                "ratings": generator.choice(3, size=raters, p=probs).astype(float).tolist(),
                "scale": [0, 2],
            }
            | columns
        )
    return pl.load_ratings(made)


def truth(x, y):
    return torch.tensor([-x, y, x]).softmax(-1)


# -- ratings ---------------------------------------------------------------------------------------


def test_cross_entropy_is_a_multinomial_logistic_regression():
    ratings = crowd(60, raters=5)
    model = fit({"loss": "cross_entropy", "l2": 0.01, "steps": 400}, ratings=ratings)
    targets = rating_targets(ratings, dequantise=False)
    response = FakeBackbone().embed(targets.conversations).response.double()
    z = ((response - response.mean(0)) / response.std(0, unbiased=False)).numpy()
    rows = targets.attributes[0]
    peer = LogisticRegression(C=1 / (2 * 0.01 * 60), tol=1e-8, max_iter=1000)
    peer.fit(z[rows.item], (2 * rows.target).round().int().numpy(), sample_weight=rows.weight.numpy())
    ours = model.attribute_distributions(targets.conversations)["a"].probs
    np.testing.assert_allclose(ours.numpy(), peer.predict_proba(z), atol=2e-3)


TRANSPORT = {"loss": "transport"}


@pytest.mark.parametrize(
    "config",
    [{}, {"loss": "rps"}, TRANSPORT, TRANSPORT | {"floor": 0.2}, {"hidden": 16, "lr": 0.02}],
)
def test_a_known_distribution_is_recovered(config):
    model = fit({"steps": 150, "l2": 0.0003} | config, ratings=crowd(300))
    distributions = model.attribute_distributions([talk("1 0.3 new"), talk("-0.7 0.8 new")])["a"]
    assert isinstance(distributions, Categorical)
    assert distributions.atoms[0].tolist() == [0, 1, 2]
    expected = torch.stack([truth(1, 0.3), truth(-0.7, 0.8)])
    assert float((distributions.probs - expected).abs().max()) < 0.1
    assert isinstance(model.distribution([talk("1 0.3 new")]), Categorical)


def test_penalties_are_chosen_on_held_out_groups_and_written_down():
    lines = []
    config = {"loss": "rps", "l2": None, "l2_grid": (0.003, 3.0), "steps": 40, "baselines": True}
    model = fit(config, ratings=pl.load_ratings(ratings_rows(20, attributes=2)), report=lines.append)
    assert model.fitted["l2"] == {"a0": 0.003, "a1": 0.003}
    assert model.fitted["median_raters"] == {"a0": 5.0, "a1": 5.0}
    assert model.fitted["categories"]["a0"]["2"] == {"rating": 2.0, "reward": 0.25}
    assert any("a0: category = reward (share of the crowd): 1 = 0 (" in line for line in lines)
    constant = model.with_head(model.baselines["constant"])
    distribution = constant.attribute_distributions([talk("0 1 x"), talk("9 1 y")])["a0"]
    torch.testing.assert_close(distribution.probs[0], distribution.probs[1])
    rows = ratings_rows(20, attributes=2)
    ratings = [r for row in rows if row["attribute"] == "a0" for r in row["ratings"]]
    shares = np.bincount(np.array(ratings, dtype=int), minlength=6)[1:] / len(ratings)
    np.testing.assert_allclose(distribution.probs[0].numpy(), shares, atol=0.01)
    assert set(model.baselines) == {"constant", "bradley_terry"}


def test_the_same_seed_gives_the_same_model_also_after_an_interruption(tmp_path, monkeypatch):
    ratings = pl.load_ratings(ratings_rows(10))
    config = {"hidden": 8}
    first, second = (fit(config, ratings=ratings) for _ in range(2))
    monkeypatch.setattr("pluralign.fitting.train.state.REST", 0)
    from pluralign.fitting.categorical import training as category_training

    real, calls = category_training.squared_norm, []

    def stops(module):
        calls.append(0)
        if len(calls) == 70:
            raise KeyboardInterrupt
        return real(module)

    monkeypatch.setattr(category_training, "squared_norm", stops)
    with pytest.raises(KeyboardInterrupt):
        fit(config, ratings=ratings, journal=tmp_path / "search.jsonl")
    resumed = fit(config, ratings=ratings, journal=tmp_path / "search.jsonl")
    assert len(calls) < 70 + 60  # 60 of the 100 steps were not repeated
    for model in (second, resumed):
        for name, tensor in first.head.state_dict().items():
            assert torch.equal(tensor, model.head.state_dict()[name]), name
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_gate_weighs_the_attributes():
    rows = ratings_rows(30, attributes=2)
    config = {"gate_hidden": 8, "gate_layers": 0, "gate_steps": 30, "gate_temperature": 1.0}
    model = fit(config, ratings=pl.load_ratings(rows), pairs=pl.load_pairs(pairs_rows(80)))
    assert model.fitted["gate"]["trained"]
    good, bad = model.score([talk("1.5 1 x"), talk("-1.5 1 x")])
    assert good > bad  # a0 rises with x, a1 falls, and pairs follow x


def test_votes_on_the_six_categories():
    votes = [
        {
            "prompt": f"p{i}",
            "response": f"{x} 0 {i}",
            "attribute": "category",
            "ratings": [0, 0, 1, 2, 3, 4] if x > 0 else [5, 5, 4, 3, 2, 1],
            "scale": [0, 5],
        }
        for i, x in enumerate([1, -1] * 10)
    ]
    two_axes = TRANSPORT | {"cost": "two_axis"}
    for config in ({}, TRANSPORT, two_axes, two_axes | {"regularization": 0.2, "smoothing": 0.1}):
        model = fit({"steps": 60} | config, ratings=pl.load_ratings(votes))
        good, bad = model.score([talk("1 0 x"), talk("-1 0 x")])
        assert good > bad
        distribution = model.attribute_distributions([talk("1 0 x")])["category"]
        assert distribution.atoms[0].tolist() == [0, 1, 2, 3, 4, 5]
        assert float(distribution.probs[0, 0]) > 0.2
    pairs = pl.load_ratings([row | {"prompt": f"p{i // 2}"} for i, row in enumerate(votes)])
    model = fit({"baselines": True}, ratings=pairs)
    accuracy = pl.evaluation.evaluate(model, ratings=pairs)["pairs"]["pairs_from_ratings"]["accuracy"]
    assert accuracy["model"]["estimate"] == accuracy["bradley_terry"]["estimate"] == 1  # 0 is the best number
    reversed_table = {str(k): float(k) for k in range(6)}
    model = fit({"steps": 60, "rewards": reversed_table}, ratings=pl.load_ratings(votes))
    good, bad = model.score([talk("1 0 x"), talk("-1 0 x")])
    assert good < bad


@pytest.mark.filterwarnings("ignore::pluralign.errors.CategoryWarning")
def test_the_grid_of_penalties_reaches_what_rps_needs():
    """A tenth of the scale is used, so the squared loss is small; the grid used to end at 0.0003."""
    ratings = crowd(100, raters=50, scale=[0, 20])
    assert min(CategoricalConfig().l2_grid) <= 1e-5
    grid = [one for one in CategoricalConfig().l2_grid if one < 1e-3]
    model = fit({"loss": "rps", "l2": None, "l2_grid": grid, "steps": 40}, ratings=ratings)
    assert 1e-5 < model.fitted["l2"]["a"] < 3e-4


@pytest.mark.parametrize("config", [{"floor": 0.1}, {"axis_weights": (0.7, 0.3)}])
def test_two_axes_are_solved_by_the_quick_solver(config, monkeypatch):
    """Rounding of tied costs once sent whole fits to the solver for many categories."""

    def declined(*arguments):
        raise AssertionError("the solver for many categories was called")

    monkeypatch.setattr("pluralign.losses._exact_transport.solve", declined)
    votes = [
        {
            "prompt": f"p{i}",
            "response": f"{i} 0",
            "attribute": "category",
            "ratings": [i % 6, 0, 1, 2, 5],
            "scale": [0, 5],
        }
        for i in range(12)
    ]
    fit(TRANSPORT | {"cost": "two_axis", "steps": 2} | config, ratings=pl.load_ratings(votes))


def test_doubtful_data_is_named():
    with pytest.warns(
        CategoryWarning, match="a has 3 raters per response: with fewer than 5 .*'cross_entropy' or 'rps'"
    ):
        fit(TRANSPORT, ratings=crowd(20, raters=3))
    for config in ({}, {"loss": "rps"}, TRANSPORT | {"smoothing": 0.1}):
        fit(config, ratings=crowd(20, raters=3))
    generator = np.random.default_rng(0)
    skewed = [
        row | {"ratings": generator.choice([1.0, 2.0, 5.0], 5, p=[0.1, 0.8, 0.1]).tolist()}
        for row in ratings_rows(40)
    ]
    with pytest.warns(CategoryWarning) as given:
        model = fit(TRANSPORT | {"l2": 10.0}, ratings=pl.load_ratings(skewed))
    assert any("on average the model and the crowd differ: a0 by" in str(w.message) for w in given)
    assert model.fitted["average_gap"]["a0"] > 0.1
    proper = fit(
        {"l2": 10.0, "loss": "cross_entropy", "steps": 150}, ratings=pl.load_ratings(ratings_rows(20))
    )
    assert proper.fitted["average_gap"]["a0"] < 0.01
    unused = [row | {"ratings": [1.0, 2.0, 2.0, 5.0, 5.0]} for row in ratings_rows(10)]
    with pytest.warns(CategoryWarning, match="nobody chose '3', '4' of a0"):
        model = fit({"loss": "cross_entropy"}, ratings=pl.load_ratings(unused))
    distribution = model.attribute_distributions([talk("0 1 x")])["a0"]
    assert bool(distribution.probs.isfinite().all())
    assert float(distribution.probs[0, 2:4].sum()) < 0.1


def test_rewards_are_named_by_text_or_number():
    ratings = pl.load_ratings(ratings_rows(6))
    worth = [0.0, 1.0, 2.0, 3.0, 9.0]
    by_number, by_text = (
        fit({"steps": 5, "rewards": dict(zip(names, worth, strict=True))}, ratings=ratings)
        for names in (range(5), "01234")
    )
    rewards = [known["reward"] for known in by_number.fitted["categories"]["a0"].values()]
    assert rewards == pytest.approx([value / 9 for value in worth])
    assert by_number.fitted["config"] == by_text.fitted["config"]


def test_what_does_not_serve_the_family():
    ratings = pl.load_ratings(ratings_rows(6))
    with pytest.raises(DataError, match="two_axis"):
        fit(TRANSPORT | {"cost": "two_axis"}, ratings=ratings)
    with pytest.raises(DataError, match="rewards has x, y; needed: one reward for each category"):
        fit({"rewards": {"x": 0.0, "y": 1.0}}, ratings=ratings)
    with pytest.raises(ConfigError, match="a reward for each name or number"):
        fit({"rewards": [0, 1, 2, 3, 4]}, ratings=ratings)
    for config in ({"seed": 1.5}, {"hidden": 2.5}, {"num_categories": 2.5}):
        with pytest.raises(ConfigError, match="a whole number is needed"):
            fit(config, ratings=ratings)
    with pytest.raises(ConfigError, match="steps = True: a finite number at least 1 is needed"):
        fit({"steps": True}, ratings=ratings)
    with pytest.raises(ConfigError, match="baselines = 'no'; allowed: True, False"):
        fit({"baselines": "no"}, ratings=ratings)
    with pytest.raises(DataError, match="pairs say which response is better"):
        fit(pairs=pl.load_pairs(pairs_rows(10)))
    with pytest.raises(ConfigError, match="did you mean 'smoothing'"):
        fit({"smothing": 0.1}, ratings=ratings)


def test_the_default_is_cross_entropy_and_reads_nothing_of_transport():
    ratings = pl.load_ratings(ratings_rows(10))
    named, default, transported = (
        fit(config | {"steps": 10}, ratings=ratings) for config in ({"loss": "cross_entropy"}, {}, TRANSPORT)
    )
    states = [model.head.state_dict() for model in (named, default, transported)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    for option in ({"cost": "two_axis"}, {"floor": 0.1}, {"axis_weights": (2.0, 1.0)}):
        for loss in ({}, {"loss": "rps"}):
            with pytest.raises(
                ConfigError, match=f"{next(iter(option))} = .* applies only to the transport loss"
            ):
                fit(loss | option, ratings=ratings)
    assert CategoricalConfig(axis_weights=[1.0, 1.0]).loss == "cross_entropy"  # as YAML gives it


# -- comparisons -----------------------------------------------------------------------------------


def davidson_votes(num_rows=400, raters=8, tie=0.8, seed=0):
    """Votes with the log-odds d = 1.5 (x_a - x_b) of a against b."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(num_rows):
        x = generator.normal(size=2)
        d = 1.5 * (x[0] - x[1])
        odds = np.array([np.exp(d / 2), tie, np.exp(-d / 2)])
        rows.append(
            {
                "prompt": f"p{i}",
                "response_a": f"{x[0]:.4f} 0 {i} a",
                "response_b": f"{x[1]:.4f} 0 {i} b",
                "votes": generator.choice([1, 0, -1], size=raters, p=odds / odds.sum()).tolist(),
            }
        )
    return rows


def test_votes_recover_davidsons_distribution_and_mirror_under_swapping():
    config = {"l2": 0.0003, "steps": 150}
    model = fit(config, votes=pl.load_comparisons(davidson_votes()))
    a, b = [talk("1 0 x"), talk("0.2 0 x")], [talk("-0.2 0 y"), talk("0.2 0 y")]
    distribution = model.distribution([*a, *b])
    assert isinstance(distribution, Categorical)
    found = model.head.comparison_probs(distribution[:2], distribution[2:])
    odds = torch.tensor([[np.exp(0.9), 0.8, np.exp(-0.9)], [1.0, 0.8, 1.0]])
    assert float((found - odds / odds.sum(1, keepdim=True)).abs().max()) < 0.05
    forward, backward = model.preference_probability(a, b), model.preference_probability(b, a)
    torch.testing.assert_close(forward + backward, torch.ones(2))
    torch.testing.assert_close(forward, found[:, 0] + found[:, 1] / 2)
    swapped = [
        row
        | {
            "response_a": row["response_b"],
            "response_b": row["response_a"],
            "votes": [-v for v in row["votes"]],
        }
        for row in davidson_votes()
    ]
    again = fit(config, votes=pl.load_comparisons(swapped))
    torch.testing.assert_close(again.preference_probability(a, b), forward, atol=1e-4, rtol=0)
    scores = model.score([talk("-1 0 x"), talk("1 0 x")])
    assert scores[0] < 0 < scores[1]


def test_votes_without_ties_and_one_rater_each():
    rows = [row | {"votes": [vote for vote in row["votes"] if vote][:1] or [1]} for row in votes_rows(40)]
    model = fit({"hidden": 4, "baselines": True}, votes=pl.load_comparisons(rows))
    probability = model.preference_probability([talk("2 0 x")], [talk("-2 0 x")])
    assert 0.6 < float(probability) < 1
    constant = model.with_head(model.baselines["constant"])
    assert float(constant.preference_probability([talk("2 0 x")], [talk("-2 0 x")])) == 0.5
    same = [row | {"response_b": row["response_a"]} for row in votes_rows(3)]
    with pytest.raises(DataError, match="two equal sides"):
        fit(votes=pl.load_comparisons(same))


@pytest.mark.parametrize(
    "config",
    [
        {"cost": "two_axis", "loss": "transport"},
        {"edges": (0.0, 1.0, 2.0)},
        {"rewards": {"0": 0, "1": 1}},
        {"floor": 0.1, "loss": "transport"},
        {"loss": "rps"},
        {"loss": "transport"},
    ],
)
def test_what_is_for_ratings_is_not_an_option_of_comparisons(config):
    with pytest.raises(DataError, match=f"{next(iter(config))}( = '(rps|transport)')? applies to ratings"):
        fit(config, votes=pl.load_comparisons(votes_rows(5)))


def test_pointwise_votes_are_categories_of_each_side():
    model = fit({"comparisons": "pointwise"}, votes=pl.load_comparisons(votes_rows(40)))
    distribution = model.attribute_distributions([talk("1 0 x")])["preference"]
    assert distribution.atoms[0].tolist() == [-1, 0, 1]
    assert model.head.comparison is None
    assert model.head.predicts_ties
    fit({"comparisons": "pointwise", "smoothing": 0.1} | TRANSPORT, votes=pl.load_comparisons(votes_rows(40)))


@pytest.mark.parametrize("comparisons", ["pairwise", "pointwise"])
def test_votes_have_as_many_ties_as_people_gave(comparisons):
    """Sides taken as independent had three times as many, and did worse than 1/3 for each outcome."""
    votes = pl.load_comparisons(davidson_votes())
    model = fit({"comparisons": comparisons, "baselines": True}, votes=votes)
    found = pl.evaluation.evaluate(model, votes=votes)["votes"]
    predicted, observed = found["mean"]["predicted"], found["mean"]["observed"]
    assert predicted["tie"] == pytest.approx(observed["tie"], abs=0.02)
    loss = {name: interval["estimate"] for name, interval in found["log_loss"]["value"].items()}
    assert loss["model"] < loss["constant"] < loss["uniform"]
    a, b = [talk("1 0 x"), talk("0.2 0 x")], [talk("-0.2 0 y"), talk("0.2 0 y")]
    forward, backward = model.vote_probabilities(a, b), model.vote_probabilities(b, a)
    torch.testing.assert_close(forward, backward.flip(1))
    torch.testing.assert_close(model.preference_probability(a, b), forward[:, 0] + forward[:, 1] / 2)
    with pytest.raises(ArgumentError, match="2 first and 1 second"):
        model.vote_probabilities(a, b[:1])


def test_a_model_of_ratings_knows_no_ties():
    model = fit(ratings=pl.load_ratings(crowd()))
    with pytest.raises(ArgumentError, match="not fitted on comparisons"):
        model.vote_probabilities([talk("1 0 x")], [talk("0 0 x")])
    assert "votes" not in pl.evaluation.evaluate(model, votes=pl.load_comparisons(davidson_votes(40)))


# -- the same model elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ratings", "votes"])
def test_it_is_stored_and_evaluated_like_any_family(kind, tmp_path):
    data = {
        "ratings": lambda: pl.load_ratings(ratings_rows(20, attributes=2)),
        "votes": lambda: pl.load_comparisons(votes_rows(30)),
    }[kind]()
    model = fit({"loss": "cross_entropy", "baselines": True}, **{kind: data})
    model.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    texts = [talk("1 0.5 x"), talk("-1 0.5 x")]
    assert torch.equal(model.score(texts, "cvar:0.2"), again.score(texts, "cvar:0.2"))
    results = pl.evaluation.evaluate(again, **{kind: data})
    assert results["family"] == "categorical"
    pairs = results["pairs"]["votes" if kind == "votes" else "pairs_from_ratings"]
    assert pairs["accuracy"]["model"]["estimate"] > 0.5
    if kind == "ratings":
        part = results["ratings"]["a0"]
        assert part["crps"]["model"]["estimate"] < part["crps"]["constant"]["estimate"]
