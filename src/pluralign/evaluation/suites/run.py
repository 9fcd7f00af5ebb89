"""Evaluating a model on a suite: data in, `results.json` and `scores.parquet` out.

In: a scorer and a source, or a file of scores. Out: the numbers of the suite for each risk measure, beside
the model's baselines and length. Rows are read, scored and written a part at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pluralign import risk as risks
from pluralign._version import __version__
from pluralign.data.quarantine import RefusedRow, write_quarantine
from pluralign.data.sources import source_name
from pluralign.data.tables import OnBadRow
from pluralign.errors import ArgumentError, DataError
from pluralign.evaluation.suites.catalogue import Suite, suite_named
from pluralign.evaluation.suites.columns import LENGTH, SuiteScores
from pluralign.evaluation.suites.files import read_scores, scores_writer
from pluralign.evaluation.suites.reading import read_items
from pluralign.evaluation.suites.scoring import SuiteScorer
from pluralign.evaluation.suites.summary import summarise_suite
from pluralign.files import write_json
from pluralign.model import RewardModel
from pluralign.model.scorer import Scorer
from pluralign.risk import RiskMeasure

__all__ = ["SCHEMA", "evaluate_suite", "rescore_suite"]

SCHEMA = 1
_REPORT_EVERY = 10_000  # rows


def evaluate_suite(
    model: Scorer,
    source: Any,
    suite: str,
    *,
    risk: str | RiskMeasure | Sequence[str | RiskMeasure] = "mean",
    split: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    legacy: bool = False,
    seed: int = 0,
    on_bad_row: OnBadRow = "error",
    out: str | os.PathLike[str] | None = None,
    model_digest: str | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Scores the rows of a suite and computes its numbers by its own rule.

    Args:
        model: a reward model, a combination, or anything with `distribution`.
        source: a file, a folder, a hub id or rows, as in `load_pairs`, with the columns that the suite's
            authors publish.
        suite: a name of `SUITES`.
        risk: one measure or several; each is evaluated on its own, the first is the main one.
        split: split of a hub data set; it also names the subset of rows that name none.
        columns: name in the suite's layout -> the file's name.
        where: column -> value that a row must have.
        legacy: RewardBench: the weights from before September 2024, when two counts were swapped.
        seed: random seed of the order in which pairs are shown.
        on_bad_row: "error" raises an error with all problems of a part; "quarantine" leaves bad rows out,
            says how many, and writes them to `quarantine.jsonl` in `out`. A published suite without some of
            its rows has other scores.
        out: a folder for `results.json` and `scores.parquet`; None to write nothing.
        model_digest: what tells this model from others, kept beside its scores.
        report: called with one line of text now and then.

    Returns:
        The content of `results.json`: `suite` has the numbers, and `pairs`, where rows are pairs, what
        `evaluate` says of them.

    Raises:
        ArgumentError: an argument is invalid, or a score is not finite.
        RiskError: a measure does not exist or does not apply to the model.
        DataError: rows are malformed; see `reading`.
    """
    entry, measures = suite_named(suite), _measures(risk)
    _check_legacy(suite, legacy)
    scorer, done = SuiteScorer(model, measures), 0
    parts: list[SuiteScores] = []
    refused: list[RefusedRow] | None = [] if on_bad_row == "quarantine" else None
    about = {"suite": suite, "model": model_digest, "pluralign": __version__, "legacy": legacy}
    target = None if out is None else Path(out)
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
    with nullcontext() if target is None else scores_writer(target / "scores.parquet", about) as writer:
        for items in read_items(source, entry, split=split, columns=columns, where=where, refused=refused):
            part = scorer.score(items)
            parts.append(part)
            if writer is not None:
                writer.write(part)
            if report is not None and (done + len(part)) // _REPORT_EVERY > done // _REPORT_EVERY:
                report(f"scored {done + len(part):,} rows")
            done += len(part)
    if not parts:
        raise DataError(
            f"{source_name(source)}: every row is bad", [p for row in refused or () for p in row.problems]
        )
    results = _described(model) | _results(
        SuiteScores.joined(parts), entry, suite, list(measures), legacy, seed, source_name(source)
    )
    results["suite"] |= {"truncated": scorer.truncated, "model": model_digest}
    if scorer.truncated:
        results["suite"]["notes"].append(
            f"{scorer.truncated:,} texts are longer than the backbone's maximum and were truncated"
        )
    if refused:
        results["suite"]["notes"].append(
            f"{len(refused):,} bad rows were left out, so these are not the scores of the whole suite"
        )
        if target is not None:
            write_quarantine(target / "quarantine.jsonl", refused)
    if target is not None:
        _write(target, results)
    return results


