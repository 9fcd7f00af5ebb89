"""`pluralign score`: one utility per response, in the order of the file.

With `--engine`, rows go through shards on disk (`score_shards`): any number of them, on any number of
machines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pluralign.cli.console import Console, shown
from pluralign.cli.engine_flags import RayFlags
from pluralign.cli.engine_runs import check_workers
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.score_flags import ScoreFlags
from pluralign.cli.score_shards import score_shards
from pluralign.cli.score_summary import UtilitySummary
from pluralign.cli.scorers import check_combination, load_scorer

__all__ = ["run"]


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, scores and writes."""
    flags, ray = parse("score", ScoreFlags.__doc__ or "", arguments, ScoreFlags, RayFlags)
    check_workers(flags.engine, ray)
    if flags.json and flags.out is None:
        raise UsageError("--json prints a summary, so the scores need a file: pass one with --out")
    if flags.engine is None and flags.rows_per_shard != ScoreFlags.rows_per_shard:
        raise UsageError("--rows_per_shard needs --engine; without it the whole table is read at once")
    check_combination(flags.combine, flags.reference)
    if flags.how != ScoreFlags.how and not flags.combine:
        raise UsageError("--how says how several models are combined; name them with --combine")
    if flags.combine and (flags.weights or flags.steer):
        raise UsageError("--weights and --steer are for one model; drop them or --combine")
    from pluralign import data, risk
    from pluralign.model import RewardModel

    quiet_datasets()
    measure = risk.parse(flags.risk)
    if flags.engine is not None:
        score_shards(flags, ray, measure)
        return
    table = data.load_responses(flags.data, columns=flags.columns, split=flags.hub_split)
    model = _scorer(flags)
    if flags.attributes and not (isinstance(model, RewardModel) and model.head.attributes):
        raise UsageError(f"--attributes: {flags.model} predicts no ratings of attributes; drop the flag")
    overall = UtilitySummary()
    lines = _lines(model, table, measure, flags, overall)
    console = Console(flags.json)
    if flags.out is None:
        for batch in lines:
            sys.stdout.writelines(f"{shown(line)}\n" for line in batch)
        console.say(overall.words(str(measure)))
        return
    from pluralign.data.row_files import write_lines

    target = Path(flags.out)
    write_lines(target, lines)
    console.say(overall.words(str(measure)))
    console.result(overall.result(target, str(measure), len(table)), str(target))


def _scorer(flags: ScoreFlags) -> Any:
    """The named model, or its combination with others."""
    from pluralign.model.combination_folder import is_combination

    if is_combination(flags.model) and (flags.combine or flags.weights or flags.steer):
        raise UsageError(
            f"{flags.model} is a combination; --combine, --weights and --steer are for one model"
        )
    return load_scorer(
        flags.model,
        device=flags.device,
        cache=flags.cache,
        combine=flags.combine,
        reference=flags.reference,
        how=flags.how,
        columns=flags.columns,
        split=flags.hub_split,
    )


def _lines(
    model: Any, table: Any, measure: Any, flags: ScoreFlags, overall: UtilitySummary
) -> Iterator[list[str]]:
    """Batches of one JSON line per row: id, the utility of each side, and what else was asked for."""
    from pluralign.engines.scores import BATCH_ROWS, score_rows

    options: dict[str, Any] = {"levels": flags.levels, "attributes": flags.attributes}
    options |= {"weights": flags.weights, "steer": flags.steer}
    for start in range(0, len(table), BATCH_ROWS):
        found = score_rows(model, table[start : start + BATCH_ROWS], measure, **options)
        for utilities in found.utilities.values():
            overall.add(utilities)
        yield found.lines
