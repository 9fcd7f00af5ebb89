"""Column scaling of embeddings: z = (x - center) / scale, with dead columns at 0.

In: embeddings [N, D]. Out: centred and scaled embeddings [N, D]. The map is fitted on training rows and
stored with the head, because an L1 penalty is meaningful only on columns of equal scale (with l1 = .003 on
raw MiniLM embeddings every weight was exactly 0).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from pluralign.errors import ArgumentError
from pluralign.heads.schema import TensorShapes
from pluralign.precision import wide_dtype

__all__ = ["ColumnScaling"]

# A column whose standard deviation is below this share of its largest value is constant up to rounding.
_CONSTANT = 1e-6
_CHUNK_ROWS = 65_536


class ColumnScaling(nn.Module):
    """The affine map z = (x - center) * inverse_scale, column by column.

    Args:
        center: [D], the training mean of each column.
        inverse_scale: [D], one over its training standard deviation; 0 drops the column.
    """

    center: Tensor
    inverse_scale: Tensor

    def __init__(self, center: Float[Tensor, " D"], inverse_scale: Float[Tensor, " D"]) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("inverse_scale", inverse_scale)

    @classmethod
    def empty(cls, width: int) -> ColumnScaling:
        """The identity map of the given width, to load a state dict into."""
        return cls(torch.zeros(width), torch.ones(width))

    @staticmethod
    def tensor_shapes(width: int) -> TensorShapes:
        """What its state dict holds."""
        return dict.fromkeys(("center", "inverse_scale"), (torch.float32, (width,)))

    @classmethod
    def fitted(
        cls, embeddings: Float[Tensor, "N D"], weights: Real[Tensor, " N"] | None = None
    ) -> ColumnScaling:
        """Fits mean and standard deviation per column, accumulated in the widest numbers of
        the device over chunks of rows.

        Args:
            embeddings: [N, D], finite.
            weights: [N], non-negative; equal weights by default.

        Raises:
            ArgumentError: there are no rows, or an embedding is not finite.
        """
        num_rows, width = embeddings.shape
        if num_rows == 0:
            raise ArgumentError("no embeddings to fit the scaling on: received 0 rows, at least 1 is needed")
        wide = wide_dtype(embeddings.device)
        total = embeddings.new_zeros((), dtype=wide)
        first = embeddings.new_zeros(width, dtype=wide)
        second = embeddings.new_zeros(width, dtype=wide)
        pivot = embeddings[0].to(wide)  # sums of squares around a value from the data do not cancel
        for start in range(0, num_rows, _CHUNK_ROWS):
            rows = embeddings[start : start + _CHUNK_ROWS].to(wide) - pivot
            weight = (
                rows.new_ones(len(rows))
                if weights is None
                else weights[start : start + _CHUNK_ROWS].to(rows.dtype)
            )
            total += weight.sum()
            first += weight @ rows
            second += weight @ rows.square()
        mean = first / total
        std = (second / total - mean.square()).clamp_min(0).sqrt()
        center = mean + pivot
        if not bool(torch.isfinite(std).all()):
            raise ArgumentError(
                "the embeddings hold NaN or infinite values; check the backbone and its dtype"
            )
        dead = std <= _CONSTANT * embeddings.abs().amax(0).to(wide).clamp_min(1e-30)
        inverse = torch.where(dead, torch.zeros_like(std), 1 / std.clamp_min(torch.finfo(wide).tiny))
        return cls(center.float(), inverse.float())

    def forward(self, embeddings: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Scales embeddings of any batch size; computes in float32."""
        width = self.center.shape[0]
        if embeddings.ndim != 2 or embeddings.shape[1] != width:
            raise ArgumentError(
                f"embeddings have shape {tuple(embeddings.shape)}; this head was fitted on width {width} "
                f"and takes [N, {width}]. Use the backbone and pooling stored with the model."
            )
        return (embeddings.float() - self.center) * self.inverse_scale
