"""What counts as a number in users' data: finite, and not a boolean."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["is_finite_number"]


def is_finite_number(value: Any) -> bool:
    """Whether the value can be a rating or a reward: not a bool, not NaN, not infinite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # false for NaN, and for integers beyond every float
