"""Flags of `pluralign score`. Nothing heavy is imported here, not even for types (see `flags`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ScoreFlags"]


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
        out: File to write, with its folders: JSON Lines, CSV or Parquet by its ending, .jsonl, .csv or
            .parquet; null prints JSON Lines.
        columns: Mapping from our column names to the file's, e.g. --columns.response answer.
        hub_split: Split of a hub data set.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; null for the default one (with --engine for none), none for no cache.
        engine: Work in shards that can be interrupted and continued, without all rows in memory: local in
            this process, ray on the workers of a Ray cluster; null reads the whole table.
        rows_per_shard: Rows per shard of --engine; an interruption loses at most one per worker.
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
    engine: Literal["local", "ray"] | None = None
    rows_per_shard: int = 8192
    json: bool = False
