"""Votes: how much weight a past vote has left, and checks of categories, counts and times.

In: elapsed times and a half-life, in a common unit; and users' arguments. Out: weights
2^(-elapsed / half_life); checked tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.checks import as_number
from pluralign.errors import ArgumentError

__all__ = [
    "as_counts",
    "as_indices",
    "as_probs",
    "as_times",
    "check_flag",
    "check_half_life",
    "remaining",
]


def remaining(elapsed: Float[Tensor, "*N"], half_life: float | None) -> Float[Tensor, "*N"]:
    """Remaining weight after `elapsed`: g^elapsed with g = 2^(-1 / half_life); 1 without a half-life."""
    return torch.ones_like(elapsed) if half_life is None else torch.exp2(-elapsed / half_life)


def check_flag(value: Any, name: str) -> bool:
    """Returns `value` if it is true or false, or raises `ArgumentError`."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be true or false, received {value!r}")
    return value


def check_half_life(half_life: float | None) -> float | None:
    """Returns a positive, finite half-life or None, or raises `ArgumentError`."""
    if half_life is None:
        return None
    number = as_number(half_life, "half_life")
    if number <= 0:
        raise ArgumentError(f"half_life must be positive, or None to forget nothing; received {half_life!r}")
    return number


def as_times(times: Any, shape: torch.Size, start: float, device: torch.device) -> Tensor:
    """Returns times as float64 of the given shape.

    Args:
        times: one number for all votes, or numbers with the shape of the votes or of its last dimension.
        shape: of the votes.
        start: the time of the prior; nothing may be older.
        device: device of the result.

    Raises:
        ArgumentError: a time is missing, not finite or before the start, or there are more or fewer of them.
    """
    try:
        given = torch.as_tensor(times, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"times must be numbers, one per vote; received {times!r}") from error
    if given.shape not in ((), shape[-1:], shape):
        raise ArgumentError(
            f"every vote needs a time: received times {list(given.shape)} for votes {list(shape)}"
        )
    found = given.expand(shape)
    if not bool(found.isfinite().all()):
        raise ArgumentError("times must be finite; a vote without a time has no weight")
    if bool((found < start).any()):
        raise ArgumentError(
            f"a vote at time {float(found.min()):g} is older than the prior, from start = {start:g}; "
            "set start to the time of the prior"
        )
    return found


def as_counts(prior: Any) -> Tensor:
    """Returns a prior's counts, [C] or [B, C], or raises `ArgumentError`."""
    try:
        counts = torch.as_tensor(prior)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"prior must be counts [C] or [B, C], received {type(prior).__name__}") from error
    if counts.ndim not in (1, 2) or counts.shape[-1] == 0:
        raise ArgumentError(f"prior must be counts [C] or [B, C], received shape {list(counts.shape)}")
    if counts.is_complex() or counts.dtype == torch.bool:
        raise ArgumentError(f"prior must be counts [C] or [B, C], received {counts.dtype}")
    legal = counts.double().isfinite() & (counts >= 0)
    if not bool(legal.all()) or not bool((counts.double().sum(-1) > 0).all()):
        raise ArgumentError("prior must be counts, finite and not negative, each row with a positive sum")
    return counts


def as_indices(values: Any, name: str, limit: int, device: torch.device) -> Tensor:
    """Returns whole numbers in [0, limit) as int64, of one or two dimensions, or raises `ArgumentError`."""
    try:
        given = torch.as_tensor(values, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name} must be whole numbers, received {values!r}") from error
    if given.ndim not in (1, 2) or given.dtype == torch.bool or given.is_complex():
        raise ArgumentError(
            f"{name} must be whole numbers, [V] or [B, V]; received {given.dtype} {list(given.shape)}"
        )
    legal = (given >= 0) & (given < limit) & (given == given.round())
    if not bool(legal.all()):
        wrong = given[~legal].flatten()[0].item()
        raise ArgumentError(f"{name} must be whole numbers in [0, {limit}), received {wrong}")
    return given.long()


def as_probs(probs: Any) -> Tensor:
    """Returns a floating tensor whose last dimension holds probabilities, or raises `ArgumentError`."""
    try:
        given = torch.as_tensor(probs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"probs must be numbers, received {type(probs).__name__}") from error
    given = given if given.is_floating_point() else given.to(torch.get_default_dtype())
    legal = given.ndim > 0 and bool((given.isfinite() & (given >= 0)).all())
    if not legal or bool(((given.sum(-1) - 1).abs() > 1e-2).any()):
        raise ArgumentError("probs must be finite and not negative, and sum to 1 over the categories")
    return given
