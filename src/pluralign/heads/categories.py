"""Categories that people assign to responses: their names, positions on the rating scale, and rewards.

In: numbers. Out: one frozen description per attribute, serialisable as JSON: the explicit mapping from
ratings to categories.

The six categories of Li et al. 2024 (DPRM), arXiv 2402.09764, are in the order of the paper; votes for them
are ratings of the attribute `category` on the scale [0, 5], equal to their numbers. The two axes say how
helpful and how harmful each is; the rewards are those of the paper's first version.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.heads import schema

__all__ = [
    "CATEGORIES",
    "CATEGORY_ATTRIBUTE",
    "CATEGORY_REWARDS",
    "HARM",
    "HELPFULNESS",
    "Categories",
]

CATEGORY_ATTRIBUTE = "category"
CATEGORIES: tuple[str, ...] = (
    "helpful, harmless",
    "neutral, harmless",
    "not helpful, harmless",
    "helpful, harmful",
    "neutral, harmful",
    "not helpful, harmful",
)
CATEGORY_REWARDS: tuple[float, ...] = (1.0, 0.5, -1.0, -1.0, -1.5, -3.0)
HELPFULNESS: tuple[float, ...] = (1.0, 0.5, 0.0, 1.0, 0.5, 0.0)
HARM: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Categories:
    """The categories of one attribute.

    Attributes:
        names: C of them, distinct.
        values: the rating that stands for each, ascending, on the attribute's scale.
        rewards: the reward of each on the [0, 1] scale on which attributes are mixed; in any order.
        edges: C + 1 edges of bins, ascending, for categories that are bins of a continuous scale: bin c
            contains edges[c] <= rating < edges[c + 1], the last bin also its upper edge. None if the ratings
            are the values.
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    rewards: tuple[float, ...]
    edges: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0 or len(set(self.names)) < count or {len(self.values), len(self.rewards)} != {count}:
            raise ArgumentError(
                f"categories need distinct names with a value and a reward each; received {self.names}, "
                f"{self.values} and {self.rewards}"
            )
        if list(self.values) != sorted(set(self.values)):
            raise ArgumentError(f"values of categories must ascend; received {self.values}")
        if not all(abs(reward) < float("inf") for reward in self.rewards):
            raise ArgumentError(f"rewards of categories must be finite; received {self.rewards}")
        if self.edges is not None and (
            len(self.edges) != count + 1 or list(self.edges) != sorted(set(self.edges))
        ):
            raise ArgumentError(f"{count} bins need {count + 1} ascending edges; received {self.edges}")

    @staticmethod
    def check_spec(spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec` holds the fields of valid categories."""
        numbers = schema.listed(schema.number(), 1)
        ascending = schema.listed(schema.number(), 1, ascending=True)
        schema.record(
            {
                "names": schema.listed(schema.text, 1, distinct=True),
                "values": ascending,
                "rewards": numbers,
                "edges": schema.optional(ascending),
            }
        )(spec, where)
        count = len(spec["names"])
        for key, length in (("values", count), ("rewards", count), ("edges", count + 1)):
            if spec[key] is not None and len(spec[key]) != length:
                raise schema.refuse(f"{where}.{key}", spec[key], f"{length} numbers for {count} names")

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """From the fields as parsed from JSON, with lists for tuples."""
        edges = spec["edges"]
        names, values, rewards = (tuple(spec[key]) for key in ("names", "values", "rewards"))
        return cls(names, values, rewards, None if edges is None else tuple(edges))

    def __len__(self) -> int:
        return len(self.names)

    def places(self, ratings: Float[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """The category of each rating, or the nearest one if it is in none; undefined for NaN."""
        if self.edges is None:
            ends = [0.5 * (low + high) for low, high in itertools.pairwise(self.values)]
        else:
            ends = list(self.edges[1:-1])
        found = torch.searchsorted(ratings.new_tensor(ends), ratings.contiguous(), right=True)
        return found.clamp_max(len(self) - 1)

    @property
    def mapping(self) -> dict[str, dict[str, float]]:
        """By name: the ratings of each category and its reward, for display."""
        rows: dict[str, dict[str, float]] = {}
        for c, name in enumerate(self.names):
            if self.edges is None:
                rows[name] = {"rating": self.values[c], "reward": self.rewards[c]}
            else:
                ends = {"from": self.edges[c], "to": self.edges[c + 1]}
                rows[name] = {**ends, "rating": self.values[c], "reward": self.rewards[c]}
        return rows
