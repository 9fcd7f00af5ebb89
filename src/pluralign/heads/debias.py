"""Debiasing: what is subtracted from the attributes' rewards so that they no longer follow a bias variable.

    r'_a = r_a - lambda_a * b        b: another attribute (verbosity), or the response's length

In: predicted rewards on the [0, 1] scale, and lengths if length is the variable. Out: rewards of the same
shape. The lambdas are chosen in `fitting`.

For distributions, subtraction requires a choice of coupling. `shift` subtracts lambda_a * mean(b), which
keeps the shape; `parity` subtracts level by level as published, and can make levels cross.

Notation: N responses, A attributes, K levels; transform [A, A], r' = r @ transform.
Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.2; the shift is this project's.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.errors import ArgumentError
from pluralign.heads import schema

__all__ = ["LENGTH_UNITS", "Coupling", "Debias", "LengthUnit"]

Coupling = Literal["shift", "parity"]
LengthUnit = Literal["tokens", "characters"]
LENGTH_UNITS: tuple[LengthUnit, ...] = ("tokens", "characters")


class Debias(nn.Module):
    """The stored lambdas, as a matrix over attributes and a slope per attribute on length.

    Args:
        transform: [A, A]; column a holds the weights of the rewards in r'_a. The identity changes nothing.
        coupling: how whole distributions are subtracted.
        length_slope: [A], subtracted per unit of length; None if length is not the variable.
        length_unit: the unit in which length is counted; needed with a slope.
        length_span: the number of tokens or characters in one unit, positive.

    Raises:
        ArgumentError: shapes or values that do not fit.
    """

    transform: Tensor
    length_slope: Tensor

    def __init__(
        self,
        transform: Float[Tensor, "A A"],
        coupling: Coupling = "shift",
        *,
        length_slope: Float[Tensor, " A"] | None = None,
        length_unit: LengthUnit | None = None,
        length_span: float = 1.0,
    ) -> None:
        super().__init__()
        size = len(transform)
        slope = torch.zeros(size) if length_slope is None else length_slope
        if transform.shape != (size, size) or slope.shape != (size,):
            raise ArgumentError(
                f"transform {tuple(transform.shape)} and length_slope {tuple(slope.shape)} do not fit; "
                "needed: [A, A] and [A]"
            )
        if coupling not in ("shift", "parity"):
            raise ArgumentError(f"coupling = {coupling!r}; allowed: shift, parity")
        if (length_slope is not None) != (length_unit is not None) or length_unit not in (
            None,
            *LENGTH_UNITS,
        ):
            raise ArgumentError(
                f"length_unit = {length_unit!r}; allowed: {', '.join(LENGTH_UNITS)}, and a slope with it"
            )
        if not 0 < length_span < float("inf"):
            raise ArgumentError(f"length_span = {length_span}; a positive, finite number is needed")
        self.coupling: Coupling = coupling
        self.length_unit = length_unit
        self.length_span = length_span
        self.register_buffer("transform", transform.float())
        self.register_buffer("length_slope", slope.float())

    def shift(self, means: Float[Tensor, "N A"], length: Float[Tensor, " N"] | None) -> Float[Tensor, "N A"]:
        """The shift added to each attribute's reward when distributions keep their shape.

        Args:
            means: mean rewards on the [0, 1] scale.
            length: of each response, in `length_unit`.

        Raises:
            ArgumentError: length is needed and was not given.
        """
        identity = torch.eye(len(self.transform), dtype=means.dtype, device=means.device)
        return means @ (self.transform.to(means) - identity) + self._length_shift(means, length)

    def levelwise(
        self, values: Float[Tensor, "N A K"], length: Float[Tensor, " N"] | None
    ) -> Float[Tensor, "N A K"]:
        """Rewards with the transform applied to each level separately, as published.

        Raises:
            ArgumentError: length is needed and was not given.
        """
        mixed = torch.einsum("nak,ab->nbk", values, self.transform.to(values))
        return mixed + self._length_shift(values[..., 0], length)[..., None]

    def _length_shift(self, like: Tensor, length: Tensor | None) -> Tensor:
        if self.length_unit is None:
            return torch.zeros_like(like)
        if length is None:
            raise ArgumentError(
                f"this head is debiased for length and needs the number of {self.length_unit} of each "
                "response: pass length, or score conversations with a RewardModel"
            )
        return -(length.to(like) / self.length_span)[:, None] * self.length_slope.to(like)

    def spec(self) -> dict[str, Any]:
        """The description that, with the state dict, rebuilds this; serialisable as JSON."""
        return {
            "coupling": self.coupling,
            "length_unit": self.length_unit,
            "length_span": self.length_span,
        }

    @staticmethod
    def check_spec(spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        schema.record(
            {
                "coupling": schema.choice("shift", "parity"),
                "length_unit": schema.optional(schema.choice(*LENGTH_UNITS)),
                "length_span": schema.number(above=0),
            }
        )(spec, where)

    @staticmethod
    def tensor_shapes(num_attributes: int) -> schema.TensorShapes:
        """The tensors of its state dict."""
        square = (num_attributes, num_attributes)
        return {"transform": (torch.float32, square), "length_slope": (torch.float32, (num_attributes,))}

    @classmethod
    def from_spec(cls, spec: dict[str, Any], num_attributes: int) -> Self:
        """An empty one of the stored shape, to load a state dict into."""
        slope = torch.zeros(num_attributes) if spec["length_unit"] is not None else None
        return cls(torch.eye(num_attributes), length_slope=slope, **spec)
