"""The identity of a tokenizer, as a digest: tokenizers with equal digests give every text the same ids."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["tokenizer_digest"]


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of everything that determines the ids of a text or a conversation."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    if backend is not None:  # these are settings of the last call, not of the tokenizer
        state.pop("padding", None)
        state.pop("truncation", None)
    whole = [state, tokenizer.chat_template, tokenizer.special_tokens_map]
    text = json.dumps(whole, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
