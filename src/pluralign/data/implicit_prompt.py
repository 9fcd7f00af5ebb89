"""Reads plain text that contains a conversation, as in HH-RLHF, as a prompt and two responses.

    "\\n\\nHuman: Why?\\n\\nAssistant: So."        chosen
    "\\n\\nHuman: Why?\\n\\nAssistant: No idea."   rejected

In: the sides of a row without a prompt. Out: the turns that all sides share as messages, and the last turn of
each side; nothing if that is not certain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pluralign.data.messages import Message
from pluralign.data.same_text import normal_text

__all__ = ["read_implicit_prompt"]

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = ("user", "assistant")


def read_implicit_prompt(sides: Mapping[str, str]) -> tuple[list[Message], dict[str, str]] | None:
    """The prompt that two or more texts share, and the response of each.

    It is certain if every side starts with a human turn, turns alternate, none is empty, the last is the
    assistant's, and everything before it is the same on all sides.

    Args:
        sides: column -> text.

    Returns:
        The prompt as messages, and column -> response; None if the texts are not such conversations.
    """
    if len(sides) < 2:
        return None
    read = {column: _turns(text) for column, text in sides.items()}
    prompts = [turns[:-1] for turns in read.values() if turns]
    if len(prompts) < len(sides) or any(prompt != prompts[0] for prompt in prompts):
        return None
    prompt = [{"role": _ROLES[i % 2], "content": said} for i, said in enumerate(prompts[0])]
    # A turn's marker is followed by one space that does not belong to the text.
    return prompt, {column: turns[-1] for column, turns in read.items() if turns}


def _turns(text: str) -> list[str] | None:
    """The text of each turn, first the human's, last the assistant's; None for any other text."""
    before, *parts = _TURN.split(text.replace("\r\n", "\n"))
    names, said = parts[::2], parts[1::2]
    if before or len(names) < 2 or len(names) % 2:
        return None
    if any(name != ("Human", "Assistant")[i % 2] for i, name in enumerate(names)):
        return None
    turns = [*(normal_text(turn) for turn in said[:-1]), said[-1].removeprefix(" ")]
    return turns if all(turn.strip() for turn in turns) else None
