"""The end of a response's turn: taken from the chat template, or from the tokenizer if there is none.

A template shows how an assistant turn ends (`<|im_end|>`, `<end_of_turn>` ...), and models that were trained
with it generate exactly that. The tokenizer's end-of-sequence token is often a different one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pluralign.conversations.chat_template import after_response, content_form
from pluralign.errors import ArgumentError

__all__ = ["TurnEnd", "end_token_id", "find_turn_end", "special_texts", "stop_token_ids"]


class TurnEnd(NamedTuple):
    """How a response ends.

    Attributes:
        text: what the rendered conversation has after a response, through its end token; may be "".
        token_id: a token that ends the sequence after `text`; None if `text` ends with one, or if there is no
            end token at all.
        rest: what a template writes after `text`, which no model generates.
    """

    text: str
    token_id: int | None
    rest: str = ""


def find_turn_end(tokenizer: Any, token: str | None = None) -> TurnEnd:
    """Finds the end of an assistant's turn.

    Args:
        tokenizer: with or without a chat template.
        token: the text of the token that should end it; None for the one in the template, or otherwise the
            end-of-sequence token.

    Raises:
        ArgumentError: the tokenizer does not have `token`.
    """
    templated = tokenizer.chat_template is not None
    after = after_response(tokenizer, content_form(tokenizer)) if templated else ""
    if token is not None:
        return TurnEnd("", end_token_id(tokenizer, token), after)
    eos = None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    # Some tokenizers have the marks of their turns as tokens that are not called special.
    marks = special_texts(tokenizer)
    marks = marks if any(mark in after for mark in marks) else _added_texts(tokenizer)
    found = [(after.find(mark), mark) for mark in marks if mark in after]
    if not found:
        kept = after.rstrip()
        return TurnEnd(kept, eos, after[len(kept) :])
    # The longest of those that start first: `<|end|>` before `<|end`.
    place, mark = min(found, key=lambda one: (one[0], -len(one[1])))
    stop = place + len(mark)
    return TurnEnd(after[:stop], None, after[stop:])


def stop_token_ids(
    tokenizer: Any, generation_config: Any = None, tokens: Sequence[str] | None = None
) -> tuple[int, ...]:
    """Token ids at which sampling of a response stops.

    Args:
        tokenizer: of the policy.
        generation_config: of the model, whose `eos_token_id` counts too; None for none.
        tokens: the texts of the tokens that should end it, and no others; None for those of template,
            tokenizer and generation defaults.

    Returns:
        Distinct ids, first the one that training ends a response with.

    Raises:
        ArgumentError: the tokenizer lacks one of `tokens`, or nothing ends a response.
    """
    if tokens is not None:
        return tuple(dict.fromkeys(end_token_id(tokenizer, token) for token in tokens))
    end = find_turn_end(tokenizer)
    ids: list[int | None] = [end.token_id]
    if end.token_id is None and end.text:
        ids = [tokenizer(end.text, add_special_tokens=False, verbose=False)["input_ids"][-1]]
    defaults = getattr(generation_config, "eos_token_id", None)
    ids += [tokenizer.eos_token_id, *(defaults if isinstance(defaults, list) else [defaults])]
    known = tuple(dict.fromkeys(int(one) for one in ids if one is not None))
    return known or (end_token_id(tokenizer),)


def end_token_id(tokenizer: Any, token: str | None = None) -> int:
    """The id of a token by its text; None for the end-of-sequence token.

    Raises:
        ArgumentError: the tokenizer does not have it.
    """
    if token is None:
        if tokenizer.eos_token_id is None:
            raise ArgumentError(
                "neither the chat template nor the tokenizer defines an end token; name one with --end_token"
            )
        return int(tokenizer.eos_token_id)
    found = tokenizer.get_vocab().get(token)
    if found is None:
        raise ArgumentError(f"end_token: received {token!r}, which is not a token of this tokenizer")
    return int(found)


def special_texts(tokenizer: Any) -> set[str]:
    """The texts of all special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)} - {""}


def _added_texts(tokenizer: Any) -> set[str]:
    """The texts of tokens that were added to the vocabulary, special or not, except white space."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {token.content for token in added if token.content.strip()}
