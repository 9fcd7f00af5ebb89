"""Imports completions of other programs into a folder of the reference stage.

In: files of another program (a batch job on GPUs, a published data set). Out: the same shards as from
`stage`, with every row checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pluralign.data.columns import typed_rows
from pluralign.data.formats import BadRow
from pluralign.data.messages import is_unicode
from pluralign.data.numbers import is_finite_number
from pluralign.data.problems import Problem, preview, raise_problems
from pluralign.data.sides import read_prompt_and_sides
from pluralign.data.sources import find_tables, source_name
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.sampling.settings import Prompt, prompt_key
from pluralign.policy.sampling.shards import ShardFolder
from pluralign.policy.sampling.stage import CompletionRow, sample_columns, sample_schema

__all__ = ["import_samples"]

_MOST_TOKENS = 2**31 - 1  # the maximum of the column's type
_COLUMNS = ("prompt", "completion", "completions", "num_tokens", "cut_off", "reward")


def import_samples(
    source: Any,
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    note: Mapping[str, Any] | None = None,
    prompts_per_shard: int = 64,
) -> Path:
    """Checks completions of another program and stores them as a folder of the reference stage.

    There is one row per completion {prompt, completion}, with `num_tokens`, `cut_off` and `reward` if they
    are known, or one per prompt {prompt, completions: [text, ...]} with lists of these. Rows of one prompt
    need not be adjacent.

    Args:
        source: path, folder, hub id, data set or rows, as in `load_ratings`.
        path: the output folder.
        columns: canonical column name -> the file's name.
        split: split of a hub data set.
        note: how they were made (model, temperature ...), stored in the manifest; JSON types.
        prompts_per_shard: maximum number of prompts that are lost if computing rewards is interrupted.

    Returns:
        The folder.

    Raises:
        ArgumentError: an unknown column, or prompts_per_shard is less than 1.
        DataError: rows are invalid; all problems are in `.problems`.
        RunError: the folder has other content.
    """
    names = dict(columns or {})
    if unknown := set(names) - set(_COLUMNS):
        raise ArgumentError(
            f"columns: {', '.join(sorted(unknown))} is not a column of samples; "
            f"allowed: {', '.join(_COLUMNS)}"
        )
    if prompts_per_shard < 1:
        raise ArgumentError(f"prompts_per_shard must be at least 1, received {prompts_per_shard}")
    problems: list[Problem] = []
    groups: dict[str, tuple[Prompt, list[CompletionRow]]] = {}
    for table in find_tables(source, split):
        for number, raw in typed_rows(table, {theirs: ours for ours, theirs in names.items()}):
            if isinstance(raw, BadRow):
                problems.append(raw.problem)
                continue
            row = {ours: raw.get(names.get(ours, ours)) for ours in _COLUMNS}
            reader = _ForeignRow(table.name, number, row, names, raw)
            completions = list(reader.completions())
            problems += reader.problems
            if reader.prompt and not reader.problems:
                groups.setdefault(prompt_key(reader.prompt), (reader.prompt, []))[1].extend(completions)
    if problems:
        raise_problems(source_name(source), problems)
    if not groups:
        raise DataError(f"{source_name(source)}: received no rows; at least one is needed")
    digest = hashlib.sha256(json.dumps(sorted((k, rows) for k, (_, rows) in groups.items())).encode())
    description = {"stage": "samples", "imported": dict(note or {}), "digest": digest.hexdigest()}
    found = list(groups.values())
    starts = range(0, len(found), prompts_per_shard)
    folder = ShardFolder(path, description, len(starts), sample_schema())
    for number in folder.missing():
        part = found[starts[number] : starts[number] + prompts_per_shard]
        folder.write(number, sample_columns([prompt for prompt, _ in part], [rows for _, rows in part]))
    return folder.path


class _ForeignRow:
    """Reads one row of another program's samples, and collects its problems."""

    def __init__(
        self, file: str, number: int, row: Mapping[str, Any], names: Mapping[str, str], raw: Mapping[str, Any]
    ) -> None:
        self.problems: list[Problem] = []
        self._place = (file, number)
        self._row = row
        self._names, self._raw = names, raw
        self.prompt, _ = read_prompt_and_sides(row["prompt"], {}, self._complain, lambda _: None)
        if not self.prompt and not self.problems:
            self._complain("prompt", "nothing", "text, or a list of messages")

    def completions(self) -> Iterator[CompletionRow]:
        """Its valid completions."""
        if self._row["completions"] is None and self._row["completion"] is None:
            there = ", ".join(map(repr, self._raw))
            self._complain(
                "completion", "nothing", f"text; of the columns {there} another may be mapped to it"
            )
            return
        many = self._row["completions"] is not None
        if many and self._row["completion"] is not None:
            self._complain("completions", "also a completion", "either completion or completions")
            return
        texts = self._row["completions"] if many else [self._row["completion"]]
        if not isinstance(texts, list) or not texts:
            self._complain("completions", preview(texts), "a list of at least one text")
            return
        beside = [self._beside(column, len(texts), many) for column in ("num_tokens", "cut_off", "reward")]
        for text, count, cut, reward in zip(texts, *beside, strict=True):
            column = "completions" if many else "completion"
            if not isinstance(text, str):
                self._complain(column, preview(text), "text")
            elif not is_unicode(column, text, self._complain):
                continue
            elif count is not None and not _is_count(count):
                self._complain("num_tokens", preview(count), "a whole number of tokens, or null")
            elif cut is not None and not isinstance(cut, bool):
                self._complain("cut_off", preview(cut), "true, false or null")
            elif reward is not None and not is_finite_number(reward):
                self._complain("reward", preview(reward), "a finite number, or null")
            else:
                yield text, None if count is None else int(count), cut, reward

    def _beside(self, column: str, length: int, many: bool) -> list[Any]:
        value = self._row[column]
        if value is None:
            return [None] * length
        values = value if many else [value]
        if not isinstance(values, list) or len(values) != length:
            self._complain(column, preview(value), f"a list with one entry per completion ({length})")
            return [None] * length
        return values

    def _complain(self, column: str, found: str, allowed: str) -> None:
        self.problems.append(Problem(*self._place, self._names.get(column, column), found, allowed))


def _is_count(value: Any) -> bool:
    """Whether the value is a whole number of tokens; files with missing values have 3.0 for 3."""
    return is_finite_number(value) and value == int(value) and 0 <= value <= _MOST_TOKENS
