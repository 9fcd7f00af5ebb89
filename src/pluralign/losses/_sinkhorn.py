"""Entropic optimal transport of a batch of small problems, and the exact derivative of its cost.

    T = argmin <T, M> + e KL(T | p t')  over couplings of p and t,        value = <T, M>

In: p [B, C], t [B, C], one cost M [C, C] and e > 0, float64. Out: <T, M> and its gradients by p and t along
the simplex.

With potentials f, g the plan is T_ij = p_i t_j exp((f_i + g_j - M_ij) / e), and each of f, g is a soft
minimum over the other. The derivative of <T, M> follows from that of the two marginal conditions: with the
conditional plans P = T / p (rows sum to 1) and Q = T' / t it is the solution (a, b) of

    a + P b = (P * M) 1,      b + Q a = (Q * M') 1,

which stays finite if a category has no probability, and is unique up to constants moved from a to b, one
for each connected component of the plan.

Reference: Cuturi 2013, arXiv 1306.0895; iterations in the log domain as in Peyre and Cuturi 2019, section
4.4; the derivative of the sharp cost is Luise et al. 2018, arXiv 1805.11897, written for conditional plans.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from pluralign.errors import ConvergenceWarning

__all__ = ["Plan", "solve"]

_TOLERANCE = 1e-10  # of every marginal
_MAX_ITERATIONS = 20_000
_CHECK_EVERY = 10
_SINGULAR = 1e-10  # singular values below this share of the largest are those of constants


class Plan(NamedTuple):
    """The cost of the plan [B] and its gradients by p and t, [B, C] each."""

    value: Tensor
    source: Tensor
    sink: Tensor


def solve(supply: Tensor, demand: Tensor, cost: Tensor, regularization: float) -> Plan:
    """Solves every row.

    Args:
        supply: p, [B, C], float64, not negative, rows summing to 1.
        demand: t, likewise.
        cost: M, [C, C], float64, finite.
        regularization: e, in units of the cost.

    Returns:
        Cost and gradients.

    Warns:
        ConvergenceWarning: some marginal is off by more than 1e-10 after 20,000 iterations.
    """
    scaled = cost / regularization
    log_p, log_t = supply.log(), demand.log()
    f, g = torch.zeros_like(supply), torch.zeros_like(demand)  # in units of e
    error = torch.inf
    for iteration in range(_MAX_ITERATIONS):
        f = -torch.logsumexp((log_t + g).unsqueeze(1) - scaled, 2)
        if iteration % _CHECK_EVERY == 0:
            # After the step for f the rows are exact; the columns show the remaining error.
            columns = (log_t + g + torch.logsumexp((log_p + f).unsqueeze(2) - scaled, 1)).exp()
            error = float((columns - demand).abs().max()) if len(supply) else 0.0
            if error <= _TOLERANCE:
                break
        g = -torch.logsumexp((log_p + f).unsqueeze(2) - scaled, 1)
    else:
        warnings.warn(
            f"Sinkhorn is off by {error:.1e} in a marginal after {_MAX_ITERATIONS:,} iterations; a larger "
            f"regularization than {regularization:g}, or 0 for the exact solver, would help",
            ConvergenceWarning,
            stacklevel=3,
        )
    by_source = ((log_t + g).unsqueeze(1) - scaled).softmax(2)  # P
    by_sink = ((log_p + f).unsqueeze(2) - scaled).softmax(1).mT  # Q
    mean_source = (by_source * cost).sum(2)
    mean_sink = (by_sink * cost.T).sum(2)
    # (1 - Q P) b = mean_sink - Q mean_source; the free constants are chosen with minimal norm.
    system = torch.eye(len(cost)).to(supply) - by_sink @ by_source
    right = mean_sink - _times(by_sink, mean_source)
    b = _times(torch.linalg.pinv(system, rtol=_SINGULAR), right)
    a = mean_source - _times(by_source, b)
    return Plan((supply * mean_source).sum(1), a, b)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Product for each row of the batch, [B, C, C] and [B, C] to [B, C]."""
    return (matrix @ vector.unsqueeze(2)).squeeze(2)
