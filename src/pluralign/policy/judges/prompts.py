"""What a judge is asked: texts with places for the conversation, and how they are filled."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pluralign.errors import ConfigError

__all__ = [
    "PROBABILITY_PROMPT",
    "SCORE_PROMPT",
    "VOTE_PROMPT",
    "check_prompt",
    "filled",
    "question",
    "readable",
]

SCORE_PROMPT = """\
Rate how good the last response of the assistant is for the person who asked.

[Conversation]
{prompt}

[Response]
{response}

Rate it on this scale: {scale}. The highest is the best. Explain in one or two sentences, then write on a \
line of its own:
Score: <number>"""

PROBABILITY_PROMPT = """\
Rate how good the last response of the assistant is for the person who asked.

[Conversation]
{prompt}

[Response]
{response}

Answer with one number of this scale and nothing else: {scale}. The highest is the best."""

VOTE_PROMPT = """\
Which of two responses is better for the person who asked?

[Conversation]
{prompt}

[Response A]
{response_a}

[Response B]
{response_b}

Their order says nothing. Explain in one or two sentences, then write on a line of its own one of:
Verdict: A
Verdict: B
Verdict: tie"""

_PLACE = re.compile(r"\{(prompt|response|response_a|response_b|persona|scale)\}")
_PERSONA = "You are {persona}. Judge as this person would, by what matters to them."


def check_prompt(text: Any, needed: Collection[str]) -> str:
    """The text, with a place for everything that it needs.

    Raises:
        ConfigError: it is not a text, or a place is missing.
    """
    if not isinstance(text, str):
        raise ConfigError(f"prompt: received {type(text).__name__}; allowed: text")
    missing = sorted({*needed} - {*_PLACE.findall(text)})
    if missing:
        places = ", ".join(f"{{{name}}}" for name in missing)
        raise ConfigError(f"prompt: has no place {places}; the judge would not see what it is to judge")
    return text


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its places filled, once: braces in the values stay as they are.

    >>> filled("{prompt} -> {response}", {"prompt": "{response}", "response": "x"})
    '{response} -> x'
    """
    return _PLACE.sub(lambda place: values.get(place[1], place[0]), text)


def question(text: str, values: Mapping[str, str], persona: str | None) -> list[dict[str, str]]:
    """The messages for a judge: the persona as a system message, unless the text has a place for it."""
    if persona is None:
        return [{"role": "user", "content": filled(text, values)}]
    asked = [{"role": "user", "content": filled(text, {**values, "persona": persona})}]
    if "persona" in _PLACE.findall(text):
        return asked
    return [{"role": "system", "content": filled(_PERSONA, {"persona": persona})}, *asked]


def readable(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The messages of a prompt as one text: a single user message as it is, others with their roles."""
    if [message["role"] for message in prompt] == ["user"]:
        return str(prompt[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
