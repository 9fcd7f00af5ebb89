"""Data drawn from the crowd follows the exact distribution, in the canonical shapes, and reproducibly."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy import stats

from pluralign.errors import ArgumentError
from pluralign.lab import ATTRIBUTES, KINDS, PERSONAS, PROMPTS, Crowd, parse, parse_prompt
from pluralign.lab.raters import RaterPool

CROWD = Crowd(seed=3)
MANY = 250  # raters per item where frequencies are compared


def talks(rows: Dataset, column: str = "response") -> list[Any]:
    return [[*row["prompt"], {"role": "assistant", "content": row[column]}] for row in rows]


def p_value(values: np.ndarray, probs: np.ndarray) -> float:
    """Chi-squared test of drawn categories [B, R] against each row's own probabilities [B, C]."""
    expected = probs * values.shape[1]
    observed = np.stack([(values == k).sum(1) for k in range(probs.shape[1])], axis=1)
    # cells that expect less than 5 are pooled with the fullest one of their row, which keeps the test valid
    rare = expected < 5
    top = expected.argmax(1)
    rows = np.arange(len(top))
    for counts in (expected, observed):
        counts[rows, top] += (counts * rare).sum(1)
    statistic = ((observed - expected) ** 2 / expected)[~rare].sum()
    return float(stats.chi2.sf(statistic, (~rare).sum() - len(top)))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_ratings_follow_the_truth(attribute: str) -> None:
    rows = CROWD.ratings(200, MANY, [attribute], seed=1)
    probs = CROWD.rating_truth(talks(rows), attribute).probs.numpy()
    assert p_value(np.array(rows["ratings"]) - 1, probs) > 1e-4
    np.testing.assert_allclose(rows["true_mean"], probs @ [1, 2, 3, 4, 5], atol=1e-12)


def test_true_quantiles_cover_dequantised_ratings() -> None:
    rows = CROWD.ratings(300, MANY, levels=[0.1, 0.5, 0.8])
    smeared = np.array(rows["ratings"]) + np.random.default_rng(0).uniform(-0.5, 0.5, (300, MANY))
    for j, level in enumerate((0.1, 0.5, 0.8)):
        below = smeared <= np.array(rows["true_quantiles"])[:, [j]]
        assert abs(below.mean() - level) < 4 * np.sqrt(level * (1 - level) / below.size)


def test_unrounded_ratings_follow_the_truth() -> None:
    rows = CROWD.ratings(200, MANY, rounded=False)
    distribution = CROWD.truth(talks(rows))
    pit = distribution.cdf(torch.tensor(rows["ratings"])).numpy().ravel()
    assert stats.kstest(pit, "uniform").pvalue > 1e-4
    for tilt in (1, 2):  # mean and variance, far sharper than the test above
        powers = (np.array(rows["ratings"]) - np.array(rows["true_mean"])[:, None]) ** tilt
        error = powers.mean() - (0 if tilt == 1 else (distribution.std() ** 2).mean().item())
        assert abs(error) < 4 * powers.std() / np.sqrt(powers.size)
    levels = torch.tensor([0.05 * k for k in range(1, 20)], dtype=torch.float64)
    np.testing.assert_allclose(rows["true_quantiles"], distribution.quantile(levels), atol=1e-9)
    np.testing.assert_allclose(rows["true_mean"], distribution.mean(), atol=1e-12)
    low, high = rows["scale"][0]
    assert low <= np.min(rows["ratings"]) <= 1
    assert 5 <= np.max(rows["ratings"]) <= high


def test_category_votes_follow_the_truth() -> None:
    rows = CROWD.category_votes(200, MANY)
    probs = CROWD.category_truth(talks(rows)).numpy()
    np.testing.assert_allclose(rows["true_probs"], probs, atol=1e-12)
    assert p_value(np.array(rows["ratings"]), probs) > 1e-4


def test_votes_follow_the_win_probability() -> None:
    rows = CROWD.votes(200, MANY)
    win = CROWD.win_probability(talks(rows, "response_a"), talks(rows, "response_b")).numpy()
    np.testing.assert_allclose(rows["true_win"], win, atol=1e-12)
    votes = np.array(rows["votes"])
    assert set(votes.ravel()) == {-1, 1}
    assert p_value((votes > 0).astype(int), np.stack([1 - win, win], axis=1)) > 1e-4


def test_pairs_follow_the_win_probability() -> None:
    pairs, votes = CROWD.pairs(3000), CROWD.votes(3000, 1)
    first_won = np.array([p["chosen"] == v["response_a"] for p, v in zip(pairs, votes, strict=True)])
    win = np.array(votes["true_win"])
    for tilt in (np.ones(3000), win - 0.5):  # too often the first; too often the better
        error = ((first_won - win) * tilt).sum() / np.sqrt((win * (1 - win) * tilt**2).sum())
        assert abs(error) < 4
    np.testing.assert_allclose(pairs["true_win"], np.where(first_won, win, 1 - win))
    assert all(p["chosen"] != p["rejected"] for p in pairs)


