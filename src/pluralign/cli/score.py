"""`pluralign score`: one utility per response, in the order of the file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pluralign.cli.console import Console, shown
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.scorers import check_combination, load_scorer, response_columns
from pluralign.files import whole_file

__all__ = ["run"]

_BATCH_ROWS = 2_048


@dataclass(frozen=True)
class ScoreFlags:
    """Score responses with a model, or several on one scale, and a risk measure.

    Attributes:
        model: Model folder, the run folder of a fit, or the folder of a combination.
        data: File, folder or hub id with {prompt, response} rows, ratings, pairs or comparisons.
        risk: Risk measure, e.g. mean, cvar:0.1, entropic:1.
        weights: Attribute weights instead of the gate's, e.g. --weights.helpfulness 1 --weights.safety 2.
        steer: Attributes whose distribution is replaced by one number taken from it, e.g.
            --steer.safety quantile:0.05; mean, median, quantile:t or cvar:a.
        combine: More models, whose rewards are put on one scale with the first model's by --reference, e.g.
            --combine [runs/b,runs/c].
        reference: Responses that set the scale of --combine, in any of the shapes of --data.
        how: mixture keeps the models' disagreement in the distribution, vincentize averages it away.
        levels: Also write these quantiles of the reward, e.g. --levels [0.05,0.5,0.95].
        out: JSON Lines file to write; null prints the lines.
        columns: Mapping from our column names to the file's, e.g. --columns.response answer.
        hub_split: Split of a hub data set.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; null for the default one, none for no cache.
        json: Print a summary as JSON.
    """

    model: str
    data: str
    risk: str = "mean"
    weights: dict[str, float] | None = None
    steer: dict[str, str] | None = None
    combine: tuple[str, ...] = ()
    reference: str | None = None
    how: Literal["mixture", "vincentize"] = "mixture"
    levels: tuple[float, ...] = ()
    out: str | None = None
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    device: str | None = None
    cache: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, scores and writes."""
    (flags,) = parse("score", ScoreFlags.__doc__ or "", arguments, ScoreFlags)
    if flags.json and flags.out is None:
        raise UsageError("--json prints a summary, so the scores need a file: pass one with --out")
    check_combination(flags.combine, flags.reference)
    if flags.combine and (flags.weights or flags.steer):
        raise UsageError("--weights and --steer are for one model; drop them or --combine")
    from pluralign import data, risk

    quiet_datasets()
    measure = risk.parse(flags.risk)
    if flags.out is not None and Path(flags.out).is_dir():
        raise UsageError(f"--out {flags.out} is a folder; pass a file")
    if flags.out is not None and not Path(flags.out).parent.is_dir():
        raise UsageError(f"--out {flags.out}: the folder {Path(flags.out).parent} does not exist")
    table = data.load_responses(flags.data, columns=flags.columns, split=flags.hub_split)
    lines = _lines(_scorer(flags), table, measure, flags)
    console = Console(flags.json)
    if flags.out is None:
        for line in lines:
            sys.stdout.write(shown(line))
        return
    target = Path(flags.out)
    with whole_file(target) as work, work.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    console.result({"scores": str(target), "rows": len(table), "risk": str(measure)}, str(target))


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


def _lines(model: Any, table: Any, measure: Any, flags: ScoreFlags) -> Iterator[str]:
    """One JSON line per row: id, the utility of each side, and quantiles if they were asked for."""
    import torch

    from pluralign.data import conversation

    sides = response_columns(table)
    options = {k: v for k in ("weights", "steer") if (v := getattr(flags, k)) is not None}
    wanted = torch.tensor(flags.levels, dtype=torch.float32)
    for start in range(0, len(table), _BATCH_ROWS):
        rows = table[start : start + _BATCH_ROWS]
        answers = {}
        for side in sides:
            distribution = model.distribution(list(map(conversation, rows["prompt"], rows[side])), **options)
            quantiles = distribution.quantile(wanted).tolist() if flags.levels else None
            answers[side] = (measure(distribution).tolist(), quantiles)
        for i, identity in enumerate(rows["id"]):
            line: dict[str, Any] = {"id": identity}
            for side, (utility, quantiles) in answers.items():
                suffix = "" if side == "response" else f"_{side.removeprefix('response_')}"
                line[f"utility{suffix}"] = utility[i]
                if quantiles is not None:
                    line[f"quantiles{suffix}"] = quantiles[i]
            yield json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n"
