"""The density of a distribution as a smooth curve, for pictures, from its distribution function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["smoothed_density"]

Floats = npt.NDArray[np.float64]


def smoothed_density(cdf: Callable[[Floats], Floats], x: Floats, smoothing: float) -> Floats:
    """Density of distributions on an even grid, convolved with a Gaussian kernel, so that atoms show.

    Args:
        cdf: P[R <= edge] of each distribution at E ascending edges, [E] -> [..., E].
        x: [X] even grid that spans the scale.
        smoothing: standard deviation of the kernel, as a share of the scale.

    Returns:
        [..., X] densities.
    """
    step = x[1] - x[0]
    width = smoothing * (x[-1] - x[0])
    pad = round(4 * width / step)
    edges = np.linspace(x[0] - (pad + 0.5) * step, x[-1] + (pad + 0.5) * step, len(x) + 2 * pad + 1)
    mass = np.diff(cdf(edges), axis=-1)
    kernel = np.exp(-0.5 * np.square(np.arange(-pad, pad + 1) * step / width))
    smooth = np.apply_along_axis(np.convolve, -1, mass, kernel / kernel.sum(), mode="valid")
    return np.asarray(smooth / step)