@pytest.mark.parametrize("time", [0.0, 0.5, 1.0])
def test_data_follows_the_shifted_population(time: float) -> None:
    crowd = Crowd(shift={"teenager": 0.7, "artist": 0.3})
    rows = crowd.ratings(150, MANY, time=time, seed=2)
    probs = crowd.rating_truth(talks(rows), time=time).probs.numpy()
    assert p_value(np.array(rows["ratings"]) - 1, probs) > 1e-4


def test_label_flips_mirror_their_share() -> None:
    crowd = Crowd(label_flips=0.2)
    rows = crowd.ratings(150, MANY)
    probs = crowd.rating_truth(talks(rows)).probs.numpy()
    assert p_value(np.array(rows["ratings"]) - 1, 0.8 * probs + 0.2 * probs[:, ::-1]) > 1e-4
    votes = crowd.votes(150, MANY)
    win = 0.8 * np.array(votes["true_win"]) + 0.2 * (1 - np.array(votes["true_win"]))
    assert p_value((np.array(votes["votes"]) > 0).astype(int), np.stack([1 - win, win], axis=1)) > 1e-4
    rows = crowd.category_votes(150, MANY)
    probs = np.array(rows["true_probs"])
    assert p_value(np.array(rows["ratings"]), 0.8 * probs + 0.2 * probs[:, ::-1]) > 1e-4


def test_a_shared_bias_shifts_every_rater_alike() -> None:
    honest, biased = (
        Crowd(bias=bias).ratings(100, rounded=False) for bias in ({}, {"length": 0.1, "risk": 2})
    )
    assert honest["rater_ids"] == biased["rater_ids"]
    assert honest["true_quantiles"] == biased["true_quantiles"]
    traits = [parse(parse_prompt(row["prompt"][0]["content"]), row["response"]) for row in honest]
    expected = [0.1 * t.length + 2 * t.risk for t in traits]
    shift = np.array(biased["ratings"]) - np.array(honest["ratings"])
    np.testing.assert_allclose(shift, np.tile(expected, (5, 1)).T, atol=1e-9)


def assert_same_rows(one, other) -> None:
    """Equal rows; floats up to rounding, because a vectorised function may round its last rows otherwise."""
    assert one.column_names == other.column_names
    assert len(one) == len(other)
    for name in one.column_names:
        if name.startswith("true_"):
            np.testing.assert_allclose(one[name][:], other[name][:], rtol=1e-12, err_msg=name)
        else:
            assert one[name][:] == other[name][:], name


def test_the_first_rows_of_a_longer_draw_are_the_shorter_draw() -> None:
    for draw in (CROWD.ratings, CROWD.category_votes, CROWD.votes, CROWD.pairs):
        assert_same_rows(draw(700).select(range(90)), draw(90))


def test_reproducible_from_the_seeds_alone() -> None:
    again = Crowd(seed=3)
    assert CROWD.ratings(50, seed=4).to_list() == again.ratings(50, seed=4).to_list()
    responses = {
        tuple(crowd.ratings(50, seed=seed)["response"]) for crowd in (CROWD, Crowd(seed=4)) for seed in (0, 1)
    }
    assert len(responses) == 4


def test_attributes_do_not_disturb_each_other() -> None:
    alone = CROWD.ratings(40, attributes=["safety"])
    among = CROWD.ratings(40, attributes=["overall", "safety", "courtesy"])
    assert_same_rows(among.select(range(1, 120, 3)), alone)


def test_tables_share_their_responses() -> None:
    texts = [talk[-1]["content"] for talk in CROWD.conversations(60, seed=2)]
    assert CROWD.ratings(60, seed=2)["response"][:] == texts
    assert CROWD.category_votes(60, seed=2)["response"][:] == texts


def test_canonical_columns() -> None:
    ratings = CROWD.ratings(8, 3, attributes=["overall", "safety"])
    shape = {"id", "prompt", "response", "attribute", "ratings", "rater_ids", "scale", "subset", "group"}
    assert set(ratings.column_names) == shape | {"true_mean", "true_quantiles"}
    assert set(CROWD.category_votes(8).column_names) == shape | {"true_probs"}
    shape = {"id", "prompt", "response_a", "response_b", "votes", "rater_ids", "subset", "group"}
    assert set(CROWD.votes(8).column_names) == shape | {"true_win"}
    shape = {"id", "prompt", "chosen", "rejected", "subset", "group"}
    assert set(CROWD.pairs(8).column_names) == shape | {"true_win"}
    row = ratings[1]
    assert (len(ratings), row["attribute"], row["scale"]) == (16, "safety", [1, 5])
    assert len(row["ratings"]) == len(row["rater_ids"]) == 3
    assert len(row["true_quantiles"]) == 19
    assert row["subset"] in KINDS
    assert [p.group for p in PROMPTS if p.messages == row["prompt"]] == [row["group"]]


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    groups = CROWD.ratings(2 * 576 + 2, 1, responses_per_prompt=2)["group"][:]
    assert set(Counter(groups[: 2 * 576]).values()) == {2}
    assert groups[-1] == groups[-2]
    responses = CROWD.conversations(5 * 576, responses_per_prompt=5)
    for i in range(0, len(responses), 5):
        assert len({talk[-1]["content"] for talk in responses[i : i + 5]}) == 5


