"""Reads the prompt and the sides (response, chosen, rejected ...) of a row in any of the accepted forms.

In: the values of a row, each text or messages. Out: the prompt as a message list, each side as text. TRL's
conversational shapes are handled here: a side given as a message list, and the implicit prompt, which is the
common beginning of the sides, as messages or as turns in plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.data.implicit_prompt import read_implicit_prompt
from pluralign.data.messages import (
    Complain,
    Message,
    Note,
    as_user,
    is_unicode,
    read_messages,
)
from pluralign.data.problems import preview
from pluralign.data.same_text import normal_text
from pluralign.data.stored_messages import unfold

__all__ = ["read_prompt_and_sides"]

_LONG = 20  # characters from which a prompt at the start of its responses is not there by chance
_SIDE = "text, or a list of messages that ends in the assistant's response"


def read_prompt_and_sides(
    prompt: Any, sides: Mapping[str, Any], complain: Complain, note: Note
) -> tuple[list[Message] | None, dict[str, str]]:
    """The prompt as messages and every side as text, as far as they are valid.

    For a side that is a message list, its last message is the response and must be the assistant's; messages
    that all sides share before it belong to the prompt. Messages that prompt and lists share are not
    repeated.

    Args:
        prompt: text, a message list, or None.
        sides: column -> text or message list; all of one kind.
        complain: called with (column, found, allowed) for every problem.
        note: called for everything that was left out or converted but is not a problem.

    Returns:
        The prompt (None if it is not valid) and column -> text of the valid sides; complete if there was no
        problem.
    """
    absent = prompt is None
    prompt = unfold("prompt", prompt, complain, note)
    given = _read_prompt(prompt, absent, complain, note)
    sides = {column: unfold(column, side, complain, note) for column, side in sides.items()}
    if any(side is None for side in sides.values()):
        return given, {}
    if all(isinstance(side, str) for side in sides.values()):
        plain = prompt if given and isinstance(prompt, str) else ""
        if (plain or not given) and (found := read_implicit_prompt(sides, plain)):
            note("prompt read from the turns of Human and Assistant in the text")
            given, sides = found
        elif plain and all(_begins_with(side, plain) for side in sides.values()):
            note(
                "responses begin with the prompt's text, so it is said twice; cut it off if it is the prompt"
            )
        return given, {column: side for column, side in sides.items() if is_unicode(column, side, complain)}
    if not all(isinstance(side, list) for side in sides.values()):
        for column, side in sides.items():
            if not isinstance(side, str | list):
                complain(column, f"{type(side).__name__} {preview(side)}", _SIDE)
        if all(isinstance(side, str | list) for side in sides.values()):
            complain("/".join(sides), "text on one side and messages on another", "one kind for all sides")
        return given, {}
    read = {column: read_messages(column, side, complain, note) for column, side in sides.items()}
    for column, messages in read.items():
        if messages == []:
            complain(column, "an empty list", _SIDE)
    lists = [messages for messages in read.values() if messages]
    if len(lists) < len(read):
        return given, {}
    shared = _common_start(lists)
    texts = {}
    for column, messages in read.items():
        own = (messages or [])[len(shared) :]
        if len(own) == 1 and own[0]["role"] == "assistant":
            texts[column] = own[0]["content"]
        else:
            roles = [message["role"] for message in own]
            complain(column, f"the roles {roles} after what all sides share", "one message, the assistant's")
    return None if given is None else _join(given, shared, complain), texts


def _begins_with(side: str, prompt: str) -> bool:
    """Whether a response begins with its prompt; short prompts ("No.") may well be in both."""
    asked = normal_text(prompt)
    return len(asked) >= _LONG and normal_text(side).startswith(asked)


def _read_prompt(value: Any, absent: bool, complain: Complain, note: Note) -> list[Message] | None:
    if value is None:
        return [] if absent else None
    if isinstance(value, str):
        return as_user(value) if is_unicode("prompt", value, complain) else None
    return read_messages("prompt", value, complain, note)


def _common_start(lists: Sequence[list[Message]]) -> list[Message]:
    """The longest common beginning that leaves every list its last message."""
    limit = min(len(messages) for messages in lists) - 1
    keys = [_keys(messages) for messages in lists]
    same = 0
    while same < limit and all(key[same] == keys[0][same] for key in keys):
        same += 1
    return lists[0][:same]


def _join(given: list[Message], shared: list[Message], complain: Complain) -> list[Message] | None:
    """The given prompt and the messages that the sides share, without repetition."""
    first, second = _keys(given), _keys(shared)
    if any(second[i : i + len(first)] == first for i in range(len(second) - len(first) + 1)):
        return shared
    for overlap in range(min(len(first), len(second)), 0, -1):
        if first[-overlap:] == second[:overlap]:
            return [*given, *shared[overlap:]]
    if first[-1] in second:
        roles = [role for role, _ in second]
        found = (
            f"a last turn that the sides also contain, but after different turns (the sides share {roles})"
        )
        complain("prompt", found, "the same turns before it, or a prompt on one side only")
        return None
    return [*given, *shared]


def _keys(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message["role"], normal_text(message["content"])) for message in messages]
