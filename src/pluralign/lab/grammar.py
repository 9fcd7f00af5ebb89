"""A probabilistic grammar of responses, and styles of policies that were optimised too far.

In:  a `world.Request`, a `random.Random`, a style.
Out: clauses with their intended roles, and their text. The parser is tested against the intended roles.

The style `behaviour` is used for data. It hedges more often when it is wrong than when it is right, so that
correctness, which depends on prompt and answer together, is partly visible in the text alone. Its texts are
usually short: one in eleven has more than 36 words, one in sixty more than 44, and none repeats a clause,
gives two answers or is cut off. So a reward model has hardly seen the other styles, which are drawn only on
request:

    long     every fitting detail, all cautions and courtesies, up to the word limit
    padded   an ordinary response lengthened by filler and repetitions
    stuffed  many answers at once, the right one among them, and details of everything
    broken   the right words in random order
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pluralign.errors import ArgumentError
from pluralign.lab import world
from pluralign.lab.world import Request, words

__all__ = ["MAX_WORDS", "MIN_WORDS", "STYLES", "Clause", "draw", "render"]

MIN_WORDS = 10
MAX_WORDS = 48


class Clause(NamedTuple):
    """One clause.

    Attributes:
        role: greeting, answer, detail, unfit (a detail that does not fit), caution, risk, filler, closing or
            broken (no clause of the grammar).
        text: its words, without the full stop.
    """

    role: str
    text: str


_NUM_DETAILS = (0.20, 0.27, 0.25, 0.16, 0.08, 0.03, 0.01)
_ANSWERS = ("right", "partly", "wrong", "none")
_ANSWER_PROBS = (0.42, 0.20, 0.22, 0.16)
_HEDGE_PROB = {"right": 0.12, "partly": 0.5, "wrong": 0.8}
_RISK_PROB = {"care": 0.16, "craft": 0.30, "transport": 0.18, "gift": 0.12}
_GREETING_PROB = 0.4
_CLOSING_PROB = 0.4
_CAUTION_PROB = 0.35
_SECOND_CAUTION_PROB = 0.15
_UNFIT_PROB = 0.06
_FILLER_PROB = 0.25


def render(clauses: Sequence[Clause]) -> str:
    """Joins clauses into a text, each with its full stop."""
    return " ".join(f"{clause.text} ." for clause in clauses)


def draw(prompt: Request, rng: random.Random, style: str = "behaviour") -> list[Clause]:
    """Draws one response.

    Args:
        prompt: the request.
        rng: the random generator; it is advanced.
        style: one of `STYLES`.

    Returns:
        The clauses, with at most `MAX_WORDS` words in total; the styles `behaviour`, `long`, `padded` and
        `stuffed` have at least `MIN_WORDS`.

    Raises:
        ArgumentError: the style does not exist.
    """
    if style not in STYLES:
        raise ArgumentError(f"style must be one of {', '.join(STYLES)}; got {style!r}")
    return STYLES[style](prompt, rng)


def _answer(prompt: Request, quality: str, rng: random.Random) -> list[Clause]:
    tool, manner = prompt.fact
    if quality == "none":
        return []
    other_tool = rng.choice([word for word in world.TOOLS if word != tool])
    other_manner = rng.choice([word for word in world.MANNERS if word != manner])
    if quality == "partly":
        tool, manner = rng.choice([(tool, other_manner), (other_tool, manner)])
    elif quality == "wrong":
        tool, manner = other_tool, other_manner
    return [Clause("answer", world.answer(tool, manner, hedged=rng.random() < _HEDGE_PROB[quality]))]


def _unfit_details(prompt: Request) -> list[str]:
    return [
        text
        for topic in world.DETAILS
        if topic not in (prompt.kind, prompt.category)
        for text in world.DETAILS[topic]
    ]


def _behaviour(prompt: Request, rng: random.Random) -> list[Clause]:
    body = _answer(prompt, rng.choices(_ANSWERS, _ANSWER_PROBS)[0], rng)
    num_details = rng.choices(range(7), _NUM_DETAILS)[0]
    body += [Clause("detail", text) for text in rng.sample(prompt.details, num_details)]
    if rng.random() < _UNFIT_PROB:
        body.append(Clause("unfit", rng.choice(_unfit_details(prompt))))
    if rng.random() < _CAUTION_PROB:
        num_cautions = 1 + (rng.random() < _SECOND_CAUTION_PROB)
        body += [Clause("caution", text) for text in rng.sample(world.CAUTIONS, num_cautions)]
    if rng.random() < _RISK_PROB[prompt.kind]:
        body.append(Clause("risk", rng.choice(world.RISKS)))
    if rng.random() < _FILLER_PROB:
        body.insert(rng.randrange(len(body) + 1), Clause("filler", rng.choice(world.FILLERS)))
    greeting = [Clause("greeting", rng.choice(world.GREETINGS))] if rng.random() < _GREETING_PROB else []
    closing = [Clause("closing", rng.choice(world.CLOSINGS))] if rng.random() < _CLOSING_PROB else []
    unused = [text for text in prompt.details if Clause("detail", text) not in body]
    rng.shuffle(unused)
    while _num_words(greeting + body + closing) < MIN_WORDS:
        body.append(Clause("detail", unused.pop()))
    return _fit(greeting + body + closing)


def _long(prompt: Request, rng: random.Random) -> list[Clause]:
    body = [Clause("detail", text) for text in prompt.details]
    body += [Clause("caution", text) for text in world.CAUTIONS]
    rng.shuffle(body)
    greeting = [Clause("greeting", rng.choice(world.GREETINGS))]
    answers = _answer(prompt, rng.choices(_ANSWERS, _ANSWER_PROBS)[0], rng)
    return _fit(greeting + answers + body)


def _padded(prompt: Request, rng: random.Random) -> list[Clause]:
    clauses = _behaviour(prompt, rng)
    padding = [Clause("filler", text) for text in world.FILLERS] + clauses
    while _num_words(clauses) < MAX_WORDS - 8:
        clauses.insert(rng.randrange(len(clauses) + 1), rng.choice(padding))
    return _fit(clauses)


def _stuffed(prompt: Request, rng: random.Random) -> list[Clause]:
    clauses = _answer(prompt, "right", rng)
    clauses += [wrong for _ in range(3) for wrong in _answer(prompt, "wrong", rng)]
    clauses += [Clause("detail", text) for text in rng.sample(prompt.details, 2)]
    clauses += [Clause("unfit", text) for text in rng.sample(_unfit_details(prompt), 4)]
    rng.shuffle(clauses)
    return _fit(clauses)


def _broken(prompt: Request, rng: random.Random) -> list[Clause]:
    scattered = [word for clause in _long(prompt, rng) for word in clause.text.split()]
    rng.shuffle(scattered)
    size = rng.randint(6, 12)
    return [Clause("broken", " ".join(scattered[i : i + size])) for i in range(0, len(scattered), size)]


def _num_words(clauses: Sequence[Clause]) -> int:
    return sum(len(words(clause.text)) for clause in clauses)


def _fit(clauses: list[Clause]) -> list[Clause]:
    """The leading clauses within the word limit: a text ends with a complete clause."""
    while _num_words(clauses) > MAX_WORDS:
        clauses = clauses[:-1]
    return clauses


STYLES: dict[str, Callable[[Request, random.Random], list[Clause]]] = {
    "behaviour": _behaviour,
    "long": _long,
    "padded": _padded,
    "stuffed": _stuffed,
    "broken": _broken,
}
