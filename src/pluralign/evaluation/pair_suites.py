"""Scores of suites whose rows are pairs: JudgeBench, LLMBar, and pairs of one's own.

In: the subset of each pair and the rewards of both sides. Out: plain dictionaries; every accuracy is a share
in [0, 1], a tie is wrong and counted. A score whose rows the table does not contain is None, never 0.

Papers: Tan et al. 2024, arXiv 2410.12784 (JudgeBench); Zeng et al. 2023, arXiv 2310.07641 (LLMBar).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import (
    Floats,
    Values,
    count_by,
    mean_by,
    mean_or_none,
    reward_column,
    same_length,
)
from pluralign.evaluation.rewardbench import BenchmarkResult

__all__ = ["JUDGEBENCH_SOURCES", "LLMBAR_SUBSETS", "judgebench", "llmbar", "pair_accuracy"]

JUDGEBENCH_SOURCES: Mapping[str, str] = {
    "Knowledge": "mmlu-pro",
    "Reasoning": "livebench-reasoning",
    "Math": "livebench-math",
    "Coding": "livecodebench",
}
LLMBAR_SUBSETS = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")


def pair_accuracy(subsets: Sequence[str], chosen: Values, rejected: Values) -> BenchmarkResult:
    """Share of all pairs whose chosen side has the higher reward, and of those of each subset.

    Args:
        subsets: [N] any names.
        chosen: [N] reward of the chosen response.
        rejected: [N] reward of the rejected response.

    Raises:
        ArgumentError: columns of different length, or a reward that is not finite.
    """
    a, b = _sides(subsets, chosen, rejected)
    return _result(subsets, a, b, float((a > b).mean()), {}, [])


def judgebench(sources: Sequence[str], chosen: Values, rejected: Values) -> BenchmarkResult:
    """JudgeBench: accuracy over all pairs, and by what is asked for: knowledge, reasoning, math, coding.

    Args:
        sources: [N] `source` of each pair, e.g. `mmlu-pro-law`, which belongs to Knowledge.
        chosen: [N] reward of the response that the label prefers.
        rejected: [N] reward of the other.

    Returns:
        `overall` is over all pairs, so that sections count by their size; it is comparable with published
        numbers only if `missing` is empty and the pairs are those of one model (350 of GPT-4o, 270 of
        Claude).

    Raises:
        ArgumentError: an unknown source, columns of different length, or a reward that is not finite.

    Reference:
        Tan et al. 2024. The official script calls B the winner of a tie; here a tie is wrong.
    """
    a, b = _sides(sources, chosen, rejected)
    section_of = {source: judgebench_section(source) for source in dict.fromkeys(sources)}
    by_section = mean_by([section_of[source] for source in sources], a > b)
    sections = {name: by_section.get(name) for name in JUDGEBENCH_SOURCES}
    missing = [name for name, score in sections.items() if score is None]
    return _result(sources, a, b, float((a > b).mean()), sections, missing)


def judgebench_section(source: str) -> str:
    """The section that a source belongs to.

    Raises:
        ArgumentError: it belongs to none.
    """
    for section, start in JUDGEBENCH_SOURCES.items():
        if source.startswith(start):
            return section
    starts = ", ".join(JUDGEBENCH_SOURCES.values())
    raise ArgumentError(f"{source!r} is not a source of JudgeBench; allowed: names that begin with {starts}")


def llmbar(subsets: Sequence[str], chosen: Values, rejected: Values) -> BenchmarkResult:
    """LLMBar: Natural, the mean of the four adversarial subsets, and the mean of all five.

    Args:
        subsets: [N] names that end in one of the five, e.g. `LLMBar/Adversarial/GPTInst`. Other sets that
            its authors publish beside it (`CaseStudy/...`, `Processed/...`) are scored, and are in no mean.
        chosen: [N] reward of the output that the label prefers.
        rejected: [N] reward of the other.

    Returns:
        `overall` is None unless all five are present.

    Raises:
        ArgumentError: columns of different length, or a reward that is not finite.

    Reference:
        Zeng et al. 2023, tables of accuracies by subset.
    """
    a, b = _sides(subsets, chosen, rejected)
    named = [llmbar_subset(subset) for subset in subsets]
    accuracy = mean_by(named, a > b)
    natural, *adversarial = (accuracy.get(name) for name in LLMBAR_SUBSETS)
    sections = {"Natural": natural, "Adversarial": mean_or_none(adversarial)}
    missing = [name for name in LLMBAR_SUBSETS if name not in accuracy]
    return _result(named, a, b, mean_or_none([natural, *adversarial]), sections, missing)


def llmbar_subset(subset: str) -> str:
    """The name among the five, or the subset as it is."""
    parts = subset.replace("\\", "/").split("/")
    last = parts[-1].lower().removeprefix("adversarial_")
    short = next((name for name in LLMBAR_SUBSETS if name.lower() == last), None)
    return short if short is not None and (len(parts) == 1 or "LLMBar" in parts) else subset


def _sides(subsets: Sequence[str], chosen: Values, rejected: Values) -> tuple[Floats, Floats]:
    a, b = reward_column(chosen, "chosen"), reward_column(rejected, "rejected")
    same_length(subsets=subsets, chosen=a, rejected=b)
    return a, b


def _result(
    subsets: Sequence[str],
    chosen: Floats,
    rejected: Floats,
    overall: float | None,
    sections: dict[str, float | None],
    missing: list[str],
) -> BenchmarkResult:
    return {
        "overall": overall,
        "sections": sections,
        "subsets": mean_by(subsets, chosen > rejected),
        "rows": dict(Counter(subsets)),
        "equal_scores": count_by(subsets, chosen == rejected),
        "missing": missing,
        "ties": None,
    }