def test_raters_are_different_people_of_the_population() -> None:
    rows = CROWD.ratings(2000, 8)
    assert all(len(set(ids)) == 8 for ids in rows["rater_ids"])
    persona = dict(zip(CROWD.pool.ids, CROWD.pool.personas.tolist(), strict=True))
    drawn = Counter(persona[rater] for ids in rows["rater_ids"] for rater in ids)
    counts = [drawn[p] for p in range(len(PERSONAS))]
    expected = [16_000 * share for share in CROWD.population.values()]
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    busy = Counter(rater for ids in rows["rater_ids"] for rater in ids)
    assert len(busy) == 240
    assert max(busy.values()) < 2 * min(busy.values())


def test_pool_shares_by_largest_remainder() -> None:
    pool = RaterPool([0.5, 0.3, 0.2, 0.0], 14, np.random.default_rng(0))
    assert Counter(pool.personas.tolist()) == {0: 6, 1: 4, 2: 3, 3: 1}
    assert sum(a != b for a, b in pairwise(pool.personas)) > 3  # the ids do not tell who is who


def test_unrounded_scale_holds_whatever_is_reported() -> None:
    crowd = Crowd(noise=2, bias={"length": 0.2})
    for style in ("padded", "broken", "stuffed", "long"):
        rows = crowd.ratings(200, 10, ATTRIBUTES, rounded=False, style=style)
        assert rows["scale"][0][0] < np.min(rows["ratings"])
        assert np.max(rows["ratings"]) < rows["scale"][0][1]


def test_describe_is_plain_and_true() -> None:
    summary = Crowd(seed=1, label_flips=0.1).describe(500)
    texts = Crowd(seed=1).conversations(500)
    assert summary["mean_gold"] == pytest.approx(Crowd().gold(texts).mean().item())
    assert summary["harm_rate"] == pytest.approx(Crowd().harm_rate(texts).mean().item())
    assert summary["label_flips"] == 0.1
    assert summary["population"]["teacher"] == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "a seed must be a whole number of at least 0"),
        ({"raters": 5}, "raters must be at least 6"),
        ({"noise": 0.0}, "noise must be positive"),
        ({"label_flips": 1.5}, "label_flips must be in"),
        ({"label_flips": float("nan")}, "label_flips must be in"),
        ({"population": {"poet": 1.0}}, "population has unknown names poet"),
        ({"shift": {"artist": -1.0, "ceo": 2.0}}, "shift must be shares of at least 0"),
        ({"population": {}}, "positive sum"),
        ({"bias": {"charm": 1.0}}, "bias must be finite numbers"),
        ({"bias": {"risk": float("nan")}}, "bias must be finite numbers"),
    ],
)
def test_illegal_crowds(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Crowd(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1"),
        ({"seed": -2}, "a seed must be a whole number of at least 0"),
        ({"raters_per_item": 0}, "raters_per_item must be a whole number of at least 1"),
        ({"responses_per_prompt": 0}, "responses_per_prompt must be in 1..256"),
        ({"style": "loud"}, "style must be one of"),
        ({"time": 1.1}, "time must be in"),
        ({"levels": [0.5, 1.0]}, "levels must be a list of increasing numbers in"),
        ({"levels": []}, "levels must be a list of increasing numbers in"),
        ({"attributes": ["charm"]}, "attribute must be one of"),
    ],
)
def test_illegal_draws(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        CROWD.ratings(**{"n": 4, **arguments})


def test_unknown_kind() -> None:
    with pytest.raises(ArgumentError, match="kind must be one of care"):
        CROWD.attribute_weights("love")


@pytest.mark.parametrize("n", [float("nan"), 1.5, 0, -1, None, "3", True])
@pytest.mark.parametrize("table", ["conversations", "ratings", "category_votes", "votes", "pairs"])
def test_a_number_of_rows_that_is_none(table, n):
    """NaN used to draw texts for ever."""
    with pytest.raises(ArgumentError, match="n must be a whole number of at least 1"):
        getattr(Crowd(seed=0), table)(n)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Crowd(seed=1.5), "seed must be a whole number of at least 0"),
        (lambda: Crowd(raters=7.5), "raters must be at least 6"),
        (
            lambda: Crowd().ratings(2, raters_per_item=1.5),
            "raters_per_item must be a whole number of at least 1",
        ),
        (lambda: Crowd().ratings(2, responses_per_prompt=2.5), "responses_per_prompt must be in"),
        (lambda: Crowd().ratings(2, seed=0.5), "seed must be a whole number of at least 0"),
        (lambda: Crowd().ratings(2, levels=(0.9, 0.1)), "levels must be a list of increasing numbers"),
        (lambda: Crowd().ratings(2, attributes=()), "attributes must name at least one"),
        (lambda: Crowd().ratings(2, attributes=("overall", "overall")), "each once"),
        (lambda: Crowd().win_probability(Crowd().conversations(3), []), "got 3 and 0"),
    ],
)
def test_illegal_arguments_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
