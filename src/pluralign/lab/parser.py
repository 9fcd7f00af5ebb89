"""From text to traits: what a reader in the lab's world sees in any string.

In:  conversations (lists of messages that end in the response), or a prompt's and a response's text.
Out: eight traits per response.

Only complete clauses are read: the text is split at `.`, `!`, `?` and line ends, and a piece counts only if
its words are exactly those of a clause of the world. All other words do not parse. The parser is total (any
string has traits) and deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.lab import world
from pluralign.lab.world import Message, Request, words

__all__ = ["TRAITS", "Traits", "parse", "parse_prompt", "read"]


class Traits(NamedTuple):
    """The traits of a response.

    Attributes:
        correctness: mean over its distinct answers of 1 (right), 0.5 (tool or manner right), -1 (wrong);
            0 without an answer.
        detail: number of distinct details that fit the request.
        courtesy: number of distinct greetings and closings.
        caution: number of distinct cautions.
        risk: number of distinct pieces of risky advice.
        filler: number of filler clauses, details that do not fit, and repeated clauses.
        fluency: share of words in clauses that parse, in [0, 1]; 0 for a text without words.
        length: number of words.
    """

    correctness: float
    detail: float
    courtesy: float
    caution: float
    risk: float
    filler: float
    fluency: float
    length: float


TRAITS: tuple[str, ...] = Traits._fields

_SENTENCE_END = re.compile(r"[.!?\n\r]+")
_ROLES: dict[str, str] = {
    **dict.fromkeys(world.GREETINGS + world.CLOSINGS, "courtesy"),
    **dict.fromkeys(world.CAUTIONS, "caution"),
    **dict.fromkeys(world.RISKS, "risk"),
    **dict.fromkeys(world.FILLERS, "filler"),
    **{text: "detail" for group in world.DETAILS.values() for text in group},
}
_ANSWERS: dict[str, tuple[str, str]] = {
    world.answer(tool, manner, hedged=hedged): (tool, manner)
    for tool in world.TOOLS
    for manner in world.MANNERS
    for hedged in (False, True)
}
_TASK_KINDS = {task: kind for kind, tasks in world.TASKS.items() for task in tasks}
_OBJECT_CATEGORIES = {thing: category for category, things in world.OBJECTS.items() for thing in things}


@lru_cache(maxsize=4096)
def parse_prompt(text: str) -> Request | None:
    """Parses a request.

    Args:
        text: any string.

    Returns:
        The prompt with the first task and the first object in the text (phrasing 0 unless it is exactly a
        prompt of the lab), or None if the text does not contain both: then no answer is right.
    """
    for prompt in world.PROMPTS:
        if prompt.text == text:
            return prompt
    found = words(text)
    task = next((word for word in found if word in _TASK_KINDS), None)
    thing = next((word for word in found if word in _OBJECT_CATEGORIES), None)
    if task is None or thing is None:
        return None
    return Request(task, thing, 0, _TASK_KINDS[task], _OBJECT_CATEGORIES[thing])


def parse(prompt: Request | None, response: str) -> Traits:
    """Parses a response.

    Args:
        prompt: the request, or None if it is not one of this world.
        response: any string.

    Returns:
        Its traits.
    """
    answers: list[float] = []
    counts = dict.fromkeys(("detail", "courtesy", "caution", "risk", "filler"), 0)
    found_meanings: set[object] = set()
    num_parsed = num_words = 0
    fitting = prompt.details if prompt else ()
    for piece in _SENTENCE_END.split(response):
        piece_words = words(piece)
        clause = " ".join(piece_words)
        num_words += len(piece_words)
        role = "answer" if clause in _ANSWERS else _ROLES.get(clause)
        if role is None:
            continue
        num_parsed += len(piece_words)
        meaning = _ANSWERS.get(clause, clause)
        if meaning in found_meanings or (role == "detail" and clause not in fitting):
            counts["filler"] += 1
        elif role == "answer":
            answers.append(_judge(prompt, _ANSWERS[clause]))
        else:
            counts[role] += 1
        found_meanings.add(meaning)
    return Traits(
        correctness=sum(answers) / len(answers) if answers else 0.0,
        fluency=num_parsed / num_words if num_words else 0.0,
        length=float(num_words),
        **{name: float(count) for name, count in counts.items()},
    )


def _judge(prompt: Request | None, answer: tuple[str, str]) -> float:
    if prompt is None:
        return -1.0
    matches = sum(given == right for given, right in zip(answer, prompt.fact, strict=True))
    return (-1.0, 0.5, 1.0)[matches]


def read(conversations: Sequence[Sequence[Message]]) -> tuple[Tensor, list[str]]:
    """Parses conversations.

    Args:
        conversations: B message lists, each ending in the response; the request is the last user message
            before it.

    Returns:
        Traits [B, 8] in float64, with columns `TRAITS`; and the B kinds of prompt, empty for a request that
        is not one of this world.

    Raises:
        ArgumentError: a conversation is empty or not a message list, or its last message has no text.
    """
    rows: list[Traits] = []
    kinds: list[str] = []
    for i, messages in enumerate(conversations):
        listed = all(isinstance(message, Mapping) for message in messages)  # a text is a list of letters
        if not listed or not messages or not isinstance(messages[-1].get("content"), str):
            raise ArgumentError(
                f"conversation {i} must end in a message with text as its content; got {messages!r}"
            )
        request = next((m["content"] for m in reversed(messages[:-1]) if m.get("role") == "user"), "")
        prompt = parse_prompt(request)
        rows.append(parse(prompt, messages[-1]["content"]))
        kinds.append(prompt.kind if prompt else "")
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(TRAITS)), kinds
