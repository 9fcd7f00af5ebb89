"""`pluralign score`: one utility per response, in the order of the file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
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
_ROUNDING = 4 * 2.0**-23  # of single precision
UNIT = "units of the reference standard deviation, where 0 is the mean of the reference responses"


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
        attributes: Also write, for each attribute on its rating scale, the predicted mean and std, the share
            of people who give each rating, and the quantiles of --levels.
        out: JSON Lines file to write, with its folders; null prints the lines.
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
    attributes: bool = False
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
    from pluralign.model import RewardModel

    quiet_datasets()
    measure = risk.parse(flags.risk)
    if flags.out is not None and Path(flags.out).is_dir():
        raise UsageError(f"--out {flags.out} is a folder; pass a file")
    table = data.load_responses(flags.data, columns=flags.columns, split=flags.hub_split)
    model = _scorer(flags)
    if flags.attributes and not (isinstance(model, RewardModel) and model.head.attributes):
        raise UsageError(f"--attributes: {flags.model} predicts no ratings of attributes; drop the flag")
    overall = _Summary()
    lines = _lines(model, table, measure, flags, overall)
    console = Console(flags.json)
    if flags.out is None:
        for line in lines:
            sys.stdout.write(shown(line))
        console.say(overall.words(str(measure)))
        return
    target = Path(flags.out)
    with whole_file(target) as work, work.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    console.say(overall.words(str(measure)))
    summary = {"scores": str(target), "rows": len(table), "risk": str(measure), "unit": UNIT}
    console.result(summary | {"constant": overall.constant}, str(target))


class _Summary:
    """Count, range and mean of the utilities, collected while they are written."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, utilities: Sequence[float]) -> None:
        self.count += len(utilities)
        self.total += math.fsum(utilities)
        self.low, self.high = min(self.low, *utilities), max(self.high, *utilities)

    @property
    def constant(self) -> bool:
        """Whether all are equal up to the rounding of single precision."""
        return self.count > 1 and self.high - self.low <= _ROUNDING * max(abs(self.low), abs(self.high))

    def words(self, measure: str) -> str:
        """How many, in which unit, and whether they say anything."""
        words = f"{self.count:,} utilities, {measure} of the reward in {UNIT}"
        if self.constant:
            return (
                f"{words}: all {self.low:.3g}\nwarning: every response has the same utility, so these scores "
                "rank nothing. Either the model is constant (its fit warned, and `pluralign evaluate` shows "
                "it), or this measure does not distinguish these texts"
            )
        mean = self.total / self.count
        return f"{words}: mean {mean:.3g}, from {self.low:.3g} to {self.high:.3g}"


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


def _lines(model: Any, table: Any, measure: Any, flags: ScoreFlags, overall: _Summary) -> Iterator[str]:
    """One JSON line per row: id, the utility of each side, and what else was asked for."""
    import torch

    from pluralign.data import conversation
    from pluralign.model.scorer import utilities

    sides = response_columns(table)
    options = {k: v for k in ("weights", "steer") if (v := getattr(flags, k)) is not None}
    wanted = torch.tensor(flags.levels, dtype=torch.float32) if flags.levels else None
    for start in range(0, len(table), _BATCH_ROWS):
        rows = table[start : start + _BATCH_ROWS]
        answers = {}
        for side in sides:
            texts = list(map(conversation, rows["prompt"], rows[side]))
            found: dict[str, Any] = {}
            if flags.attributes:
                distribution, attributes = model.distributions(texts, **options, on_grid=True)
                found["attributes"] = _attributes(attributes, wanted)
            else:
                distribution = model.distribution(texts, **options)
            if wanted is not None:
                found["quantiles"] = distribution.quantile(wanted).tolist()
            found |= _both_spreads(distribution)
            answers[side] = {"utility": utilities(measure, distribution).tolist()} | found
            overall.add(answers[side]["utility"])
        for i, identity in enumerate(rows["id"]):
            line: dict[str, Any] = {"id": identity}
            for side, found in answers.items():
                suffix = "" if side == "response" else f"_{side.removeprefix('response_')}"
                line |= {f"{key}{suffix}": values[i] for key, values in found.items()}
            yield json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n"


def _both_spreads(distribution: Any) -> dict[str, list[float]]:
    """Of an ensemble, the standard deviation within its heads and that between them; else nothing."""
    members = distribution.members()
    if members is None or len(members) < 2:
        return {}
    parts = distribution.variances()
    return {f"{name}_std": part.sqrt().tolist() for name, part in parts._asdict().items()}


def _attributes(distributions: Mapping[str, Any], levels: Any) -> list[dict[str, Any]]:
    """Per response and attribute: mean, std, the shares of ratings on a grid, quantiles."""
    columns: dict[str, dict[str, Any]] = {}
    for name, distribution in distributions.items():
        column = {"mean": distribution.mean().tolist(), "std": distribution.std().tolist()}
        masses = distribution.point_masses()
        if masses is not None and masses[0].shape[1] > 1 and bool((masses[0] == masses[0][:1]).all()):
            ratings = [f"{rating:.10g}" for rating in masses[0][0].tolist()]
            column["shares"] = [dict(zip(ratings, of, strict=True)) for of in masses[1].tolist()]
        if levels is not None:
            column["quantiles"] = distribution.quantile(levels).tolist()
        columns[name] = column
    count = len(next(iter(distributions.values())))
    return [
        {name: {key: values[i] for key, values in column.items()} for name, column in columns.items()}
        for i in range(count)
    ]
