"""Who has voted, and with what weight: one row per named person, one per vote without a name.

In: names, numbers of each vote, weights at a common time. Out: the sums of the numbers and the weights, [R].
Neither the order of votes nor their batches matter, because sums and maxima do not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Voters"]

_FORGOTTEN = 2.0**-60


@final
class Voters:
    """Rows of people.

    Args:
        width: numbers per vote.
        per_person: whether a person has the largest weight of their votes, rather than the sum.

    Attributes:
        rows: the row of each person with a name.
        sums: of the numbers of each person's votes, [R, width], float64.
        weight: of each person, [R], float64.
    """

    def __init__(self, width: int, per_person: bool) -> None:
        self.per_person = per_person
        self.rows: dict[str, int] = {}
        self.sums = torch.zeros(0, width, dtype=torch.float64)
        self.weight = torch.zeros(0, dtype=torch.float64)

    def names(self) -> list[str | None]:
        """The name of each row."""
        names: list[str | None] = [None] * len(self.weight)
        for name, row in self.rows.items():
            names[row] = name
        return names

    def fade(self, left: Float[Tensor, ""]) -> None:
        """Multiplies every weight by the share that is left."""
        self.weight = self.weight * left

    def add(
        self, names: Sequence[str | None], numbers: Float[Tensor, "V width"], weight: Float[Tensor, " V"]
    ) -> None:
        """Adds votes, or the rows of other voters."""
        place, total = [], len(self.weight)
        for name in names:
            row = total if name is None else self.rows.setdefault(str(name), total)
            place.append(row)
            total += row == total
        rows, new = torch.tensor(place, dtype=torch.int64), total - len(self.weight)
        self.sums = torch.nn.functional.pad(self.sums, (0, 0, 0, new)).index_add(0, rows, numbers)
        grown = torch.nn.functional.pad(self.weight, (0, new))
        if self.per_person:
            self.weight = grown.scatter_reduce(0, rows, weight, "amax")
        else:
            self.weight = grown.index_add(0, rows, weight)
        self._drop_forgotten()

    def fits(self, width: int) -> bool:
        """Whether the parts are consistent and finite, after reading them from a file."""
        rows, count = sorted(self.rows.values()), len(self.weight)
        shapes = self.weight.shape == (count,) and self.sums.shape == (count, width)
        named = len(set(rows)) == len(rows) and set(rows) <= set(range(count))
        return shapes and named and bool(self.sums.isfinite().all() and self.weight.isfinite().all())

    def restored(self, rows: Mapping[str, int], sums: Tensor, weight: Tensor) -> Voters:
        """These settings with parts from a file, to be checked with `fits`."""
        new = Voters(self.sums.shape[1], self.per_person)
        new.rows, new.sums, new.weight = dict(rows), sums, weight
        return new

    def _drop_forgotten(self) -> None:
        keep = self.weight > _FORGOTTEN
        if bool(keep.all()):
            return
        keep[list(self.rows.values())] = True  # a person's past votes are evidence of who they are
        place = keep.cumsum(0) - 1
        self.rows = {name: int(place[row]) for name, row in self.rows.items()}
        self.weight, self.sums = self.weight[keep], self.sums[keep]
