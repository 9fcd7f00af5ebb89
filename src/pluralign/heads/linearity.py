"""Utilities as linear functions of the response's vector: what is known about a head, and the linear form.

In: a function from vectors to utilities. Out: the weight per column and the constant of the linear form, and
its largest error on given vectors. This is what a checkpoint with one linear layer can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.precision import widened

__all__ = ["LinearForm", "Linearity", "linear_form"]


@dataclass(frozen=True)
class Linearity:
    """What is known about the utilities of a head, for every text.

    Attributes:
        mean: whether the mean reward is linear in the response's vector.
        position_only: whether texts shift the distribution without changing its shape, so that every utility
            that shifts with it is linear as well.
        obstacle: why no utility is linear, as "its gate ..."; None if some may be.
    """

    mean: bool = False
    position_only: bool = False
    obstacle: str | None = None


class LinearForm(NamedTuple):
    """weight . x + shift as an approximation of a utility of x.

    Attributes:
        weight: [D], in the widest numbers of the device; of the vector as the backbone gives it, so with the
            column scaling inside.
        shift: the constant.
        gap: the largest absolute difference to the utility over the given vectors.
    """

    weight: Float[Tensor, " D"]
    shift: float
    gap: float


def linear_form(
    utility: Callable[[Float[Tensor, "N D"]], Float[Tensor, " N"]], response: Float[Tensor, "N D"]
) -> LinearForm:
    """The linear form of a utility, measured on vectors.

    The weight is the mean of the utility's gradients and the shift the mean of what is left, so both are
    exact where the utility is linear. Of a utility that is linear between the places where heads or quantiles
    change their order, it is the average over the given vectors.

    Args:
        utility: differentiable, row by row.
        response: N vectors, at least one, on any device.
    """
    given = response.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        found = utility(given)
        # A utility that does not depend on the vector, such as that of a constant head, has no gradient.
        slopes = (
            torch.autograd.grad(found.sum(), given, allow_unused=True)[0] if found.requires_grad else None
        )
    slopes = torch.zeros_like(given) if slopes is None else slopes
    weight = widened(slopes).mean(0)
    rest = widened(found.detach()) - widened(given.detach()) @ weight
    shift = rest.mean()
    return LinearForm(weight, float(shift), float((rest - shift).abs().max()))
