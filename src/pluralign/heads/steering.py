"""Steering: a user's settings at scoring time that replace the gate.

    weights    weights of the attributes, the same for every prompt, instead of the gate's
    measures   attributes that enter the mix as one number, a risk measure of their own distribution: so
               safety can count by its 5 % quantile and helpfulness by its mean

In: names and numbers. Out: checked positions and a weight vector for a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.distributions.special import as_shares
from pluralign.errors import ArgumentError, did_you_mean
from pluralign.families import DEFAULT

__all__ = ["Measure", "Steering"]

Measure = Callable[[RewardDistribution], Tensor]


@dataclass(frozen=True)
class Steering:
    """Checked settings for a head with A attributes.

    Attributes:
        weights: [A], float64, not negative, summing to 1; None keeps the gate.
        measures: by position of the attribute.
    """

    weights: Tensor | None = None
    measures: Mapping[int, Measure] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        weights: Mapping[str, float] | Sequence[float] | Tensor | None = None,
        measures: Mapping[str, Measure] | None = None,
    ) -> Steering:
        """Checks a user's settings.

        Args:
            names: the model's attributes, in order.
            weights: by name, with 0 for attributes that are not named; or one number per attribute in order.
                Only their ratios matter.
            measures: by name.

        Raises:
            ArgumentError: an unknown attribute, a weight that is negative or not finite, weights that are all
                0, or a model without attributes.
        """
        if weights is None and not measures:
            return cls()
        if not names:
            raise ArgumentError(
                "weights and steer act on attributes, and this model has none: it gives a response a single "
                f"score. Fit ratings, for instance with the family {DEFAULT}."
            )
        return cls(
            None if weights is None else _weights(names, weights),
            {_position(names, name): measure for name, measure in (measures or {}).items()},
        )


def _weights(names: Sequence[str], weights: Mapping[str, float] | Sequence[float] | Tensor) -> Tensor:
    if isinstance(weights, Mapping):
        given = {_position(names, name): weight for name, weight in weights.items()}
        weights = [given.get(i, 0.0) for i in range(len(names))]
    vector = torch.as_tensor(weights, dtype=torch.float64)
    if vector.shape != (len(names),):
        raise ArgumentError(
            f"weights have shape {tuple(vector.shape)}; needed: one per attribute, {', '.join(names)}"
        )
    if not bool((torch.isfinite(vector) & (vector >= 0)).all()) or not bool((vector > 0).any()):
        raise ArgumentError(
            f"weights = {vector.tolist()}; allowed: finite numbers of at least 0, one of them above 0"
        )
    return as_shares(vector)


def _position(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise ArgumentError(
            f"unknown attribute {name!r}{did_you_mean(name, names)}; this model has {', '.join(names)}"
        )
    return list(names).index(name)
