"""The rows of each published set, as their authors publish them, turned into one shape.

In: a raw row. Out: a `RawItem`, a prompt with its right and its wrong responses, or the problems of the row.
Nothing is checked here that is the same for all sets; see `reading`.

Sets, by their columns on the hub: allenai/reward-bench, allenai/reward-bench-2, THU-KEG/RM-Bench,
ScalerLab/JudgeBench, princeton-nlp/LLMBar, Anthropic/hh-rlhf; and pairs and samples of one's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pluralign.evaluation.rm_bench import RM_BENCH_STYLES

__all__ = ["Complain", "RawItem", "Reader", "best_of_n", "judgebench", "llmbar", "pairs", "rm_bench", "sides"]

Complain = Callable[[str | None, str, str], None]  # column, found, allowed


@dataclass(frozen=True)
class RawItem:
    """A row before its texts are checked.

    Attributes:
        prompt: text, messages or None.
        right: what is right: texts or message lists.
        wrong: the same of what is wrong.
        subset: of the row, as the suite names it.
        id: of the row; None where it has none.
        columns: what else the suite's formula needs.
        gold: rewards of `right` that count as true; empty where there are none.
    """

    prompt: Any
    right: list[Any]
    wrong: list[Any]
    subset: str
    id: str | None
    columns: Mapping[str, Any] = field(default_factory=dict)
    gold: tuple[float, ...] = ()


Reader = Callable[[Mapping[str, Any], Complain], RawItem | None]
_MISSING = object()


def pairs(row: Mapping[str, Any], complain: Complain) -> RawItem | None:
    """`{prompt, chosen, rejected, subset?, id?}`: RewardBench's columns, and anybody's pairs."""
    found = [_needed(row, name, complain) for name in ("chosen", "rejected")]
    if _MISSING in found:
        return None
    chosen, rejected = found
    return RawItem(row.get("prompt"), [chosen], [rejected], _subset(row), _id(row))


def sides(row: Mapping[str, Any], complain: Complain) -> RawItem | None:
    """`{prompt, chosen: [...], rejected: [...], subset, id}`: RewardBench 2, any number of each."""
    found = [_responses(row, name, complain) for name in ("chosen", "rejected")]
    if found[0] is None or found[1] is None:
        return None
    return RawItem(row.get("prompt"), found[0], found[1], _subset(row), _id(row))


def rm_bench(row: Mapping[str, Any], complain: Complain) -> RawItem | None:
    """`{prompt, chosen: [3], rejected: [3], domain}`, in order of style; or a pair with its two styles."""
    subset = str(row.get("domain") or row.get("subset") or "")
    if "chosen_style" in row or "rejected_style" in row:
        styles = {name: row.get(name) for name in ("chosen_style", "rejected_style")}
        for name, style in styles.items():
            if style not in RM_BENCH_STYLES:
                complain(name, repr(style), ", ".join(RM_BENCH_STYLES))
                return None
        item = pairs(row, complain)
        return item and RawItem(item.prompt, item.right, item.wrong, subset, item.id, styles)
    item = sides(row, complain)
    if item is None:
        return None
    for name, side in (("chosen", item.right), ("rejected", item.wrong)):
        if len(side) != len(RM_BENCH_STYLES):
            complain(name, f"{len(side)} responses", f"one for each style: {', '.join(RM_BENCH_STYLES)}")
            return None
    return RawItem(item.prompt, item.right, item.wrong, subset, item.id)


def judgebench(row: Mapping[str, Any], complain: Complain) -> RawItem | None:
    """`{question, response_A, response_B, label, source, pair_id}`; the label is A>B or B>A."""
    found = [_needed(row, name, complain) for name in ("response_A", "response_B")]
    label = row.get("label")
    if label not in ("A>B", "B>A"):
        complain("label", repr(label), "A>B or B>A")
        return None
    if _MISSING in found:
        return None
    first, second = found
    right, wrong = (first, second) if label == "A>B" else (second, first)
    question = row.get("question", row.get("prompt"))
    return RawItem(question, [right], [wrong], str(row.get("source") or ""), _id(row, "pair_id"))


def llmbar(row: Mapping[str, Any], complain: Complain) -> RawItem | None:
    """`{input, output_1, output_2, label}`, the label 1 or 2; or pairs."""
    if "output_1" not in row and "output_2" not in row:
        return pairs(row, complain)
    found = [_needed(row, name, complain) for name in ("output_1", "output_2")]
    label = str(row.get("label"))
    if label not in ("1", "2"):
        complain("label", repr(row.get("label")), "1 or 2")
        return None
    if _MISSING in found:
        return None
    first, second = found
    right, wrong = (first, second) if label == "1" else (second, first)
    return RawItem(row.get("input", row.get("prompt")), [right], [wrong], _subset(row), _id(row))


def best_of_n(row: Mapping[str, Any], complain: Complain) -> RawItem | None:
    """Samples of a prompt with their true rewards: `{prompt, responses: [...], gold: [...]}`, or one per row.

    The rewards may also be called `rewards`, `reward` or `scores`; a row of ratings has their mean.
    """
    name = next((name for name in ("gold", "rewards", "reward", "scores", "ratings") if name in row), None)
    if name is None:
        complain(
            "gold", "no such column", "the true reward of each response (gold, rewards, reward, ratings)"
        )
        return None
    several = "responses" in row
    texts = _responses(row, "responses", complain) if several else [_needed(row, "response", complain)]
    if texts is None or _MISSING in texts:
        return None
    given = _read_list(row[name]) if several or name == "ratings" else [row[name]]
    try:
        gold = [float(value) for value in given or ()]
    except (TypeError, ValueError):
        complain(name, repr(row[name])[:60], "numbers")
        return None
    if name == "ratings" and not several:
        gold = [math.fsum(gold) / len(gold)] if gold else []
    if len(gold) != len(texts) or not all(math.isfinite(value) for value in gold):
        complain(
            name, f"{len(gold)} rewards for {len(texts)} responses", "one finite number for each response"
        )
        return None
    return RawItem(row.get("prompt"), texts, [], _subset(row), _id(row), gold=tuple(gold))


def _needed(row: Mapping[str, Any], name: str, complain: Complain) -> Any:
    value = row.get(name)
    if value is None:
        found = "nothing" if name in row else "no such column"
        complain(name, found, "a response; columns= maps other names")
        return _MISSING
    if value == []:
        complain(name, "an empty list", "at least one response")
        return _MISSING
    return value


def _responses(row: Mapping[str, Any], name: str, complain: Complain) -> list[Any] | None:
    value = _needed(row, name, complain)
    if value is _MISSING:
        return None
    listed = _read_list(value)
    if not listed:
        complain(name, f"{type(value).__name__} {value!r}"[:60], "a list of at least one response")
        return None
    return list(listed)


def _read_list(value: Any) -> Sequence[Any] | None:
    """A list, or one as JSON text, which is how a CSV file has it; a text alone is one response."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                found = json.loads(value)
            except ValueError:
                return [value]
            return found if isinstance(found, list) else None
        return [value]
    return value if isinstance(value, list | tuple) else None


def _subset(row: Mapping[str, Any]) -> str:
    return str(row.get("subset") or "")


def _id(row: Mapping[str, Any], *names: str) -> str | None:
    value = next((row[name] for name in (*names, "id") if row.get(name) is not None), None)
    return None if value is None else str(value)
