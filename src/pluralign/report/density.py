"""The curve that shows a distribution of quantiles in a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pluralign.smoothed_density import smoothed_density

__all__ = ["density"]

_SMOOTHING = 0.025  # standard deviation of the drawing kernel, as a share of the scale


def density(
    values: npt.NDArray[np.float64], levels: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Density of the distribution of `Quantiles` on an even grid, convolved with a Gaussian kernel.

    Args:
        values: [K] ascending quantiles.
        levels: [K] increasing, in (0, 1).
        x: [X] even grid that spans the scale.

    Returns:
        [X] densities.
    """
    return smoothed_density(
        lambda edges: np.interp(edges, values, levels, left=0.0, right=1.0), x, _SMOOTHING
    )
