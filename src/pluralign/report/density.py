"""The curve that shows a distribution of quantiles in a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
    step = x[1] - x[0]
    width = _SMOOTHING * (x[-1] - x[0])
    pad = round(4 * width / step)
    edges = np.linspace(x[0] - (pad + 0.5) * step, x[-1] + (pad + 0.5) * step, len(x) + 2 * pad + 1)
    mass = np.diff(np.interp(edges, values, levels, left=0.0, right=1.0))
    kernel = np.exp(-0.5 * np.square(np.arange(-pad, pad + 1) * step / width))
    return np.asarray(np.convolve(mass, kernel / kernel.sum(), mode="valid") / step)
