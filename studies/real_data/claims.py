"""What sentences of `findings.md`, and of pages that quote the study, say of the records."""

from __future__ import annotations

from typing import Any

from pluralign.evaluation.within import summarise_within
from studies.records import results


def _within(data: str) -> dict[str, Any]:
    (found,) = results("real_data", "cross_fit", data=data, seed=0)
    within: dict[str, Any] = summarise_within(found["evaluation"]["pairs"]["pairs_from_ratings"])
    return within


def longer_is_better_within() -> bool:
    low: float = _within("wmt_mqm23")["length"]["low"]
    return low > 0.5


def wmt_is_no_success() -> bool:
    names = ("wmt_mqm23", "wmt_mqm23 + length", "wmt_mqm23 + length, surface")
    return all(_within(name)["verdict"] == "below chance" for name in names)
