"""Scores as a stage: rows with prompts and responses in, utilities and JSON lines out.

`score_rows` is what `pluralign score` writes, whether for a whole file or for a batch on a worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pluralign import backbones
from pluralign.data import conversation, response_columns
from pluralign.digests import named_files_digest
from pluralign.engines.stages import Batch, Stage, text_column
from pluralign.errors import ArgumentError, ArtifactError, FingerprintError
from pluralign.model import Combination, RewardModel
from pluralign.model.combination_folder import is_combination
from pluralign.model.scorer import member_spreads, utilities
from pluralign.risk import RiskMeasure, parse
from pluralign.run_layout import model_folder

__all__ = ["ScoreRows", "Scored", "model_identity", "score_rows", "score_stage"]

BATCH_ROWS = 2_048


class Scored(NamedTuple):
    """Results of B rows.

    Attributes:
        utilities: column of responses -> B numbers, in units of the reference standard deviation.
        lines: B lines of JSON, without line ends.
    """

    utilities: dict[str, list[float]]
    lines: list[str]


class ScoreRows:
    """Scores batches with a model that it loads once; see `stages.RowFunction`.

    Args:
        model: folder of a reward model or a combination, or the run folder of a fit.
        risk: risk measure, e.g. `cvar:0.1`.
        weights: attribute weights instead of the gate's.
        steer: attributes that are replaced by a measure of their own.
        levels: quantiles of the reward to add.
        attributes: whether to add the attributes' distributions.
        device: cpu, cuda, ...; None for a GPU if there is one.
        cache: folder of an embedding cache on a disk of this machine; None for none.
        identity: what `model_identity` says of the model elsewhere; None for any.

    Raises:
        ArtifactError: the model or its backbone is not on this machine, or cannot be read.
        FingerprintError: it is another model than that of `identity`.
        ArgumentError: the model has no attributes, or cannot be weighted or steered.
    """

    def __init__(
        self,
        model: str,
        *,
        risk: str = "mean",
        weights: Mapping[str, float] | None = None,
        steer: Mapping[str, str] | None = None,
        levels: Sequence[float] = (),
        attributes: bool = False,
        device: str | None = None,
        cache: str | None = None,
        identity: str | None = None,
    ) -> None:
        folder = model_folder(model)
        if identity is not None and model_identity(model) != identity:
            raise FingerprintError(
                f"{folder} is not the model that the command was started with; copy the same model to "
                "all machines, or put it on storage that they share"
            )
        kind: Any = Combination if is_combination(folder) else RewardModel
        store = None if cache is None else backbones.EmbeddingCache(cache)
        self._model = kind.from_pretrained(folder, device=device, cache=store)
        if attributes and not (isinstance(self._model, RewardModel) and self._model.head.attributes):
            raise ArgumentError(f"attributes: {model} predicts no ratings of attributes")
        self._options: dict[str, Any] = {"levels": levels, "attributes": attributes}
        self._options |= {k: v for k, v in (("weights", weights), ("steer", steer)) if v is not None}
        self._measure = parse(risk)

    def __call__(self, batch: Batch) -> Batch:
        """Columns `id`, `line` (JSON), and `utility`, or one for each side: `utility_chosen` ..."""
        found = score_rows(self._model, batch, self._measure, **self._options)
        columns = {_named("utility", side): np.array(of) for side, of in found.utilities.items()}
        return {"id": np.asarray(batch["id"]), **columns, "line": text_column(found.lines)}


def score_rows(
    model: Any,
    rows: Mapping[str, Any],
    measure: RiskMeasure,
    *,
    weights: Mapping[str, float] | None = None,
    steer: Mapping[str, str] | None = None,
    levels: Sequence[float] = (),
    attributes: bool = False,
) -> Scored:
    """The utility of each side of each row, and what else was asked for.

    Args:
        model: a reward model or a combination.
        rows: columns id, prompt, and one or two of responses.
        measure: turns distributions into utilities.
        weights: see `RewardModel.distribution`, as for the next.
        steer: attributes that are replaced by a number.
        levels: quantiles of the reward to add.
        attributes: whether to add, per attribute, mean, std, shares of ratings and quantiles.

    Raises:
        PluralignError: the model refuses the texts or the options.
    """
    options = {k: v for k, v in (("weights", weights), ("steer", steer)) if v is not None}
    level_tensor = torch.tensor(levels, dtype=torch.float32) if levels else None
    answers: dict[str, dict[str, Any]] = {}
    for side in response_columns(rows):
        texts = list(map(conversation, rows["prompt"], rows[side]))
        found: dict[str, Any] = {}
        if attributes:
            distribution, of_attributes = model.distributions(texts, **options, on_grid=True)
            found["attributes"] = _attributes(of_attributes, level_tensor)
        else:
            distribution = model.distribution(texts, **options)
        if level_tensor is not None:
            found["quantiles"] = distribution.quantile(level_tensor).tolist()
        found |= member_spreads(distribution)
        answers[side] = {"utility": utilities(measure, distribution).tolist()} | found
    lines = []
    for i, identity in enumerate(rows["id"]):
        line: dict[str, Any] = {"id": identity}
        for side, found in answers.items():
            line |= {_named(key, side): values[i] for key, values in found.items()}
        lines.append(json.dumps(line, allow_nan=False, ensure_ascii=False))
    return Scored({side: found["utility"] for side, found in answers.items()}, lines)


def score_stage(model: str, sides: Sequence[str], **options: Any) -> Stage:
    """Scores as a stage of a job.

    Args:
        model: as for `ScoreRows`.
        sides: columns of responses in the rows.
        options: of `ScoreRows`.
    """
    import pyarrow as pa

    utility = {_named("utility", side): pa.float64() for side in sides}
    columns = pa.schema({"id": pa.string(), **utility, "line": pa.string()})
    arguments = {"model": str(Path(model).expanduser().resolve()), **options}  # workers are in other folders
    if arguments.get("cache") is not None:
        arguments["cache"] = str(Path(str(arguments["cache"])).expanduser().absolute())
    return Stage(ScoreRows, arguments, columns, BATCH_ROWS)


def model_identity(model: str) -> str:
    """A digest of a model folder, equal on every machine that has the same model; its card may differ.

    Every `config.json` counts. They carry the digests of the weights, which are checked when the model is
    loaded, and the fingerprint of the backbone.

    Raises:
        ArtifactError: there is no such folder.
    """
    folder = model_folder(model)
    digest = named_files_digest(folder, "config.json")
    if digest is None or not (folder / "config.json").is_file():
        raise ArtifactError(
            f"{folder} has no config.json, so it is no model folder. Pass one, or the run folder of a "
            "finished fit"
        )
    return digest


def _named(key: str, side: str) -> str:
    """The name of a result of one side."""
    return key if side == "response" else f"{key}_{side.removeprefix('response_')}"


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
