"""combine: sources of every family on one scale, mixture and average, files, bad input."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk
from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, Point, Quantiles
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.model import Combination, Contrastive, Sum, judge_probabilities, judge_scores

REFERENCE = [talk(f"{x / 10:.1f} {y} words") for x in range(-15, 16) for y in (0.3, 1.2)]
ASKED = REFERENCE[::7]


class Stub:
    """Answers "x ..." with a distribution made from x."""

    def __init__(self, make) -> None:
        self._make = make

    def distribution(self, conversations):
        x = torch.tensor([float(c[-1]["content"].split()[0]) for c in conversations], dtype=torch.float64)
        return self._make(x)


RISING = Stub(lambda x: Point(x))
FALLING = Stub(lambda x: Point(-100 * x))
GAUSSIAN = Stub(lambda x: GaussianEnsemble(x[:, None], torch.ones_like(x)[:, None]))


@pytest.fixture(scope="module")
def quantile() -> pl.RewardModel:
    return pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows()),
        backbone=FakeBackbone(),
        config={"l1": 0.003, "levels": [0.1, 0.3, 0.5, 0.7, 0.9]},
        cache=None,
    )


@pytest.fixture(scope="module")
def bradley_terry() -> pl.RewardModel:
    pairs = pl.load_pairs(pairs_rows())
    return pl.fit("bradley_terry", pairs=pairs, backbone=FakeBackbone(), config={"l2": 0.01}, cache=None)


def test_models_of_two_families_are_combined(quantile, bradley_terry):
    both = pl.combine([quantile, bradley_terry], reference=REFERENCE)
    distribution = both.distribution(ASKED)
    assert torch.equal(both.score(ASKED, risk="cvar:0.2"), pl.risk.parse("cvar:0.2")(distribution))
    parts = [source.mean() for source in both.source_distributions(ASKED)]
    torch.testing.assert_close(both.score(ASKED), torch.stack(parts).mean(0), rtol=0, atol=0.02)
    # both know that the first number decides
    assert bool((both.score([talk("-1 1"), talk("0 1"), talk("1 1")]).diff() > 0).all())
    forward = both.preference_probability(ASKED[:4], ASKED[4:8])
    backward = both.preference_probability(ASKED[4:8], ASKED[:4])
    torch.testing.assert_close(forward + backward, torch.ones_like(forward))


def test_a_mixture_keeps_disagreement_and_an_average_does_not():
    mixed = pl.combine([RISING, FALLING], reference=REFERENCE)
    averaged = pl.combine([RISING, FALLING], reference=REFERENCE, how="vincentize")
    high = [talk("1.4 0")]
    assert isinstance(mixed.distribution(high), Categorical)
    assert isinstance(averaged.distribution(high), Point)
    for one in (mixed, averaged):
        assert float(one.score(high)) == pytest.approx(0, abs=1e-6)
    assert float(mixed.distribution(high).std()) > 1.4
    assert float(mixed.score(high, risk="cvar:0.5")) < -1.4


def test_a_combination_of_alike_sources_is_one_of_them():
    shifted = Stub(lambda x: Point(7 + 3 * x))
    alone = pl.combine([RISING], reference=REFERENCE).score(ASKED)
    for how in ("mixture", "vincentize"):
        both = pl.combine([RISING, shifted], reference=REFERENCE, how=how)
        torch.testing.assert_close(both.score(ASKED), alone)
    distributions = [pl.combine([s], reference=REFERENCE).distribution(ASKED) for s in (GAUSSIAN, GAUSSIAN)]
    both = pl.combine([GAUSSIAN, GAUSSIAN], reference=REFERENCE).distribution(ASKED)
    assert float(both.wasserstein(distributions[0]).max()) < 1e-6


def test_references_stay_standard_normal_under_a_mixture():
    distribution = pl.combine([GAUSSIAN, RISING, FALLING], reference=REFERENCE).distribution(REFERENCE)
    assert float(distribution.mean().mean()) == pytest.approx(0, abs=0.02)
    variance = distribution.std().square().mean() + distribution.mean().var(unbiased=False)
    assert float(variance) == pytest.approx(1, abs=0.08)


def test_weights_count_by_their_ratios():
    one = pl.combine([RISING, FALLING], reference=REFERENCE, weights=[3, 1])
    parts = [distribution.mean() for distribution in one.source_distributions(ASKED)]
    torch.testing.assert_close(one.score(ASKED), 0.75 * parts[0] + 0.25 * parts[1])
    only = pl.combine([RISING, FALLING], reference=REFERENCE, weights=torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(only.score(ASKED), parts[0])


@pytest.mark.parametrize("how", ["mixture", "vincentize"])
def test_judges_and_a_model_are_combined(quantile, how):
    firsts = torch.tensor([float(c[-1]["content"].split()[0]) for c in REFERENCE])
    column = judge_scores(REFERENCE, (firsts * 10).round())
    repeated = judge_scores(REFERENCE, torch.stack([firsts, firsts + 0.5, firsts * float("nan")], 1))
    tokens = judge_probabilities(REFERENCE, torch.stack([1 - firsts / 4, 1 + firsts / 4], 1) / 2, [1, 5])
    together = pl.combine([quantile, column, repeated, tokens], reference=REFERENCE, how=how)
    assert isinstance(together.distribution(REFERENCE), Quantiles)
    assert float(torch.corrcoef(torch.stack([together.score(REFERENCE), firsts]))[0, 1]) > 0.9
    judges = pl.combine([column, repeated, tokens], reference=REFERENCE)
    distribution = judges.distribution(REFERENCE)
    assert isinstance(distribution, Categorical)  # atoms stay exact: 1 + 3 + 2 of them
    assert distribution.probs.shape == (len(REFERENCE), 6)
    assert isinstance(judges.source_distributions(ASKED)[1], Empirical)


def test_a_combination_is_a_source_and_takes_terms():
    inner = pl.combine([RISING, FALLING], reference=REFERENCE)
    outer = pl.combine([inner, GAUSSIAN], reference=REFERENCE)
    assert outer.score(ASKED).shape == (len(ASKED),)
    summed = Sum(outer, [lambda conversations: [2.0] * len(conversations)])
    torch.testing.assert_close(summed.score(ASKED), outer.score(ASKED) + 2)


def test_a_combination_can_be_read_against_the_initial_policy():
    both = pl.combine([RISING, GAUSSIAN], reference=REFERENCE)
    contrast = Contrastive(both, [talk("0 1"), talk("1 1")]).score(ASKED)
    baseline = both.score([talk("0 1"), talk("1 1")]).mean()
    torch.testing.assert_close(contrast, both.score(ASKED) - baseline, rtol=0, atol=1e-6)


def test_empty_batches_have_empty_answers(quantile, bradley_terry):
    for how in ("mixture", "vincentize"):
        both = pl.combine([quantile, bradley_terry], reference=REFERENCE, how=how)
        assert both.score([]).shape == (0,)


# -- files -----------------------------------------------------------------------------------------


def test_a_loaded_combination_answers_alike(quantile, bradley_terry, tmp_path):
    both = pl.combine([quantile, bradley_terry], reference=REFERENCE, weights=[1, 2], how="vincentize")
    path = both.save_pretrained(tmp_path / "deep" / "both")
    twin = Combination.from_pretrained(path, backbone=FakeBackbone(), cache=None)
    assert torch.equal(twin.score(ASKED, risk="cvar:0.2"), both.score(ASKED, risk="cvar:0.2"))
    assert [p.name for p in path.parent.iterdir()] == ["both"]
    with pytest.raises(ArtifactError, match="nothing was written"):
        both.save_pretrained(path)


def test_a_shared_backbone_is_loaded_once(quantile, bradley_terry, tmp_path, monkeypatch):
    path = pl.combine([quantile, bradley_terry], reference=REFERENCE).save_pretrained(tmp_path / "both")
    loads = []
    monkeypatch.setattr("pluralign.backbones.load", lambda **given: loads.append(given) or FakeBackbone())
    twin = Combination.from_pretrained(path, cache=None)
    assert len(loads) == 1
    assert twin.sources[0].backbone is twin.sources[1].backbone


def test_only_models_are_stored_and_damage_is_refused(quantile, tmp_path):
    with pytest.raises(ArtifactError, match=r"sources\[1\] is Stub; only a combination of reward models"):
        pl.combine([quantile, RISING], reference=REFERENCE).save_pretrained(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    path = pl.combine([quantile], reference=REFERENCE).save_pretrained(tmp_path / "one")
    config = json.loads((path / "config.json").read_text())
    damages = {"weights": [1, 2], "format": 9, "slopes": [-1.0], "how": "sum"}
    for key, value in [*damages.items(), ("weights", [-1.0])]:
        (path / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(ArtifactError, match="one"):
            Combination.from_pretrained(path, backbone=FakeBackbone(), cache=None)
    for other in (tmp_path / "absent", quantile.save_pretrained(tmp_path / "model")):
        with pytest.raises(ArtifactError, match="combination"):
            Combination.from_pretrained(other, backbone=FakeBackbone(), cache=None)


@pytest.mark.parametrize("part", ["maps.safetensors", "source-0/model.safetensors"])
def test_another_part_than_the_one_combined_is_refused(quantile, tmp_path, part):
    other = pl.RewardModel(quantile.backbone, copy.deepcopy(quantile.head))
    other.head.bias += 0.1
    paths = [
        pl.combine([model], reference=REFERENCE).save_pretrained(tmp_path / name)
        for name, model in {"one": quantile, "two": other}.items()
    ]
    shutil.copy(paths[1] / part, paths[0] / part)
    with pytest.raises(ArtifactError, match=f"{part} is not the file that was combined"):
        Combination.from_pretrained(paths[0], backbone=FakeBackbone(), cache=None)
    moved = paths[1].rename(tmp_path / "elsewhere")
    Combination.from_pretrained(moved, backbone=FakeBackbone(), cache=None)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([], {}, "at least one"),
        (RISING, {}, "must be a list"),
        ([RISING, torch.ones(3)], {}, r"sources\[1\] is Tensor; needed: a reward model"),
        ([Stub(lambda x: Point(x[:3]))], {}, "returned 3 rewards for 62 conversations"),
        ([Stub(lambda x: x)], {}, "returned Tensor"),
        ([RISING, Stub(lambda x: Point(0 * x))], {}, r"sources\[1\]: every reference response has the same"),
        ([Stub(lambda x: Point(x * float("nan")))], {}, "values must be finite"),
        ([RISING], {"reference": REFERENCE[:1]}, "at least 2 reference responses"),
        ([RISING], {"reference": "text"}, "needed: a list of conversations"),
        ([RISING, FALLING], {"weights": [1.0]}, "weights must be 2 finite numbers"),
        ([RISING, FALLING], {"weights": [0.0, 0.0]}, "not all 0"),
        ([RISING, FALLING], {"weights": [1.0, -1.0]}, "at least 0"),
        ([RISING, FALLING], {"how": "sum"}, "how must be one of mixture, vincentize"),
    ],
)
def test_illegal_sources_are_named(sources, options, message):
    with pytest.raises(ArgumentError, match=message):
        pl.combine(sources, **({"reference": REFERENCE} | options))
