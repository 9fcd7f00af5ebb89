"""Properties of predicted distributions, response by response, and the warning signs in them.

In: reward distributions on the reference scale, their utilities, gate weights. Out: columns [B], and the
measured numbers of `warning_signs` by name.

    utility   the value of the risk measure
    std       of the distribution; with `width`, the length of its central 90 % interval, absent for points
    crossing  share of neighbouring quantile levels that were in the wrong order; for quantiles
    top       the largest probability of an atom; for distributions that consist of atoms, such as categories
    gate      entropy of the attribute weights, as a share of the largest; for models with a gate
    head_H    mean of head H; for ensembles
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.heads.agreement import head_agreement

__all__ = ["heads_of", "profile", "sign_values", "unstable"]

_PEAKED = 0.1  # reference standard deviations
_SURE = 0.99
_FEWEST = 32  # responses, for what is a property of their spread
_HIGH = 0.95  # quantile of the reference's rewards


@torch.no_grad()
def profile(
    distribution: RewardDistribution,
    utilities: Float[Tensor, " B"],
    gate: Float[Tensor, "B A"] | None = None,
) -> dict[str, Float[Tensor, " B"]]:
    """The columns above, as far as the distributions have them; float64, on the CPU.

    Args:
        distribution: B of them.
        utilities: [B].
        gate: weights of attributes, rows sum to 1; None for a model without a gate.
    """
    found = {"utility": utilities}
    if not distribution.is_point:
        levels = torch.tensor([0.05, 0.95], dtype=distribution.dtype, device=distribution.device)
        ends = distribution.quantile(levels)
        found |= {"std": distribution.std(), "width": ends[:, 1] - ends[:, 0]}
    crossing = getattr(distribution, "crossing_rate", None)
    if crossing is not None:
        found["crossing"] = crossing
    masses = None if distribution.is_point else distribution.point_masses()
    if masses is not None:
        found["top"] = masses[1].amax(-1)
    if gate is not None and gate.shape[-1] > 1:
        found["gate"] = -torch.special.xlogy(gate, gate).sum(-1) / math.log(gate.shape[-1])
    heads = distribution.heads()
    if heads is not None and heads.means.shape[-1] > 1:
        found |= {f"head_{h}": heads.means[:, h] for h in range(heads.means.shape[-1])}
    return {name: values.detach().cpu().double() for name, values in found.items()}


def sign_values(
    columns: Mapping[str, Float[Tensor, " B"]], reference_heads: Float[Tensor, "N H"] | None = None
) -> dict[str, float]:
    """The measured numbers of the warning signs that these responses can show.

    Args:
        columns: of `profile`.
        reference_heads: means of the heads on responses of the reference policy, [N, H]; None where they are
            not known.
    """
    found = {}
    if "crossing" in columns:
        found["crossing"] = float(columns["crossing"].mean())
    if "gate" in columns:
        found["uniform_gate"] = float(columns["gate"].mean())
    if "width" in columns:
        found["peaked_predictions"] = float((columns["width"] < _PEAKED).double().mean())
    if len(columns["utility"]) >= _FEWEST:
        share = unstable(columns["utility"])
        if share is not None:
            found["unstable_utility"] = share
        if "std" in columns and float(columns["std"].mean()) > 0:
            stds = columns["std"]
            found["equal_stds"] = float(stds.std(correction=0) / stds.mean())
    if "top" in columns:
        found["overconfident_categories"] = float((columns["top"] > _SURE).double().mean())
    heads = heads_of(columns)
    if heads is not None:
        if len(heads) >= _FEWEST:
            found["correlated_heads"] = head_agreement(heads)["correlation"]
        if reference_heads is not None and len(reference_heads) >= _FEWEST:
            high = reference_heads.double().quantile(_HIGH, dim=0)
            found["heads_above_reference"] = float((heads > high).all(1).double().mean())
    return found


def unstable(utilities: Float[Tensor, " B"]) -> float | None:
    """The share of responses that make up the spread of a utility, in (0, 1]; None where there is no spread.

    (sum |d|)^2 / (B sum d^2) with d the distance from the mean: 2/pi where utilities are normal, near 4/B
    where one response differs from all others.
    """
    apart = (utilities.double() - utilities.double().mean()).abs()
    squares = float(apart.square().sum())
    if squares <= 0 or not math.isfinite(squares):
        return None
    return float(apart.sum()) ** 2 / (len(apart) * squares)


def heads_of(columns: Mapping[str, Float[Tensor, " B"]]) -> Float[Tensor, "B H"] | None:
    """The columns head_0, head_1 ... side by side; None where there are none."""
    names = sorted(
        (name for name in columns if name.startswith("head_")),
        key=lambda name: int(name.removeprefix("head_")),
    )
    return torch.stack([columns[name] for name in names], 1) if names else None