def rescore_suite(
    file: str | os.PathLike[str],
    suite: str,
    *,
    legacy: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    model_digest: str | None = None,
) -> dict[str, Any]:
    """The numbers of a suite from scores that are already in a file, without a model.

    Args:
        file: a `scores.parquet` of `evaluate_suite`, or a file of scores of RewardBench's scripts.
        suite: a name of `SUITES`.
        legacy: as in `evaluate_suite`.
        seed: as in `evaluate_suite`.
        out: a folder for `results.json`; None to write nothing.
        model_digest: the model whose scores these should be; None to take any.

    Returns:
        As `evaluate_suite`.

    Raises:
        ArgumentError: the file has the scores of another suite, or of another version of the model.
        ArtifactError: the file is damaged, or of a newer version.
        DataError: rows of it are malformed.
    """
    entry = suite_named(suite)
    _check_legacy(suite, legacy)
    scores, about = read_scores(Path(file), entry)
    if about.get("suite", suite) != suite:
        raise ArgumentError(f"{file} has scores of the suite {about['suite']}; received {suite}")
    stored = about.get("model")
    if model_digest is not None and stored not in (None, model_digest):
        raise ArgumentError(
            f"{file} has scores of another version of this model ({str(stored)[:12]}..., and the model is "
            f"{model_digest[:12]}...); evaluate the model again, or pass the scores alone"
        )
    rules = [rule for rule in scores.values if rule != LENGTH][:1]
    rules += [rule for rule in scores.values if rule not in (*rules, LENGTH)]
    results = _foreign(about) | _results(scores, entry, suite, rules, legacy, seed, str(file))
    results["suite"] |= {"truncated": None, "model": stored}
    if out is not None:
        _write(Path(out), results)
    return results


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)


def _measures(risk: Any) -> dict[str, RiskMeasure]:
    """Measures by name.

    Raises:
        ArgumentError: none, or one twice.
        RiskError: one does not exist.
    """
    listed = [risk] if isinstance(risk, str | RiskMeasure) else list(risk)
    found = {str(measure): measure for measure in map(risks.parse, listed)}
    if not found or len(found) < len(listed):
        raise ArgumentError(f"risk: received {[str(one) for one in listed]}; allowed: one or more, each once")
    return found


def _check_legacy(suite: str, legacy: bool) -> None:
    if legacy and suite != "rewardbench":
        raise ArgumentError(f"legacy: the suite {suite} has no older weights; only rewardbench has")


def _results(
    scores: SuiteScores,
    entry: Suite,
    suite: str,
    rules: Sequence[str],
    legacy: bool,
    seed: int,
    source: str,
) -> dict[str, Any]:
    numbers = summarise_suite(scores, entry, dict.fromkeys(rules, ""), legacy=legacy, seed=seed)
    pairs = numbers.pop("pairs")
    return {
        "schema": SCHEMA,
        "pluralign": __version__,
        "risk": ", ".join(rules),
        "seed": seed,
        "ratings": {},
        "pairs": {suite: pairs} if pairs else {},
        "gate": {},
        "ensemble": {},
        "suite": {
            "name": suite,
            "title": entry.title,
            "rule": entry.rule,
            "source": source,
            "risks": list(rules),
            "legacy": legacy,
            **numbers,
        },
    }


def _described(model: Scorer) -> dict[str, Any]:
    if isinstance(model, RewardModel):
        return {"family": model.family, "backbone": model.backbone.describe(), "fitted": model.fitted}
    return {"family": "combination", "backbone": {"name_or_path": type(model).__name__}, "fitted": {}}


def _foreign(about: Mapping[str, Any]) -> dict[str, Any]:
    name = about.get("model")
    shown = str(name) if name and "schema" not in about else "scores of a file"
    return {"family": "scores", "backbone": {"name_or_path": shown}, "fitted": {}}
