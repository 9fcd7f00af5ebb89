"""What a model's chat template makes of messages: the one place that calls it.

In: messages and a tokenizer with a chat template. Out: text.

Most templates take a message's content as text. Those of vision-language models often take a list of parts,
`[{"type": "text", "text": ...}]`, and drop a plain text silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pluralign.errors import ArgumentError

__all__ = ["PROBE", "Form", "after_response", "content_form", "render", "writes_the_date"]

Messages = Sequence[Mapping[str, Any]]
Form = Literal["text", "parts", "none"]

# Stands for a response where a template is asked what it writes around one.
PROBE = "pluralignQZX"
_FINISHED = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": PROBE}]


def content_form(tokenizer: Any) -> Form:
    """How the template takes the content of messages; `none` where it shows no response as it is.

    A template that refuses a user's question and its answer is taken to want text; its refusal is an
    error when it is used.
    """
    forms: tuple[Form, ...] = ("text", "parts")
    for form in forms:
        try:
            if PROBE in render(tokenizer, _FINISHED, form):
                return form
        except ArgumentError:
            if form == "text":
                return "text"
    return "none"


def after_response(tokenizer: Any, form: Form) -> str:
    """What the template writes after a response that ends a conversation; "" where it shows none."""
    try:
        _, found, after = render(tokenizer, _FINISHED, form).rpartition(PROBE)
    except ArgumentError:  # those that refuse every conversation refuse the user's too, with a message
        return ""
    return after if found else ""


def writes_the_date(tokenizer: Any, form: Form) -> bool:
    """Whether today's date is part of what the template writes."""
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        template = template.get("default")
    if "strftime_now" not in str(template):
        return False
    try:
        today = render(tokenizer, _FINISHED, form)
    except ArgumentError:
        return False
    try:  # templates ask whether there is such a function, and mostly have a fixed date where there is none
        undated = template.replace("strftime_now", "no_such_function")
        return today != render(tokenizer, _FINISHED, form, chat_template=undated)
    except ArgumentError:
        return True


def render(tokenizer: Any, messages: Messages, form: Form, **options: Any) -> str:
    """The conversation as the chat template writes it.

    Args:
        tokenizer: has a chat template.
        messages: with text as their contents.
        form: from `content_form`.
        options: of `apply_chat_template`.

    Raises:
        ArgumentError: the template refuses the conversation, or fails on it.
    """
    given = [dict(message) for message in messages]
    if form == "parts":
        given = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in given]
    try:
        text: str = tokenizer.apply_chat_template(given, tokenize=False, **options)
    except Exception as error:  # a template is a program of its own, and may fail as one
        roles = ", ".join(str(message["role"]) for message in messages)
        raise ArgumentError(
            f"the model's chat template refuses a conversation with the roles {roles}: {error}"
        ) from error
    return text
