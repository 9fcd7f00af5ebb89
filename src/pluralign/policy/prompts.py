"""From prompts and responses to the token ids that a policy reads and writes.

In: a prompt (messages or text) and a response (text). Out: token ids, the end token among the response's. It
knows nothing about models. The one place that says what a policy sees before it answers, so that sampling,
reference log-probabilities and training agree.

With a chat template the prompt is rendered up to where the assistant's answer begins. Without one a single
message is its text as it is, and several are lines `role: content` followed by `assistant:`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.errors import ArgumentError

__all__ = ["end_token_id", "prompt_ids", "prompt_text", "response_ids", "tokenizer_digest"]

Prompt = str | Sequence[Mapping[str, str]]


def prompt_text(tokenizer: Any, prompt: Prompt) -> tuple[str, bool]:
    """What the policy reads, and whether special tokens are still to be added.

    Args:
        tokenizer: of the policy.
        prompt: messages {role, content}, or text (one user message).

    Raises:
        ArgumentError: the chat template refuses the prompt.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(m) for m in prompt]
    if tokenizer.chat_template is not None:
        from jinja2 import TemplateError

        # Most templates need a user's turn to begin with.
        given = messages or [{"role": "user", "content": ""}]
        try:
            text: str = tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in given)
            raise ArgumentError(
                f"the chat template refuses a prompt with the roles {roles}: {error}"
            ) from error
        return text, False  # a template writes its special tokens into the text
    if len(messages) < 2:
        return "".join(message["content"] for message in messages), True
    lines = [f"{message['role']}: {message['content']}\n" for message in messages]
    return "".join(lines) + "assistant:", True


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt; at least one, which is the begin-of-sequence token where there is no text.

    Raises:
        ArgumentError: there is no text and no begin-of-sequence token, or the chat template refuses.
    """
    text, special = prompt_text(tokenizer, prompt)
    ids = list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
    # Some tokenizers close every text; a response follows here.
    while ids and special and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        ids.pop()
    if ids:
        return ids
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ArgumentError("an empty prompt needs a tokenizer with a begin-of-sequence token, or a prompt")
    return [start]


def response_ids(tokenizer: Any, response: str, end: int | None) -> list[int]:
    """Token ids of a response, closed by `end` unless that is None (a response that was cut off)."""
    ids = list(tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"])
    return ids if end is None else [*ids, end]


def end_token_id(tokenizer: Any, token: str | None = None) -> int:
    """The token that ends a response.

    Args:
        tokenizer: of the policy.
        token: its text; None for the end-of-sequence token.

    Raises:
        ArgumentError: the tokenizer does not have it.
    """
    if token is None:
        if tokenizer.eos_token_id is None:
            raise ArgumentError("the tokenizer has no end-of-sequence token; name one with --end_token")
        return int(tokenizer.eos_token_id)
    found = tokenizer.get_vocab().get(token)
    if found is None:
        raise ArgumentError(f"end_token: received {token!r}, which is no token of this tokenizer")
    return int(found)


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of everything that decides which ids a text gets."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    if backend is not None:  # settings of the last call, not of the tokenizer
        state.pop("padding", None)
        state.pop("truncation", None)
    whole = [state, tokenizer.chat_template, tokenizer.special_tokens_map]
    text = json.dumps(whole, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
