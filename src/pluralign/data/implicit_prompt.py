"""Plain text that holds a conversation, as HH-RLHF writes it, read as a prompt and responses.

    "\\n\\nHuman: Why?\\n\\nAssistant: So."        chosen
    "\\n\\nHuman: Why?\\n\\nAssistant: No idea."   rejected

In: the sides of a row, and its prompt if it has one in plain text. Out: the turns that all sides share, as
messages, and the last turn of each side; nothing if that is not certain. It does not know which columns the
sides stand in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pluralign.data.messages import Message
from pluralign.data.same_text import normal_text

__all__ = ["read_implicit_prompt"]

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = ("user", "assistant")


def read_implicit_prompt(
    sides: Mapping[str, str], prompt: str = ""
) -> tuple[list[Message], dict[str, str]] | None:
    """The prompt that the texts share, and the response of each.

    It is certain if every side begins with a human's turn, turns alternate, none is empty, the last is the
    assistant's, and all before it is the same on all sides. A separate prompt must consist of such turns too,
    and end in the assistant's marker; if the sides repeat it, it counts once.

    Args:
        sides: column -> text.
        prompt: text before all sides; "" for none.

    Returns:
        The prompt as messages, and column -> response; None if the texts are not such conversations.
    """
    if prompt:
        return _with_turns_apart(prompt, sides)
    read = {column: _turns(text) for column, text in sides.items()}
    prompts = [turns[:-1] for turns in read.values() if turns]
    if not prompts or len(prompts) < len(sides) or any(one != prompts[0] for one in prompts):
        return None
    # Like a prompt's, a turn's mark is followed by one blank that belongs to neither.
    return _as_messages(prompts[0]), {column: turns[-1] for column, turns in read.items() if turns}


def _with_turns_apart(prompt: str, sides: Mapping[str, str]) -> tuple[list[Message], dict[str, str]] | None:
    """The same if the turns before the response are in a text of their own."""
    prompt_turns = _turns(f"{prompt.rstrip()} -")  # a stand-in for the response
    if prompt_turns is None or prompt_turns.pop() != "-":
        return None
    whole = [_turns(f"{prompt.rstrip()} {text}") for text in sides.values()]
    if all(turns is not None and turns[:-1] == prompt_turns for turns in whole):
        return _as_messages(prompt_turns), {column: text.removeprefix(" ") for column, text in sides.items()}
    again = {column: _turns(text) for column, text in sides.items()}
    if all(turns is not None and turns[:-1] == prompt_turns for turns in again.values()):
        return _as_messages(prompt_turns), {column: turns[-1] for column, turns in again.items() if turns}
    return None


def _as_messages(turns: list[str]) -> list[Message]:
    return [{"role": _ROLES[i % 2], "content": text} for i, text in enumerate(turns)]


def _turns(text: str) -> list[str] | None:
    """The text of each turn, first the human's, last the assistant's; None for any other text."""
    before, *parts = _TURN.split(text.replace("\r\n", "\n"))
    names, contents = parts[::2], parts[1::2]
    if before or len(names) < 2 or len(names) % 2:
        return None
    if any(name != ("Human", "Assistant")[i % 2] for i, name in enumerate(names)):
        return None
    turns = [*(normal_text(turn) for turn in contents[:-1]), contents[-1].removeprefix(" ")]
    return turns if all(turn.strip() for turn in turns) else None
