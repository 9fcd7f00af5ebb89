"""The recipe of Gaussian ensembles: a known distribution, the three traps, pairs, resuming, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from pluralign.errors import ConfigError, ConstantHeadWarning, DataError, EnsembleWarning, RiskError
from pluralign.fitting import GaussianEnsembleConfig
from pluralign.fitting.ensemble import heads as ensemble_heads
from pluralign.fitting.ensemble import search as ensemble_search
from pluralign.fitting.ensemble.targets import bootstrap_counts
from pluralign.fitting.tables.targets import rating_targets
from pluralign.fitting.train import state as training_state
from pluralign.heads.agreement import head_agreement

SHORT = {"steps": 100, "lr": 0.05}  # as good here as the default, 300 steps at .02
QUICK = SHORT | {"l2": 0.01, "std_l2": 0.01, "baselines": False}


def fit(backbone=None, **options):
    return pl.fit("gaussian_ensemble", backbone=backbone or FakeBackbone(), cache=None, **options)


def gaussian_rows(count: int = 700, raters: int = 4, seed: int = 0):
    """R = x + s Z with s = 0.05 + softplus(y): a Gaussian head can say exactly that."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        x, y = generator.normal(), generator.uniform(-1.5, 1.5)
        values = x + (0.05 + np.log1p(np.exp(y))) * generator.normal(size=raters)
        rows.append(
            {
                "prompt": f"p{i}",
                "response": f"{x:.5f} {y:.5f} {i}",
                "attribute": "a",
                "ratings": values.tolist(),
                "scale": [-20, 20],
            }
        )
    return pl.load_ratings(rows)


PROBES = [talk("0.5 -1 new"), talk("-1 0 new"), talk("1 1 new")]
TRUE_MEANS = torch.tensor([0.5, -1.0, 1.0])
TRUE_STDS = 0.05 + torch.nn.functional.softplus(torch.tensor([-1.0, 0.0, 1.0]))


@pytest.fixture(scope="module")
def gaussian_table():
    return gaussian_rows()


@pytest.mark.parametrize("loss", ["gaussian_nll", "beta_nll"])
def test_a_gaussian_distribution_is_recovered(gaussian_table, loss):
    model = fit(ratings=gaussian_table, config=QUICK | {"loss": loss, "heads": 3, "l2": 1e-3, "std_l2": 1e-3})
    distribution = model.attribute_distributions(PROBES)["a"]
    torch.testing.assert_close(distribution.mean(), TRUE_MEANS, atol=0.15, rtol=0)
    torch.testing.assert_close(distribution.stds.mean(1), TRUE_STDS, atol=0.15, rtol=0)
    assert model.fitted["std_means"].startswith("the spread of the ratings")


def test_the_published_loss_forgets_the_noise(gaussian_table):
    """Trap 1: the longer it trains the smaller its std, which does not follow the true one."""
    stds = {}
    for steps in (100, 400):
        config = QUICK | {"loss": "reparameterized_mse", "heads": 2, "steps": steps, "lr": 0.05}
        model = fit(ratings=gaussian_table, config=config)
        stds[steps] = model.attribute_distributions(PROBES)["a"].stds.mean(1)
    assert bool((stds[400] < 0.5 * stds[100]).all())
    assert bool((stds[400] < 0.3 * TRUE_STDS).all())
    assert "drives it to 0" in model.fitted["std_means"]


def test_heads_without_bootstrap_and_anchor_are_one_head(gaussian_table):
    """Trap 2, and what each remedy does."""
    agreement = {}
    for bootstrap in (False, True):
        for anchor in (False, True):
            config = QUICK | {"bootstrap": bootstrap, "anchor": anchor, "l2": 0.3}
            if bootstrap or anchor:
                model = fit(ratings=gaussian_table, config=config)
            else:
                config |= {"steps": 300, "lr": 0.02}  # until they have become one
                with pytest.warns(EnsembleWarning, match="the minimum over heads does nothing"):
                    model = fit(ratings=gaussian_table, config=config)
            agreement[bootstrap, anchor] = model.fitted["agreement"]["disagreement"]
    assert agreement[False, False] < 1e-4
    assert agreement[True, True] > max(agreement[True, False], agreement[False, True]) * 0.9
    assert min(agreement[True, False], agreement[False, True]) > 0.005
    assert "correlation" in model.fitted["agreement"]


