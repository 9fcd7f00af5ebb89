"""From the text that a chat template wrote back to messages: `TemplateInverse`.

In: a prompt and a response as one text, as trainers decode them, and the tokenizer whose template wrote it.
    Out: the
conversation; or an error that says why it is not certain. Nothing is guessed.

The template is asked what it writes around contents that are known:

    [before] system [between] user [ask] assistant [next] user [ask] response [end]

A text is divided at these marks. It counts as read only where the template writes exactly this prompt for the
messages that were found, and where no content holds a mark itself, so that it could be divided in another
way.

A system prompt that a template writes by itself, where there is none, is not a message. One that it writes
into the user's turn (Gemma, Mistral) is read as part of that turn: the text does not say where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pluralign.conversations.chat_template import content_form, render, writes_the_date
from pluralign.conversations.turn_end import find_turn_end, special_texts
from pluralign.data.messages import Message, as_user
from pluralign.errors import ArgumentError

__all__ = ["TemplateInverse"]

_WORDS = ("pluralignQA", "pluralignQB", "pluralignQC", "pluralignQD", "pluralignQE")


class _Marks(NamedTuple):
    """What a template writes around contents.

    Attributes:
        start: before the first user's content, where there is no system message.
        system: before and after a system message at the start; None where it has no place of its own.
        ask: between a user's content and the assistant's in a finished conversation.
        follow: between an assistant's content and the next user's.
        opening: after the last user's content, where an answer is to be generated.
    """

    start: str
    system: tuple[str, str] | None
    ask: str
    follow: str
    opening: str


class TemplateInverse:
    """Reads texts that the chat template of a tokenizer wrote.

    Args:
        tokenizer: of the policy; without a chat template a prompt is plain text.

    Raises:
        ArgumentError: its template does not show contents in a way that can be found again.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._templated = tokenizer.chat_template is not None
        self._form = content_form(tokenizer) if self._templated else "text"
        self._dated = self._templated and writes_the_date(tokenizer, self._form)
        bos = tokenizer.bos_token
        self._bos: str = bos if isinstance(bos, str) else ""
        end = find_turn_end(tokenizer)
        ends = [end.text, tokenizer.eos_token, tokenizer.pad_token]
        known = {one for one in ends if isinstance(one, str) and one.strip()}
        self._ends = sorted(known | {one.strip() for one in known}, key=lambda one: (-len(one), one))
        self._special = special_texts(tokenizer)
        self._marks = self._found() if self._templated else None

    def conversation(self, text: str, prompt: str | None = None) -> list[Message]:
        """The messages of a text, which ends in the response.

        Args:
            text: prompt and response, with the special tokens of the template; the end of the turn and
                padding may be there or not.
            prompt: the part before the response, opening of the answer included, where it is known.

        Raises:
            ArgumentError: it is not certain where the response begins, or which messages the prompt has.
        """
        text = self._without_padding(text)
        if self._marks is None:
            if prompt is None:
                raise ArgumentError(
                    "the policy's tokenizer has no chat template, so the text does not say where the "
                    "response begins; send the prompt as well"
                )
            return [*as_user(prompt), _assistant(self._response(text, prompt))]
        try:
            return self._read(text, prompt, self._marks)
        except ArgumentError:
            if not self._dated:
                raise
        self._marks = self._found()  # the date may be another by now
        return self._read(text, prompt, self._marks)

    # -- a text ---------------------------------------------------------------------------------------

    def _read(self, text: str, prompt: str | None, marks: _Marks) -> list[Message]:
        if prompt is None:
            place, mark = max((text.rfind(mark), mark) for mark in (marks.opening, marks.ask))
            if place < 0:
                raise ArgumentError(
                    "nothing in the text marks the start of a response in the policy's chat template; is "
                    "--policy_tokenizer that of the policy?"
                )
            longer = marks.opening if text.startswith(marks.opening, place) else mark
            prompt = text[: place + len(longer)]
        response = self._response(text, prompt)
        messages = self._messages(prompt, marks)
        reserved = [*self._reserved(marks), *sorted(self._special)]
        held = [mark for mark in reserved if mark in response]
        if held:
            raise ArgumentError(
                f"the response contains {held[0]!r}, a marker of the policy's chat template, so it is not "
                "certain where it ends"
            )
        return [*messages, _assistant(response)]

    def _response(self, text: str, prompt: str) -> str:
        """What follows the prompt, without the end of the turn."""
        for start in dict.fromkeys((prompt, self._bos + prompt, prompt.removeprefix(self._bos))):
            if text.startswith(start):
                response = text[len(start) :]
                break
        else:
            raise ArgumentError(
                "the text does not begin with its prompt, so it is not certain where the response begins"
            )
        if self._marks is not None and self._marks.ask.startswith(self._marks.opening):
            lead = self._marks.ask.removeprefix(self._marks.opening)  # "[/INST] " and "[/INST]"
            response = response.removeprefix(lead) if not lead.strip() else response
        while True:  # the end of the turn, what the template writes after it, and padding
            shorter = response.rstrip()
            end = next((one for one in self._ends if shorter.endswith(one)), None)
            if end is None:
                break
            response = shorter.removesuffix(end)
        return response

    def _messages(self, prompt: str, marks: _Marks) -> list[Message]:
        """The messages of a prompt with the opening of an answer."""
        for text in dict.fromkeys((prompt, self._bos + prompt, prompt.removeprefix(self._bos))):
            for with_system in (False, True):
                found = self._divided(text, marks, with_system=with_system)
                if found is not None and self._writes(found, text):
                    return found
        raise ArgumentError(
            "the prompt is not what the policy's chat template writes for messages of system, user and "
            "assistant, or a message contains a marker of the template; is --policy_tokenizer that of the "
            "policy?"
        )

    def _divided(self, prompt: str, marks: _Marks, *, with_system: bool) -> list[Message] | None:
        """The messages at the marks; None where they do not fit."""
        messages: list[Message] = []
        rest = prompt
        if with_system:
            if marks.system is None or not rest.startswith(marks.system[0]):
                return None
            content, found, rest = rest.removeprefix(marks.system[0]).partition(marks.system[1])
            if not found:
                return None
            messages.append({"role": "system", "content": content})
        elif rest.startswith(marks.start):
            rest = rest.removeprefix(marks.start)
        else:
            return None
        ending = next((one for one in (marks.opening, marks.ask) if rest.endswith(one)), None)
        if ending is None:
            return None
        rest = rest.removesuffix(ending)
        role, mark = "user", marks.ask
        while True:
            content, found, rest = rest.partition(mark)
            messages.append({"role": role, "content": content})
            if not found:
                break
            role, mark = ("assistant", marks.follow) if role == "user" else ("user", marks.ask)
        if messages[-1]["role"] != "user":
            return None
        reserved = self._reserved(marks)
        if any(mark in message["content"] for message in messages for mark in reserved):
            return None
        return messages

    def _writes(self, messages: Sequence[Message], prompt: str) -> bool:
        """Whether the template writes this prompt for these messages."""
        try:
            if self._render(messages, add_generation_prompt=True) == prompt:
                return True
            answered = self._render([*messages, _assistant(_WORDS[0])])
        except ArgumentError:
            return False
        return answered.startswith(prompt + _WORDS[0])

    def _reserved(self, marks: _Marks) -> list[str]:
        """Texts that no content may hold, or it could be divided in another way."""
        pieces = [marks.start, *(marks.system or ()), marks.ask, marks.follow, marks.opening]
        special = [one for one in sorted(self._special) if any(one in piece for piece in pieces)]
        turns = [marks.ask.strip(), marks.follow.strip(), marks.opening.strip()]
        return [one for one in dict.fromkeys([*turns, *special]) if one]

    def _without_padding(self, text: str) -> str:
        """The text without padding on either side."""
        pad = self._tokenizer.pad_token
        if not isinstance(pad, str) or not pad:
            return text
        while text.startswith(pad) and pad != self._bos:
            text = text.removeprefix(pad)
        return text

    # -- the template ---------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Message], **options: Any) -> str:
        return render(self._tokenizer, messages, self._form, **options)

    def _pieces(self, roles: Sequence[str], **options: Any) -> list[str] | None:
        """What the template writes before, between and after known contents; None where it hides one."""
        words = _WORDS[: len(roles)]
        try:
            text = self._render(
                [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)], **options
            )
        except ArgumentError:
            return None
        pieces = []
        for word in words:
            if text.count(word) != 1:
                return None
            before, _, text = text.partition(word)
            pieces.append(before)
        return [*pieces, text]

    def _found(self) -> _Marks:
        turns = ("user", "assistant", "user", "assistant")
        plain = self._pieces(turns)
        opened = self._pieces(turns[:1], add_generation_prompt=True)
        if (
            plain is None
            or opened is None
            or not plain[1].strip()
            or not plain[2].strip()
            or not opened[1].strip()
        ):
            raise ArgumentError(
                "the policy's chat template does not write markers around every message, so its texts cannot "
                "be split back into messages"
            )
        whole = self._pieces(("system", *turns))
        own = whole is not None and whole[1].strip() != "" and whole[0] != plain[0]
        system = (whole[0], whole[1]) if whole is not None and own else None
        return _Marks(plain[0], system, plain[1], plain[2], opened[1])


def _assistant(response: str) -> Message:
    return {"role": "assistant", "content": response}
