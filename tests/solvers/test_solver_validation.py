"""Illegal arguments of `fit_quantiles` are errors that name the argument."""

import numpy as np
import pytest
import torch

from pluralign.errors import ArgumentError
from pluralign.solvers import fit_quantiles
from pluralign.solvers._validation import check_features

X = np.random.default_rng(0).standard_normal((20, 3))
Y = X[:, 0]
NAN, INF = float("nan"), float("inf")


def spoiled(array, value):
    out = array.copy()
    out.flat[4] = value
    return out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": [0.5, 0.1]}, "levels must be sorted"),
        ({"l1": None}, "l1 must be a finite number"),
        ({"tol": "x"}, "tol must be a finite number"),
        ({"device": "nosuch"}, "device: received 'nosuch'"),
        ({"levels": [0.5, 0.5]}, "levels must be sorted and distinct"),
        ({"levels": [0.0, 0.5]}, "levels must lie strictly between"),
        ({"levels": [0.5, 1.0]}, "levels must lie strictly between"),
        ({"levels": [1e-300, 0.5]}, "levels must be at least 1e-09 away from 0 and 1"),
        ({"levels": [0.5, 1 - 1e-12]}, "levels must be at least 1e-09 away"),
        ({"levels": [1 - 2.0**-53]}, "levels must be at least 1e-09 away"),
        ({"levels": [5e-324]}, "levels must be at least 1e-09 away"),
        ({"levels": [NAN]}, "levels must lie strictly between"),
        ({"levels": []}, "levels must be a non-empty"),
        ({"levels": 0.5}, "levels must be a non-empty"),
        ({"levels": ["a"]}, "levels"),
        ({"features": spoiled(X, NAN)}, "features must be finite, got nan in row 1, column 1"),
        ({"features": spoiled(X, -INF)}, "features must be finite"),
        ({"features": X[:, 0]}, r"features must have shape \[N, D\]"),
        ({"features": X[:0], "targets": Y[:0]}, "features have no rows"),
        ({"features": X > 0}, "features must hold real numbers"),
        ({"targets": spoiled(Y, INF)}, "targets must be finite"),
        ({"targets": Y[:-1]}, "targets must have shape"),
        ({"targets": Y[None]}, "targets must have shape"),
        ({"targets": np.zeros((20, 0))}, "no attributes"),
        ({"targets": np.full(20, NAN)}, "attribute 0 has no ratings"),
        ({"targets": np.column_stack([Y, np.full(20, NAN)])}, "attribute 1 has no ratings"),
        (
            {"targets": np.r_[1.0, np.full(19, NAN)], "sample_weight": np.r_[0.0, np.ones(19)]},
            "only where sample_weight is 0",
        ),
        ({"sample_weight": np.ones(19)}, "sample_weight must have shape"),
        ({"sample_weight": -np.ones(20)}, "sample_weight must be finite and not negative"),
        ({"sample_weight": spoiled(np.ones(20), NAN)}, "sample_weight must be finite"),
        ({"sample_weight": np.zeros(20)}, "sample_weight is zero everywhere"),
        ({"l1": -0.1}, "l1 must be a finite number >= 0"),
        ({"l1": NAN}, "l1 must be"),
        ({"l1": INF}, "l1 must be"),
        ({"tol": 0.0}, "tol must be a finite number > 0"),
        ({"tol": NAN}, "tol must be"),
        ({"max_iterations": -1}, "max_iterations must be >= 0"),
    ],
)
def test_illegal_arguments(changes, message):
    with pytest.raises(ArgumentError, match=message):
        fit_quantiles(**{"features": X, "targets": Y, "levels": [0.5], **changes})


def test_every_real_input_type_is_taken():
    expected = fit_quantiles(X, Y, [0.5]).objective
    readonly = X.copy()
    readonly.flags.writeable = False
    for features in (
        readonly,
        X[::-1][::-1],
        np.asfortranarray(X),
        torch.from_numpy(X).requires_grad_(),
        X.tolist(),
    ):
        assert torch.allclose(fit_quantiles(features, Y.tolist(), (0.5,)).objective, expected, rtol=1e-9)
    whole = np.arange(20).reshape(20, 1)
    assert float(fit_quantiles(whole, np.arange(20), [0.5], l1=0.0).objective) < 1e-12


def test_finite_features_whose_sum_is_not_are_taken():
    huge = np.full((4, 2), 1.7e308)
    assert np.array_equal(check_features(huge, None).numpy(), huge)