def test_heads_are_standardised_on_the_reference(gaussian_table):
    """Trap 3: no head is lower than another everywhere, so that a minimum is about texts."""
    model = fit(ratings=gaussian_table, config=QUICK)
    distribution = model.distribution(rating_targets(gaussian_table).conversations)
    torch.testing.assert_close(distribution.means.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    spread = distribution.means.std(0)
    torch.testing.assert_close(spread, spread.mean().expand(5), atol=1e-4, rtol=0)
    marginal = distribution.std().square().mean() + distribution.mean().var(unbiased=False)
    assert float(marginal) == pytest.approx(1, abs=1e-3)


def test_one_head_is_a_single_gaussian(gaussian_table):
    model = fit(ratings=gaussian_table, config=QUICK | {"heads": 1, "bootstrap": False})
    distribution = model.distribution(PROBES)
    assert distribution.means.shape == (3, 1)
    for measure in ("nominal", "worst_case", "best_case", "uwo:3", "robust:0.4"):
        torch.testing.assert_close(model.score(PROBES, risk=measure), distribution.mean())


def test_several_attributes_stay_an_ensemble_of_heads():
    ratings = pl.load_ratings(ratings_rows(20, attributes=2))
    model = fit(
        ratings=ratings,
        pairs=pl.load_pairs(pairs_rows(80)),
        config=QUICK
        | {
            "heads": 3,
            "gate_hidden": 8,
            "gate_layers": 1,
            "gate_batch": 32,
            "gate_steps": 40,
            "gate": False,
        },
    )
    assert set(model.attribute_distributions(PROBES)) == {"a0", "a1"}
    distribution = model.distribution(PROBES)
    assert distribution.means.shape == (3, 3)
    torch.testing.assert_close(model.score(PROBES, risk="worst_case"), distribution.means.min(1).values)
    assert model.gate_weights(PROBES).tolist() == [[0.5, 0.5]] * 3
    weighted = model.distribution(PROBES, weights={"a0": 1.0})
    assert bool((weighted.mean()[2] > weighted.mean()[1]).all())


def test_attributes_need_not_share_rows():
    rows = ratings_rows(20, attributes=2)
    rows = [row for i, row in enumerate(rows) if row["attribute"] == "a0" or i % 3 == 0]
    both = fit(ratings=pl.load_ratings(rows), config=QUICK)
    only = fit(ratings=pl.load_ratings([r for r in rows if r["attribute"] == "a0"]), config=QUICK)
    for kind in ("means", "stds"):
        first, second = (getattr(m.attribute_distributions(PROBES)["a0"], kind) for m in (both, only))
        torch.testing.assert_close(first, second, atol=5e-3, rtol=5e-3)


def test_a_head_whose_resample_lacks_an_attribute_learns_it_from_all_ratings():
    rows = [r for r in ratings_rows(4, attributes=2) if r["attribute"] == "a0" or r["group"] == "g0"]
    model = fit(ratings=pl.load_ratings(rows), config=QUICK | {"heads": 8, "anchor": False, "l2": 10.0})
    seeds = [ensemble_heads._seed(GaussianEnsembleConfig(), "bootstrap", h) for h in range(8)]
    lacking = bootstrap_counts(["g0", "g1", "g2", "g3"], seeds)[0] == 0
    assert bool(lacking.any())
    assert bool(lacking.logical_not().any())
    trained = model.head.members.bias[
        8:
    ]  # of a1; biases start at 0, and the std's has to rise to that of all
    assert float(trained[lacking, 1].min()) > 0.1
    torch.testing.assert_close(
        trained[lacking], trained[lacking][:1].expand_as(trained[lacking]), atol=0.05, rtol=0
    )


# -- the search ------------------------------------------------------------------------------------


def test_penalties_are_searched_on_held_out_groups_and_remembered(tmp_path, monkeypatch):
    ratings = pl.load_ratings(ratings_rows(12))
    config = {"l2_grid": (0.01, 100.0), "std_l2_grid": (1.0,), "baselines": False, "steps": 100, "lr": 0.05}
    lines = []
    model = fit(ratings=ratings, config=config, journal=tmp_path / "j", report=lines.append)
    assert model.fitted["l2"] == pytest.approx({"a0": 0.01})  # x decides the rating, so weights pay
    assert any("l2 0.01, std_l2 1, by held-out loss" in line for line in lines)
    monkeypatch.setattr(ensemble_search, "_held_out", lambda *a: pytest.fail("searched again"))
    again = fit(ratings=ratings, config=config, journal=tmp_path / "j")
    assert torch.equal(again.head.members.weight, model.head.members.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j"]


class NoiseBackbone(FakeBackbone):
    """200 columns that say nothing."""

    def embed(self, conversations, **options):
        found = super().embed(conversations, **options)
        texts = [conversation[-1]["content"] for conversation in conversations]
        rows = [np.random.default_rng(list(text.encode())).normal(size=200) for text in texts]
        return replace(found, response=torch.tensor(np.array(rows), dtype=torch.float32))


def test_heads_stay_together_where_the_embeddings_say_nothing():
    """The anchors' spread follows the penalty: a grid that ends early leaves the prior's noise in it."""
    generator = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"p{i}",
            "response": f"0 0 {i}",
            "attribute": "a",
            "ratings": generator.normal(size=5).tolist(),
            "scale": [-10, 10],
        }
        for i in range(60)
    ]
    model = fit(NoiseBackbone(), ratings=pl.load_ratings(rows), config=SHORT | {"baselines": False})
    distribution = model.attribute_distributions([talk(f"0 0 new {i}") for i in range(100)])["a"]
    assert model.fitted["l2"]["a"] > 10
    assert float(distribution.means.var(1).mean()) < 0.1  # of a variance of 1; with l2 = 10 it is about .3


