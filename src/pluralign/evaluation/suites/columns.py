"""The scores of a suite: for each of its rows the rewards of its right and of its wrong responses.

In: rows as they are scored, a part at a time. Out: `SuiteScores`, a few flat arrays whatever the number of
rows, from which every score of a suite is computed.

Notation: N rows (a prompt with its responses, or a pair), M responses; a rule is what compares responses: a
risk measure of the model, one of its baselines, or length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pluralign.evaluation.columns import Floats

__all__ = ["LENGTH", "SuiteScores"]

LENGTH = "length"  # the rule that prefers the longer response, in characters


@dataclass
class SuiteScores:
    """Scores of the rows of a suite.

    Attributes:
        ids: [N], unique within a subset.
        subsets: [N].
        groups: [N]; rows of one group share a prompt.
        num_right: [N], how many responses are right.
        num_wrong: [N], how many are wrong.
        values: by rule [M], the responses of row 1 with its right ones first, then those of row 2 ...
        probability: [N], that the right response is preferred; NaN for a row that is not a pair, and where
            nobody predicts it.
        columns: what else is known of each row, such as styles, by name [N].
        gold: [M], rewards that count as true; empty where a suite has none.
    """

    ids: list[str] = field(default_factory=list)
    subsets: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    num_right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    num_wrong: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    values: dict[str, Floats] = field(default_factory=dict)
    probability: Floats = field(default_factory=lambda: np.zeros(0))
    columns: dict[str, list[Any]] = field(default_factory=dict)
    gold: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_pairs(self) -> bool:
        """Whether every row has one right and one wrong response."""
        return bool((self.num_right == 1).all() and (self.num_wrong == 1).all())

    def pairs(self, rule: str) -> tuple[Floats, Floats]:
        """The rewards of the right and of the wrong response of each pair, [N] each."""
        return self.values[rule][0::2], self.values[rule][1::2]

    def sides(self, rule: str) -> tuple[list[Floats], list[Floats]]:
        """The rewards of the right and of the wrong responses of each row, N arrays each."""
        sizes = np.stack([self.num_right, self.num_wrong], 1).ravel()
        parts = np.split(self.values[rule], np.cumsum(sizes)[:-1])
        return parts[0::2], parts[1::2]

    @classmethod
    def joined(cls, parts: Sequence[SuiteScores]) -> SuiteScores:
        """All parts in order; a rule or a column that one of them lacks is left out."""
        if len(parts) == 1:
            return parts[0]

        def everywhere(tables: Sequence[Mapping[str, Any]]) -> list[str]:
            return [key for key in tables[0] if all(key in table for table in tables)]

        return cls(
            [entry for part in parts for entry in part.ids],
            [entry for part in parts for entry in part.subsets],
            [entry for part in parts for entry in part.groups],
            np.concatenate([part.num_right for part in parts]),
            np.concatenate([part.num_wrong for part in parts]),
            {
                rule: np.concatenate([part.values[rule] for part in parts])
                for rule in everywhere([part.values for part in parts])
            },
            np.concatenate([part.probability for part in parts]),
            {
                name: [entry for part in parts for entry in part.columns[name]]
                for name in everywhere([part.columns for part in parts])
            },
            np.concatenate([part.gold for part in parts]),
        )
