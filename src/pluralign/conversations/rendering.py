"""From messages to one text, and the positions of prompt and response in it.

In: messages and a tokenizer with or without a chat template. Out: `Rendered`.

A response is read in one of two ways. As a *finished turn*: the conversation as the template renders it. As
*generated*: the prompt with the opening of an answer, followed by the response verbatim, which is what a
model sampled. For most templates the two agree. For reasoning models they do not: their templates open an
answer with `<think>`, and omit the reasoning from a finished turn. A finished turn that does not contain its
response is therefore read as generated, and `changes` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pluralign.conversations.messages import plain_prompt, plain_response
from pluralign.conversations.turn_end import PROBE, TurnEnd
from pluralign.errors import ArgumentError

__all__ = ["Rendered", "Template"]

Messages = Sequence[Mapping[str, Any]]

_NO_USER = [{"role": "user", "content": ""}]  # most templates require a user turn first


class Rendered(NamedTuple):
    """One conversation as text.

    Attributes:
        text: through the end of the response's turn.
        opening: what the model reads before it generates; if the response is read as generated, the text
            starts with it.
        start: characters before the response.
        stop: characters before the end of the turn.
        changes: what the chat template does to the response.
    """

    text: str
    opening: str
    start: int
    stop: int
    changes: tuple[str, ...]


class Template:
    """Renders conversations for one tokenizer.

    Args:
        tokenizer: its chat template is used if it has one.
        end: the end of a response's turn.
    """

    def __init__(self, tokenizer: Any, end: TurnEnd) -> None:
        self._tokenizer = tokenizer
        self._end = end
        self.templated = tokenizer.chat_template is not None

    def opening(self, prompt: Messages) -> str:
        """What the model reads before it answers `prompt`.

        Raises:
            ArgumentError: the chat template refuses the prompt.
        """
        if not self.templated:
            return plain_prompt(prompt)
        return self._render(_with_user(prompt), add_generation_prompt=True)

    def generated(self, prompt: Messages, response: str, *, ended: bool = True) -> Rendered:
        """The prompt followed by the response verbatim.

        Args:
            prompt: the messages before the response.
            response: what the model sampled.
            ended: whether it also sampled the end of its turn.
        """
        return self._joined(self.opening(prompt), response, ended, ())

    def finished(self, prompt: Messages, response: str, *, ended: bool = True) -> Rendered:
        """The conversation as the chat template renders it.

        Raises:
            ArgumentError: the chat template refuses the conversation, or never shows a response unchanged.
        """
        if not self.templated:
            return self._joined(plain_prompt(prompt), plain_response(prompt, response), ended, ())
        prompt = _with_user(prompt)
        whole = self._render([*prompt, {"role": "assistant", "content": response}])
        opening = self._render(prompt, add_generation_prompt=True)
        changes: tuple[str, ...] = ()
        start: int | None = len(opening)
        if not whole.startswith(opening):
            before = self._before(prompt)
            start = len(before) if whole.startswith(before) else None
            if opening.startswith(before):
                added = opening[len(before) :]
                changes = (f"it opens a generated answer with {added!r}, which a finished turn lacks",)
        if start is not None:
            stop = self._stop(whole, start)
            if response.strip() in whole[start:stop]:
                text = whole[:stop] + (self._end.text if ended else "")
                return Rendered(text, opening, start, stop, changes)
        changes = ("it leaves part of the response out of a finished turn, so it is read as generated",)
        before = self._before(prompt)
        own = opening[len(before) :] if opening.startswith(before) else ""
        if own.strip() and response.lstrip().startswith(own.strip()):
            # The response already contains the opening of the answer.
            response = response.lstrip()
            shared = opening if response.startswith(own) else before
            return self._joined(shared, response[len(shared) - len(before) :], ended, changes)
        return self._joined(opening, response, ended, changes)

    def _joined(self, opening: str, response: str, ended: bool, changes: tuple[str, ...]) -> Rendered:
        stop = len(opening) + len(response)
        text = opening + response + (self._end.text if ended else "")
        return Rendered(text, opening, len(opening), stop, changes)

    def _stop(self, whole: str, start: int) -> int:
        """Where the end of the last turn begins, for a response that begins at `start`."""
        closing = self._end.text + self._end.rest
        if closing and whole.endswith(closing, start):
            return len(whole) - len(closing)
        found = whole.rfind(self._end.text, start) if self._end.text else -1
        return found if found >= 0 else len(whole)

    def _before(self, prompt: Messages) -> str:
        """The text before the response in a finished turn."""
        text = self._render([*prompt, {"role": "assistant", "content": PROBE}])
        before, found, _ = text.rpartition(PROBE)
        if not found:
            raise ArgumentError(
                "the model's chat template does not show the response's text unchanged, so its tokens cannot "
                "be found; set the tokenizer's chat_template to one that does"
            )
        return before

    def _render(self, messages: Messages, **options: Any) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
        except TemplateError as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            raise ArgumentError(
                f"the model's chat template refuses a conversation with the roles {roles}: {error}"
            ) from error
        return text


def _with_user(prompt: Messages) -> Messages:
    return prompt if any(message["content"].strip() for message in prompt) else _NO_USER
