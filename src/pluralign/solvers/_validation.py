"""Checks the solver's arguments and converts them to a common form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError
from pluralign.precision import wide_dtype

__all__ = [
    "LEAST_LEVEL",
    "check_features",
    "check_float64",
    "check_levels",
    "check_positive",
    "check_targets",
    "check_weights",
]

LEAST_LEVEL = 1e-9
"""Levels closer to 0 or 1 are refused: the objective would be this small, and residuals are rounded at
1e-16."""


def check_float64(device: torch.device) -> None:
    """Raises `ArgumentError` if the device lacks float64, in which fits compute."""
    if wide_dtype(device) is not torch.float64:
        raise ArgumentError(
            f"received features on {device}, which has no float64; fits compute in it: use a CPU"
        )


def check_features(features: Any, device: torch.device | str | None) -> Float[Tensor, "N D"]:
    """[N, D], finite, float32 or float64 (other real types become float64), on `device` if given."""
    out = _tensor(features, "features")
    if out.dim() != 2:
        raise ArgumentError(f"features must have shape [N, D], got {tuple(out.shape)}")
    if out.shape[0] == 0:
        raise ArgumentError("features have no rows; at least one rated row is needed")
    if device is not None:
        try:
            out = out.to(device)
        except (RuntimeError, TypeError) as error:
            raise ArgumentError(f"device: received {device!r}, which torch cannot use: {error}") from error
    check_float64(out.device)
    if out.dtype not in (torch.float32, torch.float64):
        out = out.double()
    chunk = max(1, 2**24 // max(1, out.shape[1]))
    for start in range(0, out.shape[0], chunk):
        # A sum costs a tenth of checking every element; it can also overflow.
        if bool(torch.isfinite(out[start : start + chunk].sum())):
            continue
        infinite = ~torch.isfinite(out[start : start + chunk])
        if bool(infinite.any()):
            row, column = infinite.nonzero()[0].tolist()
            raise ArgumentError(
                f"features must be finite, got {float(out[start + row, column])} in row {start + row}, "
                f"column {column}; drop or fill such rows"
            )
    return out


def check_targets(targets: Any, features: Tensor) -> Float[Tensor, "A N"]:
    """[N] or [N, A] with NaN for missing, as float64 [A, N] on the features' device."""
    out = _tensor(targets, "targets").to(features.device, torch.float64)
    if out.dim() not in (1, 2) or out.shape[0] != features.shape[0]:
        raise ArgumentError(
            f"targets must have shape [N] or [N, A] with N = {features.shape[0]} as in features, "
            f"got {tuple(out.shape)}"
        )
    if out.dim() == 2 and out.shape[1] == 0:
        raise ArgumentError("targets have no attributes; pass [N] or [N, A] with A >= 1")
    if bool(torch.isinf(out).any()):
        raise ArgumentError("targets must be finite, or NaN where a rating is missing; got inf")
    return out[None] if out.dim() == 1 else out.T.contiguous()


def check_levels(levels: Any) -> tuple[float, ...]:
    """Strictly increasing numbers in (0, 1), `LEAST_LEVEL` or more from both ends."""
    out = _tensor(levels, "levels").double()
    if out.dim() != 1 or out.shape[0] == 0:
        raise ArgumentError(f"levels must be a non-empty list of numbers, got shape {tuple(out.shape)}")
    values = [float(value) for value in out]
    if not all(0.0 < value < 1.0 for value in values):
        raise ArgumentError(f"levels must lie strictly between 0 and 1, got {values}")
    # 1 - (1 - 1e-9) is a little less than 1e-9.
    if not all(min(value, 1.0 - value) >= LEAST_LEVEL * (1.0 - 1e-6) for value in values):
        raise ArgumentError(
            f"levels must be at least {LEAST_LEVEL:g} away from 0 and 1, got {values}; closer to the ends "
            "float64 cannot distinguish a fit from its optimum; use the largest or smallest rating there"
        )
    if any(right <= left for left, right in itertools.pairwise(values)):
        raise ArgumentError(f"levels must be sorted and distinct, got {values}")
    return tuple(values)


def check_weights(sample_weight: Any, features: Tensor) -> Float[Tensor, " N"] | None:
    """[N], finite, not negative, not all zero."""
    if sample_weight is None:
        return None
    out = _tensor(sample_weight, "sample_weight").to(features.device, torch.float64)
    if out.shape != features.shape[:1]:
        raise ArgumentError(
            f"sample_weight must have shape [N] with N = {features.shape[0]}, got {tuple(out.shape)}"
        )
    if not bool(torch.isfinite(out).all()) or bool((out < 0.0).any()):
        raise ArgumentError("sample_weight must be finite and not negative")
    if not bool((out > 0.0).any()):
        raise ArgumentError("sample_weight is zero everywhere; at least one row must count")
    return out


def check_positive(name: str, value: float, *, zero_allowed: bool) -> float:
    """A finite number above 0, or at least 0."""
    number = as_finite(value)
    if not (number > 0.0 or (number == 0.0 and zero_allowed)):
        raise ArgumentError(f"{name} must be a finite number {'>=' if zero_allowed else '>'} 0, got {value}")
    return number


def _tensor(value: Tensor | NDArray[Any] | Sequence[Any], name: str) -> Tensor:
    if isinstance(value, Tensor):
        out = value.detach()
    else:
        try:
            array = np.asarray(value)
            # Tensors cannot share memory that is read-only or runs backwards.
            if not array.flags.writeable or any(stride < 0 for stride in array.strides):
                array = array.copy()
            out = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"{name} must be a tensor or an array of numbers: {error}") from error
    if out.is_complex() or out.dtype == torch.bool:
        raise ArgumentError(f"{name} must hold real numbers, got {out.dtype}")
    return out
