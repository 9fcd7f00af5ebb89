"""Advantages of tokens, by name: from a critic (`gae`), or from the other responses to the prompt.

In: rewards per token, values, groups. Out: advantages, and returns for a critic. The formulas are those of
`losses.online`; here they have a common signature. A new kind is one function and one line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.losses.online import gae, group_advantages

__all__ = ["ADVANTAGES", "AdvantageKind"]


def _gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"] | None,
    keep_mask: Bool[Tensor, "B T"],
    group: Sequence[int],
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor | None]:
    assert values is not None  # the trainer makes a critic for kinds that need one
    return gae(rewards, values, keep_mask, gamma, lam)


def _of_group(kind: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The whole response is one action: its return is the sum of its token rewards, including the KL."""

    def advantages(
        rewards: Float[Tensor, "B T"],
        values: Float[Tensor, "B T"] | None,
        keep_mask: Bool[Tensor, "B T"],
        group: Sequence[int],
        gamma: float,
        lam: float,
    ) -> tuple[Tensor, Tensor | None]:
        del values, gamma, lam
        of_response = group_advantages(rewards.sum(1), list(group), kind)
        return of_response[:, None] * keep_mask, None

    return advantages


@dataclass(frozen=True)
class AdvantageKind:
    """A method for computing advantages.

    Attributes:
        function: (rewards [B, T], values [B, T] or None, keep_mask [B, T], group ids, gamma, lam) to
            advantages [B, T] and returns [B, T] or None.
        critic: whether it needs values.
        completions: minimum number of responses per prompt.
        whiten: whether advantages are whitened by default.
    """

    function: Callable[..., tuple[Tensor, Tensor | None]]
    critic: bool
    completions: int
    whiten: bool


ADVANTAGES: Mapping[str, AdvantageKind] = {
    "gae": AdvantageKind(_gae, critic=True, completions=1, whiten=True),
    "rloo": AdvantageKind(_of_group("rloo"), critic=False, completions=2, whiten=False),
    "grpo": AdvantageKind(_of_group("grpo"), critic=False, completions=2, whiten=False),
}
