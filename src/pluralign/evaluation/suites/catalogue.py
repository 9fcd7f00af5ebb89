"""The table of suites: how each one's rows are read, which subsets it has, and which formula scores it.

A new suite is one entry here, a reader in `layouts` and a formula. In: the name of a suite. Out: a `Suite`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pluralign.errors import ArgumentError, did_you_mean
from pluralign.evaluation import pair_suites
from pluralign.evaluation.rewardbench import (
    REWARDBENCH2_SUBSETS,
    REWARDBENCH_COUNTS,
    REWARDBENCH_PRIOR,
    rewardbench,
    rewardbench2,
)
from pluralign.evaluation.rm_bench import RM_BENCH_DOMAINS, RM_BENCH_STYLES, rm_bench
from pluralign.evaluation.suites import layouts
from pluralign.evaluation.suites.columns import SuiteScores
from pluralign.evaluation.suites.samples import best_of_n_suite

__all__ = ["SUITES", "Formula", "Suite", "suite_named"]

Rows = NDArray[np.int64]
Formula = Callable[[Rows], Mapping[str, Any]]  # from row numbers to `overall`, `sections`, `subsets` ...


@dataclass(frozen=True)
class Suite:
    """One suite.

    Attributes:
        title: its name in prose.
        reader: turns a raw row into a prompt with right and wrong responses.
        formula: from scores, a rule and whether to use old weights to what scores any choice of rows.
        hub: where its authors publish it; empty for data of one's own.
        split: which split of that it is.
        subsets: the subsets that rows may have; empty if any will do.
        section: raises for a subset that the suite does not have, where they are not a list.
        rule: how it is scored, in a sentence.
    """

    title: str
    reader: layouts.Reader
    formula: Callable[[SuiteScores, str, bool], Formula]
    rule: str
    hub: str = ""
    split: str | None = None
    subsets: tuple[str, ...] = ()
    section: Callable[[str], str] | None = None

    def problem_of(self, subset: str) -> str | None:
        """What is allowed instead of this subset; None where the suite has it."""
        if self.subsets and subset not in self.subsets:
            return f"{', '.join(self.subsets)}{did_you_mean(subset, self.subsets)}"
        if self.section is not None:
            try:
                self.section(subset)
            except ArgumentError as error:
                return str(error).partition("allowed: ")[2]
        return None


def _of_pairs(score: Callable[..., Mapping[str, Any]]) -> Callable[[SuiteScores, str, bool], Formula]:
    """A formula of subsets and the two rewards of each pair."""

    def formula(scores: SuiteScores, rule: str, legacy: bool) -> Formula:
        del legacy
        subsets, (chosen, rejected) = np.asarray(scores.subsets, object), scores.pairs(rule)
        return lambda rows: score(subsets[rows].tolist(), chosen[rows], rejected[rows])

    return formula


def _rewardbench(scores: SuiteScores, rule: str, legacy: bool) -> Formula:
    subsets, (chosen, rejected) = np.asarray(scores.subsets, object), scores.pairs(rule)
    prior = bool(set(scores.subsets) & set(REWARDBENCH_PRIOR))
    return lambda rows: rewardbench(
        subsets[rows].tolist(), chosen[rows], rejected[rows], legacy=legacy, prior=prior
    )


def _rewardbench2(scores: SuiteScores, rule: str, legacy: bool) -> Formula:
    del legacy
    right, wrong = scores.sides(rule)

    def formula(rows: Rows) -> Mapping[str, Any]:
        chosen = list(rows)
        return rewardbench2(
            [scores.subsets[i] for i in chosen],
            [right[i].tolist() for i in chosen],
            [wrong[i].tolist() for i in chosen],
            [scores.ids[i] for i in chosen],
        )

    return formula


def _rm_bench(scores: SuiteScores, rule: str, legacy: bool) -> Formula:
    """Rows of three responses a side are nine pairs each; rows that name their styles are one."""
    del legacy
    subsets = np.asarray(scores.subsets, object)
    styles = RM_BENCH_STYLES
    if "chosen_style" in scores.columns:
        chosen, rejected = (value[:, None] for value in scores.pairs(rule))
        first, second = (
            np.asarray(scores.columns[name], object)[:, None] for name in ("chosen_style", "rejected_style")
        )
    else:
        both = scores.values[rule].reshape(-1, 2, len(styles))
        chosen, rejected = both[:, 0].repeat(3, axis=1), np.tile(both[:, 1], 3)
        first = np.repeat(np.asarray(styles, object), 3)[None].repeat(len(both), 0)
        second = np.tile(np.asarray(styles, object), 3)[None].repeat(len(both), 0)

    def formula(rows: Rows) -> Mapping[str, Any]:
        found = rm_bench(
            subsets[rows].repeat(chosen.shape[1]).tolist(),
            first[rows].ravel().tolist(),
            second[rows].ravel().tolist(),
            chosen[rows].ravel(),
            rejected[rows].ravel(),
        )
        return {**found, "sections": found["difficulty"], "subsets": _normal(found["domains"])}

    return formula


def _normal(domains: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Each domain's mean over the three difficulties."""
    means = {}
    for name, levels in domains.items():
        known = [score for score in levels.values() if score is not None]
        means[name] = sum(known) / len(known) if len(known) == len(levels) else None
    return means


