"""Warning signs of reward models and of runs that use them: their names, what is measured, and the limits.

In: measured numbers by name. Out: which of them are beyond their limit, and what they mean. Logs and
reports take names and limits from here, so that a sign has the same name everywhere. It measures nothing
(`model.profiles` does) and imports nothing.

The limits are ours, set by hand; the papers name the signs (QRM: crossing, uniform gate, peaked
distributions, unstable utilities; DPRM: overconfident distributions) without numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SIGNS", "Sign", "is_seen", "sentence"]


@dataclass(frozen=True)
class Sign:
    """One warning sign.

    Attributes:
        title: as logs and reports call it.
        measure: what the number is, in a few words that follow it.
        limit: seen where the number is above it; below it where `low`.
        advice: what it means and what to do.
        share: whether the number is a share, shown in percent.
        low: whether small numbers are the bad ones.
    """

    title: str
    measure: str
    limit: float
    advice: str
    share: bool = True
    low: bool = False


SIGNS: Mapping[str, Sign] = {
    "crossing": Sign(
        "crossing quantiles",
        "of neighbouring levels in the wrong order before they were sorted",
        0.3,
        "the levels were fitted on too little data, or the texts are unlike those it was fitted on",
    ),
    "uniform_gate": Sign(
        "uniform gate",
        "of the maximum entropy of the attribute weights",
        0.99,
        "every attribute counts the same for every prompt: the gate has learned nothing",
    ),
    "peaked_predictions": Sign(
        "peaked predictions",
        "of responses have a 90 % interval narrower than 0.1 reference standard deviations",
        0.1,
        "the model claims to be almost sure; a risk measure of such a distribution is its mean",
    ),
    "unstable_utility": Sign(
        "unstable utility",
        "of the responses make up the spread of the utility (64 % where it is normal)",
        0.2,
        "a few responses decide every update; a measure with a smaller parameter is steadier",
        low=True,
    ),
    "equal_stds": Sign(
        "equal stds",
        "is the variation of the predicted stds between responses, as a share of their mean",
        0.02,
        "the spread says nothing about the response; risk measures reorder nothing",
        low=True,
    ),
    "correlated_heads": Sign(
        "correlated heads",
        "is the correlation between heads over responses",
        0.99,
        "the heads are one head: their minimum and their disagreement do nothing",
        share=False,
    ),
    "heads_above_reference": Sign(
        "all heads above the reference",
        "of responses lie, for every head, above 95 % of the reference's",
        0.5,
        "no head objects any more, and their minimum cannot detect what all heads get wrong together: read "
        "samples, or compare with a model that was fitted on other raters",
    ),
    "overconfident_categories": Sign(
        "overconfident categories",
        "of responses have one category with a probability above .99",
        0.1,
        "people seldom agree so much; train with a loss that is a proper score, or calibrate",
    ),
    "kl_beyond_optimum": Sign(
        "KL beyond the optimum's",
        "times the KL that the optimum of this beta has, or that the gain in reward pays for",
        2.0,
        "the policy moves where no reward asks it to; a larger beta helps, or a lower learning rate",
        share=False,
    ),
}


def is_seen(name: str, value: float) -> bool:
    """Whether a number is beyond the limit of its sign.

    >>> is_seen("crossing", 0.31), is_seen("equal_stds", 0.3)
    (True, False)
    """
    sign = SIGNS[name]
    return value < sign.limit if sign.low else value > sign.limit


def sentence(name: str, value: float) -> str:
    """The log line of a sign.

    >>> sentence("correlated_heads", 0.999).split(":")[0]
    'warning sign, correlated heads'
    """
    sign = SIGNS[name]
    shown = f"{100 * value:.3g} %" if sign.share else f"{value:.3g}"
    limit = f"{100 * sign.limit:g} %" if sign.share else f"{sign.limit:g}"
    beyond = "under" if sign.low else "over"
    return f"warning sign, {sign.title}: {shown} {sign.measure}, {beyond} {limit}; {sign.advice}"
