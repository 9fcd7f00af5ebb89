"""One temperature for the probabilities of preferences, or of votes with ties, of people not seen before.

In: predicted probabilities of C = 2 or 3 outcomes and the shares of votes that each got. Out: a
`Temperature`, which sharpens or flattens any other prediction: `p^(1/T)`, normalised.

A model that takes the rewards of two responses as independent is underconfident about which is preferred,
since one rater's two rewards are correlated: T is then below 1. An overfitted model is overconfident: T is
above 1. The order of pairs is unchanged, and a probability of 1/2 stays 1/2.

T minimises the mean log loss, which is convex in 1/T, over the comparisons.

Paper: Guo, Pleiss, Sun and Weinberger 2017, arXiv 1706.04599, section 4.2.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.model.recalibration import FEWEST_GROUPS

__all__ = ["Temperature"]

Kind = Literal["preferences", "votes"]

_LEAST, _MOST = 0.01, 100.0
_SMALLEST = 1e-6  # a probability below this is not certainty


@dataclass(frozen=True)
class Temperature:
    """The correction of probabilities.

    Attributes:
        kind: "preferences", of which side is preferred, or "votes", of a, tie and b.
        value: T, from .01 to 100; 1 changes nothing.
        groups: number of groups that it was measured on.
        rows: number of comparisons.
    """

    kind: Kind
    value: float
    groups: int
    rows: int

    @classmethod
    def fitted(
        cls,
        kind: Kind,
        probs: Float[Tensor, "N C"],
        shares: Float[Tensor, "N C"],
        *,
        groups: int,
        rows: int,
        fewest: int = FEWEST_GROUPS,
    ) -> Self:
        """The temperature of the smallest log loss.

        Args:
            kind: what the C outcomes are.
            probs: predicted probabilities.
            shares: of votes for each outcome, of any positive weight per row.
            groups: number of groups of the rows.
            rows: number of comparisons.
            fewest: number of groups that are needed.

        Raises:
            ArgumentError: there are fewer groups, or every probability is the same for all outcomes, so that
                no temperature changes them.
        """
        if groups < fewest:
            raise ArgumentError(
                f"{groups} groups of comparisons; needed: at least {fewest}, since the comparisons of one "
                "group (a prompt, a source) say little about another. Hold out more groups, or leave it "
                "uncalibrated"
            )
        logs = probs.double().clamp(min=_SMALLEST).log()
        if bool((logs - logs[:, :1]).abs().max() < 1e-9):
            raise ArgumentError("all outcomes are equally likely for every row: no temperature changes that")
        given = shares.double()
        observed = (given * logs).sum()

        def slope(inverse: float) -> float:
            """The derivative of the log loss by 1/T, which rises with 1/T."""
            expected = ((inverse * logs).softmax(1) * logs).sum(1)
            return float((given.sum(1) * expected).sum() - observed)

        low, high = math.log(1 / _MOST), math.log(1 / _LEAST)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
        return cls(kind, float(f"{math.exp(-(low + high) / 2):.6g}"), groups, rows)

    def __call__(self, probs: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """The corrected probabilities; rows sum to 1."""
        return (probs.clamp(min=_SMALLEST).log() / self.value).softmax(-1)

    def of_preference(self, probs: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The corrected probabilities of one of two sides; those of the other are 1 minus these."""
        return self(torch.stack([probs, 1 - probs], -1))[..., 0]

    def spec(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Of a checked `spec`."""
        return cls(**spec)

    @staticmethod
    def check_spec(spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        schema.record(
            {
                "kind": schema.choice("preferences", "votes"),
                "value": schema.number(_LEAST, _MOST),
                "groups": schema.whole(1),
                "rows": schema.whole(1),
            }
        )(spec, where)
