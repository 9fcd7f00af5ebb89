"""Differences of features between the two sides of pairs, without a row for each pair.

In: features of N texts, and P pairs of texts. Out: what Newton's method asks of the differences
d_i = x_chosen - x_rejected: their products with weights, sums of them, and sum_i c_i d_i d_i'. The last is

    X' L X,   L = sum_i c_i (e_chosen - e_rejected)(e_chosen - e_rejected)',

with L the weighted Laplacian of the graph whose edges are the pairs: N D^2 instead of P D^2, and no [P, D]
array. Where texts are hardly shared (fewer edges than texts) differences are formed, a few thousand at a
time.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.solvers._newton import lower_product, weighted_gram

__all__ = ["Design", "PairDesign", "RowDesign", "pair_margins", "require_finite"]

CHUNK_ROWS = 4096


class Design(Protocol):
    """P rows of D numbers, however they are held."""

    shape: tuple[int, int]
    device: torch.device

    def margins(self, coef: Float[Tensor, " D"]) -> Float[Tensor, " P"]:
        """Each row times the weights, in float64."""
        ...

    def total(self, share: Float[Tensor, " P"]) -> Float[Tensor, " D"]:
        """The sum of all rows, each times its share, in float64."""
        ...

    def gram(self, curvature: Float[Tensor, " P"]) -> Float[Tensor, "D D"]:
        """The lower triangle of sum_i c_i d_i d_i', in float64; products in the precision of the features."""
        ...


class RowDesign:
    """Rows that are held as they are.

    Args:
        rows: [P, D].

    Raises:
        ArgumentError: a number is not finite.
    """

    def __init__(self, rows: Float[Tensor, "P D"]) -> None:
        require_finite("differences of features", rows)
        self._rows = rows
        self.shape = (rows.shape[0], rows.shape[1])
        self.device = rows.device

    def margins(self, coef: Tensor) -> Tensor:
        """Each row times the weights, in float64."""
        return _times(self._rows, coef)

    def total(self, share: Tensor) -> Tensor:
        """The sum of all rows, each times its share, in float64."""
        return _total(self._rows, share)

    def gram(self, curvature: Tensor) -> Tensor:
        """The lower triangle of sum_i c_i d_i d_i', in float64."""
        out = _nothing(self._rows)
        for part in _slices(len(self._rows)):
            rows = self._rows[part]
            out += weighted_gram(rows, curvature[part].to(rows.dtype)).double()
        return out


class PairDesign:
    """Differences of features, chosen minus rejected.

    Args:
        features: [N, D] of texts; those of no pair play no part.
        chosen: [P], which text is the one side of each pair.
        rejected: [P], which is the other.

    Raises:
        ArgumentError: a feature is not finite.
    """

    def __init__(
        self, features: Float[Tensor, "N D"], chosen: Int[Tensor, " P"], rejected: Int[Tensor, " P"]
    ) -> None:
        require_finite("features", features)
        self._features = features
        self._chosen, self._rejected = (side.to(features.device).long() for side in (chosen, rejected))
        self.shape = (len(chosen), features.shape[1])
        self.device = features.device
        low, high = torch.minimum(self._chosen, self._rejected), torch.maximum(self._chosen, self._rejected)
        # Pairs of the same two texts, in either order, are one edge.
        key, self._edge = torch.unique(low * len(features) + high, return_inverse=True)
        edges = torch.stack([key // len(features), key % len(features)])
        self._graph = _Graph(features, edges) if edges.shape[1] > len(torch.unique(edges)) else None

    def margins(self, coef: Tensor) -> Tensor:
        """Each row times the weights, in float64."""
        return pair_margins(self._features, self._chosen, self._rejected, coef)

    def total(self, share: Tensor) -> Tensor:
        """The sum of all rows, each times its share, in float64."""
        of_text = share.new_zeros(len(self._features))
        of_text.index_add_(0, self._chosen, share).index_add_(0, self._rejected, -share)
        return _total(self._features, of_text)

    def gram(self, curvature: Tensor) -> Tensor:
        """The lower triangle of sum_i c_i d_i d_i', in float64."""
        if self._graph is not None:
            count = self._graph.num_edges
            return self._graph.gram(curvature.new_zeros(count).index_add_(0, self._edge, curvature))
        out = _nothing(self._features)
        for part in _slices(len(curvature)):
            rows = self._features[self._chosen[part]] - self._features[self._rejected[part]]
            out += weighted_gram(rows, curvature[part].to(rows.dtype)).double()
        return out


class _Graph:
    """Texts joined by edges; the position of each edge in the rows of the adjacency matrix."""

    def __init__(self, features: Tensor, edges: Int[Tensor, "2 E"]) -> None:
        self._features = features
        self.num_edges = edges.shape[1]
        row, column = edges.flatten(), edges.flip(0).flatten()
        order = row.argsort(stable=True)
        self._column = column[order]
        self._edge = order % self.num_edges
        counts = torch.bincount(row, minlength=len(features))
        self._texts = counts.nonzero()[:, 0]
        self._start = torch.nn.functional.pad(counts[self._texts].cumsum(0), (1, 0))

    def gram(self, curvature: Float[Tensor, " E"]) -> Float[Tensor, "D D"]:
        """The lower triangle of X' L X, where the curvature of each edge is its weight."""
        out = _nothing(self._features)
        weight = curvature[self._edge].to(self._features.dtype)
        for part in _slices(len(self._texts)):
            bounds = self._start[part.start : part.stop + 1]
            first, last = int(bounds[0]), int(bounds[-1])
            rows = self._features[self._texts[part]]
            own, sizes = weight[first:last], bounds.diff()
            degree = torch.segment_reduce(own, "sum", lengths=sizes)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
                near = torch.sparse_csr_tensor(
                    bounds - first,
                    self._column[first:last],
                    own,
                    size=(len(rows), len(self._features)),
                    check_invariants=False,
                )
                pulled = near @ self._features
            out += lower_product(rows, degree[:, None] * rows - pulled).double()
        return out


def pair_margins(
    features: Float[Tensor, "N D"],
    chosen: Int[Tensor, " P"],
    rejected: Int[Tensor, " P"],
    coef: Float[Tensor, " D"],
) -> Float[Tensor, " P"]:
    """The score of each chosen minus that of the rejected text, in float64; swapping sides flips the sign."""
    score = _times(features, coef)
    return score[chosen] - score[rejected]


def require_finite(what: str, numbers: Tensor) -> None:
    """Raises where a number is NaN or infinite; no copy is made."""
    if numbers.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(numbers))).all()):
        raise ArgumentError(f"the {what} hold NaN or infinite values")


def _times(features: Tensor, coef: Tensor) -> Tensor:
    """Each row times the weights, in float64, without a copy of all rows."""
    return torch.cat([features[part].double() @ coef for part in _slices(len(features))])


def _total(features: Tensor, share: Tensor) -> Tensor:
    out = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for part in _slices(len(features)):
        out += features[part].double().T @ share[part]
    return out


def _nothing(features: Tensor) -> Tensor:
    width = features.shape[1]
    return torch.zeros(width, width, dtype=torch.float64, device=features.device)


def _slices(count: int) -> Iterator[slice]:
    for start in range(0, count, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, count))
