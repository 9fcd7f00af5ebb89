"""Exports of the page: its contents as files, and the command and the lines of Python that reproduce it.

In: the conversation, the settings, and what `seen` returned. Out: texts. `pluralign score` reads the rows and
gives the same utilities; so do the lines of Python.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pluralign._version import __version__
from pluralign.data.messages import Message
from pluralign.server.explorer.facts import Facts
from pluralign.server.explorer.form import Settings

__all__ = ["ROWS", "command", "everything", "python", "rows"]

ROWS = "responses.jsonl"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")  # of what a flag can end with: no dot, no space


def rows(prompt: Sequence[Message], responses: Sequence[str]) -> str:
    """JSON Lines that `pluralign score --data` reads, one response each."""
    lines = [
        json.dumps({"id": str(number), "prompt": list(prompt), "response": text}, ensure_ascii=False)
        for number, text in enumerate(responses, 1)
    ]
    return "".join(line + "\n" for line in lines)


def command(facts: Facts, settings: Settings) -> str | None:
    """The command that scores the rows; None for a scorer that is in no folder."""
    if facts.name is None or facts.kind == "scorer":
        return None
    words = [
        "pluralign",
        "score",
        "--model",
        facts.name,
        "--data",
        ROWS,
        "--risk",
        settings.risk or facts.risk,
    ]
    for flag, given in (("weights", settings.weights), ("steer", settings.steer)):
        if given is None:
            continue
        if all(map(_NAME.match, given)):
            for name, value in given.items():
                words += [f"--{flag}.{name}", value if isinstance(value, str) else repr(value)]
        else:
            words += [f"--{flag}", json.dumps(given, ensure_ascii=False)]
    return shlex.join(words)


def python(facts: Facts, settings: Settings, prompt: Sequence[Message], responses: Sequence[str]) -> str:
    """Lines of Python that print the utilities."""
    kind = "pl.model.Combination" if facts.kind == "combination" else "pl.RewardModel"
    model = "model = ...  # the scorer that this server was given"
    if facts.name is not None and facts.kind != "scorer":
        model = f"model = {kind}.from_pretrained({facts.name!r})"
    listed = "".join(f"    {text!r},\n" for text in responses)
    options = {"risk": settings.risk or facts.risk, "weights": settings.weights, "steer": settings.steer}
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    return (
        "import pluralign as pl\n\n"
        f"{model}\n"
        f"prompt = {list(prompt)!r}\n"
        f"responses = [\n{listed}]\n"
        'talks = [[*prompt, {"role": "assistant", "content": text}] for text in responses]\n'
        f"print(model.score(talks{given}).tolist())\n"
    )


def everything(
    facts: Facts,
    settings: Settings,
    prompt: Sequence[Message],
    responses: Sequence[str],
    found: Mapping[str, Any],
) -> str:
    """Everything that the page shows, with its inputs, as JSON."""
    content = {
        "pluralign": __version__,
        "model": facts.name,
        "risk": found["risk"],
        "weights": settings.weights,
        "steer": settings.steer,
        "prompt": list(prompt),
        "responses": [
            {"text": text} | dict(row) for text, row in zip(responses, found["responses"], strict=True)
        ],
        "notes": found["notes"],
        "order": found["order"],
        "levels": found["levels"],
        "curves": found["curves"],
        "along": found["along"],
        "winners": found["winners"],
        "attributes": found["attributes"],
        "gate": found["gate"],
        "personas": found["personas"],
        "command": command(facts, settings),
        "python": python(facts, settings, prompt, responses),
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
