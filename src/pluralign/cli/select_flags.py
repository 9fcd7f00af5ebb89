"""Flags of `pluralign select`, beside those of `SelectionConfig`. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SelectFlags"]


@dataclass(frozen=True)
class SelectFlags:
    """Select completions by their utility: rows for supervised fine-tuning, or preference pairs.

    Attributes:
        samples: Run or samples folder of `pluralign sample`.
        shards: Completions made elsewhere: rows {prompt, completion} or {prompt, completions}.
        reward_model: Reward model folder, or the run folder of a fit.
        risk: Risk measure that turns its distributions into numbers, e.g. mean, cvar:0.1.
        reward_function: FILE.py:NAME of a function of (prompts, completions) that returns one number each.
        programs: Tables with prompts and tests; the reward is the share of tests that the program in a
            completion passes; several as [a.jsonl,b.jsonl].
        reward_column: Use the rewards that came with --shards. Without any of these four: the rewards of the
            run in --samples.
        novelty: Subtract --penalty times how unfamiliar a completion is: disagreement between the heads of an
            ensemble, or distance of its embedding from --training_data.
        training_data: What --reward_model was fitted on: file, folder or hub id, as --data of `score`.
        neighbours: Training responses whose distance counts.
        format: Of the table.
        columns: Mapping from our column names to the file's, e.g. --columns.completion answer.
        hub_split: Split of a hub data set.
        prompts_per_shard: Prompts per file; an interruption loses at most the scores of one file.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; null for the default one, none for no cache.
        out: Run folder; null for one under runs/.
        json: Print the result as JSON.
    """

    samples: str | None = None
    shards: str | None = None
    reward_model: str | None = None
    risk: str = "mean"
    reward_function: str | None = None
    programs: tuple[str, ...] | str = ()
    reward_column: bool = False
    novelty: Literal["disagreement", "distance"] | None = None
    training_data: str | None = None
    neighbours: int = 10
    format: Literal["parquet", "jsonl"] = "parquet"
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    prompts_per_shard: int = 64
    device: str | None = None
    cache: str | None = None
    out: str | None = None
    json: bool = False
