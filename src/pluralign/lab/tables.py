"""Rows of the lab's data: ratings, category votes, comparisons, pairs, each with columns of true values.

In:  items and their judges (`sampling`).
Out: rows in the canonical shapes, as lists of dictionaries or one `datasets.Dataset`.

True values describe people without the shared bias and without label flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pluralign.distributions import GaussianEnsemble
from pluralign.lab import truth
from pluralign.lab.grammar import MAX_WORDS
from pluralign.lab.personas import ORDINARY, mean_judgements
from pluralign.lab.sampling import Items, Judges

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["category_rows", "pair_rows", "rating_rows", "to_dataset", "vote_rows"]

Row = dict[str, Any]
_REACH = 20.0  # mean judgements of any text are closer than this to an ordinary one


def rating_rows(
    name: str, items: Items, judges: Judges, attributes: Sequence[str], *, rounded: bool, levels: Tensor
) -> list[Row]:
    """Makes rows of ratings, response by response and attribute by attribute.

    Args:
        name: start of the rows' ids.
        items: B responses.
        judges: raters of these items.
        attributes: some of `personas.ATTRIBUTES`.
        rounded: True for 1..5, False for judgements before rounding, on a wider declared scale.
        levels: [T] in (0, 1), float64, levels of the column `true_quantiles`.

    Returns:
        B x len(attributes) rows.
    """
    scale = [1.0, float(truth.NUM_RATINGS)] if rounded else _continuous_scale(judges)
    columns = [_rating_column(items, judges, attribute, rounded, levels) for attribute in attributes]
    return [
        {**head, "response": response, "rater_ids": raters, "scale": scale, **cells}
        for head, response, raters, *by_attribute in zip(
            _heads(name, items), items.responses, judges.rater_ids, *columns, strict=True
        )
        for cells in by_attribute
    ]


def _rating_column(items: Items, judges: Judges, attribute: str, rounded: bool, levels: Tensor) -> list[Row]:
    means = mean_judgements(items.traits, items.kinds, attribute)
    values = judges.judge(means, items.traits, attribute)
    if rounded:
        values = np.clip(np.floor(values + 0.5), 1, truth.NUM_RATINGS)
        probs = truth.rating_probs(means, judges.stds, judges.weights)
        true_mean = probs @ truth.RATINGS
        true_quantiles = truth.dequantised_quantile(probs, levels)
    else:
        distinct, row = torch.unique(
            means, dim=0, return_inverse=True
        )  # texts of equal traits share their quantiles
        distribution = GaussianEnsemble(distinct, judges.stds.expand_as(distinct), judges.weights)
        true_mean, true_quantiles = distribution.mean()[row], distribution.quantile(levels)[row]
    ratings = judges.record(values, 2 * ORDINARY - values, attribute)
    return [
        {"attribute": attribute, "ratings": given, "true_mean": mean, "true_quantiles": quantiles}
        for given, mean, quantiles in zip(ratings, true_mean.tolist(), true_quantiles.tolist(), strict=True)
    ]


def _continuous_scale(judges: Judges) -> list[float]:
    """A scale that contains every judgement before rounding, the same for all draws of a crowd."""
    largest_bias = MAX_WORDS * judges.bias.abs().sum()  # no trait of a drawn text exceeds MAX_WORDS
    reach = _REACH + float((10 * judges.stds.max() + largest_bias).ceil())
    return [ORDINARY - reach, ORDINARY + reach]


def category_rows(name: str, items: Items, judges: Judges) -> list[Row]:
    """Makes rows of votes for the six categories, as ratings of the attribute "category".

    Args:
        name: start of the rows' ids.
        items: B responses.
        judges: of these items.

    Returns:
        B rows; `ratings` are indices into `truth.CATEGORIES`.
    """
    helpfulness = mean_judgements(items.traits, items.kinds, "helpfulness")
    safety = mean_judgements(items.traits, items.kinds, "safety")
    judged_help = judges.judge(helpfulness, items.traits, "helpfulness")
    judged_safety = judges.judge(safety, items.traits, "safety")
    unhelpfulness = (judged_help <= truth.HELPFUL).astype(float) + (judged_help < truth.UNHELPFUL)
    index = unhelpfulness + 3 * (judged_safety < truth.HARMFUL)
    last = len(truth.CATEGORIES) - 1
    votes = judges.record(index, last - index, "category")
    probs = truth.category_probs(helpfulness, safety, judges.stds, judges.weights).tolist()
    return [
        {
            **head,
            "response": response,
            "attribute": "category",
            "ratings": given,
            "rater_ids": raters,
            "scale": [0.0, float(last)],
            "true_probs": true_probs,
        }
        for head, response, given, raters, true_probs in zip(
            _heads(name, items), items.responses, votes, judges.rater_ids, probs, strict=True
        )
    ]


def vote_rows(name: str, first: Items, second: Items, judges: Judges) -> list[Row]:
    """Makes rows of comparisons: each rater judges both responses and votes for the better one.

    Args:
        name: start of the rows' ids.
        first: B responses.
        second: B responses to the same prompts.
        judges: raters of the B comparisons.

    Returns:
        B rows; a vote of +1 is for the first, -1 for the second.
    """
    means = [mean_judgements(items.traits, items.kinds) for items in (first, second)]
    judged_first = judges.judge(means[0], first.traits, "a")
    judged_second = judges.judge(means[1], second.traits, "b")
    preferred = np.where(judged_first > judged_second, 1.0, -1.0)
    votes = judges.record(preferred, -preferred, "votes")
    wins = truth.win_probability(means[0], means[1], judges.stds, judges.weights).tolist()
    return [
        {
            **head,
            "response_a": a,
            "response_b": b,
            "votes": [int(vote) for vote in given],
            "rater_ids": raters,
            "true_win": win,
        }
        for head, a, b, given, raters, win in zip(
            _heads(name, first), first.responses, second.responses, votes, judges.rater_ids, wins, strict=True
        )
    ]


def pair_rows(votes: Sequence[Row]) -> list[Row]:
    """Converts comparisons of one vote each to pairs.

    Args:
        votes: as from `vote_rows`.

    Returns:
        As many rows; `true_win` is the probability that a person prefers the chosen response.
    """
    rows = []
    for vote in votes:
        chosen, rejected, win = vote["response_a"], vote["response_b"], vote["true_win"]
        if vote["votes"] == [-1]:
            chosen, rejected, win = rejected, chosen, 1 - win
        kept = {key: vote[key] for key in ("id", "prompt", "subset", "group")}
        rows.append({**kept, "chosen": chosen, "rejected": rejected, "true_win": win})
    return rows


def to_dataset(rows: list[Row]) -> Dataset:
    """Converts rows to a table."""
    from datasets import Dataset

    return Dataset.from_list(rows)


def _heads(name: str, items: Items) -> list[Row]:
    return [
        {"id": f"{name}/{i}", "prompt": prompt.messages, "subset": prompt.kind, "group": prompt.group}
        for i, prompt in enumerate(items.prompts)
    ]
