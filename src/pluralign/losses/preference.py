"""Losses for preferences between two responses: pure functions, one value per pair, torch only.

Orientation: chosen minus rejected, positive favours chosen.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_tensors

__all__ = ["bradley_terry"]


def bradley_terry(
    chosen: Float[Tensor, " B"],
    rejected: Float[Tensor, " B"],
    margin: Float[Tensor, " B"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " B"]:
    """Negative log-likelihood of the preference, -log sigmoid(z) with z = chosen - rejected - margin.

    With label smoothing e it is -(1 - e) log sigmoid(z) - e log sigmoid(-z): each label is wrong with
    probability e.

    Args:
        chosen: rewards of the preferred responses, [B].
        rejected: rewards of the others, [B].
        margin: the margin by which chosen should win, [B], in units of reward; None means 0.
        label_smoothing: e in [0, 0.5].

    Returns:
        [B], positive.

    Raises:
        ArgumentError: if the shapes differ, e is out of range or, on the CPU, a difference is NaN.

    Reference: Bradley and Terry 1952; the margin is equation 2 of Touvron et al. 2023 (arXiv 2307.09288).
    """
    given = {} if margin is None else {"margin": margin}
    require_tensors("bradley_terry", chosen=chosen, rejected=rejected, **given)
    if chosen.shape != rejected.shape or (margin is not None and margin.shape != chosen.shape):
        shapes = [list(part.shape) for part in (chosen, rejected, margin) if part is not None]
        raise ArgumentError(
            f"bradley_terry needs chosen, rejected and margin of one shape, received {shapes}"
        )
    if not 0.0 <= label_smoothing <= 0.5:
        raise ArgumentError(f"label_smoothing must lie in [0, 0.5], received {label_smoothing}")
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    require(~difference.isnan(), "bradley_terry: rewards and margins must not be NaN")
    if label_smoothing == 0.0:  # no 0 * inf where the difference overflows
        return -logsigmoid(difference)
    return -(1 - label_smoothing) * logsigmoid(difference) - label_smoothing * logsigmoid(-difference)
