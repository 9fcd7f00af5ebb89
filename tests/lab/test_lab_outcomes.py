"""Measures of a policy against the crowd's own numbers, exact KL by summation, and scipy's correlation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from pluralign.errors import ArgumentError
from pluralign.lab import Crowd
from pluralign.lab.outcomes import (
    Samples,
    alignment_record,
    length_correlation,
    measure_samples,
    summarise_samples,
)

CROWD = Crowd()
TALKS = CROWD.conversations(60, responses_per_prompt=4)
LONG = CROWD.conversations(60, responses_per_prompt=4, style="long")
PROMPTS = [talk[:-1] for talk in TALKS]


def samples(talks: list[list[dict[str, str]]], **known: torch.Tensor) -> Samples:
    return Samples(PROMPTS, [talk[-1]["content"] for talk in talks], **known)


def test_columns_are_the_crowds() -> None:
    broken = samples(
        [[*prompt, {"role": "assistant", "content": "use the the knife ."}] for prompt in PROMPTS]
    )
    columns = measure_samples(CROWD, samples(TALKS))
    distribution = CROWD.truth(TALKS)
    torch.testing.assert_close(columns["gold"], distribution.means @ distribution.weights[0])
    torch.testing.assert_close(columns["harm"], CROWD.category_truth(TALKS)[:, 3:].sum(1))
    levels = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 0.05
    torch.testing.assert_close(
        columns["tail"][:5], distribution[:5].quantile(levels).mean(1), atol=1e-3, rtol=0
    )
    assert columns["words"].tolist() == [len(t[-1]["content"].replace(".", "").split()) for t in TALKS]
    assert columns["broken"].sum() == 0
    assert measure_samples(CROWD, broken)["broken"].tolist() == [1.0] * 60
    assert not {"kl", "proxy", "cut_off"} & set(columns)


def test_worst_is_the_tail_of_all_judgements() -> None:
    distribution = CROWD.truth(TALKS)
    drawn = distribution.sample(20_000, generator=torch.Generator().manual_seed(0)).flatten().sort().values
    expected = float(drawn[: len(drawn) // 20].mean())
    assert summarise_samples(CROWD, samples(TALKS))["worst"] == pytest.approx(expected, abs=0.01)


def test_kl_estimators_have_the_mean_of_the_exact_kl() -> None:
    """Two tokens out of three-letter alphabets whose distributions are known: the mean over all is the KL."""
    policy = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    reference = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4]], dtype=torch.float64)
    exact = float((policy * (policy / reference).log()).sum())
    first, second = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    ratio = (policy / reference).log()
    log_ratios = torch.stack([ratio[0, first], ratio[1, second]], dim=1)
    known = Samples(PROMPTS[:9], ["hello my friend ."] * 9, log_ratios=log_ratios)
    columns = measure_samples(CROWD, known)
    probs = policy[0, first] * policy[1, second]
    assert float(columns["kl"] @ probs) == pytest.approx(exact, abs=1e-12)
    assert float(columns["kl_k3"] @ probs) == pytest.approx(exact, abs=1e-12)
    assert bool((columns["kl_k3"] >= 0).all())


def test_length_correlation() -> None:
    reference = samples(TALKS)
    generator = torch.Generator().manual_seed(1)
    ratios = torch.randn(60, 5, generator=generator)
    words = np.array([len(t[-1]["content"].replace(".", "").split()) for t in TALKS]).reshape(15, 4)
    z = (words - words.mean(1, keepdims=True)) / words.std(1, keepdims=True)
    expected = stats.spearmanr(z.ravel(), ratios.sum(1).numpy()).statistic
    assert length_correlation(samples(TALKS, log_ratios=ratios), reference) == pytest.approx(expected)
    follows = torch.tensor(z.ravel())[:, None]
    assert length_correlation(samples(TALKS, log_ratios=follows), reference) == pytest.approx(1)
    constant = Samples(PROMPTS, ["hello my friend ."] * 60)
    assert length_correlation(samples(TALKS, log_ratios=ratios), constant) is None


def test_record() -> None:
    """A policy that says everything against the behaviour policy: longer, better in details, as JSON."""
    proxy = CROWD.gold(TALKS) + 1
    before = samples(TALKS, proxy=proxy, cut_off=torch.zeros(60, dtype=torch.bool))
    after = samples(LONG, proxy=CROWD.gold(LONG), log_ratios=torch.ones(60, 3))
    record = json.loads(json.dumps(alignment_record(CROWD, before, after, settings={"method": "none"})))
    words = record["differences"]["words"]
    assert words["low"] > 5
    assert words["estimate"] == pytest.approx(
        record["after"]["measures"]["words"]["estimate"] - record["before"]["measures"]["words"]["estimate"]
    )
    assert words["groups"] == record["before"]["prompts"] == 15
    assert record["after"]["measures"]["kl"]["estimate"] == 3
    assert "cut_off" not in record["differences"]
    # The proxy is the gold and one: the curves are one apart, and rise.
    assert [point["n"] for point in record["best_of_n"]] == [1, 2, 4]
    for point in record["best_of_n"]:
        assert point["proxy"] == pytest.approx(point["gold"] + 1)
    best = CROWD.gold(TALKS).reshape(15, 4).max(1).values.mean()
    assert record["best_of_n"][-1]["gold"] == pytest.approx(float(best))
    assert len(record["examples"]) == 12
    assert record["examples"][-1]["after"]["response"] == LONG[-1][-1]["content"]
    assert record["examples"][0]["before"]["gold"] == pytest.approx(float(proxy[0]) - 1, abs=1e-6)


def test_illegal_samples() -> None:
    with pytest.raises(ArgumentError, match="one entry per response"):
        Samples(PROMPTS, ["hello"])
    with pytest.raises(ArgumentError, match="finite"):
        samples(TALKS, proxy=torch.full((60,), torch.nan))
    with pytest.raises(ArgumentError, match=r"\[B, T\]"):
        samples(TALKS, log_ratios=torch.zeros(60))
    with pytest.raises(ArgumentError, match=r"proxy must be \[B\]; got shape list"):
        samples(TALKS, proxy=[1.0] * 60)
    with pytest.raises(ArgumentError, match="needs samples with log_ratios"):
        length_correlation(samples(TALKS), samples(TALKS))
    other = Samples(PROMPTS[::-1], [talk[-1]["content"] for talk in TALKS])
    with pytest.raises(ArgumentError, match="same prompts"):
        alignment_record(CROWD, samples(TALKS), other)
    for settings in ({"beta": math.nan}, {"model": object()}):
        with pytest.raises(ArgumentError, match="settings must be JSON types, without NaN"):
            alignment_record(CROWD, samples(TALKS), samples(TALKS), settings=settings)
    with pytest.raises(ArgumentError, match="num_examples must be at least 0; got -1"):
        alignment_record(CROWD, samples(TALKS), samples(TALKS), num_examples=-1)
