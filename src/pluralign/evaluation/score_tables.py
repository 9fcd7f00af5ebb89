"""Values per row with the keys of the rows: from the folder of an evaluation, or a file of scores.

In: a folder with `results.json` and `scores.parquet`, or a file with a column of scores. Out: measures, each
read when it is asked for. It compares nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.evaluation.columns import Floats
from pluralign.evaluation.files import scores_table
from pluralign.evaluation.results import SCHEMA, Results
from pluralign.evaluation.suites.columns import LENGTH
from pluralign.evaluation.three_way import OUTCOMES, three_way_brier, three_way_log_loss

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Keyed", "Measure", "measures_of", "score_file"]

_SCORES = ("utility", "score", "reward", "value")  # columns of a file of scores, the first that is there
_LOSSES = ("crps", "pinball", "crps_on_grid", "pinball_on_grid", "quantile_error")
_UNIT = (0.0, 1.0)
_VOTES = {"log_loss": three_way_log_loss, "brier": three_way_brier}


@dataclass(frozen=True)
class Keyed:
    """Values of rows that can be told apart.

    Attributes:
        keys: [N], no two alike.
        groups: [N] names.
        values: [N], NaN where there is none.
        own_groups: whether the groups were given; otherwise each row is one.
    """

    keys: Sequence[Any]
    groups: Sequence[str]
    values: Floats
    own_groups: bool = True


@dataclass(frozen=True)
class Measure:
    """One measure of an evaluation.

    Attributes:
        better: "higher" or "lower".
        digest: of the rows; None where none is stored.
        read: reads the rows.
        bounds: the lowest and highest value there can be; None where there are no such.
    """

    better: str
    digest: str | None
    read: Callable[[], Keyed]
    bounds: tuple[float, float] | None = None


def measures_of(name: str, given: Any) -> dict[str, Measure]:
    """The measures of an evaluation, accuracy first.

    Args:
        name: of the system, for messages.
        given: the folder of an evaluation, or what `evaluate` returned.

    Raises:
        ArgumentError: it is not a finished evaluation, or has no scores per row.
        ArtifactError: a file is damaged.
    """
    if isinstance(given, Results):
        digests, table = given.get("row_digests", {}), scores_table(given.tables)
    elif isinstance(given, Mapping):
        raise ArgumentError(
            f"{name}: received results without the scores of each row, and means alone cannot be paired; "
            "pass what evaluate(...) returned, the folder that evaluate(..., out=FOLDER) wrote, or a column "
            "of values"
        )
    else:
        digests, table = _stored(name, Path(given))
    if "scores_chosen" in table.column_names:
        return _of_suite(table)
    kinds = list(dict.fromkeys(table["table"].to_pylist()))
    pairs = [kind for kind in ("pairs", "votes", "pairs_from_ratings") if kind in kinds]
    found: dict[str, Measure] = {}
    for kind in pairs:
        digest = digests.get("ratings" if kind == "pairs_from_ratings" else kind)
        found[f"{kind}.accuracy"] = Measure("higher", digest, partial(_read, table, kind, _accuracy), _UNIT)
    if "vote_shares" in kinds:
        for loss in _VOTES:
            read = partial(_read, table, "vote_shares", partial(_vote_loss, loss))
            found[f"vote_shares.{loss}"] = Measure("lower", digests.get("votes"), read)
    if "ratings" in kinds:
        for loss in _LOSSES:
            if f"model_{loss}" in table.column_names and table[f"model_{loss}"].null_count < len(table):
                read = partial(_read, table, "ratings", partial(_rating_loss, loss))
                found[f"ratings.{loss}"] = Measure("lower", digests.get("ratings"), read)
    for kind in pairs:
        digest = digests.get("ratings" if kind == "pairs_from_ratings" else kind)
        found[f"{kind}.brier"] = Measure("lower", digest, partial(_read, table, kind, _brier), _UNIT)
    return found


def _stored(name: str, folder: Path) -> tuple[dict[str, str], pa.Table]:
    """The digests and the scores of a folder."""
    results_file, scores_file = folder / "results.json", folder / "scores.parquet"
    for file in (results_file, scores_file):
        if not file.is_file():
            raise ArgumentError(
                f"{name}: {folder} has no {file.name}; pass the folder of a finished `pluralign evaluate`"
            )
    try:
        results = json.loads(results_file.read_text(encoding="utf-8"))
        digests, found = dict(results.get("row_digests", {})), results.get("schema", SCHEMA)
    except (ValueError, TypeError, AttributeError):
        raise ArtifactError(f"{results_file} is damaged; evaluate again") from None
    if found != SCHEMA:
        raise ArtifactError(f"{results_file}: schema is {found!r}; this version of pluralign reads {SCHEMA}")
    return digests, _table(scores_file)


def _table(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
    needed = ("id", "group", "risk" if "scores_chosen" in table.column_names else "table")
    if missing := [name for name in needed if name not in table.column_names]:
        raise ArtifactError(f"{file}: the column {missing[0]} is missing; evaluate again")
    return table


def _of_suite(table: pa.Table) -> dict[str, Measure]:
    """Of a published suite, per risk measure: whether every right response scores above every wrong one."""
    import pyarrow.compute as pc

    def read(rule: str) -> Keyed:
        rows = table.filter(pc.equal(table["risk"], rule))
        sides = (rows["scores_chosen"].to_pylist(), rows["scores_rejected"].to_pylist())
        won = [float(min(right) > max(wrong)) for right, wrong in zip(*sides, strict=True)]
        keys = _numbered(zip(rows["subset"].to_pylist(), rows["id"].to_pylist(), strict=True))
        return Keyed(keys, rows["group"].to_pylist(), np.array(won))

    rules = [rule for rule in dict.fromkeys(table["risk"].to_pylist()) if rule != LENGTH]
    return {f"{rule}.accuracy": Measure("higher", None, partial(read, rule), _UNIT) for rule in rules}


def _read(table: pa.Table, kind: str, value: Callable[[pa.Table], Floats]) -> Keyed:
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["table"], kind))
    values = value(rows)
    names = [name for name in ("id", "attribute") if name in rows.column_names]
    keys = _numbered(zip(*(rows[name].to_pylist() for name in names), strict=True))
    return Keyed(keys, rows["group"].to_pylist(), values)


def _numbers(rows: pa.Table, name: str) -> Floats:
    if name not in rows.column_names:
        raise ArtifactError(f"scores.parquet: the column {name} is missing; evaluate again")
    return np.array(rows[name].to_pylist(), np.float64)  # None becomes NaN


def _accuracy(rows: pa.Table) -> Floats:
    """1 where the model wins; NaN where people tied."""
    won = (_numbers(rows, "model_outcome") > 0).astype(np.float64)
    return np.where(_share(rows) > 0.5, won, np.nan)


def _brier(rows: pa.Table) -> Floats:
    return np.square(_numbers(rows, "probability") - _share(rows))


def _share(rows: pa.Table) -> Floats:
    """The share of votes for the chosen side; 1 where there are no votes."""
    if "vote_share" not in rows.column_names:
        return np.ones(len(rows))
    share = _numbers(rows, "vote_share")
    return np.where(np.isnan(share), 1.0, share)


def _rating_loss(loss: str, rows: pa.Table) -> Floats:
    """The loss of each row; as a share of its scale where there are several attributes."""
    values = _numbers(rows, f"model_{loss}")
    several = len(set(rows["attribute"].to_pylist())) > 1
    return values / _numbers(rows, "span") if several else values


def _vote_loss(loss: str, rows: pa.Table) -> Floats:
    probs, observed = (
        np.stack([_numbers(rows, f"{name}_{outcome}") for outcome in OUTCOMES], 1)
        for name in ("model", "observed")
    )
    found = np.asarray(_VOTES[loss](probs, observed), np.float64)
    if np.isinf(found).any():
        raise ArgumentError(
            f"the {loss} of {int(np.isinf(found).sum())} rows is infinite, as a probability is 0; compare by "
            "vote_shares.brier"
        )
    return found


def score_file(path: Path) -> Keyed:
    """The scores of a file, of any format that data may have.

    Raises:
        ArgumentError: a row has no score, or no column has scores.
        DataError: the file is damaged.
    """
    from pluralign.data.formats import BadRow
    from pluralign.data.sources import find_tables

    rows: list[Mapping[str, Any]] = []
    for table in find_tables(path):
        for number, row in table.rows():
            if isinstance(row, BadRow):
                raise ArgumentError(f"{path}, row {number} is not a record: {row}")
            rows.append(row)
    column = next((name for name in _SCORES if name in rows[0]), None)
    if column is None:
        raise ArgumentError(
            f"{path} has no column of scores; received {', '.join(map(str, rows[0]))}; allowed: one named "
            f"{', '.join(_SCORES)}"
        )
    values = np.array([_score(path, number, row.get(column), column) for number, row in enumerate(rows, 1)])
    own = "group" if "group" in rows[0] else "prompt" if "prompt" in rows[0] else None
    ids = [row.get("id", number) for number, row in enumerate(rows)]
    keys = _numbered((str(one),) for one in ids)
    groups = [str(row.get(own)) for row in rows] if own else [str(key) for key in keys]
    return Keyed(keys, groups, values, own is not None)


def _score(path: Path, number: int, given: Any, column: str) -> float:
    if given is None or given == "":
        return np.nan
    try:
        score = as_finite(float(given))
    except (TypeError, ValueError):
        score = np.nan
    if np.isnan(score):
        raise ArgumentError(f"{path}, row {number}: {column} is {given!r}; allowed: a finite number, or none")
    return score


def _numbered(keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The keys, with how often each was seen before: rows that share an id stay apart, in their order."""
    seen: dict[tuple[Any, ...], int] = {}
    found = []
    for key in keys:
        seen[key] = times = seen.get(key, -1) + 1
        found.append((*key, times))
    return found
