"""The tests of prompts, read from tables in common formats and looked up by the prompt.

In: files with prompts and tests, in the columns `prompt`, `tests`, `entry_point`, `setup` and `prefix`, or as
HumanEval, LeetCodeDataset, MBPP and APPS name them. Out: `ProgramTasks`. Completions on disk and rollouts
have a prompt and no tests, so a `ProgramReward` finds theirs here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from pluralign.data.columns import typed_rows
from pluralign.data.formats import BadRow
from pluralign.data.messages import conversation
from pluralign.data.problems import Problem, preview, raise_problems
from pluralign.data.sources import find_tables, source_name
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.rewards.programs.shapes import Suite, read_tests
from pluralign.policy.sampling.prompt_sets import prompt_of_row
from pluralign.policy.sampling.settings import Prompt, prompt_key

__all__ = ["COLUMNS", "ProgramTasks", "load_tasks"]

_EXTRAS = ("entry_point", "setup", "prefix")
COLUMNS = ("prompt", "tests", *_EXTRAS)
"""Names of the columns of a table of tests."""
# Columns by which a data set is known -> our column: its columns, of which the first that is there counts.
_LAYOUTS: tuple[tuple[frozenset[str], dict[str, tuple[str, ...]]], ...] = (
    (  # LeetCodeDataset
        frozenset({"query", "test", "entry_point"}),
        {"prompt": ("query",), "tests": ("test",), "entry_point": ("entry_point",), "setup": ("prompt",)},
    ),
    (  # HumanEval
        frozenset({"prompt", "test", "entry_point"}),
        {"prompt": ("prompt",), "tests": ("test",), "entry_point": ("entry_point",), "prefix": ("prompt",)},
    ),
    (  # MBPP, whole and sanitized
        frozenset({"test_list"}),
        {
            "prompt": ("prompt", "text"),
            "tests": ("test_list",),
            "setup": ("test_setup_code", "test_imports"),
        },
    ),
    (  # APPS
        frozenset({"question", "input_output"}),
        {"prompt": ("question",), "tests": ("input_output",)},
    ),
)
_STARTER = "starter_code"  # of APPS: whether its function is a method


@final
class ProgramTasks:
    """The tests of prompts.

    Args:
        suites: `prompt_key` -> tests.

    Attributes:
        digest: of all prompts and tests.
    """

    def __init__(self, suites: Mapping[str, Suite]) -> None:
        self._suites = dict(suites)
        content = json.dumps([[key, one.describe()] for key, one in sorted(suites.items())])
        self.digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def __len__(self) -> int:
        return len(self._suites)

    def of(self, prompt: str | Prompt) -> Suite:
        """The tests of a prompt, a text or messages.

        Raises:
            DataError: there are none.
        """
        messages = conversation(prompt, "")[:-1]
        found = self._suites.get(prompt_key(messages))
        if found is None:
            said = messages[-1]["content"] if messages else ""
            raise DataError(
                f"there are no tests for the prompt {preview(said)}; the {len(self):,} tasks are of other "
                "prompts. Prompts are found by their exact messages"
            )
        return found

    def check(self, prompts: Sequence[Prompt], name: str = "prompts") -> None:
        """Whether all prompts have tests.

        Raises:
            DataError: some have none; says how many, and the first.
        """
        missing = [one for one in prompts if prompt_key(one) not in self._suites]
        if missing:
            raise DataError(
                f"{name}: {len(missing):,} of {len(prompts):,} prompts have no tests; the first is "
                f"{preview(str(missing[0][-1]['content']))}. Needed: the same prompts in the tables of tests"
            )


def load_tasks(
    *sources: Any,
    columns: Mapping[str, str | None] | None = None,
    split: str | None = None,
    config: str | None = None,
) -> ProgramTasks:
    """Reads prompts and their tests.

    Args:
        sources: each a file, folder, hub id, data set or rows, as in `load_ratings`. The columns of
            HumanEval, LeetCodeDataset, MBPP and APPS are known.
        columns: our column names (prompt, tests, entry_point, setup, prefix) to the file's; None for none.
        split: split of hub data sets.
        config: configuration of hub data sets.

    Raises:
        ArgumentError: `columns` has other keys, or there is no source.
        DataError: rows without a valid prompt or tests, or two rows with one prompt and different tests; all
            are in `.problems`.
    """
    columns = dict(columns or {})
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown or not sources:
        received = f"the key {unknown[0]!r}" if unknown else "no table"
        raise ArgumentError(f"tasks: received {received}; allowed: tables, and columns {list(COLUMNS)}")
    suites: dict[str, tuple[Suite, str]] = {}
    problems: list[Problem] = []
    for source in sources:
        for place, number, row in _rows(source, columns.get("prompt") or "prompt", split, config, problems):
            before = len(problems)
            names = _names(set(row), columns)
            prompt = prompt_of_row(row, names["prompt"], place, number, problems)
            suite = _suite(row, names, place, number, problems)
            if prompt is None or suite is None or len(problems) > before:
                continue
            first, where = suites.setdefault(prompt_key(prompt), (suite, f"{place}, row {number}"))
            if first != suite:
                allowed = "one set of tests per prompt; tell the prompts apart, or leave a row out"
                found = f"other tests than those of the same prompt in {where}"
                problems.append(Problem(place, number, names["tests"], found, allowed))
    if problems:
        raise_problems(", ".join(map(source_name, sources)), problems)
    return ProgramTasks({key: suite for key, (suite, _) in suites.items()})


def _rows(
    source: Any, prompt: str, split: str | None, config: str | None, problems: list[Problem]
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for table in find_tables(source, split, config):
        for number, row in typed_rows(table, {prompt: "prompt"}):
            if isinstance(row, BadRow):
                problems.append(row.problem)
            else:
                yield table.name, number, row


def _names(have: set[str], columns: Mapping[str, str | None]) -> dict[str, str]:
    """Our columns -> the row's: as given, else as its data set has them, else as we name them."""
    layout = next((names for needed, names in _LAYOUTS if needed <= have), None)
    if layout is None or "tests" in have:
        layout = {name: (name,) for name in COLUMNS}
    found: dict[str, str | None] = {
        ours: next((n for n in theirs if n in have), theirs[0]) for ours, theirs in layout.items()
    }
    found.update(columns)
    return {ours: name for ours, name in found.items() if name is not None}


