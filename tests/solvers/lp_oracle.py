"""Quantile regression as the textbook linear program, solved by SciPy's HiGHS; and its objective."""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp


def optimum(features, targets, level, l1, weight=None, intercept=True):
    """The optimal value; targets are brought to unit size because HiGHS has absolute tolerances."""
    x, y = np.asarray(features, float), np.asarray(targets, float)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    keep = ~np.isnan(y) & (w > 0)
    x, y, w = x[keep], y[keep], w[keep] / w[keep].sum()
    unit = np.abs(y).mean() or 1.0
    ones = np.ones((len(y), int(intercept)))
    columns = np.hstack([x, -x, ones, -ones, np.eye(len(y)), -np.eye(len(y))])
    cost = np.concatenate(
        [np.full(2 * x.shape[1], l1), np.zeros(2 * int(intercept)), level * w, (1 - level) * w]
    )
    solution = linprog(cost, A_eq=columns, b_eq=y / unit, bounds=(0, None), method="highs")
    assert solution.status == 0, solution.message
    return solution.fun * unit


def optimum_of_dual(features, targets, level, l1):
    """The same by the dual program, with a constraint per column instead of one per row (Koenker 2005, 6.2).

    maximise  y . d  over  (level - 1) / N <= d_i <= level / N,  |X' d| <= l1,  sum d = 0
    """
    x, y = np.asarray(features, float), np.asarray(targets, float)
    rows = np.vstack([x.T, np.ones(len(y))])
    most = np.append(np.full(x.shape[1], l1), 0.0)
    box = Bounds(np.full(len(y), level - 1) / len(y), np.full(len(y), level) / len(y))
    solution = milp(-y, constraints=LinearConstraint(rows, -most, most), bounds=box)
    assert solution.status == 0, solution.message
    return -solution.fun


def objective(features, targets, level, l1, coef, intercept, weight=None):
    """The objective of a given fit."""
    x, y = np.asarray(features, float), np.asarray(targets, float)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    keep = ~np.isnan(y) & (w > 0)
    r = y[keep] - x[keep] @ coef - intercept
    loss = np.maximum(level * r, (level - 1) * r)
    return float((w[keep] * loss).sum() / w[keep].sum() + l1 * np.abs(coef).sum())
