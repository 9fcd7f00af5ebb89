"""The texts of a training table in any of TRL's shapes: prompts as messages, responses as text.

In: a table whose prompt and responses are text, message lists or message lists as text; the prompt may be
only the common beginning of the sides. Out: the same table with `prompt` as a message list and all responses
as text, read by `data.sides` as in `fit`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from pluralign.data.implicit_prompt import read_implicit_prompt
from pluralign.data.problems import Problem, raise_problems
from pluralign.data.sides import read_prompt_and_sides
from pluralign.digests import json_digest
from pluralign.policy.rewards.columns import TEXTS

__all__ = ["read_texts"]

_log = logging.getLogger("pluralign.policy")

_PROBLEMS, _NOTES = "_problems", "_notes"  # temporary columns while the table is read


def read_texts(table: Any, name: str, num_proc: int | None = None) -> Any:
    """The table with its prompts and responses in the package's form.

    Args:
        table: a `datasets.Dataset`; one without the columns of a training table is returned unchanged.
        name: its name in messages.
        num_proc: number of processes.

    Returns:
        A table with the same rows and other columns untouched.

    Raises:
        DataError: rows cannot be read; all are in `.problems`.
    """
    columns = set(table.column_names)
    shapes = [sides for sides in TEXTS.values() if columns >= set(sides)]
    if len(shapes) != 1 or not len(table):
        return table
    (sides,) = shapes
    implicit = "prompt" not in columns
    if implicit and all(_is_text(table, side) for side in sides):
        first = {side: table[0][side] for side in sides}
        if None in first.values() or read_implicit_prompt(first) is None:
            return table  # the end of the prompt is unknown

    def read(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        rows = []
        for place, number in enumerate(numbers):
            problems: list[tuple[str, str, str]] = []
            notes: list[str] = []
            given = {side: batch[side][place] for side in sides}
            prompt = None if implicit else batch["prompt"][place]
            if not implicit and prompt is None:
                problems.append(("prompt", "nothing", "messages {role, content}, or text"))
            texts: dict[str, str] = {}
            if None in given.values():
                problems += [(side, "nothing", "text") for side, text in given.items() if text is None]
            else:
                prompt, texts = read_prompt_and_sides(prompt, given, _Collect(problems), notes.append)
                if implicit and not prompt and not problems:
                    problems.append(("prompt", "nothing", "a prompt, or turns that the sides share"))
            rows.append(
                {
                    "prompt": prompt or [],
                    **{side: texts.get(side, "") for side in sides},
                    _PROBLEMS: json.dumps([number + 1, problems]) if problems else "",
                    _NOTES: notes,
                }
            )
        return {key: [row[key] for row in rows] for key in rows[0]}

    # The name of what is made; datasets would make one of the code of `read` and all that it calls, in .2 s.
    found = table.map(
        read,
        batched=True,
        with_indices=True,
        features=_features(table, sides),
        num_proc=num_proc,
        load_from_cache_file=False,
        new_fingerprint=json_digest([table._fingerprint, "texts", sides, implicit]),
        desc=f"reading {name}",
    )
    problems = []
    for text in found[_PROBLEMS]:
        if text:
            row, several = json.loads(text)
            problems += [Problem(name, row, *problem) for problem in several]
    if problems:
        raise_problems(name, problems)
    notes = Counter(note for several in found[_NOTES] for note in several)
    if notes:
        listed = ", ".join(f"{note} ({count} times)" for note, count in notes.items())
        _log.warning("%s: %s", name, listed)
    return found.remove_columns([_PROBLEMS, _NOTES])


class _Collect:
    """Collects the problems found by `read_prompt_and_sides`."""

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        self._problems = problems

    def __call__(self, column: str, found: str, allowed: str) -> None:
        self._problems.append((column, found, allowed))


def _is_text(table: Any, column: str) -> bool:
    return str(getattr(table.features[column], "dtype", "")) in ("string", "large_string")


def _features(table: Any, sides: tuple[str, ...]) -> Any:
    """Types of the columns; explicit, because they cannot always be inferred from a batch."""
    import datasets

    text = datasets.Value("string")
    features = datasets.Features(table.features)
    features["prompt"] = datasets.List({"role": text, "content": text})
    for column in (*sides, _PROBLEMS):
        features[column] = text
    features[_NOTES] = datasets.List(text)
    return features