def test_an_interrupted_fit_continues(tmp_path, monkeypatch):
    ratings, journal = pl.load_ratings(ratings_rows(12)), tmp_path / "j"
    config = QUICK | {"steps": 150}
    whole = fit(ratings=ratings, config=config)
    real, looks = training_state.TrainingState.record, []

    def fifth_stops(self, step, *args, **options):
        real(self, step, *args, **options)
        looks.append(step)
        if len(looks) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_state, "REST", 0)
    monkeypatch.setattr(training_state.TrainingState, "record", fifth_stops)
    with pytest.raises(KeyboardInterrupt):
        fit(ratings=ratings, config=config, journal=journal)
    again = fit(ratings=ratings, config=config, journal=journal)
    assert looks[:6] == [0, 25, 50, 75, 100, 125]
    assert torch.equal(again.head.members.weight, whole.head.members.weight)


def test_the_same_seed_is_the_same_model_and_another_is_not():
    ratings = pl.load_ratings(ratings_rows(12))
    first, second, other = (fit(ratings=ratings, config=QUICK | {"seed": seed}) for seed in (3, 3, 4))
    assert torch.equal(first.head.members.weight, second.head.members.weight)
    assert not torch.equal(first.head.members.weight, other.head.members.weight)


# -- pairs -----------------------------------------------------------------------------------------


def test_a_bradley_terry_head_of_the_ensemble_is_the_exact_one():
    pairs = pl.load_pairs(pairs_rows(150))
    with pytest.warns(EnsembleWarning, match="nearly equal"):
        model = fit(
            pairs=pairs,
            config=SHORT
            | {"loss": "bradley_terry", "l2": 0.1, "bootstrap": False, "anchor": False, "heads": 2},
        )
    exact = model.with_head(model.baselines["bradley_terry"])
    first, second = [talk("0.4 0 x"), talk("1 1 y")], [talk("0.1 0.5 x"), talk("-1 1 y")]
    torch.testing.assert_close(
        model.preference_probability(first, second),
        exact.preference_probability(first, second),
        atol=5e-3,
        rtol=0,
    )


def test_bradley_terry_heads_have_no_std_and_serve_the_measures_that_compare_heads():
    model = fit(pairs=pl.load_pairs(pairs_rows(100)), config=SHORT | {"loss": "bradley_terry", "l2": 0.1})
    distribution = model.distribution(PROBES)
    assert float(distribution.stds.max()) == 0.0
    assert float(distribution.means.std(1).min()) > 0
    torch.testing.assert_close(model.score(PROBES, risk="worst_case"), distribution.means.min(1).values)
    expected = distribution.means.mean(1) - 2 * distribution.means.var(1, unbiased=False)
    torch.testing.assert_close(model.score(PROBES, risk="uwo:2"), expected)
    assert "these heads have none" in model.fitted["std_means"]
    assert float(model.score(PROBES)[2]) > float(model.score(PROBES)[1])


def test_pairs_alone_give_heads_that_follow_stage_one_and_say_what_a_std_is():
    """Trap 4: the std is only the distance from stage 1, which linear heads bring to the floor."""
    pairs, lines = pl.load_pairs(pairs_rows(100)), []
    model = fit(pairs=pairs, config=SHORT | {"l2": 0.1}, report=lines.append)
    ensemble = fit(pairs=pairs, config=SHORT | {"l2": 0.1, "loss": "bradley_terry"})
    assert model.fitted["target"] == "stage_1"
    assert "pairs cannot tell mean and spread apart" in model.fitted["std_means"]
    assert any("pairs cannot tell" in line for line in lines)
    distribution, scores = model.distribution(PROBES), ensemble.distribution(PROBES)
    assert float(distribution.stds.max()) < 0.1
    correlation = torch.corrcoef(torch.stack([distribution.mean(), scores.mean()]))[0, 1]
    assert float(correlation) > 0.999
    assert set(model.baselines) == {"bradley_terry"}


