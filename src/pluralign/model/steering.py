"""What replaces the gate: a caller's weights, and attributes that enter the mix as one number.

In: weights and measures as a caller gives them. Out: a head's `Steering`, or an error with the attribute's
name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from pluralign import risk
from pluralign.errors import RiskError
from pluralign.heads import Steering

__all__ = ["Weights", "parse_steering"]

Weights = Mapping[str, float] | Sequence[float] | Tensor

# Measures that mean the same on an attribute's [0, 1] scale as in units of the reward.
_ALLOWED = (risk.Mean, risk.Median, risk.Quantile, risk.CVaR)


def parse_steering(
    attributes: Sequence[str],
    weights: Weights | None = None,
    steer: Mapping[str, str | risk.RiskMeasure] | None = None,
) -> Steering:
    """Weights and measures of attributes, checked.

    Args:
        attributes: the names of the model's attributes, in order.
        weights: as in `RewardModel.distribution`.
        steer: as in `RewardModel.distribution`.

    Raises:
        ArgumentError: an attribute that the model does not have, or weights that are negative or all 0.
        RiskError: a measure that does not exist or is not allowed here.
    """
    measures = {name: risk.parse(measure) for name, measure in (steer or {}).items()}
    for name, measure in measures.items():
        if not isinstance(measure, _ALLOWED):
            raise RiskError(
                f"steer[{name!r}] = {measure}; allowed: mean, median, quantile:t, cvar:a. Other "
                "measures have parameters in units of the whole reward; apply them with risk"
            )
    return Steering.of(attributes, weights, measures)
