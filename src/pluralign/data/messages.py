"""Reads messages as they occur in files, and joins prompt and response into one conversation.

In: what a cell holds: text or a list of `{role, content}` messages. Out: a checked message list whose
contents are text. It does not know about files, rows or ratings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pluralign.data.problems import preview
from pluralign.errors import ArgumentError

__all__ = [
    "OTHER_ROLES",
    "ROLES",
    "Complain",
    "Message",
    "Note",
    "calls_of",
    "conversation",
    "is_unicode",
    "is_utf8",
    "read_messages",
    "with_tool_calls",
]

ROLES = ("system", "user", "assistant", "tool")

Message = dict[str, str]
Complain = Callable[[str, str, str], None]  # column, found, allowed
Note = Callable[[str], None]

_KEYS = ("role", "content", "tool_calls", "function_call")  # what is read of a message
# OpenAI's newer name, and those of datasets that were made for other trainers.
OTHER_ROLES = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
}


def conversation(prompt: str | Sequence[Mapping[str, Any]], response: str) -> list[Message]:
    """The prompt followed by the response; the only place that joins them.

    Args:
        prompt: messages, or plain text (one user message; empty text gives no message).
        response: the assistant's text.

    Returns:
        A message list that ends in the assistant's response.

    Raises:
        ArgumentError: the response is not text.

    >>> conversation("Hello", "Good day")
    [{'role': 'user', 'content': 'Hello'}, {'role': 'assistant', 'content': 'Good day'}]
    """
    if not isinstance(response, str):
        raise ArgumentError(f"response: received {type(response).__name__}; allowed: text")
    before = as_user(prompt) if isinstance(prompt, str) else [dict(message) for message in prompt]
    return [*before, {"role": "assistant", "content": response}]


def as_user(text: str) -> list[Message]:
    """Plain text as a prompt: one user message, or none if the text is empty."""
    return [{"role": "user", "content": text}] if text.strip() else []


def calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The calls of tools that a message makes, also under OpenAI's older key or stored as JSON text."""
    calls = _parsed(message.get("tool_calls"))
    calls = list(calls) if isinstance(calls, Sequence) and not isinstance(calls, str) else [calls]
    calls.append(_parsed(message.get("function_call")))
    return [call for call in calls if call]


def with_tool_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its tool calls written after its text, and without other keys.

    Each call becomes `<tool_call>` with its name and arguments as JSON, the format of Hermes and Qwen, so
    that every family, tokenizer and template sees the call.
    """
    text = [message["content"]] if isinstance(message.get("content"), str) and message["content"] else []
    for call in calls_of(message):
        inner = call.get("function", call) if isinstance(call, Mapping) else call
        if isinstance(inner, Mapping):
            inner = {key: _parsed(inner[key]) for key in ("name", "arguments") if key in inner} or dict(inner)
        written = json.dumps(inner, ensure_ascii=False, sort_keys=False, default=str)
        text.append(f"<tool_call>\n{written}\n</tool_call>")
    return {"role": message.get("role"), "content": "\n".join(text)}


def _parsed(value: Any) -> Any:
    """Arguments as an object: some exports store them as JSON text; keys that Arrow added are dropped."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, Mapping):
        return {key: value[key] for key in sorted(value) if value[key] is not None}
    return value


def read_messages(column: str, value: Any, complain: Complain, note: Note) -> list[Message] | None:
    """A checked message list; None if there was a problem.

    Args:
        column: the column of the value; in any column but `prompt` the last message is a response.
        value: the content of the cell.
        complain: called with (column, found, allowed) for every problem.
        note: called for everything that was left out or converted but is not a problem.
    """
    if not isinstance(value, list):
        complain(column, f"{type(value).__name__} {preview(value)}", "text or a list of messages")
        return None
    messages = []
    for place, message in enumerate(value, start=1):
        if not isinstance(message, dict):
            complain(column, f"{preview(message)} as message {place}", "{role, content}")
            continue
        role, content = message.get("role"), message.get("content")
        role = OTHER_ROLES.get(role, role) if isinstance(role, str) else role
        if isinstance(content, list):
            content = _joined_parts(content)
        if calls_of(message):
            note("tool calls were written into the message's text")
            content = with_tool_calls({**message, "content": content})["content"]
        if role not in ROLES:
            complain(column, f"the role {preview(message.get('role'))} in message {place}", " / ".join(ROLES))
        elif not isinstance(content, str):
            allowed = "text, or a list of parts {type: text, text}"
            complain(column, f"the content {preview(message.get('content'))} in message {place}", allowed)
        # The last message of a side is the response: whether that may be empty depends on the shape.
        elif not content.strip() and (column == "prompt" or place < len(value)):
            complain(column, f"no content in message {place}", "text")
        elif is_unicode(column, content, complain):
            messages.append({"role": role, "content": content})
            for key, extra in message.items():
                if key not in _KEYS and extra is not None:
                    note(f"message key {key!r} left out")
    return messages if len(messages) == len(value) else None


def _joined_parts(parts: list[Any]) -> str | None:
    """The text of OpenAI's content parts; None if one of them is not text."""
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    kinds = {part.get("type", "text") for part in parts if isinstance(part, dict)}
    if not parts or kinds != {"text"} or not all(isinstance(text, str) for text in texts):
        return None
    return "".join(text for text in texts if text is not None)


def is_utf8(text: str) -> bool:
    """Whether the text can be encoded as UTF-8: JSON can contain unpaired surrogates, which cannot."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_unicode(column: str, text: str, complain: Complain) -> bool:
    """Whether the text can be written as UTF-8; complains if not."""
    if is_utf8(text):
        return True
    complain(column, f"half a surrogate pair in {preview(text)}", "valid Unicode")
    return False
