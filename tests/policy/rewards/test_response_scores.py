"""What a reward model says of responses: one pass, the same numbers as asking it one thing at a time."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import tiny_policy
from fake_models import CONFIGS, fake_model
from pluralign import risk
from pluralign.distributions import Quantiles
from pluralign.errors import RenamedWarning, RiskError
from pluralign.policy import ModelReward
from pluralign.policy.rewards.scoring import score_responses

TEXTS = ["0.5 -1 yes", "1.5 0.2 no", "-2 0 maybe", "0.1 0.1 so"]
TALKS = [[*tiny_policy.user("q"), {"role": "assistant", "content": text}] for text in TEXTS]


@pytest.mark.parametrize("family", CONFIGS)
def test_it_is_what_the_model_says(family):
    model = fake_model(family)
    measure = risk.parse("mean" if family == "bradley_terry" else "cvar:0.25")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a tail that is only logged warns of nothing
        found = score_responses(model, measure, TALKS)
    torch.testing.assert_close(found.utilities, model.score(TALKS, risk=measure))
    torch.testing.assert_close(found.columns["utility"], found.utilities.double())
    distribution = model.distribution(TALKS)
    assert found.metrics["mean"] == pytest.approx(float(distribution.mean().mean()), rel=1e-5)
    assert found.metrics["std"] == pytest.approx(float(distribution.std().mean()), rel=1e-5, abs=1e-7)
    assert found.metrics["tail"] == pytest.approx(float(distribution.cvar(0.1).mean()), rel=1e-5)
    assert ("disagreement" in found.metrics) == (family == "gaussian_ensemble")
    if family == "gaussian_ensemble":
        means = distribution.heads().means
        assert found.metrics["disagreement"] == pytest.approx(float(means.std(-1).mean()), rel=1e-5)
        torch.testing.assert_close(found.columns["head_2"], means[:, 2].double())
    assert ("gate" in found.columns) == (model.head.has_gate and len(model.head.attributes) > 1)
    if "gate" in found.columns:
        gate = model.gate_weights(TALKS).double()
        entropy = -(gate * gate.log()).sum(-1) / math.log(gate.shape[-1])
        torch.testing.assert_close(found.columns["gate"], entropy, atol=1e-5, rtol=0)


def test_another_scorer_and_a_measure_that_does_not_apply():
    class Scorer:
        def distribution(self, conversations):
            values = torch.tensor([[0.0, 1.0, 2.0]]) * torch.arange(1.0, len(conversations) + 1)[:, None]
            return Quantiles(values, torch.tensor([0.1, 0.5, 0.9]))

    found = score_responses(Scorer(), risk.parse("quantile:0.5"), TALKS)
    assert found.utilities.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found.metrics["mean"] == pytest.approx(2.5)
    with pytest.raises(RiskError):
        score_responses(Scorer(), risk.parse("worst_case"), TALKS)


def test_a_source_asks_once_for_texts_that_repeat():
    seen = []

    class Scorer:
        def distribution(self, conversations):
            seen.extend(one[-1]["content"] for one in conversations)
            values = torch.tensor([[float(len(one[-1]["content"]))] * 2 for one in conversations])
            return Quantiles(values + torch.tensor([0.0, 1.0]), torch.tensor([0.25, 0.75]))

    rows = {"prompt": [tiny_policy.user("q")] * 3, "completion": ["ab", "abcd", "ab"]}
    found = ModelReward(Scorer(), "mean").scores(rows)
    assert sorted(seen) == ["ab", "abcd"]
    assert found.utilities.tolist() == [2.5, 4.5, 2.5]
    assert found.columns["utility"].tolist() == [2.5, 4.5, 2.5]
    with pytest.warns(RenamedWarning, match=r"ModelReward\.judge is now ModelReward\.scores"):
        assert ModelReward(Scorer(), "mean").judge(rows).utilities.tolist() == [2.5, 4.5, 2.5]