def _suite(
    row: Mapping[str, Any], names: Mapping[str, str], file: str, number: int, problems: list[Problem]
) -> Suite | None:
    cell = row.get(names["tests"])
    try:
        if cell is None or cell == "":
            there = "" if names["tests"] in row else f"; the columns {sorted(row)} can be mapped to it"
            raise DataError(f"tests: nothing; allowed: the shapes in docs/how-to/programs.md{there}")
        extras = {name: _text(name, row.get(names[name])) for name in _EXTRAS if name in names}
        suite = read_tests(cell, **extras)
        method = "class Solution" in str(row.get(_STARTER) or "")
        if method and suite.candidate is not None and suite.candidate[1].isidentifier():
            suite = read_tests(cell, **extras | {"entry_point": f"Solution().{suite.candidate[1]}"})
    except DataError as error:
        found, _, allowed = str(error).removeprefix("tests: ").partition("; allowed: ")
        problems.append(Problem(file, number, names["tests"], found, allowed or "tests that can be run"))
        return None
    return suite


def _text(name: str, value: Any) -> str | None:
    """The text; lines where a data set has a list of them (MBPP's test_imports)."""
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    if value is None or isinstance(value, str):
        return value
    if name == "prefix" and isinstance(value, Sequence):  # a prompt as messages, which nothing continues
        return None
    raise DataError(f"{name} is {preview(value)}; allowed: text, a list of lines, or nothing")
