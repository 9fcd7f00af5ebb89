"""From ratings and pairs to a gated, debiased model: what is found, and what is said where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import Ridge

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, ratings_rows, talk
from pluralign.backbones import Embeddings
from pluralign.errors import ArgumentError, DataError, DebiasWarning, GateWarning, RiskError
from pluralign.fitting.linear.ridge import ridge_path
from pluralign.fitting.mix.debias import LAMBDAS, smallest_lambdas
from pluralign.fitting.tables.targets import rating_targets

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
GATE = {
    "gate_hidden": 16,
    "gate_layers": 1,
    "gate_batch": 128,
    "gate_steps": 60,
    "gate_eval_every": 10,
    "gate_lr": 0.03,
    "gate_temperature": 1.0,
}
FAMILIES = {"quantile": {"levels": LEVELS, "l1": 0.003}, "regression": {"l2": 0.05}}


class KindBackbone(FakeBackbone):
    """The first word of a prompt is its vector, times a number per column; words of a response are tokens."""

    def embed(self, conversations, *, cache=None, progress=None):
        found = super().embed(conversations)
        kinds = [float(c[0]["content"].split()[0]) for c in conversations]
        prompt = torch.tensor(kinds)[:, None] * torch.linspace(1, 2, WIDTH)
        tokens = torch.tensor([len(c[-1]["content"].split()) for c in conversations], dtype=torch.int64)
        return Embeddings(
            found.response, prompt.reshape(len(kinds), WIDTH), tokens, found.truncated, found.stats
        )


def ratings(num_prompts=60):
    """a0 rates the first number of a response, a1 the second; 1 to 5."""
    generator = np.random.default_rng(0)
    rows = []
    for prompt in range(num_prompts):
        for place in range(4):
            values = generator.normal(size=2)
            for attribute in (0, 1):
                rated = np.clip(np.round(3 + values[attribute] + 0.5 * generator.normal(size=3)), 1, 5)
                rows.append(
                    {
                        "prompt": f"{(-1) ** prompt} request {prompt}",
                        "response": f"{values[0]:.4f} {values[1]:.4f} answer {prompt} {place}",
                        "attribute": f"a{attribute}",
                        "ratings": rated.tolist(),
                        "scale": [1, 5],
                        "group": f"r{prompt}",
                    }
                )
    return pl.load_ratings(rows)


def pairs(count=600, seed=1):
    """Prompts that begin with 1 prefer the first number, those with -1 the second; none of them is rated."""
    generator = np.random.default_rng(seed)
    rows = []
    for pair in range(count):
        kind = int(generator.choice([-1, 1]))
        values = generator.normal(size=(2, 2))
        gap = (values[0] - values[1])[0 if kind == 1 else 1]
        texts = [f"{v[0]:.4f} {v[1]:.4f} reply {seed} {pair} {i}" for i, v in enumerate(values)]
        chosen, rejected = texts if generator.uniform() < 1 / (1 + np.exp(-3 * gap)) else texts[::-1]
        rows.append(
            {
                "prompt": f"{kind} unrated {pair}",
                "chosen": chosen,
                "rejected": rejected,
                "group": f"p{pair % 150}",
                "subset": f"kind {kind}",
            }
        )
    return pl.load_pairs(rows)


def fit(family="quantile", *, config=None, backbone=KindBackbone, **data):
    settings = FAMILIES[family] | GATE | (config or {})
    return pl.fit(family, backbone=backbone(), cache=None, config=settings, **data)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def gated(request):
    return fit(request.param, ratings=ratings(), pairs=pairs())


def accuracy(model, table, **options):
    sides = [
        model.score([[*row["prompt"], {"role": "assistant", "content": row[s]}] for row in table], **options)
        for s in ("chosen", "rejected")
    ]
    return float((sides[0] > sides[1]).float().mean())


class TestGate:
    def test_heads_on_ratings_and_a_gate_on_pairs(self, gated):
        weights = gated.gate_weights([talk("0 0 x", "1 new"), talk("0 0 x", "-1 new")])
        assert float(weights[0, 0]) > 0.8
        assert float(weights[1, 1]) > 0.8
        facts = gated.fitted["gate"]
        assert facts["trained"]
        assert facts["pairs"] == 600
        assert set(facts["mean_weights"]) == {"a0", "a1"}
        assert 0 < facts["entropy_share"] < 0.8

    def test_it_beats_equal_weights_on_new_pairs(self, gated):
        new = pairs(400, seed=7)
        assert accuracy(gated, new) > accuracy(gated, new, weights=[1, 1]) + 0.05

    def test_it_is_stored_with_the_model(self, gated, tmp_path):
        path = gated.save_pretrained(tmp_path / "model")
        twin = pl.RewardModel.from_pretrained(path, backbone=KindBackbone(), cache=None)
        texts = [talk("0.5 -1 x", "1 a"), talk("2 1 y", "-1 b")]
        assert torch.equal(twin.score(texts, risk="cvar:0.3"), gated.score(texts, risk="cvar:0.3"))
        assert torch.equal(twin.gate_weights(texts), gated.gate_weights(texts))
        assert twin.fitted["gate"] == gated.fitted["gate"]

    def test_an_interrupted_fit_continues_inside_the_gate(self, tmp_path, monkeypatch):
        monkeypatch.setattr("pluralign.fitting.train.state.REST", 0)
        data = {"ratings": ratings(20), "pairs": pairs(200)}
        whole = fit("regression", **data)

        def stops(line):
            if line.startswith("gate: step 30"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit("regression", **data, journal=tmp_path / "search.jsonl", report=stops)
        assert (tmp_path / "search-gate.safetensors").is_file()
        lines = []
        again = fit("regression", **data, journal=tmp_path / "search.jsonl", report=lines.append)
        assert next(line[:13] for line in lines if line.startswith("gate: step")) == "gate: step 40"
        assert not (tmp_path / "search-gate.safetensors").exists()
        for a, b in zip(whole.head.state_dict().values(), again.head.state_dict().values(), strict=True):
            assert torch.equal(a, b)

    def test_the_evaluation_shows_it(self, gated, tmp_path):
        results = pl.evaluation.evaluate(gated, pairs=pairs(60, seed=8), ratings=ratings(6), out=tmp_path)
        shown = results["gate"]["pairs"]
        assert shown["subsets"]["kind 1"]["a0"] > 0.8
        assert shown["subsets"]["kind -1"]["a1"] > 0.8
        for part in (shown["weights"], *shown["subsets"].values()):
            assert sum(part.values()) == pytest.approx(1)
        assert 0 < shown["entropy_share"] < 0.8
        assert set(results["gate"]) == {"pairs", "ratings", "pairs_from_ratings"}

    def test_votes_train_it_too(self):
        rows = [
            {
                "prompt": row["prompt"],
                "response_a": row["chosen"],
                "response_b": row["rejected"],
                "votes": [1, 1, 0],
                "group": row["group"],
            }
            for row in pairs(300)
        ]
        model = fit("regression", ratings=ratings(), votes=pl.load_comparisons(rows))
        assert float(model.gate_weights([talk("0 0 x", "1 new")])[0, 0]) > 0.7

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({}, "no pairs and no votes"),
            ({"pairs": pairs(20), "config": {"gate": False}}, "gate is false"),
        ],
    )
    def test_equal_weights_are_reported(self, options, reason):
        lines = []
        model = fit("regression", ratings=ratings(20), report=lines.append, **options)
        assert model.fitted["gate"]["trained"] is False
        assert reason in model.fitted["gate"]["reason"]
        assert any("equal weights" in line and reason in line for line in lines)
        torch.testing.assert_close(model.gate_weights([talk("1 1 x", "1 a")]), torch.full((1, 2), 0.5))

    def test_one_attribute_has_weight_1(self):
        one = ratings(20).filter(lambda row: row["attribute"] == "a0")
        model = fit("regression", ratings=one, pairs=pairs(20))
        assert model.fitted["gate"]["reason"] == "there is one attribute"
        assert model.gate_weights([talk("1 1 x", "1 a")]).tolist() == [[1.0]]

    @pytest.mark.filterwarnings("ignore::pluralign.errors.ConstantHeadWarning")  # of the baseline
    def test_comparisons_that_are_all_tied_are_reported(self):
        rows = [
            {
                "prompt": row["prompt"],
                "response_a": row["chosen"],
                "response_b": row["rejected"],
                "votes": [0, 0],
                "group": row["group"],
            }
            for row in pairs(30)
        ]
        with pytest.warns(GateWarning, match="every comparison is tied"):
            model = fit("regression", ratings=ratings(20), votes=pl.load_comparisons(rows))
        assert model.fitted["gate"]["trained"] is False

    @pytest.mark.filterwarnings("ignore::pluralign.errors.ConstantHeadWarning")
    def test_heads_that_distinguish_nothing_are_reported(self):
        with pytest.warns(GateWarning, match="do not distinguish any two sides"):
            fit("quantile", ratings=ratings(20), pairs=pairs(30), config={"l1": 10.0, "baselines": False})


class TestSteering:
    def test_user_weights_replace_the_gate(self, gated):
        texts = [talk("2 -2 x", "1 a"), talk("-2 2 x", "1 a")]
        first, second = gated.score(texts, weights={"a0": 1})
        assert first > second
        first, second = gated.score(texts, weights={"a1": 3})
        assert first < second
        torch.testing.assert_close(
            gated.score(texts, weights={"a0": 1, "a1": 3}), gated.score(texts, weights=[2, 6])
        )
        distribution = gated.distribution(texts, weights={"a0": 1})
        assert torch.equal(distribution.mean(), gated.score(texts, weights={"a0": 1}))

    def test_the_gates_own_weights_given_by_hand_change_nothing(self, gated):
        text = [talk("0.3 -0.8 x", "1 a")]
        by_hand = gated.score(text, weights=gated.gate_weights(text)[0].tolist())
        torch.testing.assert_close(by_hand, gated.score(text), rtol=1e-4, atol=1e-5)

    def test_an_attribute_can_count_by_its_low_quantile(self):
        model = fit("quantile", ratings=ratings())
        texts = [talk("0 0.2 x", "1 a"), talk("1 -1 y", "1 a")]
        by_quantile = model.score(texts, weights={"a0": 1}, steer={"a0": "quantile:0.1"})
        low = model.distribution(texts, weights={"a0": 1}).quantile(0.1)
        torch.testing.assert_close(by_quantile, low)
        assert bool((by_quantile < model.score(texts, weights={"a0": 1})).all())

    def test_steering_that_is_not_possible(self, gated):
        text = [talk("0 0 x", "1 a")]
        with pytest.raises(ArgumentError, match="unknown attribute 'safety'"):
            gated.score(text, weights={"safety": 1})
        with pytest.raises(ArgumentError, match="at least 0"):
            gated.score(text, weights={"a0": -1})
        with pytest.raises(RiskError, match="mean, median, quantile:t, cvar:a"):
            gated.score(text, steer={"a0": "entropic:1"})
        with pytest.raises(RiskError, match="quantil"):
            gated.score(text, steer={"a0": "quantil:0.1"})


class TestLambdas:
    def test_the_smallest_lambda_that_suffices(self):
        generator = torch.Generator().manual_seed(0)
        bias = torch.rand(2000, generator=generator, dtype=torch.float64)
        noise = 0.1 * torch.rand(2000, 3, generator=generator, dtype=torch.float64)
        means = torch.stack([noise[:, 0], 0.3 * bias + noise[:, 1], 2 * bias + noise[:, 2]], 1)
        found = smallest_lambdas(means, bias)
        assert found.values[0] == 0
        assert found.values[1] is not None
        before = LAMBDAS[LAMBDAS.index(found.values[1]) - 1]
        for value, low in ((found.values[1], True), (before, False)):
            correlation = scipy.stats.spearmanr(means[:, 1] - value * bias, bias).statistic
            assert bool(correlation <= 0.03) is low
        assert found.after[1] <= 0.03 < found.before[1]
        assert found.values[2] is None  # would need 2, beyond the grid
        assert found.before[2] == found.after[2] > 0.9

    def test_the_grid_is_the_published_one(self):
        assert LAMBDAS[:9] == (0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2)
        assert LAMBDAS[-1] == 0.95
        assert len(LAMBDAS) == 24

    def test_nothing_comes_off_for_a_bias_that_does_not_vary(self):
        found = smallest_lambdas(torch.randn(50, 2), torch.ones(50))
        assert (found.values, found.before, found.after) == ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


def long_rows():
    """Answers that are longer the larger their first number; raters like long ones in both attributes."""
    generator = np.random.default_rng(5)
    rows = []
    for prompt in range(60):
        for place in range(4):
            x, y = generator.normal(), generator.normal()
            text = f"{x:.4f} {y:.4f} {prompt} {place} " + "word " * int(15 + 4 * x)
            for name, mean in (("quality", 3 + y + 0.4 * x), ("verbosity", 3 + x)):
                rated = np.clip(np.round(mean + 0.3 * generator.normal(size=3)), 1, 5).tolist()
                rows.append(
                    {
                        "prompt": f"1 request {prompt}",
                        "response": text,
                        "attribute": name,
                        "ratings": rated,
                        "scale": [1, 5],
                        "group": f"{prompt}",
                    }
                )
    return pl.load_ratings(rows)


class TestDebias:
    @pytest.mark.filterwarnings("ignore:no lambda reduces the correlation of verbosity")  # it is length
    @pytest.mark.parametrize("variable", ["verbosity", "tokens", "characters"])
    @pytest.mark.parametrize("family", sorted(FAMILIES))
    def test_the_reward_stops_following_the_bias(self, family, variable):
        table = long_rows()
        texts = rating_targets(table).conversations
        words = [len(t[-1]["content"].split()) for t in texts]
        quality = {"quality": 1.0}
        plain = fit(family, ratings=table, config={"baselines": False})
        model = fit(family, ratings=table, config={"debias": variable, "baselines": False})
        assert scipy.stats.spearmanr(plain.score(texts, weights=quality), words).statistic > 0.2
        assert scipy.stats.spearmanr(model.score(texts, weights=quality), words).statistic < 0.1
        facts = model.fitted["debias"]
        assert facts["variable"] == variable
        assert facts["lambdas"]["quality"] > 0
        assert facts["spearman_after"]["quality"] <= 0.03 < facts["spearman_before"]["quality"]
        assert ("verbosity" in facts["lambdas"]) is (variable != "verbosity")

    def test_gate_and_use_see_the_same_debiased_rewards(self, monkeypatch):
        from pluralign.fitting.mix import mixing

        seen = []
        real = mixing.train_gate

        def look(pairs, *args, **options):
            seen.append(pairs)
            return real(pairs, *args, **options)

        monkeypatch.setattr(mixing, "train_gate", look)
        table = pairs(200)
        model = fit("quantile", ratings=ratings(), pairs=table, config={"debias": "characters"})
        ungated = model.with_head(model.head.with_parts(gate=None, reference=pl.heads.Reference()))
        for i, weights in enumerate(([1, 0], [0, 1])):
            chosen, rejected = (
                ungated.score(
                    [[*row["prompt"], {"role": "assistant", "content": row[side]}] for row in table],
                    weights=weights,
                )
                for side in ("chosen", "rejected")
            )
            torch.testing.assert_close(seen[0].difference[:, i], chosen - rejected, rtol=1e-4, atol=1e-5)

    def test_what_cannot_be_reached_is_reported_and_gets_nothing(self):
        table = long_rows()
        with pytest.warns(DebiasWarning, match="quality"):
            model = fit("regression", ratings=table, config={"debias": "tokens", "debias_threshold": -1.0})
        facts = model.fitted["debias"]
        assert "quality" in facts["unreached"]
        assert facts["lambdas"]["quality"] is None
        assert model.head.debias.length_slope.tolist() == [0.0, 0.0]

    def test_an_unknown_bias_variable(self):
        with pytest.raises(DataError, match="'words' is neither an attribute"):
            fit("regression", ratings=ratings(20), config={"debias": "words"})

    def test_the_bias_variable_as_the_only_attribute(self):
        one = ratings(20).filter(lambda row: row["attribute"] == "a0")
        with pytest.raises(DataError, match="the only attribute"):
            fit("regression", ratings=one, config={"debias": "a0"})


class TestRegression:
    def test_the_path_is_sklearns(self):
        generator = np.random.default_rng(0)
        x = generator.normal(size=(200, 7)) + 3
        y, w = x @ generator.normal(size=7) + generator.normal(size=200), generator.uniform(0.1, 2, 200)
        coef, intercept = ridge_path(*(torch.tensor(part) for part in (x, y, w)), (0.01, 1.0, 30.0))
        for i, l2 in enumerate((0.01, 1.0, 30.0)):
            peer = Ridge(alpha=l2 * w.sum()).fit(x, y, w)
            np.testing.assert_allclose(coef[i], peer.coef_, rtol=1e-7)
            assert float(intercept[i]) == pytest.approx(peer.intercept_, rel=1e-7)

    def test_raters_one_by_one_and_their_mean_give_the_same_head(self):
        table = ratings(20)
        raw, mean = (fit("regression", ratings=table, config={"raters": kind}) for kind in ("raw", "mean"))
        torch.testing.assert_close(raw.head.weight, mean.head.weight)
        majority = fit("regression", ratings=table, config={"raters": "majority"})
        assert not torch.allclose(majority.head.weight, raw.head.weight)

    def test_penalties_are_chosen_per_attribute_and_an_interrupted_search_continues(self, tmp_path):
        table = ratings(20)
        config = {"l2": None, "l2_grid": (0.01, 0.1, 1.0, 100.0), "baselines": False}
        model = fit("regression", ratings=table, config=config, journal=tmp_path / "j")
        assert set(model.fitted["l2"]) == {"a0", "a1"}
        assert all(value < 100 for value in model.fitted["l2"].values())
        lines = (tmp_path / "j").read_text().splitlines()
        assert len(lines) == 2 * 4 * 5
        (tmp_path / "j").write_text("\n".join(lines[:13]) + "\n")
        again = fit("regression", ratings=table, config=config, journal=tmp_path / "j")
        assert torch.equal(again.head.weight, model.head.weight)
        assert sorted((tmp_path / "j").read_text().splitlines()) == sorted(lines)

    def test_the_gaussian_residual_covers_what_raters_say(self):
        table = pl.load_ratings(ratings_rows(80, raters=4))
        train, test = pl.split(table, test_share=0.3)
        model = fit(
            "regression",
            ratings=train,
            config={"residual": "gaussian", "baselines": False},
            backbone=FakeBackbone,
        )
        part = pl.evaluation.evaluate(model, ratings=test)["ratings"]["a0"]
        assert part["coverage"]["model"]["estimate"] == pytest.approx(0.9, abs=0.05)
        point = fit("regression", ratings=train, config={"baselines": False}, backbone=FakeBackbone)
        blunt = pl.evaluation.evaluate(point, ratings=test)["ratings"]["a0"]
        assert part["crps"]["model"]["estimate"] < blunt["crps"]["model"]["estimate"]

    def test_one_group_and_a_penalty_measure_the_residual_in_the_sample(self):
        rows = [row | {"group": "g"} for row in ratings_rows(20)]
        model = fit(
            "regression",
            ratings=pl.load_ratings(rows),
            config={"residual": "gaussian"},
            backbone=FakeBackbone,
        )
        assert 0.05 < float(model.head.residual_std) < 0.5
        with pytest.raises(DataError, match="set l2 yourself"):
            fit("regression", ratings=pl.load_ratings(rows), config={"l2": None}, backbone=FakeBackbone)

    def test_too_few_ratings(self):
        with pytest.raises(DataError, match="1 rating"):
            fit("regression", ratings=pl.load_ratings(ratings_rows(1, 1, raters=1)), backbone=FakeBackbone)
