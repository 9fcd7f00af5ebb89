"""Linear quantile regression with an L1 penalty: all levels and targets of one set of features, certified.

In: features, ratings (NaN = missing), levels. Out: `QuantileFit`, the coefficients with a bound on how far
each is from its optimum.

Attributes that were rated on the same rows are solved together; targets are shifted and scaled to unit size,
which leaves l1 unchanged because the objective is homogeneous in (y, v, c). Stages: `_first_fit` (`_admm`,
and `_smoothed` for many rows), then `_rounds` (`_active_set`, `_interior_point`, `_certificate`); a `_task`
over a `_design` defines the problem.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Real
from numpy.typing import NDArray
from torch import Tensor

from pluralign.errors import ArgumentError, ConvergenceWarning
from pluralign.solvers._as_returned import as_returned
from pluralign.solvers._design import Design, build_design
from pluralign.solvers._first_fit import first_fit
from pluralign.solvers._rounds import CertifiedFit, refine, relative_gap
from pluralign.solvers._task import Task
from pluralign.solvers._validation import (
    check_features,
    check_levels,
    check_positive,
    check_targets,
    check_weights,
)

__all__ = ["QuantileFit", "fit_quantiles"]

STATE_ELEMENTS = 2**26
"""Rows times (attributes x levels) processed at once, at about nine bytes each; at least one attribute."""


class QuantileFit(NamedTuple):
    """Fitted quantiles: level k of a row x is `coef[k] @ x + intercept[k]`.

    With targets [N, A] every tensor has a leading A. All are float64, on the features' device.

    Attributes:
        coef: weights of the features as given.
        intercept: 0 where none was fitted.
        objective: value of the objective at the fit, penalty included.
        gap: (objective - certified lower bound) / objective; 0 if the objective is 0 up to rounding.
        iterations: first-stage iterations and passes, plus the largest number of Newton steps of any level.
    """

    coef: Float[Tensor, "... K D"]
    intercept: Float[Tensor, "... K"]
    objective: Float[Tensor, "... K"]
    gap: Float[Tensor, "... K"]
    iterations: int


def fit_quantiles(
    features: Float[Tensor, "N D"] | NDArray[Any] | Sequence[Any],
    targets: Float[Tensor, "N ..."] | NDArray[Any] | Sequence[Any],
    levels: Sequence[float] | Tensor | NDArray[Any],
    l1: float = 0.003,
    sample_weight: Real[Tensor, " N"] | NDArray[Any] | Sequence[Any] | None = None,
    fit_intercept: bool = True,
    tol: float = 1e-6,
    *,
    max_iterations: int = 500,
    device: torch.device | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> QuantileFit:
    """Fits every level of every target to a certified relative gap.

    For each attribute and level t, over the rows that have a rating,

        minimise  sum_i w_i rho_t(y_i - v . x_i - c) / sum_i w_i + l1 ||v||_1,   rho_t(r) = max(t r, (t - 1)
        r).

    The intercept c is not penalised. Levels are fitted separately and may cross. The lower bound comes from a
    feasible dual vector, evaluated in float64, and also holds if the solver stopped early.

    Args:
        features: [N, D], finite, float32 or float64, or lists of numbers; used as given, at any scale.
        targets: [N] or [N, A]; NaN marks a missing rating.
        levels: [K], strictly increasing, in (0, 1), at least 1e-9 away from both ends.
        l1: penalty, >= 0, in units of target per feature.
        sample_weight: [N], >= 0, not all 0; None for equal weights.
        fit_intercept: whether c is free; otherwise it is 0.
        tol: relative gap at which a level is finished, > 0. About 1e-9 is the best that float64 allows.
        max_iterations: maximum Newton steps for each level; 0 returns the first stage's fit with its gap.
        device: where to compute; by default the features' device.
        progress: called as progress(stage, done, total): stage "first fit" in percent, for each batch of
            attributes; stage "levels" with the number finished, also after every interior-point solve.

    Returns:
        A `QuantileFit`.

    Raises:
        ArgumentError: an argument is invalid, or an attribute has no row with a rating and weight > 0.

    Warns:
        ConvergenceWarning: a level stopped above `tol`.

    Reference:
        Koenker and Bassett 1978 (the objective without penalty); Belloni and Chernozhukov 2011 (with it);
        Dorka 2024, arXiv 2409.10164, QRM stage 1. The algorithm combines Boyd et al. 2011 (ADMM),
        He et al. 2023 (smoothing) and Portnoy and Koenker 1997 (preprocessing and interior point); screening
        columns and batching levels are ours.
    """
    given = check_features(features, device)
    ratings = check_targets(targets, given)
    grid = check_levels(levels)
    weight = check_weights(sample_weight, given)
    l1 = check_positive("l1", l1, zero_allowed=True)
    tol = check_positive("tol", tol, zero_allowed=False)
    if max_iterations < 0:
        raise ArgumentError(f"max_iterations must be >= 0, got {max_iterations}")

    num_attributes, num_levels = ratings.shape[0], len(grid)
    fit = QuantileFit(
        given.new_zeros((num_attributes, num_levels, given.shape[1]), dtype=torch.float64),
        given.new_zeros((num_attributes, num_levels), dtype=torch.float64),
        given.new_zeros((num_attributes, num_levels), dtype=torch.float64),
        given.new_zeros((num_attributes, num_levels), dtype=torch.float64),
        0,
    )
    iterations, done = 0, 0
    held: set[int] = set()
    for members, rows in _groups(ratings, weight):
        chosen = given if rows is None else given[rows]
        design = build_design(chosen, centered=fit_intercept, whiten=l1 == 0.0)
        held.update(design.held_columns(), design.offset_columns())
        group_weight = _relative(weight if rows is None or weight is None else weight[rows])
        batch = max(1, STATE_ELEMENTS // (design.num_rows * num_levels))
        for start in range(0, len(members), batch):
            part = members[start : start + batch]
            group_targets = ratings[part] if rows is None else ratings[part][:, rows]

            def report(stage: str, count: int, of: int, before: int = done) -> None:
                if progress is not None and stage == "levels":
                    progress(stage, before + count, num_attributes * num_levels)
                elif progress is not None:
                    progress(stage, count, of)

            solved = _solve(
                design, group_targets, grid, group_weight, l1, fit_intercept, tol, max_iterations, report
            )
            for into, values in zip(fit[:4], solved[:4], strict=True):
                into[part] = values
            iterations = max(iterations, solved.iterations)
            done += len(part) * num_levels
    _warn(fit, grid, tol, sorted(held))
    if _dimensions(targets) == 1:
        return QuantileFit(fit.coef[0], fit.intercept[0], fit.objective[0], fit.gap[0], iterations)
    return fit._replace(iterations=iterations)


def _dimensions(targets: Any) -> int:
    return targets.dim() if isinstance(targets, Tensor) else np.ndim(targets)


def _groups(ratings: Float[Tensor, "A N"], weight: Tensor | None) -> list[tuple[list[int], Tensor | None]]:
    """Attributes that are rated on the same rows, with those rows (None = all)."""
    groups: dict[bytes, tuple[list[int], Tensor | None]] = {}
    for attribute, values in enumerate(ratings):
        counts = ~torch.isnan(values)
        if not bool(counts.any()):
            raise ArgumentError(
                f"attribute {attribute} has no ratings: all its targets are NaN; leave it out"
            )
        if weight is not None:
            counts &= weight > 0.0
            if not bool(counts.any()):
                raise ArgumentError(
                    f"attribute {attribute} has ratings only where sample_weight is 0; leave it out"
                )
        key = np.packbits(counts.cpu().numpy()).tobytes()
        rows = None if bool(counts.all()) else counts.nonzero()[:, 0]
        groups.setdefault(key, ([], rows))[0].append(attribute)
    return list(groups.values())


def _solve(
    design: Design,
    ratings: Float[Tensor, "A N"],
    levels: tuple[float, ...],
    weight: Float[Tensor, " N"] | None,
    l1: float,
    fit_intercept: bool,
    tol: float,
    max_iterations: int,
    report: Callable[[str, int, int], None],
) -> QuantileFit:
    """One batch of attributes, all rated on all rows of the design."""
    num_attributes, num_levels = ratings.shape[0], len(levels)
    offset = (
        _weighted_quantiles(ratings, (0.5,), weight)
        if fit_intercept
        else ratings.new_zeros((num_attributes, 1))
    )
    unit = _mean(weight, (ratings - offset).abs())[:, None]
    unit = torch.where(unit > 0.0, unit, 1.0)
    task = Task(design, (ratings - offset) / unit, levels, weight, l1, fit_intercept)
    if fit_intercept:
        constants = _weighted_quantiles(task.targets, levels, weight).reshape(-1)
    else:
        constants = ratings.new_zeros(num_attributes * num_levels)
    rough = first_fit(task, constants, lambda share: report("first fit", round(100 * share), 100))
    found = refine(
        task, rough, constants, tol, max_iterations, lambda done: report("levels", done, constants.shape[0])
    )
    if design.num_held:
        found = found._replace(gap=_gap_with_held(task, found, constants, tol, max_iterations))
    fit = _in_given_units(design, found, offset, unit, num_levels)
    objective, gap = as_returned(*fit[:4], task, ratings, tol)
    gap = gap.clamp_max(1.0)  # no loss is below 0
    return fit._replace(objective=objective, gap=gap, iterations=rough.steps + found.steps)


def _gap_with_held(
    task: Task, found: CertifiedFit, constants: Tensor, tol: float, max_iterations: int
) -> Float[Tensor, " M"]:
    """The gap to a bound on the optimum over all directions, including those that the fit leaves out.

    Such a direction is known up to the rounding of the numbers that cancel in it, and the optimum changes by
    at most that rounding times its coefficient.
    """
    wider = replace(task, design=task.design.with_held())
    rough = first_fit(wider, constants, lambda share: None)
    best = refine(wider, rough, constants, tol, max_iterations, lambda done: None)
    bound = best.bound - best.coef[:, task.design.num_columns :].abs() @ task.design.held_rounding()
    gaps = [
        relative_gap(float(objective), float(least), coef)
        for objective, least, coef in zip(found.objective, bound, found.coef, strict=True)
    ]
    return found.gap.new_tensor(gaps)


def _in_given_units(
    design: Design, found: CertifiedFit, offset: Tensor, unit: Tensor, num_levels: int
) -> QuantileFit:
    coef, intercept = design.to_given(found.coef, found.intercept)
    shape = (offset.shape[0], num_levels)
    return QuantileFit(
        coef.reshape(*shape, -1) * unit[:, :, None],
        intercept.reshape(shape) * unit + offset,
        found.objective.reshape(shape) * unit,
        found.gap.reshape(shape),
        found.steps,
    )


def _relative(weight: Tensor | None) -> Tensor | None:
    """Weights of mean 1; None where all are equal."""
    if weight is None or bool((weight == weight[0]).all()):
        return None
    return weight / weight.mean()


def _mean(weight: Tensor | None, values: Float[Tensor, "A N"]) -> Float[Tensor, " A"]:
    return values.mean(1) if weight is None else values @ weight / weight.shape[0]


def _weighted_quantiles(
    values: Float[Tensor, "A N"], levels: Sequence[float], weight: Float[Tensor, " N"] | None
) -> Float[Tensor, "A K"]:
    """The smallest value at which the cumulative weight reaches the level."""
    ordered, order = values.sort(dim=1)
    share = torch.ones_like(values) if weight is None else weight[order]
    share = share.cumsum(1) / share.sum(1, keepdim=True)
    wanted = values.new_tensor(levels).expand(values.shape[0], len(levels)).contiguous()
    place = torch.searchsorted(share, wanted).clamp_max(values.shape[1] - 1)
    return ordered.gather(1, place)


def _warn(fit: QuantileFit, levels: tuple[float, ...], tol: float, held: list[int]) -> None:
    short = (fit.gap > tol).nonzero().tolist()
    if short:
        advice = "allow more max_iterations or a larger tol"
        if held:
            columns = ", ".join(map(str, held[:10])) + (" ..." if len(held) > 10 else "")
            advice = (
                f"columns {columns} vary so little for their size, or differ so little, that "
                "float64 cannot use all of their information, and the gaps include that; subtract what they "
                "share, such as a large mean, before the fit, or give a larger l1"
            )
        attribute, level = max(short, key=lambda place: float(fit.gap[place[0], place[1]]))
        warnings.warn(
            f"{len(short)} of {fit.gap.numel()} quantile fits stopped above tol = {tol:g}; the worst is "
            f"attribute {attribute}, level {levels[level]:g}, gap {float(fit.gap[attribute, level]):.2g}. "
            f"Their gaps are in the result; {advice}",
            ConvergenceWarning,
            stacklevel=3,
        )
