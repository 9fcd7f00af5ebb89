"""The risk measures as the page offers them: a label, a sentence, and the range of the slider.

In: the measures that `risk` knows. Out: a `Choice` for each, also for one that has no words here yet.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pluralign.risk.parsing import MEASURES

__all__ = ["CHOICES", "Choice", "choice_of"]


@dataclass(frozen=True)
class Choice:
    """One measure.

    Attributes:
        name: in specifications.
        label: in the list.
        words: what it does, as a sentence.
        has_parameter: whether it has one.
        low: the smallest value of the slider.
        high: the largest.
        step: of the slider.
        start: where the slider begins.
        parameter: what the parameter is called.
        compares_members: whether it needs a model with several members.
    """

    name: str
    label: str
    words: str
    has_parameter: bool = False
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    start: float = 0.5
    parameter: str = "parameter"
    compares_members: bool = False


_WORDS = {
    "mean": ("Mean", "The average person's reward."),
    "median": ("Median", "Half of the people give less, half give more."),
    "quantile": ("Quantile", "This share of people gives less."),
    "cvar": ("Worst share (CVaR)", "The mean over the least happy share of people."),
    "entropic": ("Entropic", "A certainty equivalent: above 0 it avoids risk, below 0 it seeks it."),
    "exponential": ("Exponential", "QRM's expected utility; it ranks as entropic does, in units of its own."),
    "mean_std": ("Mean minus spread", "The mean minus so many standard deviations."),
    "nominal": (
        "Most confident member",
        "The mean of the member with the least spread; seldom a good choice.",
    ),
    "worst_case": ("Worst member", "The mean of the member that thinks least of the response."),
    "best_case": ("Best member", "The mean of the member that thinks most of the response."),
    "uwo": ("Mean minus doubt (UWO)", "The mean minus so many times the variance between members."),
    "robust": ("Robust", "Between the most confident member (1) and the worst one (0)."),
}
_SLIDERS = {  # low, high, step, start, name
    "quantile": (0.01, 0.99, 0.01, 0.1, "share"),
    "cvar": (0.01, 1.0, 0.01, 0.1, "share"),
    "entropic": (-3.0, 5.0, 0.1, 1.0, "aversion"),
    "exponential": (0.1, 3.0, 0.1, 1.0, "aversion"),
    "mean_std": (0.0, 3.0, 0.05, 1.0, "standard deviations"),
    "uwo": (0.0, 5.0, 0.1, 1.0, "times"),
    "robust": (0.0, 1.0, 0.05, 0.5, "weight"),
}


def _choice(name: str) -> Choice:
    kind = MEASURES[name]
    label, words = _WORDS.get(name, (name, (kind.__doc__ or "").partition("\n")[0]))
    compares = kind.compares_heads
    if not dataclasses.fields(kind):
        return Choice(name, label, words, compares_members=compares)
    low, high, step, start, parameter = _SLIDERS.get(name, (0.01, 0.99, 0.01, 0.5, "parameter"))
    return Choice(name, label, words, True, low, high, step, start, parameter, compares)


CHOICES: tuple[Choice, ...] = tuple(map(_choice, MEASURES))


def choice_of(name: str) -> Choice | None:
    """The choice of a name; None for a nested measure."""
    return next((choice for choice in CHOICES if choice.name == name), None)
