"""What counts as a number, a whole number and one of several choices."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from pluralign.checks import as_finite, check_choice, check_number, is_whole
from pluralign.errors import ConfigError


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), torch.tensor([2.0]), Decimal(2)])
def test_numbers_of_any_library(value):
    assert as_finite(value) == 2.0


@pytest.mark.parametrize(
    "value", ["2", b"2", True, None, math.inf, math.nan, 10**400, torch.ones(2), [2.0], 1j]
)
def test_what_is_not_a_finite_number(value):
    assert math.isnan(as_finite(value))


def test_whole_numbers():
    assert is_whole(3)
    assert is_whole(np.int32(3), 3)
    assert not any(is_whole(value, 3) for value in (2, 3.0, True, "3", None, math.nan))


def test_bounds_and_choices_are_named():
    check_number("lr", 0.1, above=0)
    with pytest.raises(ConfigError, match=r"lr = 0: a finite number above 0"):
        check_number("lr", 0, above=0)
    with pytest.raises(ConfigError, match=r"share = -1: a finite number at least 0"):
        check_number("share", -1, at_least=0)
    check_choice("dtype", None, (None, "8bit"))
    with pytest.raises(ConfigError, match="dtype = '16bit'; allowed: None, 8bit"):
        check_choice("dtype", "16bit", (None, "8bit"))
