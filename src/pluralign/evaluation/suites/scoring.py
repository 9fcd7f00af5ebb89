"""Rewards of a suite's rows: by each risk measure of a model, by its baselines and by length.

In: a scorer and `Items`. Out: `SuiteScores` of the same rows. The distribution of each distinct text of a
part is computed once, and every measure is taken of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pluralign.data import conversation
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats
from pluralign.evaluation.suites.columns import LENGTH, SuiteScores
from pluralign.evaluation.suites.reading import Items
from pluralign.evaluation.texts import host_array
from pluralign.model import RewardModel
from pluralign.model.inputs import head_inputs
from pluralign.model.scorer import BaseScorer, Scorer, distributions_of
from pluralign.risk import RiskMeasure

__all__ = ["SuiteScorer"]


class SuiteScorer:
    """Scores parts of a suite, and counts what it scored.

    Args:
        scorer: a reward model, a combination, or anything with `distribution`.
        measures: risk measures by name; each is one rule.

    Attributes:
        truncated: distinct texts that the backbone did not read to their end, in all parts; None where the
            scorer does not say.
    """

    def __init__(self, scorer: Scorer, measures: Mapping[str, RiskMeasure]) -> None:
        self._scorer = scorer
        self._measures = dict(measures)
        self.truncated: int | None = 0 if isinstance(scorer, RewardModel) else None

    @torch.inference_mode()
    def score(self, items: Items) -> SuiteScores:
        """The scores of these rows.

        Raises:
            ArgumentError: a score is not finite; the message names the row.
            RiskError: a measure does not apply to the model.
        """
        texts: list[Any] = []
        place_of: dict[tuple[int, str], int] = {}
        places: list[int] = []
        owners: list[int] = []
        number_of: dict[str, int] = {}
        for row, (prompt, right, wrong) in enumerate(
            zip(items.prompts, items.right, items.wrong, strict=True)
        ):
            asked = number_of.setdefault(repr(prompt), len(number_of))
            for text in (*right, *wrong):
                place = place_of.setdefault((asked, text), len(texts))
                if place == len(texts):
                    texts.append(conversation(prompt, text))
                places.append(place)
                owners.append(row)
        distribution, others = self._distributions(texts)
        index = np.asarray(places, np.int64)
        values: dict[str, Floats] = {}
        for name, measure in self._measures.items():
            values[name] = _finite(host_array(measure(distribution).double())[index], name, owners, items)
        for name, other in others.items():
            values[name] = host_array(other.mean().double())[index]
        values[LENGTH] = np.array([float(len(c[-1]["content"])) for c in texts])[index]
        sizes = [np.array([len(side) for side in sides], np.int64) for sides in (items.right, items.wrong)]
        return SuiteScores(
            list(items.ids),
            list(items.subsets),
            list(items.groups),
            sizes[0],
            sizes[1],
            values,
            self._probability(distribution, index, *sizes),
            dict(items.columns),
            np.asarray(items.gold, np.float64),
        )

    def _distributions(
        self, texts: Sequence[Any]
    ) -> tuple[RewardDistribution, dict[str, RewardDistribution]]:
        """The rewards of distinct texts, by the model and by its baselines that tell texts apart."""
        model = self._scorer
        if not isinstance(model, RewardModel):
            return distributions_of(model, texts, "model"), {}
        embedded = model.embed(texts, progress=False)
        self.truncated = (self.truncated or 0) + int(embedded.truncated.sum())
        own = model.head.distribution(*head_inputs(model.head, texts, embedded))
        others = {
            name: head.distribution(*head_inputs(head, texts, embedded))
            for name, head in model.baselines.items()
        }
        return own, {name: other for name, other in others.items() if other.is_point}

    def _probability(
        self, distribution: RewardDistribution, index: Any, num_right: Any, num_wrong: Any
    ) -> Floats:
        """That the right side of each pair is preferred; NaN for rows that are no pairs."""
        result = np.full(len(num_right), np.nan)
        paired = (num_right == 1) & (num_wrong == 1)
        if paired.any():
            starts = (np.cumsum(num_right + num_wrong) - num_right - num_wrong)[paired]
            first = distribution[torch.from_numpy(index[starts])]
            second = distribution[torch.from_numpy(index[starts + 1])]
            scorer = self._scorer
            found = (
                scorer.preferred(first, second)
                if isinstance(scorer, BaseScorer)
                else first.prob_greater(second)
            )
            result[paired] = host_array(found.double())
        return result


def _finite(values: Floats, rule: str, owners: Sequence[int], items: Items) -> Floats:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        rows = list(dict.fromkeys(items.ids[owners[i]] for i in bad.tolist()))
        named = ", ".join(rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise ArgumentError(
            f"{rule} gives {values[bad[0]]} for the row {named}; needed: finite scores. A suite without "
            "some of its rows has other scores, so nothing is left out: choose a measure that does not "
            "overflow, or another model"
        )
    return values
