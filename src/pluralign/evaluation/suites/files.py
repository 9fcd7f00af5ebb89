"""The scores of a suite's rows in a file: ours, and those that RewardBench's scripts write.

In: `SuiteScores`, or a file. Out: `scores.parquet`, one line per row and rule, or the scores of a file.

    id, subset, group, risk, scores_chosen, scores_rejected, probability, gold, and the suite's own columns

RewardBench's files hold columns in one JSON object: `subset`, `id`, `scores_chosen`, `scores_rejected` (in
version 2 `scores`, right ones first, and `num_correct`), each score a number or a list around it; also as a
list of objects or as JSON Lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pluralign.data.problems import Problem, raise_problems
from pluralign.errors import ArtifactError, DataError
from pluralign.evaluation.columns import Floats
from pluralign.evaluation.suites.catalogue import Suite
from pluralign.evaluation.suites.columns import SuiteScores
from pluralign.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FILE_SCHEMA", "ScoresWriter", "read_scores", "scores_writer"]

FILE_SCHEMA = 1
_META = b"pluralign_suite"
_OWN = ("id", "subset", "group", "risk", "scores_chosen", "scores_rejected", "probability", "gold")


class ScoresWriter:
    """Writes parts as they are scored.

    Args:
        path: where the file is written.
        about: what the file says of itself: suite, model, version.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self._about = dict(about) | {"schema": FILE_SCHEMA}
        self._file: Any = None

    def write(self, scores: SuiteScores) -> None:
        """Appends the rows of a part."""
        import pyarrow.parquet as pq

        for rule in scores.values:
            table = _table(scores, rule)
            if self._file is None:
                meta = {_META: json.dumps(self._about).encode()}
                self._file = pq.ParquetWriter(self._path, table.schema.with_metadata(meta))
            self._file.write_table(table.cast(self._file.schema))

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def scores_writer(path: Path, about: Mapping[str, Any]) -> Iterator[ScoresWriter]:
    """A writer whose file is there whole once the block ends, or not at all.

    Raises:
        ArtifactError: the file cannot be written.
    """
    with whole_file(path) as work:
        writer = ScoresWriter(work, about)
        try:
            yield writer
        finally:
            writer.close()


def _table(scores: SuiteScores, rule: str) -> pa.Table:
    import pyarrow as pa

    right, wrong = scores.sides(rule)
    listed = pa.list_(pa.float64())
    columns = {
        "id": pa.array(scores.ids, pa.string()),
        "subset": pa.array(scores.subsets, pa.string()),
        "group": pa.array(scores.groups, pa.string()),
        "risk": pa.array([rule] * len(scores), pa.string()),
        "scores_chosen": pa.array(right, listed),
        "scores_rejected": pa.array(wrong, listed),
        "probability": pa.array(scores.probability, pa.float64(), from_pandas=True),
    }
    if len(scores.gold):
        gold = np.split(scores.gold, np.cumsum(scores.num_right)[:-1])
        columns["gold"] = pa.array(gold, listed)
    columns |= {name: pa.array(values) for name, values in scores.columns.items()}
    return pa.table(columns)


