"""Evaluating a model on held-out data: tables in, `results.json`, `scores.parquet` and `examples.jsonl` out.

The model is compared with the baselines it has to beat: the constant model and Bradley-Terry on the same
backbone, and length.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pluralign._version import __version__
from pluralign.data import check_table, folds_of_tables, weighted_pairs
from pluralign.data.rated_pairs import rated_pairs
from pluralign.data.table_columns import column_values, ragged
from pluralign.errors import ArgumentError, DataError
from pluralign.evaluation.crowds import crowd_columns, summarise_crowd
from pluralign.evaluation.ensembles import summarise_ensemble
from pluralign.evaluation.examples import MAX_EXAMPLES, example_lines
from pluralign.evaluation.files import write_examples, write_scores
from pluralign.evaluation.pairs import pair_rows, rated_pair_rows
from pluralign.evaluation.pairwise import rater_pair_rows, summarise_pairwise
from pluralign.evaluation.results import SCHEMA, Results
from pluralign.evaluation.row_digests import digest_words, row_digest
from pluralign.evaluation.rows import rating_rows
from pluralign.evaluation.summary import decided, summarise_gate, summarise_pairs, summarise_ratings
from pluralign.evaluation.texts import Columns, Texts
from pluralign.evaluation.votes import summarise_votes, vote_rows
from pluralign.evaluation.within import summarise_within
from pluralign.files import write_json
from pluralign.fitting.tables.category_ratings import ratings_as_rewards

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Backbone
    from pluralign.model import RewardModel

__all__ = ["SCHEMA", "cross_fit", "evaluate"]

_MAX_PAIRS_PER_GROUP = 500  # of the pairs derived from ratings; more add little about a group


def evaluate(
    model: RewardModel,
    *,
    ratings: datasets.Dataset | None = None,
    pairs: datasets.Dataset | None = None,
    votes: datasets.Dataset | None = None,
    risk: str = "mean",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Evaluates a model on data that it was not fitted on.

    Args:
        model: any family.
        ratings: calibration, and pairs of responses to one prompt whose mean ratings differ.
        pairs: accuracy.
        votes: accuracy on the majority; comparisons with tied votes are counted separately. Of a model that
            predicts ties also log loss, Brier score and calibration of all votes (`three_way`).
        risk: the risk measure by which responses are compared.
        seed: random seed of the noise, the randomised PIT, the order of pairs and the bootstrap.
        out: a folder for `results.json`, `scores.parquet` and `examples.jsonl`; None to write nothing.
        progress: True or False for a progress bar or none; None for one if stderr is a terminal.

    Returns:
        The content of `results.json`; what is returned also holds the scores of the rows, for `compare`.

    Raises:
        ArgumentError: no data was given, or something that is not a data set.
        DataError: a table is empty or has another shape, or attributes or scales are not those of the model.
    """
    given = {k: v for k, v in {"ratings": ratings, "pairs": pairs, "votes": votes}.items() if v is not None}
    tables = _score(model, **given, risk=risk, seed=seed, progress=progress)
    results = Results(_results(model, tables, risk=risk, seed=seed), tables)
    if out is not None:
        _write(Path(out), tables, results, example_lines(model, given, tables.get("ratings")))
    return results


