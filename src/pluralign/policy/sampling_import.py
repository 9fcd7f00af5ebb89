"""Completions that were made elsewhere -> a folder of the reference stage.

In: files of another program (a batch job on GPUs, a published set). Out: the shards that `sampling_stage`
would have made, every row checked. It knows nothing about models or rewards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pluralign.data.formats import BadRow
from pluralign.data.messages import read_prompt_and_sides
from pluralign.data.problems import Problem, preview, raise_problems
from pluralign.data.sources import find_tables, source_name
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.columns import is_finite_number
from pluralign.policy.sampling import Prompt, prompt_key
from pluralign.policy.sampling_stage import Told, sample_columns, sample_schema
from pluralign.policy.shards import ShardFolder

__all__ = ["import_samples"]

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
    """Checks completions that were made elsewhere and stores them as a folder of this stage.

    Rows are one per completion {prompt, completion}, with `num_tokens`, `cut_off` and `reward` where they are
    known, or one per prompt {prompt, completions: [text, ...]} with lists of these. Rows of one prompt need
    not stand together.

    Args:
        source: path, folder, hub id, data set or rows; see `load_ratings`.
        path: the folder to write.
        columns: our column names to the file's.
        split: which split of a hub set.
        note: what made them (model, temperature ...), kept in the manifest; JSON-able.
        prompts_per_shard: how much an interruption of the rewarding can lose.

    Returns:
        The folder.

    Raises:
        ArgumentError: an unknown column, or prompts_per_shard is less than 1.
        DataError: rows are illegal; each problem in `.problems`.
        RunError: the folder holds something else.
    """
    names = dict(columns or {})
    if unknown := set(names) - set(_COLUMNS):
        raise ArgumentError(
            f"columns: {', '.join(sorted(unknown))} is no column of samples; allowed: {', '.join(_COLUMNS)}"
        )
    if prompts_per_shard < 1:
        raise ArgumentError(f"prompts_per_shard must be at least 1, received {prompts_per_shard}")
    problems: list[Problem] = []
    groups: dict[str, tuple[Prompt, list[Told]]] = {}
    for table in find_tables(source, split):
        for number, raw in table.rows():
            if isinstance(raw, BadRow):
                problems.append(raw.problem)
                continue
            row = {ours: raw.get(names.get(ours, ours)) for ours in _COLUMNS}
            reader = _ForeignRow(table.name, number, row)
            told = list(reader.completions())
            problems += reader.problems
            if reader.prompt and not reader.problems:
                groups.setdefault(prompt_key(reader.prompt), (reader.prompt, []))[1].extend(told)
    if problems:
        raise_problems(source_name(source), problems)
    if not groups:
        raise DataError(f"{source_name(source)}: received no rows; at least one is needed")
    digest = hashlib.sha256(json.dumps(sorted((key, told) for key, (_, told) in groups.items())).encode())
    description = {"stage": "samples", "imported": dict(note or {}), "digest": digest.hexdigest()}
    found = list(groups.values())
    starts = range(0, len(found), prompts_per_shard)
    folder = ShardFolder(path, description, len(starts), sample_schema())
    for number in folder.missing():
        part = found[starts[number] : starts[number] + prompts_per_shard]
        folder.write(number, sample_columns([prompt for prompt, _ in part], [told for _, told in part]))
    return folder.path


class _ForeignRow:
    """Reads one row of samples made elsewhere, collecting what is wrong with it."""

    def __init__(self, file: str, number: int, row: Mapping[str, Any]) -> None:
        self.problems: list[Problem] = []
        self._place = (file, number)
        self._row = row
        self.prompt, _ = read_prompt_and_sides(row["prompt"], {}, self._complain, lambda _: None)
        if not self.prompt and not self.problems:
            self._complain("prompt", "nothing", "text, or a list of messages")

    def completions(self) -> Iterator[Told]:
        """Its legal completions."""
        many = self._row["completions"] is not None
        texts = self._row["completions"] if many else [self._row["completion"]]
        if not isinstance(texts, list) or not texts:
            self._complain("completions", preview(texts), "a list of at least one text")
            return
        beside = [self._beside(column, len(texts), many) for column in ("num_tokens", "cut_off", "reward")]
        for text, count, cut, reward in zip(texts, *beside, strict=True):
            if not isinstance(text, str):
                self._complain("completions" if many else "completion", preview(text), "text")
            elif count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
                self._complain("num_tokens", preview(count), "a whole number of tokens, or null")
            elif cut is not None and not isinstance(cut, bool):
                self._complain("cut_off", preview(cut), "true, false or null")
            elif reward is not None and not is_finite_number(reward):
                self._complain("reward", preview(reward), "a finite number, or null")
            else:
                yield text, count, cut, reward

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
        self.problems.append(Problem(*self._place, column, found, allowed))