def _best_of_n(scores: SuiteScores, rule: str, legacy: bool) -> Formula:
    del legacy
    starts = np.cumsum(scores.num_right) - scores.num_right
    prompts = np.asarray(scores.columns["prompt"], object)

    def formula(rows: Rows) -> Mapping[str, Any]:
        sizes = scores.num_right[rows]
        before = np.cumsum(sizes) - sizes
        places = np.arange(sizes.sum()) - before.repeat(sizes) + starts[rows].repeat(sizes)
        owners = prompts[rows].repeat(sizes).tolist()
        return best_of_n_suite(owners, scores.values[rule][places], scores.gold[places])

    return formula


SUITES: dict[str, Suite] = {
    "rewardbench": Suite(
        "RewardBench",
        layouts.pairs,
        _rewardbench,
        "accuracy per subset, four sections weighted by official counts, their mean; prior sets count half",
        "allenai/reward-bench",
        "filtered",
        (*(name for members in REWARDBENCH_COUNTS.values() for name in members), *REWARDBENCH_PRIOR),
    ),
    "rewardbench2": Suite(
        "RewardBench 2",
        layouts.sides,
        _rewardbench2,
        "best of 4 in five subsets, margins in Ties, the plain mean of the six",
        "allenai/reward-bench-2",
        "test",
        REWARDBENCH2_SUBSETS,
    ),
    "rm_bench": Suite(
        "RM-Bench",
        layouts.rm_bench,
        _rm_bench,
        "accuracy by the styles of both sides: hard, normal and easy, means over domains, their mean",
        "THU-KEG/RM-Bench",
        "train",
        tuple(name for members in RM_BENCH_DOMAINS.values() for name in members),
    ),
    "judgebench": Suite(
        "JudgeBench",
        layouts.judgebench,
        _of_pairs(pair_suites.judgebench),
        "accuracy over all pairs; a tie is wrong",
        "ScalerLab/JudgeBench",
        "gpt",
        section=pair_suites.judgebench_section,
    ),
    "hh": Suite(
        "HH-RLHF",
        layouts.pairs,
        _of_pairs(pair_suites.pair_accuracy),
        "accuracy over all pairs; a tie is wrong",
        "Anthropic/hh-rlhf",
        "test",
    ),
    "llmbar": Suite(
        "LLMBar",
        layouts.llmbar,
        _of_pairs(pair_suites.llmbar),
        "accuracy per subset; Adversarial is the mean of four, the score that of all five",
        "princeton-nlp/LLMBar",
    ),
    "pairs": Suite(
        "pairs",
        layouts.pairs,
        _of_pairs(pair_suites.pair_accuracy),
        "accuracy over all pairs; a tie is wrong",
    ),
    "best_of_n": Suite(
        "best of n",
        layouts.best_of_n,
        _best_of_n,
        "share of the gain in true reward that perfect choice among n would give, at the largest n",
    ),
}


def suite_named(name: str) -> Suite:
    """The entry of a suite.

    Raises:
        ArgumentError: there is none of that name.
    """
    if name not in SUITES:
        raise ArgumentError(
            f"suite: received {name!r}{did_you_mean(name, SUITES)}; allowed: {', '.join(SUITES)}"
        )
    return SUITES[name]
