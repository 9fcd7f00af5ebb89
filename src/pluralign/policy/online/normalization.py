"""Running normalization: rewards in units of the standard deviation of all rewards so far.

In: rewards of a batch and the moments of those before. Out: rewards of mean 0 and standard deviation 1 over
the run so far, and the new moments. There is no state here: a checkpoint stores the moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.precision import widened

__all__ = ["Moments", "Reduce", "normalize"]

Reduce = Callable[[Tensor], Tensor]  # sum over processes

_STD_FLOOR = 1e-4  # equal rewards become 0, not amplified rounding errors


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of rewards; by default of no rewards."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """Standard deviation; 0 for fewer than two rewards."""
        return (self.squares / self.count) ** 0.5 if self.count > 1 else 0.0

    def merged(self, other: Moments) -> Moments:
        """The moments of both sets together (Chan et al. 1979)."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart**2 * self.count * other.count / count,
        )


def normalize(
    rewards: Float[Tensor, " B"], moments: Moments, reduce: Reduce = lambda sums: sums
) -> tuple[Float[Tensor, " B"], Moments]:
    """(reward - mean) / (std + 1e-4), with the moments of all rewards so far, including this batch.

    Args:
        rewards: rewards of this process, [B].
        moments: moments of all batches before.
        reduce: sums a tensor over processes.

    Returns:
        [B], and the moments with this batch.
    """
    r = widened(rewards)
    count, total = reduce(torch.stack([r.new_tensor(float(len(r))), r.sum()])).tolist()
    mean = total / count
    (squares,) = reduce(((r - mean) ** 2).sum()[None]).tolist()
    now = moments.merged(Moments(count, mean, squares))
    return ((r - now.mean) / (now.std + _STD_FLOOR)).to(rewards.dtype), now
