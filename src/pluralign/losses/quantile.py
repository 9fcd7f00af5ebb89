"""Losses for quantiles: pure functions, one value per example, torch only.

Notation: t a level, q a predicted quantile, y the rating.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_tensors

__all__ = ["pinball"]


def pinball(
    values: Float[Tensor, "B K"], targets: Float[Tensor, " B"], levels: Float[Tensor, " K"]
) -> Float[Tensor, " B"]:
    """Pinball (check) loss rho_t(y - q) = max(t (y - q), (t - 1)(y - q)), averaged over the levels.

    Its expectation is minimal when q is the t-quantile of y. At y = q the gradient is 0.

    Args:
        values: predicted quantiles q, [B, K].
        targets: ratings y, [B].
        levels: t in (0, 1), strictly increasing, [K].

    Returns:
        [B], mean over levels, not negative.

    Raises:
        ArgumentError: if the shapes do not fit or, on the CPU, a level is invalid or a value is NaN.

    Reference: Koenker and Bassett 1978.
    """
    require_tensors("pinball", values=values, targets=targets, levels=levels)
    if values.ndim != 2 or targets.shape != values.shape[:1] or levels.shape != values.shape[1:]:
        raise ArgumentError(
            "pinball needs values [B, K], targets [B] and levels [K], received "
            f"{list(values.shape)}, {list(targets.shape)} and {list(levels.shape)}"
        )
    levels = levels.to(values.device)
    require(
        ((levels > 0) & (levels < 1)).all() & (levels.diff() > 0).all(),
        "pinball: levels must increase strictly and lie in (0, 1)",
    )
    residual = targets.unsqueeze(-1) - values
    require(~residual.isnan(), "pinball: values and targets must not be NaN")
    return (levels * torch.relu(residual) + (1 - levels) * torch.relu(-residual)).mean(-1)
