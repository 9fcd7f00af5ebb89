"""Can a model rank the responses to one prompt? Reported with every loss over all responses.

In: accuracy on pairs of responses to one prompt, from `summary`. Out: the same together with that of choosing
the longer text, and in words whether it is above chance. A loss over all responses can be small because a
model distinguishes prompts, which is of no use for choosing among the responses to one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["chance_verdict", "summarise_within"]


def summarise_within(pairs: Mapping[str, Any] | None, rule: str = "model") -> dict[str, Any]:
    """Skill within a prompt.

    Args:
        pairs: the summary of pairs from ratings, or its part for one attribute; None if no two responses
            to one prompt were rated differently.
        rule: whose choice it is, `model` or `own_attribute`.

    Returns:
        `model` and, if they are known and most texts differ in length, `length` and `difference` (the model
        minus length) as intervals;
        `rows` and `groups`; `chance`, half of the pairs that the rule does not tie, because a tie is not a
        success; `verdict`. Only `verdict` if there are no pairs.
    """
    if pairs is None or rule not in pairs["accuracy"]:
        return {"verdict": "not known: no two responses to one prompt were rated differently"}
    chance = 0.5 * (1 - pairs.get("ties", {}).get(rule, 0) / pairs["rows"])
    own = pairs["accuracy"][rule]
    found = {"rows": pairs["rows"], "groups": pairs["groups"], "model": own, "chance": chance}
    compares = "length" not in pairs.get("tied_rules", ())
    if compares and "length" in pairs["accuracy"]:
        found["length"] = pairs["accuracy"]["length"]
    if compares and rule == "model" and "length" in pairs.get("difference", {}):
        found["difference"] = pairs["difference"]["length"]
    return found | {"verdict": chance_verdict(own, chance)}


def chance_verdict(interval: Mapping[str, Any], chance: float = 0.5) -> str:
    """Whether an accuracy is above chance, in words.

    Args:
        interval: estimate, low and high; the ends are None if there is no interval, with the `reason`.
        chance: the accuracy of a random choice.
    """
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return f"not known: no interval ({interval.get('reason') or 'unknown'})"
    if low > chance:
        return "above chance"
    return "below chance" if high < chance else "at chance"
