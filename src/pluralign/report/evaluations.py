"""Reads the files of `pluralign evaluate` from a folder.

In: a folder. Out: a checked `Evaluation`. `results.json` is required; `run.json`, `scores.parquet` and
`examples.jsonl` are optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.errors import ArtifactError
from pluralign.report.json_text import parsed_json
from pluralign.report.shapes import EXAMPLE, RESULTS, RUN, SCHEMA, check

__all__ = ["Evaluation", "Scores", "read_evaluation"]

Scores = dict[str, npt.NDArray[Any]]

_SCORE_NUMBERS = ("model_mean", "model_std", "observed_mean")
_SCORE_MAYBE = (
    *("span", "model_coverage", "constant_coverage"),
    *("model_quantile_error", "constant_quantile_error"),
    *("model_mean_on_grid", "model_std_on_grid"),
)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, as read from its files.

    Attributes:
        folder: where it was read from.
        results: `results.json`.
        run: `run.json`, or None.
        scores: the columns of `scores.parquet` for rated responses, [N] each; None if there is no such file
            or no distribution on rating scales.
        examples: the lines of `examples.jsonl`, or None.
    """

    folder: Path
    results: Mapping[str, Any]
    run: Mapping[str, Any] | None
    scores: Scores | None
    examples: tuple[Mapping[str, Any], ...] | None


def read_evaluation(folder: Path) -> Evaluation:
    """Reads and checks the files of one evaluation.

    Raises:
        ArtifactError: `results.json` is missing, or a file is damaged, not from pluralign or of another
            version.
    """
    results_file = folder / "results.json"
    if not results_file.is_file():
        raise ArtifactError(
            f"{folder} has no results.json; pass the folder of a finished `pluralign evaluate`"
        )
    results = parsed_json(results_file.read_bytes(), str(results_file))
    if isinstance(results, dict) and results.get("schema", SCHEMA) != SCHEMA:
        raise ArtifactError(
            f"{results_file}: schema is {results['schema']!r}; this version of pluralign reads {SCHEMA}"
        )
    check(results, RESULTS, str(results_file))
    _check_curves(results, str(results_file))
    run_file, scores_file, examples_file = (
        folder / name for name in ("run.json", "scores.parquet", "examples.jsonl")
    )
    run = None
    if run_file.is_file():
        run = parsed_json(run_file.read_bytes(), str(run_file))
        check(run, RUN, str(run_file))
    return Evaluation(
        folder,
        results,
        run,
        _scores(scores_file) if scores_file.is_file() and "suite" not in results else None,
        _examples(examples_file) if examples_file.is_file() else None,
    )


def evaluated_on(results: Mapping[str, Any]) -> str:
    """What the model was evaluated on, also under the name and with the label of older files; empty if it is
    not given."""
    text: str = results.get("evaluated_on") or results.get("judged", "")
    return text.removeprefix("judged: ").removeprefix("evaluated on: ")


def _examples(file: Path) -> tuple[Mapping[str, Any], ...]:
    examples = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        source = f"{file}, line {number}"
        example = parsed_json(line, source)
        check(example, EXAMPLE, source)
        _check_example(example, source)
        examples.append(example)
    return tuple(examples)


def _check_curves(results: Mapping[str, Any], source: str) -> None:
    """Checks that lists that belong together have the same length."""
    for attribute, part in results["ratings"].items():
        levels, pit = part["levels"], part["pit"]
        for curve in (levels, part.get("levels_uncalibrated", levels)):
            if len(curve["levels"]) != len(curve["below"]):
                raise ArtifactError(f"{source}: ratings.{attribute}.levels needs one share below per level")
        if not pit["share"] or len(pit["edges"]) != len(pit["share"]) + 1:
            raise ArtifactError(f"{source}: ratings.{attribute}.pit needs one edge more than shares")
    for name, part in results["pairs"].items():
        curve = part["reliability"]
        if len({len(curve[key]) for key in ("predicted", "observed", "count")}) > 1:
            raise ArtifactError(f"{source}: the lists of pairs.{name}.reliability differ in length")
    gates = results.get("gate", {})
    attributes = {tuple(w) for part in gates.values() for w in (part["weights"], *part["subsets"].values())}
    if len(attributes) > 1 or () in attributes:
        raise ArtifactError(f"{source}: the weights of gate have different attributes")


def _check_example(example: Mapping[str, Any], source: str) -> None:
    levels = np.asarray(example["levels"])
    if not (len(levels) and levels[0] > 0 and levels[-1] < 1 and (np.diff(levels) > 0).all()):
        raise ArtifactError(f"{source}: levels must be increasing numbers in (0, 1)")
    for name, quantiles in {"reward": example["reward"], **example["attributes"]}.items():
        if len(quantiles) != len(levels):
            raise ArtifactError(f"{source}: {name} has {len(quantiles)} quantiles for {len(levels)} levels")
    for name, grid in example.get("grid", {}).items():
        ratings, shares = np.asarray(grid["ratings"]), np.asarray(grid["shares"])
        if not (len(ratings) == len(shares) > 1 and (np.diff(ratings) > 0).all() and (shares >= 0).all()):
            raise ArtifactError(f"{source}: grid.{name} needs at least 2 ascending ratings, a share of each")
    if len(example["gate"]) != len(example["attributes"]):
        raise ArtifactError(f"{source}: gate needs one weight per attribute")
    for name, scale in example.get("scales", {}).items():
        if len(scale) != 2 or not scale[0] < scale[1]:
            raise ArtifactError(f"{source}: scales.{name} is {scale}; allowed: the lowest and highest rating")


def _scores(file: Path) -> Scores | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    needed = ("table", "subset", "attribute", *_SCORE_NUMBERS, *_SCORE_MAYBE)
    try:
        parquet = pq.ParquetFile(file)
        table = parquet.read(columns=[n for n in parquet.schema_arrow.names if n in needed])
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
    if "table" not in table.column_names:
        raise ArtifactError(f"{file}: the column table is missing; this is not a file of pluralign evaluate")
    if "model_mean" not in table.column_names:
        return None
    rated = np.array(table["table"].to_pylist(), dtype=object) == "ratings"
    columns: Scores = {}
    for name in needed[1:]:
        if name in table.column_names:
            kind = np.float64 if name in (*_SCORE_NUMBERS, *_SCORE_MAYBE) else object
            try:
                columns[name] = np.array(table[name].to_pylist(), dtype=kind)[rated]
            except (ValueError, TypeError):
                raise ArtifactError(f"{file}: {name} has a value that is not a number") from None
        elif name not in _SCORE_MAYBE:
            raise ArtifactError(
                f"{file}: the column {name} is missing; the file is damaged, or not from pluralign evaluate"
            )
        if name in _SCORE_NUMBERS and not np.isfinite(columns[name]).all():
            raise ArtifactError(f"{file}: {name} has a value that is not finite")
    return columns if rated.any() else None