def cross_fit(
    family: str,
    *,
    ratings: datasets.Dataset | None = None,
    pairs: datasets.Dataset | None = None,
    votes: datasets.Dataset | None = None,
    num_folds: int = 5,
    backbone: str | Backbone = "minilm",
    config: Mapping[str, Any] | Any = None,
    tune: str | None = None,
    tuning: Mapping[str, Any] | Any = None,
    ensemble: int = 1,
    cache: Any = "default",
    risk: str = "mean",
    seed: int = 0,
    journal: Path | None = None,
    out: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Fits on all folds of groups but one and evaluates on that one, in turn; for data with few groups.

    Every row is evaluated exactly once, by a model that has not seen its group in any table. Intervals are
    over groups.

    Args:
        family: as in `pluralign.fit`, like the tables.
        ratings: a whole table, like pairs and votes; the given tables are fitted and evaluated together.
        pairs: together with ratings of several attributes, the data that a gate is trained on.
        votes: the same, as votes.
        num_folds: at most the number of groups in all tables together.
        backbone: a name or a loaded backbone.
        config: the family's config.
        tune: as in `pluralign.fit`, in every fold from the backbone as given.
        tuning: as in `pluralign.fit`.
        ensemble: as in `pluralign.fit`.
        cache: as in `pluralign.fit`.
        risk: the risk measure by which responses are compared.
        seed: random seed of the folds and of everything else that is random.
        journal: a folder that stores the finished steps of each fold's search, so that they are not repeated
            after an interruption.
        out: as in `evaluate`; the texts of the examples are from all folds.
        report: called with one line of text per stage.
        progress: as in `pluralign.fit`.

    Returns:
        As from `evaluate`, with `folds`.

    Raises:
        ArgumentError: no table was given, or `num_folds` is below 2.
        DataError: there are fewer groups than folds, or all groups of one table fall into one fold.
    """
    from pluralign import backbones
    from pluralign.fitting import fit

    given = {k: v for k, v in {"ratings": ratings, "pairs": pairs, "votes": votes}.items() if v is not None}
    if not given:
        raise ArgumentError("received no data to cross-fit: pass ratings, pairs or votes")
    loaded = backbones.load(backbone) if isinstance(backbone, str) else backbone
    print_line = report or (lambda line: None)
    parts: list[dict[str, Columns]] = []
    examples: list[dict[str, Any]] = []
    warned: list[str] = []
    for number, (train, test) in enumerate(folds_of_tables(given, num_folds, seed=seed), 1):
        print_line(f"fold {number} of {num_folds}: {_rows(train)} to fit, {_rows(test)} to evaluate")
        fitted_on: dict[str, Any] = train
        tables_to_score: dict[str, Any] = test
        model = fit(
            family,
            **fitted_on,
            backbone=loaded,
            config=config,
            tune=tune,
            tuning=tuning,
            ensemble=ensemble,
            cache=cache,
            journal=journal / f"search-fold-{number}.jsonl" if journal else None,
            report=report,
            progress=progress,
        )
        warned += [f"fold {number}: {text}" for text in model.fitted.get("warnings", ())]
        parts.append(_score(model, **tables_to_score, risk=risk, seed=seed, progress=progress))
        if out is not None:
            share = max(1, MAX_EXAMPLES // num_folds)
            examples += example_lines(model, test, parts[-1].get("ratings"), limit=share)
    tables = {
        name: _concatenate([part[name] for part in parts if name in part])
        for name in dict.fromkeys(name for part in parts for name in part)
    }
    model.fitted |= {"warnings": warned} if warned else {}
    results = Results(_results(model, tables, risk=risk, seed=seed) | {"folds": num_folds}, tables)
    if out is not None:
        _write(Path(out), tables, results, examples)
    return results


def _rows(tables: Mapping[str, datasets.Dataset]) -> str:
    return ", ".join(f"{len(table):,} {name}" for name, table in tables.items())


def _write(
    folder: Path, tables: Mapping[str, Columns], results: Mapping[str, Any], examples: list[dict[str, Any]]
) -> None:
    """The three files of an evaluation, the results last."""
    write_scores(folder / "scores.parquet", tables)
    write_examples(folder / "examples.jsonl", examples)
    write_json(folder / "results.json", results)


def _score(
    model: RewardModel,
    *,
    ratings: datasets.Dataset | None = None,
    pairs: datasets.Dataset | None = None,
    votes: datasets.Dataset | None = None,
    risk: str,
    seed: int,
    progress: bool | None,
) -> dict[str, Columns]:
    tables: dict[str, Columns] = {}
    if ratings is None and pairs is None and votes is None:
        raise ArgumentError("received no data to evaluate on: pass ratings, pairs or votes")
    for name, table in (("ratings", ratings), ("pairs", pairs), ("votes", votes)):
        if table is not None:
            check_table(name, table)
    if ratings is not None:
        texts = Texts.read(model, ratings, "response", progress=progress)
        tables["ratings"] = rating_rows(model, ratings, risk=risk, seed=seed, texts=texts) | _about(ratings)
        tables["ratings"] |= crowd_columns(model, ratings, texts, ragged(ratings, "ratings"))
        rewards = _reward_ratings(model, ratings)
        derived = rated_pairs(rewards, max_pairs_per_group=_MAX_PAIRS_PER_GROUP)
        if len(derived.better):
            tables["pairs_from_ratings"] = rated_pair_rows(model, ratings, derived, texts, risk=risk)
        of_raters = rater_pair_rows(model, ratings, texts, ragged(rewards, "ratings"), seed=seed)
        tables |= {"rater_pairs": of_raters} if of_raters else {}
    if pairs is not None:
        tables["pairs"] = pair_rows(model, pairs, risk=risk, progress=progress) | _about(pairs)
    if votes is not None:
        if majority := _decided_rows(model, votes, risk, progress):
            tables["votes"] = majority
        if shares := vote_rows(model, votes, progress=progress):
            tables["vote_shares"] = shares
    if not tables:
        raise DataError("every comparison is tied or has two equal sides: there is nothing to evaluate on")
    return tables


def _decided_rows(
    model: RewardModel, votes: datasets.Dataset, risk: str, progress: bool | None
) -> Columns | None:
    """The majority's side of each comparison as chosen, one side of each tied one, and their shares of votes.

    None if all are tied.
    """
    weighted = weighted_pairs(votes)
    share = np.asarray(column_values(weighted, "weight"))
    majority, tied = (
        np.flatnonzero(share > 0.5),
        np.flatnonzero(share == 0.5)[::2],
    )  # ties are there both ways
    if not len(majority):
        return None
    shown = np.concatenate([majority, tied])
    columns = pair_rows(model, weighted.select(shown), risk=risk, progress=progress)
    return columns | _about(votes) | {"vote_share": share[shown], "tied_in_data": len(votes) - len(majority)}


def _about(table: datasets.Dataset) -> Columns:
    return {"row_digest": row_digest(table)}


def _reward_ratings(model: RewardModel, ratings: datasets.Dataset) -> datasets.Dataset:
    """The ratings with higher values for better responses, as pairs need them: categories become rewards."""
    known = {a.name: model.head.categories_of(a.name) for a in model.head.attributes}
    return ratings_as_rewards(ratings, {name: c for name, c in known.items() if c is not None})


def _results(model: RewardModel, tables: Mapping[str, Columns], *, risk: str, seed: int) -> dict[str, Any]:
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "pluralign": __version__,
        "family": model.family,
        "backbone": model.backbone.describe(),
        "fitted": model.fitted,
        "risk": risk,
        "seed": seed,
        "ratings": {},
        "pairs": {},
        "gate": {},
        "ensemble": {},
        "crowd": {},
        "pairwise": {},
        "row_digests": {k: digest_words(c["row_digest"]) for k, c in tables.items() if "row_digest" in c},
    }
    for name, columns in tables.items():
        plain = {key: values for key, values in columns.items() if not isinstance(values, int)}
        results["pairwise"] |= {name: part} if (part := summarise_pairwise(plain, seed=seed)) else {}
        if name == "rater_pairs":
            continue
        if name == "ratings":
            results["ratings"] = summarise_ratings(plain, seed=seed)
            results["crowd"] = summarise_crowd(plain, seed=seed)
        elif name == "vote_shares":
            results["votes"] = summarise_votes(plain, seed=seed)
        else:
            tied = columns.get("tied_in_data", 0)
            results["pairs"][name] = summarise_pairs(plain, seed=seed) | {"tied_in_data": tied}
            plain = decided(plain)
        results["gate"] |= {name: gate} if (gate := summarise_gate(plain)) else {}
        results["ensemble"] |= {name: part} if (part := summarise_ensemble(plain)) else {}
    _skill_within_prompts(results)
    return results


def _skill_within_prompts(results: dict[str, Any]) -> None:
    """Adds the skill within a prompt to each attribute's losses, which are over all responses."""
    pairs = results["pairs"].get("pairs_from_ratings")
    by_attribute = pairs["attributes"] if pairs else {}
    for name, part in results["ratings"].items():
        if name == "all" or not by_attribute:
            part["within_prompt"] = summarise_within(pairs)
        else:
            about = by_attribute.get(name)
            own = about is not None and "own_attribute" in about["accuracy"]
            part["within_prompt"] = summarise_within(about, "own_attribute" if own else "model")


def _concatenate(parts: list[Columns]) -> Columns:
    """One table of all folds; a baseline that could not be fitted in every fold is left out."""
    import pyarrow as pa

    joined: Columns = {}
    for key in (key for key in parts[0] if all(key in part for part in parts)):
        values = [part[key] for part in parts]
        if isinstance(values[0], int):
            joined[key] = sum(values)
        elif isinstance(values[0], list):
            joined[key] = [entry for value in values for entry in value]
        elif isinstance(values[0], np.ndarray):
            joined[key] = np.concatenate(values)
        else:  # texts as Arrow has them
            joined[key] = pa.chunked_array([chunk for value in values for chunk in value.chunks])
    return joined
