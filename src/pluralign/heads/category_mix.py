"""Two exact ways to combine the categories of several attributes under gate weights.

    vincentize   averages quantile functions, sum_a g_a Q_a: again a step function, so its distribution has
                 the steps' heights as atoms and their widths as probabilities
    mixture      averages distribution functions, sum_a g_a F_a: every attribute's atoms with their share

In: probabilities and rewards per attribute, with any number of categories each. Out: one `Categorical` with
atoms per row. The counterpart of `distributions.combine` for distributions without common levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Categorical

__all__ = ["mixture", "vincentize"]

Parts = Sequence[tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]]


def vincentize(parts: Parts, weights: Float[Tensor, "B A"]) -> Categorical:
    """The distribution whose quantile function is sum_a g_a Q_a.

    Args:
        parts: probabilities and atoms of each of A attributes, [B, C_a] each.
        weights: g, [B, A], not negative.

    Returns:
        Atoms [B, sum C_a]; some may have probability 0, where steps of two attributes coincide.
    """
    ladders = []
    for probs, atoms in parts:
        ascending, order = atoms.sort(-1)
        cum = probs.gather(-1, order).cumsum(-1)
        ladders.append((cum / cum[:, -1:], ascending))
    levels = torch.cat([cum for cum, _ in ladders], -1).sort(-1).values
    widths = torch.diff(levels, dim=-1, prepend=torch.zeros_like(levels[:, :1]))
    inside = levels - 0.5 * widths
    total = torch.zeros_like(levels)
    for a, (cum, ascending) in enumerate(ladders):
        index = torch.searchsorted(cum.contiguous(), inside.contiguous()).clamp_max(cum.shape[-1] - 1)
        total = total + weights[:, a : a + 1] * ascending.gather(-1, index)
    return Categorical(widths, total, validate=False)


def mixture(parts: Parts, weights: Float[Tensor, "B A"]) -> Categorical:
    """The distribution whose distribution function is sum_a g_a F_a.

    Args:
        parts: probabilities and atoms of each of A attributes, [B, C_a] each.
        weights: g, [B, A], not negative, rows summing to 1.

    Returns:
        Atoms [B, sum C_a].
    """
    probs = torch.cat([weights[:, a : a + 1] * probs for a, (probs, _) in enumerate(parts)], -1)
    return Categorical(probs, torch.cat([atoms for _, atoms in parts], -1), validate=False)
