"""What a judge's answer says: a score, a vote, probabilities of scores, or nothing. Pure functions.

In: the answer's text or the probabilities of its first token. Out: a number, or why there is none. An answer
that refuses, says several things, or says something that is not on the scale never becomes a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from pluralign.errors import ConfigError

__all__ = [
    "Nothing",
    "check_scale",
    "score_probabilities",
    "score_text",
    "stated_score",
    "stated_vote",
]


class Nothing(StrEnum):
    """Why an answer has no number."""

    REFUSED = "refused"
    UNPARSEABLE = "unparseable"
    CUT_OFF = "cut off"
    INCONSISTENT = "another verdict in the other order"


_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_OF = rf"(?:\s*(?:/|out of)\s*({_NUMBER}))?"
_NO_RANGE = rf"(?!\s*(?:to|or|and|-|\u2013|,)\s*{_NUMBER})"
# What the prompts ask for: a line of its own. It goes before whatever else was said on the way.
_SCORE_LINE = re.compile(
    rf"^\W*(?:final )?(?:score|rating|grade)\W*[:=]\W*?({_NUMBER}){_OF}[^\w\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_SCORE_IN_TEXT = re.compile(
    rf"\b(?:score|rating|grade)\W{{0,4}}(?:is|of|[:=])\W{{0,4}}?({_NUMBER})(?!\.?\d){_OF}{_NO_RANGE}",
    re.IGNORECASE,
)
_SCORE_BOXED = re.compile(rf"\[\[\s*({_NUMBER})\s*\]\]")
_SCORE_ALONE = re.compile(rf"[^\w+-]*({_NUMBER}){_OF}\W*")
_SIDE = r"(?:(?i:response|answer|assistant)\s+)?(A|B|(?i:tie))"
_VOTE_LINE = re.compile(
    rf"^\W*(?i:final )?(?i:verdict|winner|choice|answer|preference)\W*[:=]\W*{_SIDE}[^\w\n]*$", re.MULTILINE
)
_VOTE_BOXED = re.compile(r"\[\[\s*(A|B|C|(?i:tie))\s*\]\]")
_VOTE_ALONE = re.compile(rf"\W*{_SIDE}\W*")
_REFUSAL = re.compile(
    r"\b(?:i(?:['\u2019]m| am) (?:sorry|unable|not able)|i (?:can(?:['\u2019]t|not)|won['\u2019]t|will not)|"
    r"i (?:must )?decline|as an ai\b)",
    re.IGNORECASE,
)
_VOTES = {"a": 1, "b": -1, "tie": 0, "c": 0}


def stated_score(text: str, scale: Sequence[float]) -> float | Nothing:
    """The score that an answer states.

    Args:
        text: "Score: 7", "7/10", "[[7]]", or a number alone; reasons may come before it.
        scale: the scores that are allowed.

    Returns:
        One of the scale; or why there is none: a refusal, no number, different numbers, one that is not on
        the scale, or another scale ("7/5").

    >>> stated_score("It is polite but wrong.\\nScore: 3", [1, 2, 3, 4, 5])
    3.0
    >>> stated_score("Score: 3, or perhaps score: 4", [1, 2, 3, 4, 5])
    <Nothing.UNPARSEABLE: 'unparseable'>
    """
    alone = _SCORE_ALONE.fullmatch(text)
    found = [alone.groups()] if alone else [one.groups() for one in _SCORE_LINE.finditer(text)]
    found = found or [one.groups() for one in _SCORE_IN_TEXT.finditer(text)]
    found += [(one[1], None) for one in _SCORE_BOXED.finditer(text)]
    highest = max(scale)
    numbers = {float(number) for number, _ in found}
    other_scale = any(top is not None and float(top) != highest for _, top in found)
    if len(numbers) == 1 and not other_scale:
        (number,) = numbers
        return number if number in scale else Nothing.UNPARSEABLE
    return Nothing.REFUSED if not numbers and _REFUSAL.search(text) else Nothing.UNPARSEABLE


def stated_vote(text: str) -> int | Nothing:
    """The verdict that an answer states: 1 for A, -1 for B, 0 for a tie; or why there is none.

    >>> stated_vote("B repeats itself.\\nVerdict: A")
    1
    """
    alone = _VOTE_ALONE.fullmatch(text)
    found = [alone[1]] if alone else [one[1] for one in _VOTE_LINE.finditer(text)]
    found += [one[1] for one in _VOTE_BOXED.finditer(text)]
    votes = {_VOTES[one.lower()] for one in found}
    if len(votes) == 1:
        return votes.pop()
    return Nothing.REFUSED if not votes and _REFUSAL.search(text) else Nothing.UNPARSEABLE


def score_probabilities(
    top: Iterable[tuple[str, float]], scale: Sequence[float], least_mass: float = 0.5
) -> list[float] | Nothing:
    """The probabilities of the scores, from the most probable first tokens of an answer.

    Tokens that are a score's text, up to blanks around it, count for that score; the rest is left out, and
    the scores' probabilities are divided by their sum.

    Args:
        top: (token, log-probability) of the first position.
        scale: C scores whose texts are single tokens.
        least_mass: if the scores have less probability than this, the judge was about to say something else.

    Returns:
        C probabilities that sum to 1, or UNPARSEABLE.
    """
    names = {score_text(score): place for place, score in enumerate(scale)}
    probs = [0.0] * len(scale)
    for token, log_prob in top:
        if token.strip() in names and log_prob <= 1e-3:  # NaN is none
            probs[names[token.strip()]] += math.exp(min(log_prob, 0.0))
    mass = math.fsum(probs)
    if not mass >= least_mass:
        return Nothing.UNPARSEABLE
    return [prob / mass for prob in probs]


def score_text(score: float) -> str:
    """A score as a judge writes it: 3 for 3.0."""
    return f"{score:g}"


def check_scale(scale: Sequence[float], single_tokens: bool) -> tuple[float, ...]:
    """The scores of a scale, ascending.

    Args:
        scale: the scores.
        single_tokens: whether each has to be recognised by its first token.

    Raises:
        ConfigError: fewer than two, equal or infinite ones, or one whose text begins another's.
    """
    scores = sorted(float(score) for score in scale)
    if len(scores) < 2 or len(set(scores)) < len(scores) or not all(map(math.isfinite, scores)):
        raise ConfigError(f"scale must be at least two different finite scores, received {list(scale)}")
    texts = [score_text(score) for score in scores]
    begins = [(a, b) for a in texts for b in texts if a != b and b.startswith(a)]
    if single_tokens and begins:
        raise ConfigError(
            f"scale: the first token {begins[0][0]!r} may be the beginning of {begins[0][1]!r}, so their "
            "probabilities cannot be told apart; use a scale such as 1 to 5 or 0 to 9"
        )
    return tuple(scores)
