"""The rows of a suite, a part at a time, so that a file of any length takes the same memory.

In: a file, folder, hub id or rows, and a suite. Out: `Items`: checked prompts with their right and wrong
responses. Texts are checked by the loaders of `data`, like all other data; here, that no side is empty, that
no id occurs twice in a subset, and that the suite has the subset. All problems of a part are
reported at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralign.data.problems import BadRow, Problem, raise_problems
from pluralign.data.quarantine import RefusedRow
from pluralign.data.selecting import Selection
from pluralign.data.sources import find_tables, source_name
from pluralign.data.tables import read_table
from pluralign.errors import DataError
from pluralign.evaluation.suites.catalogue import Suite
from pluralign.evaluation.suites.layouts import RawItem

__all__ = ["Items", "read_items"]

_RESPONSES_AT_ONCE = 4096
_AS_GIVEN = {
    "response_a": "chosen",
    "response_b": "rejected",
    "response_a/response_b": "chosen/rejected",
}


@dataclass(frozen=True)
class Items:
    """Some rows of a suite.

    Attributes:
        ids: [N].
        subsets: [N].
        groups: [N]; a missing one is a hash of the prompt.
        prompts: [N] message lists.
        right: [N] texts of the right responses.
        wrong: [N] texts of the wrong ones.
        columns: what the formula needs beside rewards, by name [N].
        gold: true rewards of the right responses, row after row.
    """

    ids: list[str]
    subsets: list[str]
    groups: list[str]
    prompts: list[list[dict[str, str]]]
    right: list[list[str]]
    wrong: list[list[str]]
    columns: dict[str, list[Any]]
    gold: list[float]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _Row:
    """A row that is waiting for its part to be checked."""

    file: str
    number: int
    item: RawItem
    group: str | None


def read_items(
    source: Any,
    suite: Suite,
    *,
    split: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    refused: list[RefusedRow] | None = None,
) -> Iterator[Items]:
    """The rows of a source, some thousand responses at a time.

    Args:
        source: as in `load_pairs`.
        suite: which one.
        split: split of a hub data set; its name is the subset of rows that name none.
        columns: name in the suite's own layout -> the file's name.
        where: column -> value that a row must have.
        refused: where bad rows go; None to raise an error for them.

    Raises:
        DataError: rows are malformed, an id occurs twice in a subset, a side is empty, or the suite has no
            such subset.
        ArgumentError: an argument is invalid.
    """
    name, selection = source_name(source), Selection(where or {})
    waiting: list[_Row] = []
    problems: list[Problem] = []
    raws: dict[tuple[str, int | None], Any] = {}
    first: dict[tuple[str, str], tuple[str, int]] = {}
    count = total = 0
    for table in find_tables(source, split):
        for number, raw in table.rows():
            if refused is not None:
                raws[table.name, number] = raw.raw if isinstance(raw, BadRow) else raw
            if isinstance(raw, BadRow):
                problems.append(raw.problem)
                continue
            row = _mapped(raw, columns or {}, table.name, number, problems)
            if row is None or not selection.takes(row):
                continue
            found = _read(row, suite, split, table.name, number, problems)
            if found is None:
                continue
            waiting.append(found)
            total += 1
            _refuse_repeated(found, first, problems)
            count += len(found.item.right) + len(found.item.wrong)
            if count >= _RESPONSES_AT_ONCE:
                yield from _checked(name, waiting, problems, refused, raws)
                waiting, count = [], 0
    if problems or waiting:
        yield from _checked(name, waiting, problems, refused, raws)
    elif not total:
        seen = f"; {selection}" if where else ""
        raise DataError(f"{name}: no row is left{f' by where={dict(where)}' if where else ''}{seen}")


def _mapped(
    raw: Mapping[str, Any],
    names: Mapping[str, str | None],
    file: str,
    number: int,
    problems: list[Problem],
) -> dict[str, Any] | None:
    row = dict(raw)
    for name, of_file in names.items():
        if of_file is None:
            row.pop(name, None)
        elif of_file in raw:
            row[name] = raw[of_file]
        else:
            allowed = f"for columns=, one of {sorted(raw)}"
            problems.append(Problem(file, number, of_file, "no such column", allowed))
            return None
    return row


def _read(
    row: Mapping[str, Any], suite: Suite, split: str | None, file: str, number: int, problems: list[Problem]
) -> _Row | None:
    before = len(problems)

    def complain(column: str | None, found: str, allowed: str) -> None:
        problems.append(Problem(file, number, column, found, allowed))

    item = suite.reader(row, complain)
    if item is None:
        return None
    if not item.subset and split is not None:
        item = RawItem(item.prompt, item.right, item.wrong, split, item.id, item.columns, item.gold)
    if allowed := suite.problem_of(item.subset):
        complain("subset", f"{item.subset!r}, which {suite.title} does not have", allowed)
    group = row.get("group")
    return None if len(problems) > before else _Row(file, number, item, None if group is None else str(group))


def _refuse_repeated(
    row: _Row, first: dict[tuple[str, str], tuple[str, int]], problems: list[Problem]
) -> None:
    if row.item.id is None:
        return
    key = (row.item.subset, row.item.id)
    if key in first:
        found = f"{row.item.id!r} again (first in {first[key][0]}, row {first[key][1]})"
        problems.append(Problem(row.file, row.number, "id", found, "an id once per subset"))
    else:
        first[key] = (row.file, row.number)


def _checked(
    name: str,
    rows: Sequence[_Row],
    problems: list[Problem],
    refused: list[RefusedRow] | None,
    raws: dict[tuple[str, int | None], Any],
) -> Iterator[Items]:
    """The rows of a part whose texts are as they should be; nothing where none is left.

    Raises:
        DataError: there are problems, and nowhere to put bad rows.
    """
    found = _read_texts(name, rows, problems)
    if problems:
        if refused is None or any(problem.row is None for problem in problems):
            raise_problems(name, problems)
        bad: dict[tuple[str, int | None], list[Problem]] = {}
        for problem in problems:
            bad.setdefault((problem.file, problem.row), []).append(problem)
        refused += [RefusedRow(file, row or 0, raws[file, row], of) for (file, row), of in bad.items()]
        problems.clear()
        rows = [row for row in rows if (row.file, row.number) not in bad]
        found = _read_texts(name, rows, problems)
    raws.clear()
    if rows:
        yield _items(rows, found)


def _read_texts(
    name: str, rows: Sequence[_Row], problems: list[Problem]
) -> dict[int, tuple[list[dict[str, str]], list[str], str]]:
    """The texts of a part, checked as two sides or as lists of responses."""
    paired = [len(row.item.right) == len(row.item.wrong) == 1 for row in rows]
    found: dict[int, tuple[list[dict[str, str]], list[str], str]] = {}
    for shape, places in (
        ("comparisons", [i for i, pair in enumerate(paired) if pair]),
        ("responses", [i for i, pair in enumerate(paired) if not pair]),
    ):
        if places:
            found |= _texts_of(name, shape, [rows[i] for i in places], places, problems)
    return found


def _items(rows: Sequence[_Row], found: Mapping[int, tuple[list[dict[str, str]], list[str], str]]) -> Items:
    items = [row.item for row in rows]
    order = range(len(rows))
    extra = {key for item in items for key in item.columns}
    columns: dict[str, list[Any]] = {key: [item.columns.get(key) for item in items] for key in sorted(extra)}
    if any(item.gold for item in items):
        columns["prompt"] = [f"{items[i].subset}/{_prompt_digest(found[i][0])}" for i in order]
    return Items(
        [
            item.id if item.id is not None else f"{row.file}:{row.number}"
            for item, row in zip(items, rows, strict=True)
        ],
        [item.subset for item in items],
        [row.group if row.group is not None else found[i][2] for i, row in enumerate(rows)],
        [found[i][0] for i in order],
        [found[i][1][: len(items[i].right)] for i in order],
        [found[i][1][len(items[i].right) :] for i in order],
        columns,
        [reward for item in items for reward in item.gold],
    )


def _texts_of(
    name: str, shape: Any, rows: Sequence[_Row], places: Sequence[int], problems: list[Problem]
) -> dict[int, tuple[list[dict[str, str]], list[str], str]]:
    """Prompt, responses and group of each row; problems are told with the rows of the file."""
    flat: list[dict[str, Any]] = []
    owners: list[int] = []
    for owner, row in enumerate(rows):
        responses = [*row.item.right, *row.item.wrong]
        if shape == "comparisons":  # which, unlike pairs, may have two equal sides: a tie for everybody
            sides = {"response_a": responses[0], "response_b": responses[1]}
            flat.append({"prompt": row.item.prompt, **sides, "votes": [1]})
            owners.append(owner)
            continue
        for text in responses:
            flat.append({"prompt": row.item.prompt, "response": text})
            owners.append(owner)
    for line in flat:
        if line["prompt"] is None:
            del line["prompt"]
    blank = {"prompt": None} if all("prompt" not in line for line in flat) and shape == "responses" else None
    try:
        table, _ = read_table(flat, shape, columns=blank)
    except DataError as error:
        found = [one for one in error.problems if isinstance(one, Problem)]
        for problem in found or [Problem(name, None, None, str(error), "rows as documented")]:
            if problem.row is not None:
                given = rows[owners[problem.row - 1]]
                column = _AS_GIVEN.get(problem.column or "", problem.column)
                problem = Problem(given.file, given.number, column, problem.found, problem.allowed)
            problems.append(problem)
        return {}
    whole = table[:]
    texts: dict[int, tuple[list[dict[str, str]], list[str], str]] = {}
    for number, owner in enumerate(owners):
        prompt, group = whole["prompt"][number], whole["group"][number]
        columns = ("response_a", "response_b") if shape == "comparisons" else ("response",)
        _, listed, _ = texts.setdefault(places[owner], (prompt, [], group))
        listed += [whole[column][number] for column in columns]
    for place, row in zip(places, rows, strict=True):
        right = len(row.item.right)
        for side, text in enumerate(texts[place][1]):
            if not text.strip():
                column = "chosen" if side < right else "rejected"
                problems.append(Problem(row.file, row.number, column, "an empty text", "the response's text"))
    return texts


def _prompt_digest(prompt: Sequence[Mapping[str, str]]) -> str:
    spelled = json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(spelled.encode(), digest_size=8).hexdigest()
