"""The sentences of the page: what the numbers say, why a section is empty, why something was refused.

In: what `seen` returns, or a `Refusal`. Out: plain text, which the templates escape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pluralign.server.config import ServerConfig
from pluralign.server.explorer.facts import Facts
from pluralign.server.refusals import Refusal

__all__ = [
    "absent_personas",
    "number",
    "persona_lines",
    "ranking_words",
    "refusal_words",
    "spread_words",
    "truncation_words",
]

Seen = Mapping[str, Any]
_MOST_NAMED = 5


def number(value: float) -> str:
    """Two digits, with a true minus."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def ranking_words(found: Seen) -> str:
    """The ranking in a sentence, which screen readers say when it changes."""
    rows = found["responses"]
    if len(rows) == 1:
        utility = rows[0]["utility"]
        return (
            f"One response: its {found['risk']} is {number(utility)}. There is nothing to rank it against; "
            "add another."
        )
    parts = [
        f"{rows[n - 1]['rank']}. Response {n} ({number(rows[n - 1]['utility'])})"
        for n in found["order"][:_MOST_NAMED]
    ]
    more = len(rows) - _MOST_NAMED
    return f"Ranked by {found['risk']}: {', '.join(parts)}" + (f", and {more} more." if more > 0 else ".")


def spread_words(found: Seen) -> list[str]:
    """How people differ, apart from what the model does not know."""
    if found["is_point"]:
        return [
            "This model gives one number per response, so it says neither how people differ nor how sure "
            "it is. A model that is fitted on ratings or votes of several people predicts both."
        ]
    if not found["has_members"]:
        return [
            "This is a single model. Its spread shows how it expects people to differ; it cannot show how "
            "much it does not know. An ensemble can: fit with --ensemble 5."
        ]
    shares = []
    for row in found["responses"]:
        people, unsure = row["within_std"] ** 2, row["between_std"] ** 2
        shares.append(unsure / (people + unsure) if people + unsure > 0 else 0.0)
    least, most = min(shares), max(shares)
    what = f"{most:.0%}" if round(least, 2) == round(most, 2) else f"{least:.0%} to {most:.0%}"
    widest = max(found["responses"], key=lambda row: row["within_std"])
    lines = [
        f"Of the variance of the reward, {what} is disagreement between the members of the ensemble: what "
        "the model does not know. The rest is how the members expect people to differ."
    ]
    if len(shares) > 1:
        doubted = shares.index(most) + 1
        lines.append(
            f"People differ most about response {widest['number']} (standard deviation "
            f"{number(widest['within_std'])}); the model is least sure of response {doubted}."
        )
    return lines


def truncation_words(found: Seen) -> str | None:
    """Which responses were not read to their end; None where all were."""
    cut = [str(row["number"]) for row in found["responses"] if row["truncated"]]
    if not cut:
        return None
    one = len(cut) == 1
    named = ", ".join(cut[:_MOST_NAMED]) + (", ..." if len(cut) > _MOST_NAMED else "")
    return (
        f"Response{'' if one else 's'} {named}: text and prompt together are longer than the model's "
        "backbone reads, so only the beginning counts."
    )


def persona_lines(found: Seen) -> list[str]:
    """Who objects to the response that comes first, and what they would rather have."""
    if not found["personas"]:
        return []
    first = found["order"][0]
    objecting = [one for one in found["personas"] if one["responses"][first - 1]["objects"]]
    if not objecting:
        return [
            f"Nobody objects to response {first}, which comes first: all personas find it better than "
            "average."
        ]
    lines = []
    for one in objecting:
        mean = one["responses"][first - 1]["mean"]
        line = f"{one['name']} would object to response {first}: to them it is worse than average "
        line += f"({number(mean)})."
        rather = [n for n in one["favourites"] if n != first]
        if rather and len(found["responses"]) > 1:
            line += f" They like response {rather[0]} best."
        lines.append(line)
    return lines


def absent_personas(found: Seen, facts: Facts) -> list[str]:
    """Why there are no personas, and how many people would object all the same."""
    lines = []
    if not found["is_point"]:
        first = found["responses"][found["order"][0] - 1]
        lines.append(
            f"{first['below_average']:.0%} of people would find response {first['number']}"
            + (", which comes first," if len(found["responses"]) > 1 else "")
            + " worse than an average one. Who they are, this model cannot say."
        )
        lines += _objections(found, facts)
    name = facts.name or "MODEL"
    lines.append(
        "It was fitted on all people together. To see personas, fit one model per group of people, and name "
        f"them: pluralign explore {name} --personas.scientist runs/scientist --personas.teacher runs/teacher"
    )
    return lines


def _objections(found: Seen, facts: Facts) -> list[str]:
    """What those who object would call the response that comes first, where people give categories."""
    lines = []
    first = found["order"][0] - 1
    for scale, attribute in zip(facts.attributes, found["attributes"], strict=True):
        if not scale.objections or attribute["labels"] != list(scale.categories):
            continue
        shares = dict(zip(scale.categories, attribute["responses"][first]["shares"], strict=True))
        bad = sorted(((shares[name], name) for name in scale.objections), reverse=True)
        named = "; ".join(f"{name} ({share:.0%})" for share, name in bad[:_MOST_NAMED])
        lines.append(f"By {scale.name}, people who object would call it: {named}.")
    return lines


def refusal_words(refusal: Refusal, config: ServerConfig) -> str:
    """Why nothing was scored, in the words of the page.

    Args:
        refusal: what the service said.
        config: of the server, for its limits.
    """
    if refusal.status == 413:
        return (
            f"The texts together are larger than {config.max_body_mb:g} MB, the most that this server takes "
            "at once. Shorten them, or remove responses."
        )
    if refusal.status == 408:
        return f"The texts did not arrive within {config.read_timeout:g} seconds. Try again."
    if refusal.status == 429:
        return "The server is busy. Try again in a moment."
    if refusal.status == 503:
        return f"{refusal.message[:1].upper()}{refusal.message[1:]}."
    if refusal.limit == "max_tokens":
        return (
            f"The texts are too long: all responses, each with its prompt, may have {config.max_tokens:,} "
            "tokens together. Shorten them, or remove responses."
        )
    if refusal.limit == "max_items":
        return f"This server takes at most {config.max_items} responses at once. Remove some."
    text = refusal.message
    if refusal.allowed:  # they are listed below it
        text = re.sub(r"; (known|allowed|this model has):? [^;]*$", "", text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