def test_votes_are_pairs_unless_ratings_of_them_are_asked_for():
    votes = pl.load_comparisons(votes_rows())
    assert fit(votes=votes, config=SHORT | {"l2": 0.1}).fitted["target"] == "stage_1"
    model = fit(votes=votes, config=QUICK | {"target": "ratings", "l2": 0.3})
    assert model.fitted["target"] == "ratings"
    assert [a.name for a in model.head.attributes] == ["preference"]
    assert float(model.distribution(PROBES).stds.min()) > 0.2


def test_ratings_can_be_turned_into_pairs():
    model = fit(ratings=pl.load_ratings(ratings_rows(20)), config=SHORT | {"l2": 0.1, "target": "stage_1"})
    assert (model.fitted["target"], model.head.attributes) == ("stage_1", ())


# -- what it refuses, and files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"heads": 0}, "heads = 0"),
        ({"heads": 2.5}, "heads = 2.5"),
        ({"loss": "mse"}, "allowed: gaussian_nll"),
        ({"beta": 1.5}, "beta = 1.5"),
        ({"mix": "mixture"}, "head by head"),
        ({"debias_coupling": "parity"}, "use shift"),
        ({"loss": "bradley_terry", "target": "ratings"}, "has no target"),
        ({"target": "pairs"}, "allowed: ratings, stage_1"),
        ({"l2": 0.0}, "above 0"),
        ({"l2_grid": ()}, "l2_grid is empty"),
        ({"std_floor": float("nan")}, "std_floor"),
        ({"head": 3}, "did you mean 'heads'"),
    ],
)
def test_illegal_configurations_are_named(config, match):
    with pytest.raises(ConfigError, match=match):
        fit(pairs=pl.load_pairs(pairs_rows(4)), config=config)


def test_ratings_that_never_vary_and_a_single_group_are_reported():
    rows = ratings_rows(6)
    for row in rows:
        row["ratings"] = [3, 3, 3]
    with pytest.warns(ConstantHeadWarning, match="every rating of 'a0' is the same"):
        model = fit(ratings=pl.load_ratings(rows), config=QUICK | {"dequantise": False})
    assert bool(model.score(PROBES).isfinite().all())
    rows = [row | {"group": "one"} for row in ratings_rows(6)]
    with pytest.raises(DataError, match="set l2 and std_l2 yourself"):
        fit(ratings=pl.load_ratings(rows), config={"baselines": False})
    with pytest.raises(DataError, match="needs ratings, or comparisons with votes"):
        fit(pairs=pl.load_pairs(pairs_rows(6)), config={"target": "ratings"})


def test_a_point_model_still_refuses_measures_of_heads():
    model = fit(pairs=pl.load_pairs(pairs_rows(60)), config=SHORT | {"l2": 0.1})
    with pytest.raises(RiskError, match="compares heads, and Point has none"):
        model.with_head(model.baselines["bradley_terry"]).score(PROBES, risk="worst_case")


def test_a_saved_ensemble_answers_the_same(tmp_path):
    backbone = FakeBackbone()
    model = fit(backbone, ratings=pl.load_ratings(ratings_rows(12)), config=QUICK | {"hidden": 4})
    model.save_pretrained(tmp_path / "m")
    again = pl.RewardModel.from_pretrained(tmp_path / "m", backbone=backbone, cache=None)
    for risk in ("mean", "robust:0.4", "cvar:0.1"):
        assert torch.equal(again.score(PROBES, risk=risk), model.score(PROBES, risk=risk))
    assert again.fitted["agreement"] == model.fitted["agreement"]
    card = (tmp_path / "m" / "README.md").read_text()
    assert "std_means" in card


def test_heads_with_hidden_units_learn_what_linear_ones_cannot():
    """The reward is |x|; bootstrapped heads agree where there is data and less beyond it."""
    generator = np.random.default_rng(1)
    rows = [
        {
            "prompt": f"p{i}",
            "response": f"{x:.4f} 0 {i}",
            "attribute": "a",
            "ratings": [float(abs(x) + 0.2 * generator.normal())],
            "scale": [-5, 15],
        }
        for i, x in enumerate(generator.uniform(-2, 2, size=500))
    ]
    model = fit(ratings=pl.load_ratings(rows), config=QUICK | {"hidden": 32, "steps": 400})
    inside = model.attribute_distributions([talk(f"{x} 0 new") for x in (-1.5, 0.0, 1.5)])["a"]
    torch.testing.assert_close(inside.mean(), torch.tensor([1.5, 0.0, 1.5]), atol=0.4, rtol=0)
    far = model.attribute_distributions([talk("-8 0 new"), talk("8 0 new")])["a"]
    assert float(far.means.std(1).min()) > 2 * float(inside.means.std(1).max())
    assert head_agreement(inside.means)["correlation"] > 0.9
