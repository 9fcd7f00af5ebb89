"""Prompts for sampling: from any file with prompts to distinct prompts, in order.

In: a path, folder, hub id, data set or rows. Out: message lists. Rows can have other columns, as ratings,
pairs and TRL's shapes do, and the common beginning of two conversations is their prompt. Each distinct prompt
is sampled once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pluralign.data.columns import typed_rows
from pluralign.data.formats import BadRow
from pluralign.data.problems import Problem, raise_problems
from pluralign.data.records import SIDES
from pluralign.data.sides import read_prompt_and_sides
from pluralign.data.sources import find_tables, source_name
from pluralign.policy.sampling.settings import Prompt, prompt_key

__all__ = ["PromptSet", "load_prompts", "prompt_of_row"]

_SIDES = tuple({"completion", *(side for sides in SIDES.values() for side in sides)})


@dataclass(frozen=True)
class PromptSet:
    """Distinct prompts.

    Attributes:
        prompts: message lists, in the order of their first appearance.
        rows: number of rows that were read.
    """

    prompts: tuple[Prompt, ...]
    rows: int


def load_prompts(
    source: Any,
    *,
    columns: Mapping[str, str | None] | None = None,
    split: str | None = None,
    config: str | None = None,
    limit: int | None = None,
) -> PromptSet:
    """Reads the prompts of a source.

    Args:
        source: as in `load_ratings`.
        columns: {"prompt": name in the file}, for example {"prompt": "instruction"}.
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        limit: stop after this many distinct prompts.

    Raises:
        DataError: rows without a valid prompt; all are in `.problems`.
    """
    name = (columns or {}).get("prompt") or "prompt"
    found: dict[str, Prompt] = {}
    problems: list[Problem] = []
    rows = 0
    for table in find_tables(source, split, config):
        for number, row in typed_rows(table, {name: "prompt"}):
            if limit is not None and len(found) >= limit:
                break
            rows += 1
            if isinstance(row, BadRow):
                problems.append(row.problem)
                continue

            prompt = prompt_of_row(row, name, table.name, number, problems)
            if prompt:
                found.setdefault(prompt_key(prompt), prompt)
    if problems:
        raise_problems(source_name(source), problems)
    return PromptSet(tuple(found.values()), rows)


def prompt_of_row(
    row: Mapping[str, Any], name: str, file: str, number: int, problems: list[Problem]
) -> Prompt | None:
    """The prompt of a row that may have other columns, as messages.

    Args:
        row: of any table with prompts.
        name: the file's name for the prompt.
        file: name of the file, for problems.
        number: number of the row, for problems.
        problems: where problems are added; then there is no prompt.
    """

    def complain(column: str, what: str, allowed: str) -> None:
        problems.append(Problem(file, number, name if column == "prompt" else column, what, allowed))

    before = len(problems)
    given = {side: row[side] for side in _SIDES if isinstance(row.get(side), list)}
    prompt, _ = read_prompt_and_sides(row.get(name), given, complain, lambda _: None)
    if not prompt and len(problems) == before:
        there = "" if name in row else f"; the columns {sorted(row)} can be mapped to it"
        complain("prompt", "nothing", f"text, or a list of messages{there}")
    return prompt or None
