"""Checks conversations, and turns them into plain text for models without a chat template.

In: a list of messages `{"role": ..., "content": ...}` that ends in the assistant's response. Out: the same
list, checked, or text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.data.messages import calls_of, is_utf8, with_tool_calls
from pluralign.errors import ArgumentError

__all__ = [
    "Conversation",
    "check",
    "has_prompt",
    "plain_prompt",
    "plain_response",
    "prompt_text",
    "response_text",
]

Conversation = Sequence[Mapping[str, Any]]


def check(conversation: Conversation, index: int) -> Conversation:
    """The conversation with tool calls written into its texts.

    Args:
        conversation: messages that end in the assistant's response.
        index: its number, for error messages.

    Raises:
        ArgumentError: it is not a list of messages, does not end in a response, or is not Unicode.
    """
    if isinstance(conversation, (str, Mapping)) or not isinstance(conversation, Sequence) or not conversation:
        raise ArgumentError(
            f"conversation {index} is {type(conversation).__name__} {conversation!r:.80}; "
            'pass a list of messages such as [{"role": "user", "content": "..."}, {"role": "assistant", ...}]'
        )
    if any(isinstance(message, Mapping) and calls_of(message) for message in conversation):
        conversation = [
            with_tool_calls(message) if isinstance(message, Mapping) else message for message in conversation
        ]
    for place, message in enumerate(conversation):
        if not (
            isinstance(message, Mapping)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
        ):
            raise ArgumentError(
                f"message {place} of conversation {index} is {message!r:.80}; "
                'it must have the texts "role" and "content"'
            )
        if not (is_utf8(message["role"]) and is_utf8(message["content"])):
            raise ArgumentError(
                f"message {place} of conversation {index} is not Unicode (half an emoji, perhaps cut off): "
                f"{message['content']!r:.80}; repair it or leave it out"
            )
    if conversation[-1]["role"] != "assistant":
        raise ArgumentError(
            f"conversation {index} ends with the role {conversation[-1]['role']!r:.80}; "
            'the last message must be the response, with the role "assistant"'
        )
    return conversation


def has_prompt(conversation: Conversation) -> bool:
    """Whether any message before the response has text in it."""
    return any(message["content"].strip() for message in conversation[:-1])


def response_text(conversation: Conversation) -> str:
    """The text of the last message."""
    return str(conversation[-1]["content"])


def prompt_text(conversation: Conversation) -> str:
    """The messages before the response: a single one as plain text, several as lines `role: content`."""
    prompt = conversation[:-1]
    return str(prompt[0]["content"]) if len(prompt) == 1 else _lines(prompt).removesuffix("\n")


def plain_prompt(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The text that a model without a chat template reads before it answers.

    A single message is plain text, which the model continues. Several become lines `role: content`, followed
    by the opening `assistant:`.
    """
    if len(prompt) < 2:
        return "".join(str(message["content"]) for message in prompt)
    return _lines(prompt) + "assistant:"


def plain_response(prompt: Sequence[Mapping[str, Any]], response: str) -> str:
    """The response as appended to `plain_prompt`: on a new line, or with a space after `assistant:`.

    If prompt or response already have white space there, they are joined as they are.
    """
    before = plain_prompt(prompt)
    if not before[-1:].strip() or not response[:1].strip():
        return response
    return f" {response}" if len(prompt) > 1 else f"\n{response}"


def _lines(messages: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{message['role']}: {message['content']}\n" for message in messages)
