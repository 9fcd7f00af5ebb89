"""Plain text that holds a conversation, as HH-RLHF writes it, read as a prompt and two responses.

    "\\n\\nHuman: Why?\\n\\nAssistant: So."        chosen
    "\\n\\nHuman: Why?\\n\\nAssistant: No idea."   rejected

In: the sides of a row without a prompt. Out: the turns that all sides share as messages, and what each side
says last; nothing where that is not certain. It does not know which columns the sides stand in.
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

    Certain is: every side begins with a human's turn, turns alternate, none is empty, the last is the
    assistant's, and all before it is the same on all sides.

    Args:
        sides: column -> text.

    Returns:
        The prompt as messages, and column -> response; None where the texts are no such conversations.
    """
    if len(sides) < 2:
        return None
    read = {column: _turns(text) for column, text in sides.items()}
    prompts = [turns[:-1] for turns in read.values() if turns]
    if len(prompts) < len(sides) or any(prompt != prompts[0] for prompt in prompts):
        return None
    prompt = [{"role": _ROLES[i % 2], "content": said} for i, said in enumerate(prompts[0])]
    # Like a prompt's, a turn's mark is followed by one blank that nobody said.
    return prompt, {column: turns[-1] for column, turns in read.items() if turns}


def _turns(text: str) -> list[str] | None:
    """What is said turn by turn, first by the human, last by the assistant; None for any other text."""
    before, *parts = _TURN.split(text.replace("\r\n", "\n"))
    names, said = parts[::2], parts[1::2]
    if before or len(names) < 2 or len(names) % 2:
        return None
    if any(name != ("Human", "Assistant")[i % 2] for i, name in enumerate(names)):
        return None
    turns = [*(normal_text(turn) for turn in said[:-1]), said[-1].removeprefix(" ")]
    return turns if all(turn.strip() for turn in turns) else None
