"""`Categorical`: probabilities of ordered categories, each with a reward; the prediction of a DPRM model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar, Self, final

from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.checks import TensorLike, as_float, check_shape, require
from pluralign.distributions.piecewise import PiecewiseLinear, Segments

__all__ = ["Categorical"]

# Probabilities must sum to 1 up to bfloat16 rounding; they are always normalised.
_SUM_TOLERANCE = 1e-2


@final
class Categorical(PiecewiseLinear):
    """The distribution that takes the reward `atoms[c]` with probability `probs[c]`.

    Args:
        probs: [B, C], not negative, each row summing to 1 (within 1e-2; rows are normalised).
        atoms: rewards of the categories, [C], or [B, C] if rows differ; in any order, equal atoms are merged.
        validate: check the values of both.

    Attributes:
        probs: [B, C], normalised.
        atoms: [B, C].

    Raises:
        ArgumentError: if shapes do not fit or, when validating, a value is invalid.

    Reference: Li et al. 2024 (arXiv 2402.09764).

    >>> Categorical([[0.25, 0.75]], [0.0, 4.0]).mean()
    tensor([3.])
    """

    _batched: ClassVar[tuple[str, ...]] = ("probs", "atoms")

    def __init__(self, probs: TensorLike, atoms: TensorLike, *, validate: bool = True) -> None:
        given = as_float(probs, "probs")
        values = as_float(atoms, "atoms", like=given)
        self._validate = validate
        if given.ndim != 2 or given.shape[-1] == 0:
            check_shape(given, "probs", ("B", "C"))
        if values.shape != given.shape:
            check_shape(values, "atoms", (given.shape[-1],), (given.shape[0], given.shape[-1]))
        total = given.sum(-1, keepdim=True)
        if validate:
            require(values.isfinite(), "atoms must be finite")
            require(given.isfinite() & (given >= 0), "probs must be finite and not negative")
            require((total - 1).abs() <= _SUM_TOLERANCE, "each row of probs must sum to 1")
        self.probs: Tensor = given / total
        self.atoms: Tensor = values.expand(given.shape)

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        scales, shifts = (part.unsqueeze(-1) for part in self._affine(scale, shift))
        new = copy.copy(self)
        new.atoms = scales * self.atoms + shifts
        return new

    def point_masses(self) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Atoms and their probabilities, in the order of the categories."""
        return self.atoms, self.probs

    def transformed(self, increasing: Callable[[Tensor], Tensor]) -> Categorical:
        """The distribution of an increasing function of R, exact."""
        return Categorical(self.probs, increasing(self.atoms))

    def _segments(self) -> Segments:
        atoms, order = self.atoms.sort(-1)
        cum = self.probs.gather(-1, order).cumsum(-1)
        # The last level is exactly 1, and so are the levels of trailing atoms with probability 0.
        return Segments(atoms, atoms, cum / cum[:, -1:])
