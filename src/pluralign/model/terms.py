"""Plain terms of a utility, such as length and format, and their sum with a scorer's reward.

In: conversations. Out: known numbers, added to an uncertain reward.

A term is a number, so it shifts a response's whole distribution: the utility of the sum is the utility of the
reward plus the terms, for every translation-equivariant measure (all except `exponential`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.checks import as_finite
from pluralign.distributions import RewardDistribution
from pluralign.distributions.checks import as_number
from pluralign.errors import ArgumentError
from pluralign.model.inputs import Conversation
from pluralign.model.scorer import BaseScorer, Scorer, as_conversations, distributions_of

__all__ = ["Format", "Length", "Sum", "Term"]

Term = Callable[[Sequence[Conversation]], Any]


@dataclass(frozen=True)
class Length:
    """`weight` for every word or character of the response beyond the first `free` ones.

    Attributes:
        weight: in units of the reward; negative for a penalty.
        unit: words or characters.
        free: number of words or characters that do not count, at least 0.
    """

    weight: float
    unit: Literal["words", "characters"] = "words"
    free: int = 0

    def __post_init__(self) -> None:
        as_number(self.weight, "weight")
        if self.unit not in ("words", "characters"):
            raise ArgumentError(f"unit must be words or characters, received {self.unit!r}")
        if not as_finite(self.free) >= 0:
            raise ArgumentError(f"free must be at least 0, received {self.free!r}")

    def __call__(self, conversations: Sequence[Conversation]) -> Float[Tensor, " B"]:
        """The term of each response, [B]."""
        responses = [c[-1]["content"] for c in conversations]
        lengths = [len(r.split()) if self.unit == "words" else len(r) for r in responses]
        return torch.tensor([self.weight * max(0, n - self.free) for n in lengths], dtype=torch.float64)


@dataclass(frozen=True)
class Format:
    r"""`weight` if a regular expression is found in the response, otherwise 0.

    Attributes:
        pattern: searched for anywhere; anchor it with \A and \Z for the whole response.
        weight: in units of the reward; negative if the format is unwanted.
    """

    pattern: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        as_number(self.weight, "weight")
        try:
            re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise ArgumentError(f"pattern {self.pattern!r} is not a regular expression: {error}") from error

    def __call__(self, conversations: Sequence[Conversation]) -> Float[Tensor, " B"]:
        """The term of each response, [B]."""
        found = [re.search(self.pattern, c[-1]["content"]) is not None for c in conversations]
        return torch.tensor([self.weight if hit else 0.0 for hit in found], dtype=torch.float64)


@final
class Sum(BaseScorer):
    """A scorer's reward plus plain terms.

    Args:
        scorer: a reward model, a combination, a judge.
        terms: `Length`, `Format`, or any function of conversations that returns a finite number for each.
    """

    def __init__(self, scorer: Scorer, terms: Sequence[Term]) -> None:
        self.scorer = scorer
        self.terms = tuple(terms) if isinstance(terms, Iterable) else (None,)
        if not all(callable(term) for term in self.terms):
            raise ArgumentError("terms must be functions of conversations, such as Length and Format")

    def distribution(self, conversations: Sequence[Conversation]) -> RewardDistribution:
        """The scorer's distribution of each response, shifted by the sum of its terms.

        Raises:
            ArgumentError: a term does not return a finite number for each conversation.
        """
        listed = as_conversations(conversations)
        distribution = distributions_of(self.scorer, listed, "the scorer")
        shift = torch.zeros(len(listed), dtype=torch.float64)
        for term in self.terms:
            shift = shift + _numbers(term, listed)
        return distribution.scale_shift(1.0, shift.to(distribution.device, distribution.dtype))


def _numbers(term: Term, conversations: Sequence[Conversation]) -> Tensor:
    name = getattr(term, "__name__", None) or str(term)
    try:
        values = torch.as_tensor(term(conversations), dtype=torch.float64).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"the term {name} did not return numbers: {error}") from error
    if values.shape != (len(conversations),) or not bool(values.isfinite().all()):
        raise ArgumentError(
            f"the term {name} must return a finite number for each of {len(conversations)} conversations; "
            f"received shape {list(values.shape)}, {int((~values.isfinite()).sum())} of them not finite"
        )
    return values
