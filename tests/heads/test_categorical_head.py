"""Categorical heads: what they answer, exact mixes, comparisons that mirror, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from pluralign.distributions import Categorical
from pluralign.errors import ArgumentError
from pluralign.heads import (
    CATEGORIES,
    CATEGORY_REWARDS,
    Attribute,
    CategoricalHead,
    Categories,
    ColumnScaling,
    Debias,
    Gate,
    GateShape,
    Reference,
    Steering,
)
from pluralign.heads.categorical import CategoryLogits, ComparisonLogits
from pluralign.heads.categories import HARM, HELPFULNESS

N, WIDTH = 20, 5
RESPONSE = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0))
PROMPT = torch.randn(N, 4, generator=torch.Generator().manual_seed(1))
ATTRIBUTES = (Attribute("help", 1, 5, 1.0), Attribute("safe", 0, 1, 0.5))
CATEGORIES_OF = (
    Categories(tuple("12345"), (1.0, 2.0, 3.0, 4.0, 5.0), (0.0, 0.25, 0.5, 0.75, 1.0)),
    Categories(("no", "partly", "yes"), (0.0, 0.5, 1.0), (0.0, 0.9, 1.0)),
)


def randomised(module, seed=3):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module


def a_gate(width=4):
    gate = randomised(Gate(GateShape(width=width, num_attributes=2, hidden=8, layers=1)))
    gate.scale.data.fill_(2.5)
    return gate.eval().requires_grad_(False)


def a_head(hidden=0, **parts):
    logits = [randomised(CategoryLogits(WIDTH, len(c), hidden), i) for i, c in enumerate(CATEGORIES_OF)]
    scaling = ColumnScaling.fitted(RESPONSE)
    return CategoricalHead(scaling, logits, CATEGORIES_OF, ATTRIBUTES, hidden=hidden, **parts).eval()


def compares(hidden=0):
    module = randomised(ComparisonLogits(WIDTH, hidden))
    module.center.fill_(0.2)
    attribute = (Attribute("preference", -1, 1, 1.0),)
    categories = (Categories(("loses", "tie", "wins"), (-1.0, 0.0, 1.0), (0.0, 0.5, 1.0)),)
    scaling = ColumnScaling.fitted(RESPONSE)
    return CategoricalHead(
        scaling, [module], categories, attribute, Reference(0.4, 0.3), hidden=hidden
    ).eval()


def test_attributes_are_on_their_scales_and_the_mix_is_over_rewards():
    head = a_head(gate=a_gate())
    distributions = head.attribute_distributions(RESPONSE)
    assert [type(distribution) for distribution in distributions.values()] == [Categorical, Categorical]
    assert distributions["safe"].atoms[0].tolist() == [0.0, 0.5, 1.0]
    torch.testing.assert_close(distributions["help"].probs, head.probs(RESPONSE)[0])
    worth = distributions["safe"].probs @ torch.tensor([0.0, 0.9, 1.0])
    torch.testing.assert_close(head.attribute_means(RESPONSE)[:, 1], worth)
    torch.testing.assert_close(head.attribute_means(RESPONSE)[:, 0], (distributions["help"].mean() - 1) / 4)
    raw = head.raw(RESPONSE, PROMPT)
    expected = 2.5 * (head.gate_weights(PROMPT) * head.attribute_means(RESPONSE)).sum(1)
    torch.testing.assert_close(raw.mean(), expected)


def test_vincentize_averages_quantile_functions_and_mixture_distribution_functions():
    levels = torch.linspace(0.013, 0.987, 77)
    plain = [
        Categorical(p, torch.tensor(c.rewards))
        for p, c in zip(a_head().probs(RESPONSE), CATEGORIES_OF, strict=True)
    ]
    comonotone = a_head(mix="vincentize").raw(RESPONSE, PROMPT)
    expected = sum(0.5 * distribution.quantile(levels) for distribution in plain)
    torch.testing.assert_close(comonotone.quantile(levels), expected)
    mixed = a_head(mix="mixture").raw(RESPONSE, PROMPT)
    points = torch.linspace(-0.1, 1.1, 31).expand(N, -1)
    torch.testing.assert_close(
        mixed.cdf(points), sum(0.5 * distribution.cdf(points) for distribution in plain)
    )
    torch.testing.assert_close(mixed.mean(), comonotone.mean())


@pytest.mark.parametrize("mix", ["vincentize", "mixture"])
def test_debiasing_shifts_the_distribution(mix):
    debias = Debias(torch.tensor([[1.0, -0.3], [0.0, 1.0]]))  # .3 of help comes off safe
    plain, debiased = a_head(mix=mix), a_head(mix=mix, debias=debias)
    help_mean = plain.attribute_means(RESPONSE)[:, 0]
    shift = debiased.attribute_means(RESPONSE)[:, 1] - plain.attribute_means(RESPONSE)[:, 1]
    torch.testing.assert_close(shift, -0.3 * help_mean)
    moved = debiased.raw(RESPONSE, PROMPT).mean() - plain.raw(RESPONSE, PROMPT).mean()
    torch.testing.assert_close(moved, -0.15 * help_mean)
    with pytest.raises(ArgumentError, match="use shift"):
        a_head(debias=Debias(torch.eye(2), "parity"))


@pytest.mark.parametrize("mix", ["vincentize", "mixture"])
def test_a_steered_attribute_enters_as_one_number(mix):
    head = a_head(mix=mix)
    steering = Steering.of(
        ("help", "safe"), [1.0, 3.0], {"safe": lambda distribution: distribution.quantile(0.25)}
    )
    distribution = head.raw(RESPONSE, PROMPT, steering=steering)
    low = Categorical(head.probs(RESPONSE)[1], torch.tensor([0.0, 0.9, 1.0])).quantile(0.25)
    torch.testing.assert_close(distribution.mean(), 0.25 * head.attribute_means(RESPONSE)[:, 0] + 0.75 * low)


@pytest.mark.parametrize("hidden", [0, 7])
def test_a_stored_head_answers_the_same(hidden):
    for head in (a_head(hidden, gate=a_gate(), debias=Debias(torch.eye(2))), compares(hidden)):
        again = CategoricalHead.from_spec(json.loads(json.dumps(head.spec())))
        again.load_state_dict(head.state_dict())
        again.eval()
        assert again.categories == head.categories
        first, second = (h.distribution(RESPONSE, PROMPT) for h in (head, again))
        assert torch.equal(first.probs, second.probs)
        assert torch.equal(first.atoms, second.atoms)


class TestComparisons:
    def test_probabilities_are_davidsons(self):
        head = compares()
        distribution = head.distribution(RESPONSE, PROMPT)
        ours = head.comparison_probs(distribution[:10], distribution[10:])
        score = head.comparison.score(head.scaling(RESPONSE))
        worth_a, worth_b = score[:10].exp(), score[10:].exp()
        tie = head.comparison.log_tie.exp() * (worth_a * worth_b).sqrt()
        expected = torch.stack([worth_a, tie, worth_b], 1) / (worth_a + worth_b + tie)[:, None]
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(ours.sum(1), torch.ones(10))
        preferred = head.preference_probability(distribution[:10], distribution[10:])
        torch.testing.assert_close(preferred, ours[:, 0] + ours[:, 1] / 2)

    def test_swapping_mirrors(self):
        head = compares(hidden=4)
        distribution = head.distribution(100 * RESPONSE, PROMPT)  # up to certainty
        first, second = distribution[:10], distribution[10:]
        probs, swapped = head.comparison_probs(first, second), head.comparison_probs(second, first)
        torch.testing.assert_close(probs, swapped.flip(1))
        assert bool(probs.isfinite().all())

    def test_the_distribution_is_the_votes_against_the_average_response(self):
        head = compares()
        average = head.comparison.logits(torch.zeros(1)).softmax(-1)
        distribution = head.distribution(RESPONSE, PROMPT)
        opponent = Categorical(average.expand(N, -1), distribution.atoms)
        votes = head.comparison_probs(distribution, opponent)
        torch.testing.assert_close(votes.flip(1), distribution.probs)
        assert head.attribute_distributions(RESPONSE)["preference"].atoms[0].tolist() == [-1.0, 0.0, 1.0]

    def test_other_distributions_are_refused(self):
        head, rated = compares(), a_head()
        distribution, other = head.distribution(RESPONSE, PROMPT), rated.distribution(RESPONSE, PROMPT)
        for asked, first, second in (
            (rated, other, other),
            (head, distribution, other),
            (head, distribution[:3], distribution),
        ):
            with pytest.raises(ArgumentError, match="fitted on comparisons"):
                asked.comparison_probs(first, second)
        expected = other[:10].prob_greater(other[10:])
        assert torch.equal(rated.preference_probability(other[:10], other[10:]), expected)


def test_parts_that_do_not_fit():
    scaling = ColumnScaling.fitted(RESPONSE)
    logits = [CategoryLogits(WIDTH, 5), CategoryLogits(WIDTH, 3)]
    with pytest.raises(ArgumentError, match="do not fit 2 attributes"):
        CategoricalHead(scaling, logits, CATEGORIES_OF[:1], ATTRIBUTES)
    with pytest.raises(ArgumentError, match="one attribute of three categories"):
        CategoricalHead(scaling, [ComparisonLogits(WIDTH)], CATEGORIES_OF[:1], ATTRIBUTES[:1])


class TestCategories:
    def test_the_six_have_rewards_and_axes(self):
        assert dict(zip(CATEGORIES, CATEGORY_REWARDS, strict=True))["not helpful, harmful"] == -3.0
        for name, helpful, harmful in zip(CATEGORIES, HELPFULNESS, HARM, strict=True):
            assert (harmful == 1) == name.endswith("harmful")
            assert helpful == {"helpful": 1.0, "neutral": 0.5, "not": 0.0}[name.split()[0].strip(",")]

    def test_the_mapping_is_readable(self):
        bins = Categories(("low", "high"), (0.2, 0.8), (0.2, 0.8), (0.0, 0.5, 1.0))
        assert bins.mapping["high"] == {"from": 0.5, "to": 1.0, "rating": 0.8, "reward": 0.8}
        assert CATEGORIES_OF[1].mapping["partly"] == {"rating": 0.5, "reward": 0.9}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"names": ("a", "a")},
            {"values": (1.0,)},
            {"values": (1.0, 0.0)},
            {"rewards": (0.0, float("inf"))},
            {"edges": (0.0, 1.0)},
            {"edges": (0.0, 0.0, 1.0)},
        ],
    )
    def test_what_is_none(self, wrong):
        with pytest.raises(ArgumentError):
            Categories(**({"names": ("a", "b"), "values": (0.0, 1.0), "rewards": (0.0, 1.0)} | wrong))
