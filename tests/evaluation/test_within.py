"""Skill within a prompt: in words, beside length, and apart from what a pooled loss says."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone
from pluralign.evaluation import evaluate
from pluralign.evaluation.within import chance_verdict, summarise_within
from pluralign.heads import Attribute, ColumnScaling, QuantileHead

FIVE = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)


def interval(estimate, low, high, reason=""):
    return {"estimate": estimate, "low": low, "high": high, "reason": reason}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (interval(0.573, 0.562, 0.583), "above chance"),
        (interval(0.486, 0.46, 0.513), "at chance"),
        (interval(0.46, 0.447, 0.473), "below chance"),
        (interval(0.5, 0.5, 0.5), "at chance"),
        (interval(1.0, None, None, "one group"), "not known: no interval (one group)"),
    ],
)
def test_a_verdict_is_what_the_interval_says(found, words):
    assert chance_verdict(found) == words


def test_a_tie_is_not_a_win_so_chance_is_half_of_the_others():
    """Of 100 pairs 60 tie and 20 are won: a coin on the other 40 would win as many."""
    pairs = {
        "rows": 100,
        "groups": 9,
        "accuracy": {"model": interval(0.2, 0.17, 0.23), "length": interval(0.5, 0.4, 0.6)},
        "ties": {"model": 60, "length": 0},
        "difference": {"length": interval(-0.3, -0.4, -0.2)},
    }
    found = summarise_within(pairs)
    assert (found["chance"], found["verdict"]) == (0.2, "at chance")
    assert (found["length"], found["difference"]) == (
        pairs["accuracy"]["length"],
        pairs["difference"]["length"],
    )
    untold = summarise_within(pairs | {"ties": {}})
    assert (untold["chance"], untold["verdict"]) == (0.5, "below chance")
    assert list(summarise_within(None)) == ["verdict"]
    assert list(summarise_within(pairs, "own_attribute")) == ["verdict"]


def reader_of(slopes):
    """Quantiles of U(1 + 4 s x, 5 + 4 s x) with a slope s per attribute, for responses that begin with x."""
    weight = torch.zeros(len(slopes), 5, WIDTH)
    weight[:, :, 0] = torch.tensor(slopes)[:, None]
    attributes = tuple(Attribute(f"a{i}", 1.0, 5.0) for i in range(len(slopes)))
    levels = FIVE.float().expand(len(slopes), 5).clone()
    return QuantileHead(ColumnScaling.empty(WIDTH), weight, levels, FIVE, attributes)


def table(attributes, sign):
    """Eight prompts with two responses: x goes with the rating over prompts, and by `sign` within one."""
    rows = []
    for p in range(8):
        base = -1.4 + 0.4 * p
        for step in (-0.1, 0.1):
            rating = min(5.0, max(1.0, 3 + 0.8 * base + sign * 3 * step))
            for name in attributes:
                row = {"prompt": f"p{p}", "response": f"{base + step:.2f} 0 {'longer' if step < 0 else 'x'}"}
                row |= {"attribute": name, "ratings": [rating], "scale": [1, 5], "group": f"g{p}"}
                rows.append(row | {"id": f"{p} {step} {name}"})
    return pl.load_ratings(rows)


@pytest.mark.parametrize(("sign", "words"), [(-1, "below chance"), (1, "above chance")])
def test_a_better_pinball_loss_is_not_skill_within_a_prompt(sign, words):
    """Simpson's: the loss beats the constant model's either way, by knowing prompts."""
    model = pl.RewardModel(FakeBackbone(), reader_of([0.2]), baselines={"constant": reader_of([0.0])})
    part = evaluate(model, ratings=table(["a0"], sign))["ratings"]["a0"]
    assert part["pinball"]["difference"]["high"] < 0
    found = part["within_prompt"]
    assert found["verdict"] == words
    assert found["model"]["estimate"] == (sign > 0)
    assert found["length"]["estimate"] == (sign < 0)  # the lower x has the longer text
    assert (found["rows"], found["groups"], found["chance"]) == (8, 8, 0.5)


def test_each_attribute_is_evaluated_by_its_own_mean_and_a_constant_one_is_at_chance():
    results = evaluate(pl.RewardModel(FakeBackbone(), reader_of([0.2, 0.0])), ratings=table(["a0", "a1"], 1))
    parts = {name: part["within_prompt"] for name, part in results["ratings"].items()}
    assert {name: part["verdict"] for name, part in parts.items()} == {
        "a0": "above chance",
        "a1": "at chance",
        "all": "above chance",
    }
    assert (parts["a1"]["model"]["estimate"], parts["a1"]["chance"]) == (0.0, 0.0)
    assert (parts["a0"]["rows"], parts["all"]["rows"]) == (8, 16)


def test_without_two_responses_to_a_prompt_it_is_unknown():
    ratings = table(["a0"], 1)
    one_each = ratings.select(range(0, len(ratings), 2))
    part = evaluate(pl.RewardModel(FakeBackbone(), reader_of([0.2])), ratings=one_each)["ratings"]["a0"]
    assert part["within_prompt"] == {
        "verdict": "not known: no two responses to one prompt were rated differently"
    }