def read_scores(path: Path, suite: Suite) -> tuple[SuiteScores, dict[str, Any]]:
    """The scores that a file holds, and what it says of itself.

    Args:
        path: a `scores.parquet` of ours, or a JSON or JSON Lines file of RewardBench's scripts.
        suite: whose rows they are.

    Returns:
        Scores, and `suite`, `model`, `schema` ... as far as the file has them. The rule of a foreign file is
        called "score".

    Raises:
        ArtifactError: the file is damaged, or of a newer version.
        DataError: a score is missing or not finite, an id occurs twice, or the suite lacks a subset.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; allowed: a scores.parquet, or a file of RewardBench's scores")
    scores, about = _read_own(path) if path.suffix == ".parquet" else _read_foreign(path)
    _check(scores, suite, path.name)
    return scores, about


def _read_own(path: Path) -> tuple[SuiteScores, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    about: dict[str, Any] = {}
    if stored := (table.schema.metadata or {}).get(_META):
        about = json.loads(stored)
    if about.get("schema", FILE_SCHEMA) != FILE_SCHEMA:
        raise ArtifactError(
            f"{path}: schema is {about['schema']!r}; this version of pluralign reads {FILE_SCHEMA}"
        )
    if missing := [name for name in _OWN[:6] if name not in table.column_names]:
        raise ArtifactError(
            f"{path}: no column {', '.join(missing)}; pass the scores.parquet of an evaluation with --suite"
        )
    parts: dict[str, pa.Table] = {
        rule: table.filter(pc.equal(table["risk"], rule)) for rule in table["risk"].unique().to_pylist()
    }
    first = next(iter(parts.values()))
    if any(part["id"] != first["id"] or part["subset"] != first["subset"] for part in parts.values()):
        raise ArtifactError(f"{path} is damaged: its rules are not about the same rows")
    extra = {name: first[name].to_pylist() for name in table.column_names if name not in _OWN}
    scores = _assembled(
        first["id"].to_pylist(),
        first["subset"].to_pylist(),
        first["group"].to_pylist(),
        {
            rule: [part[side].to_pylist() for side in ("scores_chosen", "scores_rejected")]
            for rule, part in parts.items()
        },
        path.name,
    )
    scores.columns = extra
    if "probability" in table.column_names:
        scores.probability = np.array(first["probability"].to_pylist(), np.float64)
    if "gold" in table.column_names:
        scores.gold = np.array([value for row in first["gold"].to_pylist() for value in row], np.float64)
    return scores, about


def _read_foreign(path: Path) -> tuple[SuiteScores, dict[str, Any]]:
    columns, about = _columns_of(path)
    count = len(columns.get("subset", ()))
    names = [name for name in ("scores_chosen", "scores_rejected", "scores") if name in columns]
    if "subset" not in columns or not (
        {"scores_chosen", "scores_rejected"} <= set(names) or "scores" in names
    ):
        raise DataError(
            f"{path}: columns {sorted(columns)[:12]}; allowed: subset, id and scores_chosen, "
            "scores_rejected, or in version 2 scores and num_correct"
        )
    if wrong := [
        name for name in (*names, "id", "num_correct") if name in columns and len(columns[name]) != count
    ]:
        raise DataError(f"{path}: {wrong[0]} has {len(columns[wrong[0]])} rows, and subset has {count}")
    if "scores" in names:
        correct = [int(one) for one in columns.get("num_correct", [1] * count)]
        listed = [_flat(row) for row in columns["scores"]]
        sides = [[row[:k] for row, k in zip(listed, correct, strict=True)]]
        sides += [[row[k:] for row, k in zip(listed, correct, strict=True)]]
    else:
        sides = [[_flat(row) for row in columns[name]] for name in ("scores_chosen", "scores_rejected")]
    ids = [str(one) for one in columns.get("id", range(1, count + 1))]
    subsets = [str(one) for one in columns["subset"]]
    subsets = ["Ties" if name.lower() == "ties" else name for name in subsets]
    groups = [f"{subset}/{one}" for subset, one in zip(subsets, ids, strict=True)]
    return _assembled(ids, subsets, groups, {"score": sides}, path.name), about


def _columns_of(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Lists by name, and what else the file says."""
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise ArtifactError(f"{path} is not JSON, nor JSON Lines: {error}") from None
    if isinstance(found, Mapping):
        listed = {name: value for name, value in found.items() if isinstance(value, list)}
        return listed, {name: value for name, value in found.items() if name not in listed}
    if not isinstance(found, list) or not found or not all(isinstance(row, Mapping) for row in found):
        raise ArtifactError(f"{path}: found {type(found).__name__}; allowed: an object of columns, or rows")
    names = [name for name in found[0] if all(name in row for row in found)]
    return {name: [row[name] for row in found] for name in names}, {}


def _flat(value: Any) -> list[Any]:
    """Numbers, however many lists they are nested in."""
    if isinstance(value, list):
        return [number for part in value for number in _flat(part)]
    return [value]


def _assembled(
    ids: list[str],
    subsets: list[str],
    groups: list[str],
    sides: Mapping[str, Sequence[Sequence[Sequence[Any]]]],
    name: str,
) -> SuiteScores:
    """Flat columns of the scores of each rule.

    Raises:
        DataError: a score is not a finite number.
    """
    problems: list[Problem] = []
    values: dict[str, Floats] = {}
    sizes: list[Any] = []
    for rule, (right, wrong) in sides.items():
        flat: list[float] = []
        for row, (a, b) in enumerate(zip(right, wrong, strict=True), 1):
            for number in (*a, *b):
                good = (
                    isinstance(number, int | float) and not isinstance(number, bool) and np.isfinite(number)
                )
                if not good:
                    problems.append(Problem(name, row, None, f"the score {number!r}", "a finite number"))
                flat.append(float(number) if good else 0.0)
        values[rule] = np.array(flat)
        sizes = [np.array([len(one) for one in side], np.int64) for side in (right, wrong)]
    if problems:
        raise_problems(name, problems)
    nan = np.full(len(ids), np.nan)
    return SuiteScores(ids, subsets, groups, sizes[0], sizes[1], values, nan)


def _check(scores: SuiteScores, suite: Suite, name: str) -> None:
    problems: list[Problem] = []
    first: dict[tuple[str, str], int] = {}
    for row, (subset, one) in enumerate(zip(scores.subsets, scores.ids, strict=True), 1):
        if allowed := suite.problem_of(subset):
            problems.append(Problem(name, row, "subset", repr(subset), allowed))
        if (subset, one) in first:
            found = f"{one!r} again (first in row {first[subset, one]})"
            problems.append(Problem(name, row, "id", found, "an id once per subset"))
        first.setdefault((subset, one), row)
        if not scores.num_right[row - 1] or (not scores.num_wrong[row - 1] and not len(scores.gold)):
            problems.append(Problem(name, row, None, "a side without scores", "at least one on each side"))
    if problems:
        raise_problems(name, problems)
