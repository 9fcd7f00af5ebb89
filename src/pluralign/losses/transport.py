"""Optimal transport between two distributions over the same categories: one value per example.

    W(p, t) = min over couplings T of p and t of <T, M>,        M_ij = |R_i - R_j| + floor 1[i != j]

`atoms` selects the closed form for that cost, `cost` any other cost, solved exactly or with an entropic
penalty.
Notation: p predicted and t target probabilities, C categories with rewards R.

With few raters W is not a proper score: for a true (.6, .4) the minimiser of its expectation puts 0 on the
second category with one rater and .33 with three. Use five raters or more, smoothed targets,
`ranked_probability_score` or `cross_entropy`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.losses import _dual_vertices, _exact_transport, _sinkhorn
from pluralign.losses.checks import (
    require,
    require_number,
    require_probs,
    require_real,
    require_tensors,
)
from pluralign.precision import wide_dtype, widened

__all__ = ["transport", "two_axis_cost"]


def transport(
    probs: Float[Tensor, "B C"],
    target: Float[Tensor, "B C"],
    atoms: Float[Tensor, " C"] | None = None,
    floor: float = 0.0,
    *,
    cost: Float[Tensor, "C C"] | None = None,
    regularization: float = 0.0,
    validate: bool = True,
) -> Float[Tensor, " B"]:
    """Optimal transport cost from predicted to target probabilities.

    With `atoms` it is, over rewards in ascending order,

        sum_k |F_p(k) - F_t(k)| (R_(k+1) - R_(k))  +  floor * sum_k |p_k - t_k| / 2,

    and bounds the error of the scalar reward: |E_p R - E_t R| <= W. The sum is also exact for floor > 0: if
    costs obey the triangle inequality, some optimal plan leaves the common mass min(p, t) in place, and that
    plan is optimal for both terms.

    With `cost` and `regularization` = 0 it is exact for any cost; with e > 0 it is <T, M> of the entropic
    plan, which exceeds the minimum by at most e times the smaller entropy of p and t, and is exact if one of
    them has all its mass on one category.

    Args:
        probs: p, [B, C], not negative, rows summing to 1 (within 1e-2, for half precision).
        target: t, likewise.
        atoms: rewards R of the categories, [C], in any order; equal ones cost nothing to confuse.
        floor: minimum cost of confusing any two categories, in units of the atoms or the cost.
        cost: M, [C, C], not negative, symmetric; instead of atoms.
        regularization: e, at least 0, in units of the cost; only with `cost`.
        validate: check the values of the tensors, on the CPU. For a batch of thousands this takes as long
            as the closed form itself.

    Returns:
        [B], not negative, in units of the atoms or the cost; half precision is converted to float32.
        Gradients are along the simplex: defined up to a constant per row, which any softmax removes. Where W
        has a kink they are one of its subgradients; that of the closed form is 0 at p = t.

    Raises:
        ArgumentError: neither or both of atoms and cost are given, shapes do not fit, an option is out of
            range or, when validating on the CPU, a value is invalid.

    Warns:
        ConvergenceWarning: the entropic plan did not converge within the allowed iterations.

    Reference:
        Li et al. 2024, arXiv 2402.09764 (the loss); the closed form is Vallender 1974; floor and gradients of
        the entropic cost (by implicit differentiation, `_sinkhorn`) are this project's.

    >>> transport(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]), atoms=torch.tensor([0.0, 4.0]))
    tensor([2.])
    """
    given = {name: part for name, part in (("atoms", atoms), ("cost", cost)) if part is not None}
    require_tensors("transport", probs=probs, target=target, **given)
    require_real("transport", probs=probs, target=target, **given)
    if len(given) != 1:
        raise ArgumentError("transport needs either atoms or cost, not both")
    require_probs("transport", probs, target, values=validate)
    require_number("transport: floor", floor)
    require_number("transport: regularization", regularization)
    if atoms is not None:
        if regularization:
            raise ArgumentError(
                "transport: with atoms the closed form is exact; regularization applies only to cost"
            )
        return _between_atoms(probs, target, _checked_atoms(atoms, probs, validate), floor)
    checked = _checked_cost(given["cost"], probs, floor, validate)
    value: Tensor = _Solved.apply(probs, target, checked, regularization)  # type: ignore[no-untyped-call]
    return value


def two_axis_cost(
    helpfulness: Float[Tensor, " C"],
    harm: Float[Tensor, " C"],
    weights: tuple[float, float] = (1.0, 1.0),
) -> Float[Tensor, "C C"]:
    """Cost of confusing categories that differ on two axes: w_1 |h_i - h_j| + w_2 |d_i - d_j|.

    Unlike differences of a single reward it distinguishes an unhelpful harmless response from a helpful
    harmful one.

    Args:
        helpfulness: h, the position of each category on the first axis, [C].
        harm: d, its position on the second, [C].
        weights: of the axes, not negative, one of them positive.

    Returns:
        [C, C], symmetric, 0 on the diagonal: a `cost` of `transport`.

    Raises:
        ArgumentError: shapes differ or a weight is invalid.
    """
    require_tensors("two_axis_cost", helpfulness=helpfulness, harm=harm)
    if helpfulness.ndim != 1 or helpfulness.shape != harm.shape:
        raise ArgumentError(
            f"two_axis_cost needs two axes [C], received {list(helpfulness.shape)} and {list(harm.shape)}"
        )
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ArgumentError(f"two_axis_cost: weights must be at least 0, one above, received {weights}")
    first, second = (torch.abs(axis[:, None] - axis) for axis in (helpfulness, harm))
    return weights[0] * first + weights[1] * second


def _between_atoms(probs: Tensor, target: Tensor, atoms: Tensor, floor: float) -> Tensor:
    """The closed form as the L1 norm of a linear map of p - t: CDFs times gaps, and half of each difference.

    In float64 if a matrix product might be rounded further, by TF32 or autocast.
    """
    wide = torch.promote_types(probs.dtype, target.dtype)
    rounded = probs.is_cuda or torch.is_autocast_enabled(probs.device.type)
    exact = wide_dtype(probs.device) if rounded or wide == torch.float64 else torch.float32
    ascending = atoms.to(exact).sort().values
    steps = (atoms.to(exact).unsqueeze(1) <= ascending[:-1]) * ascending.diff()
    if floor:
        steps = torch.cat((steps, 0.5 * floor * torch.eye(len(atoms), dtype=exact, device=steps.device)), 1)
    difference = probs.to(exact) - target.to(exact)
    return (difference @ steps).abs().sum(-1).to(torch.promote_types(wide, torch.float32))


class _Solved(torch.autograd.Function):
    """The minimum for any cost, whose gradients are the potentials of the dual."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, target: Tensor, cost: Tensor, regularization: float) -> Tensor:
        p, t = (part / part.sum(-1, keepdim=True) for part in map(widened, (probs, target)))
        plan = _entropic(p, t, cost, regularization) if regularization else _exact(p, t, cost)
        ctx.save_for_backward(*(part - part.mean(-1, keepdim=True) for part in (plan.source, plan.sink)))
        ctx.dtypes = probs.dtype, target.dtype
        wide = torch.promote_types(torch.promote_types(*ctx.dtypes), torch.float32)
        return plan.value.clamp_min(0).to(wide)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_probs, by_target = (
            (gradient.unsqueeze(-1) * part).to(dtype)
            for part, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return by_probs, by_target, None, None


def _entropic(probs: Tensor, target: Tensor, cost: Tensor, regularization: float) -> _sinkhorn.Plan:
    return _sinkhorn.solve(probs, target, cost.to(probs.device, non_blocking=True), regularization)


def _exact(probs: Tensor, target: Tensor, cost: Tensor) -> _exact_transport.Plan:
    """By the vertices of the dual if there are few categories, otherwise by shortest paths."""
    vertices = _dual_vertices.vertices(cost) if len(cost) <= _dual_vertices.MOST_CATEGORIES else None
    if vertices is None:
        return _exact_transport.solve(probs, target, cost.to(probs.device, non_blocking=True))
    return _dual_vertices.solve(probs, target, vertices.to(probs.device, non_blocking=True))


def _checked_atoms(atoms: Tensor, probs: Tensor, validate: bool) -> Tensor:
    if atoms.shape != probs.shape[-1:]:
        raise ArgumentError(
            f"transport needs atoms [{probs.shape[-1]}], one per category, received {list(atoms.shape)}"
        )
    if validate:
        require(atoms.isfinite(), "transport: atoms must be finite")
    return atoms.to(probs.device)


def _checked_cost(cost: Tensor, probs: Tensor, floor: float, validate: bool) -> Tensor:
    """The cost with its floor, float64, where it is: one of the CPU is read without waiting for a device."""
    size = probs.shape[-1]
    if cost.shape != (size, size):
        raise ArgumentError(f"transport needs cost [{size}, {size}], received {list(cost.shape)}")
    if validate:
        require(cost.isfinite() & (cost >= 0), "transport: cost must be finite and not negative")
        require(torch.isclose(cost, cost.T), "transport: cost must be symmetric")
    wide = widened(cost)
    return wide + floor * (1 - torch.eye(size).to(wide))
