"""`tokenize`: a conversation as token ids, with the spans of prompt and response and the end of the turn.

In: messages and a tokenizer. Out: `TokenizedConversation`. Nothing is padded or truncated here.

The whole text is tokenized at once and spans are found by character offsets, because a text has different
tokens on its own: SentencePiece-like tokenizers put a space before its first word, others merge characters
across the boundary. A token that straddles the boundary belongs to the response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralign.conversations.messages import Conversation, check
from pluralign.conversations.rendering import Rendered, Template
from pluralign.conversations.turn_end import find_turn_end
from pluralign.data.messages import conversation as join
from pluralign.errors import ArgumentError

__all__ = ["ConversationReader", "Span", "TokenizedConversation", "shared_length", "tokenize"]

Span = tuple[int, int]  # half-open


@dataclass(frozen=True)
class TokenizedConversation:
    """One conversation as a model reads it.

    Attributes:
        ids: all token ids, through the end of the response's turn.
        prompt_span: the tokens before the response, special tokens included; starts at 0.
        response_span: the response's tokens, without the end of the turn.
        end_ids: the ids after the response that end its turn, the last of `ids`; empty if nothing ends it.
        changes: what the chat template does to prompt and response, in words; empty if they are unchanged.
    """

    ids: list[int]
    prompt_span: Span
    response_span: Span
    end_ids: list[int]
    changes: tuple[str, ...] = ()

    @property
    def prompt_ids(self) -> list[int]:
        """The tokens before the response."""
        return self.ids[: self.prompt_span[1]]

    @property
    def completion_ids(self) -> list[int]:
        """The tokens of the response and of the end of its turn."""
        return self.ids[self.response_span[0] :]


def tokenize(messages: Conversation, tokenizer: Any) -> TokenizedConversation:
    """The token ids of one conversation.

    They are those of the conversation as rendered by the tokenizer's chat template, up to the token that ends
    the last turn; no model generates what follows it (usually a line break). Without a template a single
    prompt message is plain text, several are lines `role: content`; a response that would run into the prompt
    starts on a new line (after `assistant:`, with a space), and the end-of-sequence token ends it.

    Args:
        messages: `[{"role": ..., "content": ...}, ...]`. If the last is not the assistant's, the result is
            what the model reads before it answers, with an empty response.
        tokenizer: a transformers tokenizer.

    Returns:
        The ids, spans and end.

    Raises:
        ArgumentError: `messages` is not a message list, or the chat template refuses it.

    >>> tokenize([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], tokenizer)
    ... # doctest: +SKIP
    TokenizedConversation(ids=[1, 40, 3, 52, 4], prompt_span=(0, 3), response_span=(3, 4), end_ids=[4])
    """
    reader = ConversationReader(tokenizer)
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    if isinstance(last, Mapping) and last.get("role") not in ("assistant", None):
        check([*messages, {"role": "assistant", "content": ""}], 0)
        ids = reader.prompt_ids(messages)
        return TokenizedConversation(ids, (0, len(ids)), (len(ids), len(ids)), [])
    return reader.read([messages])[0]


class ConversationReader:
    """Reads many conversations with one tokenizer.

    Args:
        tokenizer: a transformers tokenizer; a fast one, with character offsets, is used in batches.
        end_token: the text of the token that ends a response; None for the one in the chat template, or
            otherwise the end-of-sequence token.

    Raises:
        ArgumentError: `tokenizer` is not a tokenizer, or does not have `end_token`.
    """

    def __init__(self, tokenizer: Any, end_token: str | None = None) -> None:
        if not hasattr(tokenizer, "chat_template"):
            raise ArgumentError(
                f"tokenizer is {type(tokenizer).__name__} {tokenizer!r:.80}; pass a tokenizer of transformers"
            )
        self.tokenizer = tokenizer
        self.end = find_turn_end(tokenizer, end_token)
        self._template = Template(tokenizer, self.end)
        self._given_end = None if end_token is None else self.end.token_id
        self._added = set(getattr(tokenizer, "added_tokens_decoder", {}))

    def read(
        self,
        conversations: Sequence[Conversation],
        *,
        generated: bool | Sequence[bool] = False,
        ended: bool | Sequence[bool] = True,
        token_ids: Sequence[Sequence[int] | None] | None = None,
    ) -> list[TokenizedConversation]:
        """The token ids of conversations.

        Args:
            conversations: message lists that end in a response.
            generated: whether the response was sampled by the model after its prompt, rather than being a
                finished turn of any origin; one value for all, or one each.
            ended: whether the turn ended; false for a response that was cut off.
            token_ids: the ids that the model sampled with this tokenizer, including the end of the turn; None
                where they are not known. Tokenizing the text again may give different ids, so these are used
                unchanged if they decode to the response.

        Raises:
            ArgumentError: a conversation is not valid, or the chat template refuses it.
        """
        count = len(conversations)
        whole = [ended] * count if isinstance(ended, bool) else list(ended)
        sampled = [
            self._body(ids, one, has_end)
            for one, ids, has_end in zip(conversations, token_ids or [None] * count, whole, strict=True)
        ]
        drawn = [generated] * count if isinstance(generated, bool) else list(generated)
        drawn = [is_drawn or ids is not None for is_drawn, ids in zip(drawn, sampled, strict=True)]
        rendered = []
        for index, (one, is_drawn, has_end) in enumerate(zip(conversations, drawn, whole, strict=True)):
            messages = check(one, index)
            render = self._template.generated if is_drawn else self._template.finished
            rendered.append(render(messages[:-1], str(messages[-1]["content"]), ended=has_end))
        if not rendered:
            return []
        found = self._spans(rendered)
        openings = {one.opening for one, is_drawn in zip(rendered, drawn, strict=True) if is_drawn}
        ids_of = {opening: self._opening_ids(opening) for opening in openings}
        return [
            self._finish(one, *parts, has_end, ids_of[one.opening] if is_drawn else None)
            if ids is None
            else self._as_sampled(one, ids_of[one.opening], ids, has_end)
            for one, parts, has_end, is_drawn, ids in zip(rendered, found, whole, drawn, sampled, strict=True)
        ]

    def prompt_ids(self, prompt: str | Sequence[Mapping[str, Any]]) -> list[int]:
        """What the model reads before it answers; at least one token.

        Args:
            prompt: messages, or text (one user message).

        Raises:
            ArgumentError: there is neither text nor a begin-of-sequence token, or the chat template refuses
                it.
        """
        messages = check(join(prompt, ""), 0)[:-1]
        ids = self._opening_ids(self._template.opening(messages))
        if not ids:
            raise ArgumentError(
                "an empty prompt needs a tokenizer with a begin-of-sequence token, or a prompt"
            )
        return ids

    def _opening_ids(self, opening: str) -> list[int]:
        return self._closed_by_nothing(self._encode([opening])[0])

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # A template writes its special tokens into the text; adding them again would duplicate the first one.
        # verbose=False: callers check lengths.
        special = not self._template.templated
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)[
            "input_ids"
        ]
        return found

    def _closed_by_nothing(self, ids: Sequence[int]) -> list[int]:
        """The ids without the end tokens that some tokenizers add to every text, and with a first token."""
        kept = list(ids)
        if not self._template.templated:
            closing = {self.tokenizer.eos_token_id, self.tokenizer.sep_token_id} - {None}
            while kept and kept[-1] in closing:
                kept.pop()
        return kept or self._start()

    def _start(self) -> list[int]:
        """The ids that represent an empty text before the first token of a response."""
        first = self.tokenizer.bos_token_id
        first = self.tokenizer.eos_token_id if first is None else first
        return [] if first is None else [int(first)]

    def _spans(self, rendered: Sequence[Rendered]) -> list[tuple[list[int], int, int]]:
        """For each text its ids, and how many of them come before the response and before its end."""
        if not self.tokenizer.is_fast:
            return [self._spans_by_prefix(one) for one in rendered]
        encodings = self.tokenizer(
            [one.text for one in rendered],
            add_special_tokens=not self._template.templated,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        ).encodings
        found = []
        for one, encoding in zip(rendered, encodings, strict=True):
            ids, spans = list(encoding.ids), encoding.offsets
            while ids and encoding.special_tokens_mask[len(ids) - 1] and spans[len(ids) - 1][1] == 0:
                ids.pop()  # appended by the tokenizer
            offsets = [self._word_position(one.text, token, spans[i]) for i, token in enumerate(ids)]
            places = range(len(ids))
            start = next((i for i in places if offsets[i][1] > one.start), len(ids))
            # The end is compared too: trimmed offsets may start after the only character of their token.
            stop = next(
                (i for i in places[start:] if min(offsets[i][0], offsets[i][1] - 1) >= one.stop), len(ids)
            )
            found.append((ids, start, stop))
        return found

    def _word_position(self, text: str, token: int, span: Span) -> Span:
        """The position of a token without the white space that added tokens may absorb on either side."""
        if token not in self._added:
            return span
        covered = text[slice(*span)]
        word = covered.strip()
        first = span[0] + (covered.find(word) if word else 0)
        return first, first + len(word or covered)

    def _spans_by_prefix(self, one: Rendered) -> tuple[list[int], int, int]:
        """The same without offsets: by the longest common prefix with the tokens of the text's beginning."""
        ids, before, through = (
            self._closed_by_nothing(ids)
            for ids in self._encode([one.text, one.text[: one.start], one.text[: one.stop]])
        )
        start = shared_length(ids, before)
        return ids, start, max(start, shared_length(ids, through))

    def _finish(
        self,
        one: Rendered,
        ids: list[int],
        start: int,
        stop: int,
        ended: bool,
        opening: list[int] | None,
    ) -> TokenizedConversation:
        if opening is not None and ids[:start] != opening:
            # Characters merge across the boundary, so a model that read its prompt cannot have sampled this.
            body = one.text[one.start : one.stop]
            own = self.tokenizer(body, add_special_tokens=False, verbose=False)["input_ids"]
            ids, start, stop = [*opening, *own, *ids[stop:]], len(opening), len(opening) + len(own)
        elif start == 0:
            first = self._start()
            ids, start, stop = [*first, *ids], len(first), len(first) + stop
        if ended and self.end.token_id is not None:
            ids = [*ids, self.end.token_id]
        return TokenizedConversation(ids, (0, start), (start, stop), ids[stop:], one.changes)

    def _body(self, ids: Sequence[int] | None, one: Conversation, ended: bool) -> list[int] | None:
        """The sampled ids of a response, with its end; None if they do not decode to it."""
        if not ids or not all(0 <= token < len(self.tokenizer) for token in ids):
            return None
        body = list(ids[:-1] if ended else ids)
        text = self.tokenizer.decode(body, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # Some servers omit outer white space and an incomplete character at the end.
        same = text.strip().rstrip("\ufffd") == str(one[-1]["content"]).strip().rstrip("\ufffd")
        if not same:
            return None
        return [*body, *([] if not ended else ids[-1:] if self._given_end is None else [self._given_end])]

    def _as_sampled(
        self, one: Rendered, opening: list[int], ids: list[int], ended: bool
    ) -> TokenizedConversation:
        start, length = len(opening), len(ids) - ended
        return TokenizedConversation(
            [*opening, *ids], (0, start), (start, start + length), ids[length:], one.changes
        )


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the common prefix."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
