"""`log_probs`: a policy's log-probabilities of the responses of conversations, exactly as in training.

In: a causal language model, its tokenizer, conversations. Out: one sum of log-probabilities per response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.backbones.batches import by_token_budget
from pluralign.conversations import Conversation, ConversationReader
from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.loading import check_vocabulary
from pluralign.policy.logprobs.model_checks import check_positions
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import install, response_log_probs, row_tokens

__all__ = ["log_probs"]


@torch.no_grad()
def log_probs(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Conversation],
    *,
    generated: bool = False,
    end_token: str | None = None,
    batch_tokens: int = 4096,
) -> Float[Tensor, " B"]:
    """log pi(y|x) of each response, in nats: the sum over its tokens, including the end of its turn.

    Args:
        model: a causal language model of transformers, or a peft model around one; evaluated without dropout
            and then returned to its previous mode.
        tokenizer: its tokenizer.
        conversations: B message lists, each ending in the response.
        generated: read each response as text that the model generated after its prompt (see
            `conversations.ConversationReader.read`).
        end_token: the text of the token that ends a response; None for that of the chat template.
        batch_tokens: maximum number of tokens at a time, unless a single conversation has more.

    Returns:
        float32 [B] on the CPU; up to rounding, they do not depend on the other conversations or their
        order.

    Raises:
        ArgumentError: a conversation is not a list of messages that ends in a response, the chat template
            refuses it, nothing ends a response, or the model is not supported.
        ConfigError: a conversation has more tokens than the model positions.
    """
    reader = ConversationReader(tokenizer, end_token)
    read = reader.read(list(conversations), generated=generated)
    if unended := [index for index, one in enumerate(read) if not one.end_ids]:
        raise ArgumentError(
            f"nothing ends the response of conversation {unended[0]}: the tokenizer has neither a chat "
            "template with an end of turn nor an end-of-sequence token; name one with end_token"
        )
    check_vocabulary(model, tokenizer)
    check_positions(model, max((len(one.ids) for one in read), default=0), "conversations")
    apart = install(model)
    found = torch.empty(len(read))
    training = model.training
    model.eval()
    try:
        for places in by_token_budget([len(one.ids) for one in read], batch_tokens):
            batch = [(read[place].prompt_ids, read[place].completion_ids) for place in places]
            packed = pack(batch, row_tokens(model, apart, None, model.device))
            found[places] = response_log_probs(model, packed.to(model.device)).float().cpu()
    finally:
        model.train(training)
    return found
