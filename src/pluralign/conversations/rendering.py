"""From messages to one text, and the positions of prompt and response in it.

In: messages and a tokenizer with or without a chat template. Out: `Rendered`.

A response is read in one of two ways. As a *finished turn*: the conversation as the template renders it. As
*generated*: the prompt with the opening of an answer, followed by the response verbatim, which is what a
model sampled. For most templates the two agree. For reasoning models they do not: their templates open an
answer with `<think>`, and omit the reasoning from a finished turn. A finished turn that does not contain its
response, or whose prompt differs from what the model is given (Mistral's omits the system prompt), is
therefore read as generated, and `changes` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from pluralign.conversations.chat_template import PROBE, Form, content_form, render, writes_the_date
from pluralign.conversations.messages import plain_prompt, plain_response
from pluralign.conversations.turn_end import TurnEnd
from pluralign.errors import ArgumentError

__all__ = ["Rendered", "Template"]

Messages = Sequence[Mapping[str, Any]]

_NO_USER = [{"role": "user", "content": ""}]  # most templates require a user turn first
_ASK = [{"role": "user", "content": "hello"}]
_NOT_SHOWN = (
    "the model's chat template does not show the response's text unchanged, so its tokens cannot be found; "
    "set the tokenizer's chat_template to one that does"
)
_OTHER_PROMPT = (
    "its prompt before a finished turn differs from the one that the model is given to answer; the latter is "
    "used"
)


class Rendered(NamedTuple):
    """One conversation as text.

    Attributes:
        text: through the end of the response's turn.
        opening: what the model reads before it generates; if the response is read as generated, the text
            starts with it.
        start: characters before the response.
        stop: characters before the end of the turn.
        changes: what the chat template does to prompt and response.
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
        self._form: Form = content_form(tokenizer) if self.templated else "text"
        self._dated = self.templated and writes_the_date(tokenizer, self._form)

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
        opening = self.opening(prompt)
        return self._joined(opening, response, ended, self._prompt_changes(prompt, opening))

    def finished(self, prompt: Messages, response: str, *, ended: bool = True) -> Rendered:
        """The conversation as the chat template renders it.

        Raises:
            ArgumentError: the chat template refuses the conversation, or never shows a response unchanged.
        """
        if not self.templated:
            return self._joined(plain_prompt(prompt), plain_response(prompt, response), ended, ())
        with_user = _with_user(prompt)
        whole = self._render([*with_user, {"role": "assistant", "content": response}])
        opening = self._render(with_user, add_generation_prompt=True)
        before = opening if whole.startswith(opening) else self._before(with_user)
        changes = self._prompt_changes(prompt, opening)
        if not (opening.startswith(before) or before.startswith(opening)):
            changes += (_OTHER_PROMPT,)
            return self._joined(opening, self._lead + response, ended, changes)
        added = opening[len(before) :]
        if whole.startswith(before):
            stop = self._stop(whole, len(before))
            shown = whole[len(before) : stop]
            if response.strip() in shown:
                if added:
                    changes += (f"it opens a generated answer with {added!r}, which a finished turn lacks",)
                if response not in shown:
                    changes += ("it leaves out white space around the response",)
                text = whole[:stop] + (self._end.text if ended else "")
                return Rendered(text, opening, len(before), stop, changes)
        changes += ("it leaves part of the response out of a finished turn, so it is read as generated",)
        before = self._before(with_user)
        own = opening[len(before) :] if opening.startswith(before) else ""
        if own.strip() and response.lstrip().startswith(own.strip()):
            # The response already contains the opening of the answer.
            response = response.lstrip()
            shared = opening if response.startswith(own) else before
            return self._joined(shared, response[len(shared) - len(before) :], ended, changes)
        return self._joined(opening, response, ended, changes)

    def _prompt_changes(self, prompt: Messages, opening: str) -> tuple[str, ...]:
        """What the template does to a prompt, in words."""
        if not self.templated:
            return ()
        lost = [one["role"] for one in prompt if str(one["content"]).strip() not in opening]
        changes = tuple(
            f"it does not show every message of the role {role} as it is" for role in dict.fromkeys(lost)
        )
        if self._dated:
            changes += ("it writes today's date, so another day gives other tokens",)
        return changes

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
            raise ArgumentError(_NOT_SHOWN)
        return before

    @cached_property
    def _lead(self) -> str:
        """What a finished turn has between the opening of an answer and the response."""
        opening, before = self._render(_ASK, add_generation_prompt=True), self._before(_ASK)
        return before.removeprefix(opening) if before.startswith(opening) else ""

    def _render(self, messages: Messages, **options: Any) -> str:
        if self._form == "none":
            raise ArgumentError(_NOT_SHOWN)
        return render(self._tokenizer, messages, self._form, **options)


def _with_user(prompt: Messages) -> Messages:
    return prompt if any(message["content"].strip() for message in prompt) else _NO_USER
