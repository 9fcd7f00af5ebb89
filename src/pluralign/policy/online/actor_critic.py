"""The policy and its critic as one module: one call returns log-probabilities and values of tokens.

In: packed sequences. Out: two lists of tensors, one entry per sequence. The critic is a linear head on the
input states of an output head, so V(s) belongs to the state in which a token was chosen; they are the states
of the policy, or those of a separate model. It is one module because DDP wraps one module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pluralign.policy.logprobs.packing import Packed
from pluralign.policy.logprobs.scored_forward import packed_call

__all__ = ["ActorCritic", "CriticModel", "ValueHead", "token_scores"]


class ValueHead(nn.Module):
    """Values of states; initially 0 for all states.

    Args:
        width: width of the states.
        outputs: numbers per state; more than one are quantiles.
        detached: whether its loss does not change the policy's weights.
    """

    def __init__(self, width: int, outputs: int = 1, detached: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.detached = detached
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[P, D] to [P, outputs], float32."""
        states = states.detach() if self.detached else states
        with torch.autocast(states.device.type, enabled=False):
            found: Tensor = self.linear(states.float().to(self.linear.weight.device))
        return found


class CriticModel(nn.Module):
    """A critic that shares no weights with the policy: a separate model with a value head.

    Its output head is not used, and not trained unless it is also the input embedding.

    Args:
        model: installed.
        head: on its states.
    """

    def __init__(self, model: Any, head: ValueHead) -> None:
        super().__init__()
        self.model = model
        self.head = head
        weight = model.get_output_embeddings().weight
        if weight is not model.get_input_embeddings().weight:
            model.get_output_embeddings().requires_grad_(False)

    def forward(self, **packed: Any) -> Tensor:
        """Values [P, outputs] of the packed tokens."""
        found: Tensor = self.head(self.model(**packed, states_only=True))
        return found


class ActorCritic(nn.Module):
    """A policy with the second call (`logprobs.scored_forward`), and a critic or none.

    Args:
        policy: installed.
        critic: on the policy's states, or a separate model; None for advantages that need no values.
    """

    def __init__(self, policy: Any, critic: ValueHead | CriticModel | None) -> None:
        super().__init__()
        self.policy = policy
        self.critic = critic

    @property
    def shares_weights(self) -> bool:
        """Whether the critic's loss can change the policy's weights."""
        return isinstance(self.critic, ValueHead)

    def forward(self, **packed: Any) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities [P] and values [P, outputs] of the packed tokens."""
        if self.critic is None:
            return self.policy(**packed), None
        if not self.shares_weights:
            return self.policy(**packed), self.critic(**packed)
        log_probs, states = self.policy(**packed, with_states=True)
        return log_probs, self.critic(states)


def token_scores(module: Any, packed: Packed) -> tuple[list[Tensor], list[Tensor] | None]:
    """Log-probabilities and values of each packed sequence's response tokens, in the given order.

    Args:
        module: an `ActorCritic`, or its wrapper.
        packed: a batch on its device.

    Returns:
        [T_b] each; and [T_b, outputs] each, or None without a critic.
    """
    log_probs, values = module(**packed_call(packed))
    device = packed.tokens.device  # a policy that is spread over devices ends on another one
    parts = torch.split(log_probs.to(device), packed.counts)
    ordered = [parts[place] for place in packed.places]
    if values is None:
        return ordered, None
    pieces = torch.split(values.to(device), packed.counts)
    return ordered, [pieces[place] for place in packed.places]
