"""The single reader of conversations: messages in, token ids with the spans of prompt and response out.

    messages ──► template or plain text ──► token ids
                                            [ prompt_span | response_span | end_ids ]

Embedding, sampling, training and serving all read conversations here, so the same tokens are trained, scored
and embedded, and a response ends as the model would end it when sampling.
"""

from __future__ import annotations

from pluralign.conversations.identity import tokenizer_digest
from pluralign.conversations.inversion import TemplateInverse
from pluralign.conversations.messages import (
    Conversation,
    check,
    has_prompt,
    prompt_text,
    response_text,
)
from pluralign.conversations.reader import ConversationReader, TokenizedConversation, tokenize
from pluralign.conversations.rendering import Template
from pluralign.conversations.turn_end import TurnEnd, end_token_id, find_turn_end, stop_token_ids

__all__ = [
    "Conversation",
    "ConversationReader",
    "Template",
    "TemplateInverse",
    "TokenizedConversation",
    "TurnEnd",
    "check",
    "end_token_id",
    "find_turn_end",
    "has_prompt",
    "prompt_text",
    "response_text",
    "stop_token_ids",
    "tokenize",
    "tokenizer_digest",
]
